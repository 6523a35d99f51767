//! May they: nodes and roles from indexes in memory, policies of a file, webhooks; the policy that every cluster begins
//! with, and access reviews.

pub mod abac;
mod asked;
pub mod bootstrap;
pub mod changeable;
pub mod conditions;
pub mod config;
mod decide;
mod escalation;
pub(crate) mod feed;
#[cfg(test)]
mod feed_tests;
mod graph;
pub(crate) mod index;
mod node;
mod policy;
mod rbac;
mod review;
mod rule;
#[cfg(test)]
mod tests;
pub mod webhook;

pub use decide::{decide, decision, forbidden, verdict};
pub use escalation::Escalation;
pub use feed::FeedError;
pub(crate) use graph::{Kind as Referred, referred};
pub use index::Ask;
pub use node::NodeAuthorizer;
pub use policy::{GROUP, Policy, PolicyKind, RoleRef};
pub use rbac::{MASTERS, Rbac};
pub use review::Reviewer;
pub use rule::{Rule, uncovered};
