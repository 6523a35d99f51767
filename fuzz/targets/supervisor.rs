//! The targets of `carrack-supervisor`.

#![no_main]

use carrack_supervisor::fuzzing::TARGETS;

libfuzzer_sys::fuzz_target!(init: carrack_fuzz::start(TARGETS), |data: &[u8]| carrack_fuzz::run(TARGETS, data));
