//! Members of the store as processes, each in a network namespace of its own: killed, stopped, cut off, with a full
//! disk, replaced, moved. What clients were told is kept and compared. The clients are etcd's own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that fails"
)]

#[path = "store/disks.rs"]
mod disks;
#[path = "store/membership.rs"]
mod membership;
#[path = "store/partitions.rs"]
mod partitions;
#[path = "store/restore.rs"]
mod restore;
#[path = "store/rounds.rs"]
mod rounds;
