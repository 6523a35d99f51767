//! The controllers and the scheduler against the real API server with its real access policy, all in this process; the
//! node is played by a task that makes pods ready. What is tested is that the parts work together, and how fast.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod collection;
mod custom;
mod disruption;
mod harness;
mod nodes;
mod quota;
mod workloads;
