//! Raft: everything that knows openraft. The rest of the store sees [`Node`].
//!
//! Raft runs on a thread of its own, with a runtime of its own. Its tasks hand over to each other without waking
//! other threads. A single voter may block that thread on the disk: while one group of entries is synced, the next
//! one gathers in Raft's inbox, which is what makes group commit. With several voters the leader's entries go to its
//! peers while it syncs, so a task of its own syncs for all entries that gathered meanwhile.

mod convert;
mod launch;
mod log_store;
mod lost;
mod machine;
mod members;
mod network;
mod node;
mod plausible;
mod propose;
mod read;
mod role;
mod runtime;
mod serve;
mod transfer;

pub(crate) use node::{Node, RaftStatus};
pub(crate) use transfer::Incoming;

use crate::cluster::MemberInfo;
use crate::command::{Outcome, Proposal};

openraft::declare_raft_types!(
    /// The types that Raft works with.
    pub(crate) Types:
        D = Proposal,
        R = Outcome,
        NodeId = u64,
        Node = MemberInfo,
        // Standard Raft: one leader a term, so that an entry is named by term and index.
        LeaderId = openraft::impls::leader_id_std::LeaderId<Self::Term, Self::NodeId>,
        AsyncRuntime = runtime::Runtime,
);

pub(crate) type LogId = openraft::type_config::alias::LogIdOf<Types>;
pub(crate) type RaftVote = openraft::type_config::alias::VoteOf<Types>;
pub(crate) type Entry = openraft::type_config::alias::EntryOf<Types>;
pub(crate) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Types>;
pub(crate) type Members = openraft::Membership<u64, MemberInfo>;
pub(crate) type Raft = openraft::Raft<Types, machine::Machine>;
