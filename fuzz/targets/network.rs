//! The targets of `carrack-network`.

#![no_main]

use carrack_network::fuzzing::TARGETS;

libfuzzer_sys::fuzz_target!(init: carrack_fuzz::start(TARGETS), |data: &[u8]| carrack_fuzz::run(TARGETS, data));
