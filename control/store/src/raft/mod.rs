//! Raft: everything that knows openraft. The rest of the store sees [`Node`].
//!
//! Raft runs on a thread of its own, with a runtime of its own. Its tasks hand over to each other without waking
//! other threads, and may block that thread on the disk: while one group of entries is synced, the next one gathers
//! in Raft's inbox, which is what makes group commit.

mod convert;
mod log_store;
mod machine;
mod network;
mod node;

pub(crate) use node::Node;

use crate::command::{Outcome, Proposal};

openraft::declare_raft_types!(
    /// The types that Raft works with.
    pub(crate) Types:
        D = Proposal,
        R = Outcome,
        NodeId = u64,
        Node = openraft::BasicNode,
        // Standard Raft: one leader a term, so that an entry is named by term and index.
        LeaderId = openraft::impls::leader_id_std::LeaderId<Self::Term, Self::NodeId>,
);

pub(crate) type LogId = openraft::type_config::alias::LogIdOf<Types>;
pub(crate) type RaftVote = openraft::type_config::alias::VoteOf<Types>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<Types>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Types>;
pub(crate) type Members = openraft::Membership<u64, openraft::BasicNode>;
pub(crate) type Raft = openraft::Raft<Types, machine::Machine>;
