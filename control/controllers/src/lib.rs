//! The controllers of the control plane. Each is a pure plan (`plan(snapshot, now) -> Plan`) with hooks that say which
//! changes concern which objects; one driver runs them, one executor writes, and all read from one set of caches.
//!
//! Level-triggered: a plan looks at the whole state of its object, never at what changed. What a round wrote must show
//! in the caches before the same object is planned again, so that stale news never make anything twice.

pub mod accounts;
pub mod cache;
pub mod cluster_roles;
pub mod deployment;
mod diff;
pub mod discovery;
pub mod disruption;
pub mod driver;
pub mod endpoints;
mod executor;
pub mod garbage;
pub mod namespace;
pub mod nodes;
mod owner;
pub mod plan;
pub mod podgc;
pub mod protection;
pub mod queue;
pub mod quota;
pub mod replicaset;
pub mod resource;
pub mod rootca;
mod run;
mod select;
#[cfg(test)]
mod testing;
mod when;

pub use carrack_client::Timings;
pub use run::{Clients, Election, Error, Options, run};
