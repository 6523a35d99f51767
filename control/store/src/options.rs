//! How a store is opened: where, how much it may hold, and the limits it keeps.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::disk::{Disk, HostDisk};
use crate::error::OpenError;

/// The longest life of a lease, in seconds; etcd's limit.
pub const MAX_LEASE_TTL_SECONDS: i64 = 9_000_000_000;

/// The smallest log segment.
const MIN_SEGMENT_BYTES: u64 = 1 << 20;

/// What part of a segment the entries may take that are on their way to the log. A full segment taken in advance
/// then always holds them, even if they are counted twice for a moment.
pub(crate) const IN_FLIGHT_PART: u64 = 4;

/// How to open a store. Start from [`Options::new`] and change what is to differ.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// The data directory; made if it does not exist.
    pub dir: PathBuf,
    /// The cluster that the data belongs to. A directory of another cluster is refused.
    pub cluster_name: String,
    /// Bytes that all kept revisions may have together. Beyond it, puts are refused; deleting and compacting go on.
    pub quota_bytes: u64,
    /// Bytes of memory for redb's cache of pages. History is read rarely, so a little is enough.
    pub cache_bytes: usize,
    /// Bytes of one file of the Raft log. The disk space for two is taken in advance.
    pub segment_bytes: u64,
    /// The largest transaction, in bytes; etcd's default, on which clients rely.
    pub max_request_bytes: usize,
    /// The most comparisons, and the most steps of each branch, in a transaction; etcd's default.
    pub max_txn_ops: usize,
    /// How many revisions the window of recent events keeps in memory for watchers.
    pub window_revisions: usize,
    /// How many bytes of keys and values that window may hold.
    pub window_bytes: usize,
    /// Bytes of changes after which a checkpoint is written. It bounds what a restart replays.
    pub checkpoint_bytes: usize,
    /// Number of changes after which a checkpoint is written.
    pub checkpoint_changes: usize,
    /// How long a change stays in the log alone before a checkpoint is written.
    pub checkpoint_age: Duration,
    /// How often a leader with peers makes itself heard.
    pub heartbeat: Duration,
    /// How long a follower does without before it stands for election.
    pub election: Duration,
    /// Where files are; the host's file system unless a test says otherwise.
    pub disk: Arc<dyn Disk>,
}

impl Options {
    /// The defaults, for the data directory `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Options {
        Options {
            dir: dir.into(),
            cluster_name: "carrack".to_owned(),
            quota_bytes: 8 << 30,
            cache_bytes: 8 << 20,
            segment_bytes: 16 << 20,
            max_request_bytes: 1536 << 10,
            max_txn_ops: 128,
            window_revisions: 8192,
            window_bytes: 16 << 20,
            checkpoint_bytes: 4 << 20,
            checkpoint_changes: 10_000,
            checkpoint_age: Duration::from_secs(30),
            heartbeat: Duration::from_millis(100),
            election: Duration::from_secs(1),
            disk: Arc::new(HostDisk),
        }
    }

    /// Refuses options that cannot work together.
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let least = MIN_SEGMENT_BYTES.max(IN_FLIGHT_PART * crate::log::space_for(self.max_request_bytes));
        let wrong = if self.segment_bytes < least {
            format!("segment_bytes is {}, but has to be at least {least}", self.segment_bytes)
        } else if self.segment_bytes > u64::from(u32::MAX) {
            format!("segment_bytes is {}, but cannot be more than {}", self.segment_bytes, u32::MAX)
        } else if self.max_txn_ops == 0 || self.max_request_bytes == 0 {
            "max_txn_ops and max_request_bytes cannot be 0".to_owned()
        } else if self.heartbeat.is_zero() || self.election < self.heartbeat * 3 {
            "election has to be at least three times the heartbeat, which cannot be 0".to_owned()
        } else if self.cluster_name.is_empty() {
            "cluster_name is empty".to_owned()
        } else {
            return Ok(());
        };
        Err(OpenError::Options(wrong))
    }
}
