//! Tests of the store from outside.

// The lints know tests by their attribute; helpers of tests have none.
#![allow(clippy::expect_used, clippy::panic)]

mod accidents;
mod common;
mod kill;
mod model;
mod mutations;
mod semantics;
mod watching;
