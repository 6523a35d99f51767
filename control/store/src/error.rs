//! What can go wrong, one enum for each kind of operation.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::kv::{LeaseId, Revision};

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file could not be read or written.
    #[error("cannot open the store: {what} {path}: {source}", path = path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("the store in {path} is in use by another process; stop it first, or choose another data directory", path = .0.display())]
    InUse(PathBuf),
    /// The data is damaged in a way that loses acknowledged writes. Nothing was changed.
    #[error(
        "the store is damaged at {path}: {detail}. Acknowledged writes would be lost, so it is not opened: restore a backup; or, if there are other members, remove this one, empty its directory and add it anew",
        path = path.display()
    )]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and where in the file.
        detail: String,
    },
    /// It belongs to another cluster.
    #[error("the store in {path} belongs to the cluster {found:?}, not to {wanted:?}", path = path.display())]
    WrongCluster {
        /// The data directory.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        wanted: String,
    },
    /// It was written by a newer version.
    #[error("{path} has the format {found}, this version reads up to {known}: upgrade first", path = path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest known format.
        known: u64,
    },
    /// The options contradict each other.
    #[error("the store's options are wrong: {0}")]
    Options(String),
    /// Raft did not come up.
    #[error("the store did not become ready: {0}")]
    NotReady(String),
}

/// What there is too little of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Shortage {
    /// The file system is full.
    #[error("the disk of the data directory is full; writes go on as soon as there is space again")]
    Disk,
    /// The quota is used up.
    #[error(
        "the store holds {used} bytes, its quota is {quota}: delete keys and compact old revisions, or raise the quota"
    )]
    Quota {
        /// Bytes of all kept revisions.
        used: u64,
        /// The limit.
        quota: u64,
    },
    /// The quota was used up at some time, and nobody has disarmed the alarm since.
    #[error(
        "the NOSPACE alarm is raised: delete keys, compact old revisions, then disarm it (etcdctl alarm disarm)"
    )]
    Alarm,
}

/// A value that a seal cannot change, or change back. The words are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("unable to transform key {key:?}: {why}")]
pub struct Unreadable {
    /// Whose value it is.
    pub key: String,
    /// What the seal said.
    pub why: String,
}

/// Why a write was not done. After `Unknown` and `Failed`, and `Unreadable` when it answers reads, it may be done;
/// after all others nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum WriteError {
    /// No space to keep it.
    #[error("no space: {0}")]
    NoSpace(Shortage),
    /// The request is too big.
    #[error("the request has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The transaction has too many steps.
    #[error("the transaction has {ops} operations or comparisons in one list, the limit is {limit}")]
    TooManyOps {
        /// How many.
        ops: usize,
        /// The limit.
        limit: usize,
    },
    /// A transaction changes a key twice.
    #[error("the key {0:?} is changed twice in one transaction")]
    DuplicateKey(Bytes),
    /// A key must have at least one byte.
    #[error("the key is empty")]
    EmptyKey,
    /// A put that keeps the value or the lease of a key needs the key to exist.
    #[error("the key {0:?} does not exist, so there is no value or lease of it to keep")]
    KeyNotFound(Bytes),
    /// The alarm is raised that says that members differ.
    #[error(
        "the CORRUPT alarm is raised: members differ, and nothing is written until the bad one is replaced and the alarm disarmed"
    )]
    Corrupt,
    /// The lease does not exist (any more).
    #[error("there is no lease {0:#x}")]
    LeaseNotFound(LeaseId),
    /// The lease exists already.
    #[error("there is already a lease {0:#x}")]
    LeaseExists(LeaseId),
    /// The TTL of a lease is out of bounds.
    #[error("a lease cannot have a TTL of {ttl} s: 1 to {max} s are possible")]
    LeaseTtl {
        /// What was asked for, in seconds.
        ttl: i64,
        /// The most that is possible, in seconds.
        max: i64,
    },
    /// The revision has been compacted before.
    #[error("revision {requested} has been compacted already (compacted up to {compacted})")]
    Compacted {
        /// The revision asked for.
        requested: Revision,
        /// Up to which revision history is gone.
        compacted: Revision,
    },
    /// The revision does not exist yet.
    #[error("revision {requested} is in the future: the newest is {current}")]
    FutureRevision {
        /// The revision asked for.
        requested: Revision,
        /// The newest.
        current: Revision,
    },
    /// Another member leads.
    #[error("this member does not lead the store; the leader is {}", leader.map_or("unknown".to_owned(), |id| format!("{id:x}")))]
    NotLeader {
        /// Who does, if known.
        leader: Option<u64>,
    },
    /// Leadership changed, a majority did not answer in time, or the store was shut down, while the write was under
    /// way.
    #[error(
        "leadership changed, a majority did not answer in time, or the store was shut down, during the write: whether it was done is unknown"
    )]
    Unknown,
    /// A value cannot be sealed; or what the transaction answers cannot be opened.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The store was shut down.
    #[error("the store is shut down")]
    Stopped,
    /// The store stopped because of a fault.
    #[error("the store has failed: {0}")]
    Failed(String),
}

impl WriteError {
    /// Whether the store, rather than the request, is the reason.
    pub(crate) fn is_fault(&self) -> bool {
        use WriteError::{Failed, NotLeader, Stopped, Unknown};
        matches!(self, Failed(_) | NotLeader { .. } | Stopped | Unknown)
    }
}

/// Why a read has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The revision is gone.
    #[error("revision {requested} has been compacted (the oldest kept is {compacted})")]
    Compacted {
        /// The revision asked for.
        requested: Revision,
        /// The oldest that can be read.
        compacted: Revision,
    },
    /// The revision does not exist yet.
    #[error("revision {requested} is in the future: the newest is {current}")]
    FutureRevision {
        /// The revision asked for.
        requested: Revision,
        /// The newest.
        current: Revision,
    },
    /// Another member leads and this one cannot tell whether it is up to date.
    #[error(
        "this member cannot answer a linearizable read: it does not lead the store, or cannot reach a majority"
    )]
    NotLeader {
        /// Who leads, if known.
        leader: Option<u64>,
    },
    /// The alarm is raised that says that this member's data differs from the others'.
    #[error(
        "the CORRUPT alarm of this member is raised: its data differs from the others'; ask another one, remove this one, empty its data directory and add it anew"
    )]
    Corrupt,
    /// History could not be read from disk.
    #[error("cannot read the history of the store: {0}")]
    History(String),
    /// A value cannot be opened.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The store was shut down.
    #[error("the store is shut down")]
    Stopped,
    /// The store stopped because of a fault.
    #[error("the store has failed: {0}")]
    Failed(String),
}

/// For transactions that only read.
impl From<ReadError> for WriteError {
    fn from(error: ReadError) -> WriteError {
        match error {
            ReadError::Compacted { requested, compacted } => WriteError::Compacted { requested, compacted },
            ReadError::FutureRevision { requested, current } => {
                WriteError::FutureRevision { requested, current }
            }
            ReadError::NotLeader { leader } => WriteError::NotLeader { leader },
            ReadError::Corrupt => WriteError::Corrupt,
            ReadError::Stopped => WriteError::Stopped,
            ReadError::Unreadable(unreadable) => WriteError::Unreadable(unreadable),
            ReadError::History(why) | ReadError::Failed(why) => WriteError::Failed(why),
        }
    }
}

/// Why a watch cannot start or go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// Events that were to be delivered are gone: list again, and watch from there.
    #[error("events from revision {requested} on have been compacted (the oldest kept is {compacted})")]
    Compacted {
        /// The first revision that was to be delivered.
        requested: Revision,
        /// The oldest that can be delivered.
        compacted: Revision,
    },
    /// A watch starts at a revision of at least 1.
    #[error("a watch cannot start at revision {0}")]
    BadRevision(Revision),
    /// History could not be read from disk.
    #[error("cannot read the history of the store: {0}")]
    History(String),
    /// A value cannot be opened.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The store was shut down.
    #[error("the store is shut down")]
    Stopped,
}
