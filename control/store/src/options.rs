//! How a store is opened: where, how much it may hold, and the limits it keeps.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::blocking::{Blocking, RaftRuntime};
use crate::cluster::{InitialClusterState, InitialMember};
use crate::disk::{Disk, HostDisk};
use crate::error::OpenError;
use crate::peer::Transport;
use crate::peer::grpc::PeerTls;
use crate::random::Random;

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
    /// How long at most a follower does without before it stands for election. A leader that no majority has
    /// answered for two fifths of it does not answer linearizable reads, nor take writes.
    pub election: Duration,
    /// How long a request waits for a leader, or for the leader's answer.
    pub request_timeout: Duration,
    /// How many applied entries the log keeps for followers that were away for a short time; etcd's default.
    pub log_keep_entries: u64,
    /// Bytes of log that may be kept for them.
    pub log_keep_bytes: u64,
    /// Whether this member compares its data with the others' when it starts, and raises the alarm CORRUPT for who differs;
    /// etcd's `--experimental-initial-corrupt-check`. Reads all of the history once.
    pub initial_corrupt_check: bool,
    /// How often the leader compares all members' data; etcd's `--experimental-corrupt-check-time`. `None`: never.
    pub corrupt_check_interval: Option<Duration>,
    /// What this member is called.
    pub name: String,
    /// Where peers reach this member, if it is alone for now. Otherwise `initial_cluster` says it.
    pub peer_urls: Vec<String>,
    /// Where clients reach this member; the others are told.
    pub client_urls: Vec<String>,
    /// Who makes the cluster, or, for one that joins, who can be asked about it; this member included. Empty: this
    /// member alone. Matters only while the directory is empty.
    pub initial_cluster: Vec<InitialMember>,
    /// Whether `initial_cluster` is made or joined.
    pub initial_cluster_state: InitialClusterState,
    /// Where the store itself listens for peers, over gRPC; `None` if there are none, or if someone else carries
    /// their messages to [`crate::Store::peer_handler`].
    pub listen_peers: Option<SocketAddr>,
    /// Keys and certificates for gRPC between members.
    pub peer_tls: Option<PeerTls>,
    /// The way to other members. [`crate::Store::open`] makes one over gRPC if the store listens for peers.
    pub transport: Option<Arc<dyn Transport>>,
    /// Where Raft runs.
    pub raft_runtime: RaftRuntime,
    /// Where work is done that blocks on the disk.
    pub blocking: Blocking,
    /// Where random numbers come from.
    pub random: Random,
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
            election: Duration::from_millis(1000),
            request_timeout: Duration::from_secs(5),
            log_keep_entries: 5000,
            log_keep_bytes: 32 << 20,
            initial_corrupt_check: false,
            corrupt_check_interval: None,
            name: "default".to_owned(),
            peer_urls: Vec::new(),
            client_urls: Vec::new(),
            initial_cluster: Vec::new(),
            initial_cluster_state: InitialClusterState::New,
            listen_peers: None,
            peer_tls: None,
            transport: None,
            raft_runtime: RaftRuntime::OwnThread,
            blocking: Blocking::Threads,
            random: Random::from_system(),
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
        } else if self.heartbeat.is_zero() || self.election < self.heartbeat * 5 {
            "election has to be at least five times the heartbeat, which cannot be 0".to_owned()
        } else if self.initial_cluster.len() > 1 && self.transport.is_none() && self.listen_peers.is_none() {
            "a cluster of several members needs a transport to peers".to_owned()
        } else if self.initial_cluster_state == InitialClusterState::Existing
            && self.initial_cluster.len() < 2
        {
            "initial_cluster has to name this member and at least one that is there already".to_owned()
        } else if self.corrupt_check_interval.is_some_and(|interval| interval.is_zero()) {
            "corrupt_check_interval cannot be 0".to_owned()
        } else if self.cluster_name.is_empty() {
            "cluster_name is empty".to_owned()
        } else {
            return Ok(());
        };
        Err(OpenError::Options(wrong))
    }
}
