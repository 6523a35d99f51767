//! May they: RBAC from an index in memory, the policy that every cluster begins with, and access reviews.

pub mod bootstrap;
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

pub use decide::{decide, forbidden, verdict};
pub use escalation::Escalation;
pub use feed::FeedError;
pub use index::Ask;
pub use node::NodeAuthorizer;
pub use policy::{GROUP, Policy, PolicyKind, RoleRef};
pub use rbac::{MASTERS, Rbac};
pub use review::Reviewer;
pub use rule::{Rule, uncovered};
