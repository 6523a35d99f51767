//! What `cargo xtask fuzz` feeds to this package, and where it begins.

use crate::dns::fuzzing as dns;

/// A name, a function that takes anything and never panics, and what it is fed first.
pub type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

/// All of this package's.
pub const TARGETS: &[Target] =
    &[("network-query", dns::query, dns::queries), ("network-answer", dns::answer, dns::answers)];

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[test]
fn nothing_that_once_went_wrong_does_so_again() {
    replay::replay("network", TARGETS);
}
