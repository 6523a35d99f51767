//! Who belongs to a cluster, in etcd's words.

use serde::{Deserialize, Serialize};

/// A member as the cluster knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Its name; empty until it has started for the first time.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has started for the first time.
    pub client_urls: Vec<String>,
    /// Whether it has no vote. A member that was added to vote has none before it has caught up; it is no learner.
    pub is_learner: bool,
    /// Whether it votes now.
    pub votes: bool,
}

/// What is replicated about a member, beside its id and whether it votes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MemberInfo {
    pub(crate) name: String,
    pub(crate) peer_urls: Vec<String>,
    pub(crate) client_urls: Vec<String>,
    /// It is to vote as soon as it has caught up.
    pub(crate) joining: bool,
}

/// A member of a cluster that is about to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialMember {
    /// Its name.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
}

/// Whether a member that starts with an empty directory makes a cluster or joins one; etcd's
/// `--initial-cluster-state`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InitialClusterState {
    /// It makes one, together with all others in the list.
    #[default]
    New,
    /// It joins one: it was added by [`crate::Store::member_add`], and asks the others in the list who it is.
    Existing,
}

/// A change of the membership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberChange {
    /// A new member.
    Add {
        /// Whether it stays without a vote until it is promoted.
        as_learner: bool,
        /// Where its peers will reach it.
        peer_urls: Vec<String>,
    },
    /// The member goes for good.
    Remove(u64),
    /// The learner gets a vote.
    Promote(u64),
    /// The member moves.
    Update {
        /// Which.
        id: u64,
        /// Where its peers reach it from now on.
        peer_urls: Vec<String>,
    },
    /// A member says what it is called and where clients reach it.
    Publish {
        /// Which.
        id: u64,
        /// Its name.
        name: String,
        /// Where clients reach it.
        client_urls: Vec<String>,
    },
    /// The leader hands over to this member.
    MoveLeader(u64),
}

/// Why the membership was not changed. After [`MemberError::Unknown`] it may be; after all others it is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum MemberError {
    /// No such member.
    #[error("there is no member {0:x}; `member list` shows all")]
    NotFound(u64),
    /// Another member has the address.
    #[error("a member with the peer address {0} is there already")]
    PeerUrlExists(String),
    /// An address that cannot be.
    #[error("{0:?} is no peer address: it has to be like https://10.0.0.7:2380")]
    BadPeerUrl(String),
    /// It votes already.
    #[error("member {0:x} is no learner")]
    NotLearner(u64),
    /// It lags.
    #[error("the learner {id:x} cannot vote yet: it lacks {behind} entries; try again when it has caught up")]
    LearnerNotReady {
        /// Which.
        id: u64,
        /// How many entries it lacks.
        behind: u64,
    },
    /// The rest could not decide anything.
    #[error("without member {0:x} too few voters can be reached for a majority: bring others back first")]
    Unhealthy(u64),
    /// The last voter cannot go.
    #[error("the last voter cannot be removed")]
    LastVoter,
    /// A member without a vote cannot lead.
    #[error("member {0:x} cannot lead: it has no vote")]
    CannotLead(u64),
    /// Another change is under way.
    #[error("another change of the membership is under way; try again")]
    InProgress,
    /// Nobody leads.
    #[error("no leader could be reached")]
    NotLeader {
        /// Who leads, if known.
        leader: Option<u64>,
    },
    /// It did not happen in time.
    #[error("leadership was not handed over in time; the old leader goes on")]
    NotTransferred,
    /// The answer is lost.
    #[error("whether the membership was changed is unknown; `member list` tells")]
    Unknown,
    /// The store was shut down.
    #[error("the store is shut down")]
    Stopped,
    /// The store stopped because of a fault.
    #[error("the store has failed: {0}")]
    Failed(String),
}
