//! Counters, and the snapshot of the store's condition.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::Shortage;
use crate::kv::Revision;

/// Upper bounds of the latency buckets, in seconds: etcd's for its disk metrics, so that its alerts fit.
pub(crate) const LATENCY_BOUNDS: [f64; 14] =
    [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192];

/// A histogram of durations that many threads add to.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; LATENCY_BOUNDS.len()],
    count: AtomicU64,
    nanos: AtomicU64,
}

impl Histogram {
    pub(crate) fn record(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        if let Some(bucket) = LATENCY_BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Latency {
        let mut below = 0;
        let cumulative = std::array::from_fn(|bucket| {
            below += self.buckets[bucket].load(Ordering::Relaxed);
            (LATENCY_BOUNDS[bucket], below)
        });
        Latency {
            count: self.count.load(Ordering::Relaxed),
            total: Duration::from_nanos(self.nanos.load(Ordering::Relaxed)),
            cumulative,
        }
    }
}

/// How long something took, in the shape of a Prometheus histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latency {
    /// How often it happened.
    pub count: u64,
    /// All durations together.
    pub total: Duration,
    /// `(upper bound in seconds, how often it took at most that long)`, with the buckets etcd uses.
    pub cumulative: [(f64, u64); LATENCY_BOUNDS.len()],
}

/// What the store counts while it runs.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// `fdatasync` of the Raft log.
    pub(crate) log_sync: Histogram,
    /// Durable commits of the history.
    pub(crate) checkpoint: Histogram,
    /// Bytes written to the Raft log.
    pub(crate) log_bytes: AtomicU64,
    /// Bytes of Raft log on disk.
    pub(crate) log_disk_bytes: AtomicU64,
    /// Watchers that exist.
    pub(crate) watchers: AtomicU64,
    /// Batches that watchers had to read from history because the window had moved on.
    pub(crate) history_reads: AtomicU64,
}

/// The store's condition at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The cluster, chosen at random when it was made.
    pub cluster_id: u64,
    /// This member, likewise.
    pub member_id: u64,
    /// The leader, if there is one that this member knows.
    pub leader: Option<u64>,
    /// Whether this member has no vote.
    pub is_learner: bool,
    /// Raft's term.
    pub term: u64,
    /// Index of the last entry in the Raft log.
    pub raft_index: u64,
    /// Index of the last entry that was applied.
    pub applied_index: u64,
    /// Index up to which the history is durable, so that the log is not needed.
    pub checkpoint_index: u64,
    /// The newest revision.
    pub revision: Revision,
    /// The oldest revision that can be read, 0 if nothing was ever compacted.
    pub compacted_revision: Revision,
    /// Keys at the newest revision.
    pub keys: u64,
    /// Leases that live.
    pub leases: u64,
    /// Watchers that exist.
    pub watchers: u64,
    /// Bytes of all kept revisions: what the quota is about.
    pub db_bytes_in_use: u64,
    /// The quota.
    pub quota_bytes: u64,
    /// Bytes of the history's file.
    pub db_bytes: u64,
    /// Bytes of the Raft log's files, space taken in advance included.
    pub log_bytes: u64,
    /// Bytes ever written to the Raft log since the start.
    pub log_bytes_written: u64,
    /// Bytes of changes that wait for the next checkpoint.
    pub pending_bytes: u64,
    /// Batches of events that watchers read from disk, being too slow for the window in memory, since the start.
    pub history_reads: u64,
    /// Syncs of the Raft log.
    pub log_sync: Latency,
    /// Durable commits of the history.
    pub checkpoint: Latency,
    /// Why writes are refused at the moment, if they are.
    pub shortage: Option<Shortage>,
    /// Why the store does not work any more, if so. Only opening it again helps.
    pub failed: Option<String>,
}
