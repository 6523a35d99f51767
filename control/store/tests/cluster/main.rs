//! Several members: elections, forwarded writes and reads, changes of the membership, snapshots.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod memory;
