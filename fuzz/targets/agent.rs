//! The targets of `carrack-agent`.

#![no_main]

use carrack_agent::fuzzing::TARGETS;

libfuzzer_sys::fuzz_target!(init: carrack_fuzz::start(TARGETS), |data: &[u8]| carrack_fuzz::run(TARGETS, data));
