//! What `cargo xtask fuzz` feeds to this package, and where it begins.

use crate::{http, probes};

/// A name, a function that takes anything and never panics, and what it is fed first.
pub type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

/// All of this package's.
pub const TARGETS: &[Target] = &[
    ("agent-request", http::fuzzing::request, http::fuzzing::requests),
    ("agent-websocket", http::fuzzing::websocket, http::fuzzing::websockets),
    ("agent-spdy", http::fuzzing::spdy, http::fuzzing::spdy_seeds),
    ("agent-spdy-headers", http::fuzzing::spdy_headers, http::fuzzing::spdy_header_seeds),
    ("agent-log", http::fuzzing::log, http::fuzzing::logs),
    ("agent-probe", probes::fuzzing::answer, probes::fuzzing::answers),
];

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[test]
fn nothing_that_once_went_wrong_does_so_again() {
    replay::replay("agent", TARGETS);
}
