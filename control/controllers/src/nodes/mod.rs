//! Nodes: whether they live (Leases and heartbeats), the taints that follow from that, the eviction of pods that do
//! not endure them, and the address range of each node's pods.

pub mod cidr;
pub mod eviction;
pub mod health;
mod taints;
mod zones;

#[cfg(test)]
mod tests;

pub use taints::{NOT_READY, UNREACHABLE};
