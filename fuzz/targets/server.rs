//! The targets of `carrack-server`.

#![no_main]

use carrack_server::fuzzing::TARGETS;

libfuzzer_sys::fuzz_target!(init: carrack_fuzz::start(TARGETS), |data: &[u8]| carrack_fuzz::run(TARGETS, data));
