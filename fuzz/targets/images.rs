//! The targets of `carrack-images`.

#![no_main]

use carrack_images::fuzzing::TARGETS;

libfuzzer_sys::fuzz_target!(init: carrack_fuzz::start(TARGETS), |data: &[u8]| carrack_fuzz::run(TARGETS, data));
