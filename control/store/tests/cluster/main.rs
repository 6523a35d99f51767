//! Several members: elections, forwarded writes and reads, changes of the membership, snapshots.

// The lints know tests by their attribute; helpers of tests have none.
#![allow(clippy::expect_used, clippy::panic)]

mod common;
mod corrupt;
mod memory;
mod strange;
mod tls;
