//! The store as its users see it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::alarm::AlarmKind;
use crate::command::{Command, Outcome};
use crate::error::{OpenError, ReadError, Shortage, WatchError, WriteError};
use crate::kv::{Lease, LeaseId, Revision};
use crate::metrics::Status;
use crate::open;
use crate::options::{MAX_LEASE_TTL_SECONDS, Options};
use crate::peer::{PeerHandler, grpc};
use crate::raft::Node;
use crate::seal::{self, Seal};
use crate::shared::Shared;
use crate::txn::{Range, RangeResponse, Txn, TxnResponse};
use crate::watch::{Watch, Watcher};

/// An open store. Clones are the same store. It works as long as one of them, and no [`Store::shutdown`], is there.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
    seal: Option<Arc<dyn Seal>>,
}

pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) node: Node,
    pub(crate) peers: PeerHandler,
    /// Ends when nobody listens for peers any more.
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        stop(&self.shared, &self.node);
    }
}

fn stop(shared: &Shared, node: &Node) {
    shared.stopping.store(true, Ordering::Release);
    shared.gate.close();
    shared.progress.send_modify(|progress| progress.closed = true);
    node.stop();
}

/// Listens for peers, before they are told anything, and makes the way to them.
async fn listen(options: &mut Options, address: SocketAddr) -> Result<grpc::Listener, OpenError> {
    let tls = options.peer_tls.clone();
    if options.transport.is_none() {
        options.transport = Some(Arc::new(grpc::GrpcTransport::new(tls.clone())));
    }
    let bound = grpc::Listener::bind(address, tls).await;
    bound.map_err(|error| OpenError::NotReady(format!("cannot listen for peers at {address}: {error}")))
}

impl Store {
    /// Opens the store in `options.dir`, or makes one. A store that is alone leads on return, and has replayed its
    /// log; one with peers is to be served ([`Store::peer_handler`]) and is ready after [`Store::ready`].
    pub async fn open(mut options: Options) -> Result<Store, OpenError> {
        options.check()?;
        let listener = match options.listen_peers {
            None => None,
            Some(address) => Some(listen(&mut options, address).await?),
        };
        let (shared, recent) = open::open(options).await?;
        let node = Node::start(Arc::clone(&shared), recent).await?;
        let peers = PeerHandler::new(Arc::clone(&shared), node.clone());
        let listening = listener.map(|listener| grpc::serve(listener, peers.clone(), node.stopping()));
        let inner = Inner { shared, node, peers, listening: Mutex::new(listening) };
        Ok(Store { inner: Arc::new(inner), seal: None })
    }

    /// A handle whose values are kept as `seal` says: it seals what it writes, and opens what it reads and watches.
    #[must_use]
    pub fn sealed(&self, seal: Arc<dyn Seal>) -> Store {
        Store { inner: Arc::clone(&self.inner), seal: Some(seal) }
    }

    /// Whether the value of a key is kept in another way than it would be today; false without a seal or value.
    pub async fn is_outdated(&self, key: impl Into<Bytes>) -> Result<bool, ReadError> {
        let Some(seal) = &self.seal else { return Ok(false) };
        let kept = self.read_range(Range::key(key)).await?.kvs.into_iter().next();
        Ok(kept.is_some_and(|kv| seal.is_outdated(&kv.key, &kv.value)))
    }

    /// Stops the store: leadership is handed over, what was acknowledged is durable, files are closed, and the
    /// directory can be opened again. Writes that are under way fail; watchers end.
    pub async fn shutdown(&self) {
        let Inner { shared, node, listening, .. } = &*self.inner;
        if !shared.stopping.load(Ordering::Acquire) {
            node.hand_over().await;
        }
        stop(shared, node);
        node.ended().await;
        let listening = listening.lock().take();
        if let Some(listening) = listening {
            // It ends as it was told; how does not matter.
            let _ = listening.await;
        }
    }

    /// Waits until the store stops working because of a fault, and says why. It does not recover: the process should
    /// end, and open the store anew. Never returns if the store is shut down in order.
    pub async fn failed(&self) -> String {
        let mut failed = self.inner.shared.failed.subscribe();
        loop {
            if let Some(why) = failed.borrow_and_update().clone() {
                return why;
            }
            if failed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Carries out a transaction. On return it is durable, and every read and watch sees it.
    ///
    /// The future can be dropped at any time; the transaction is then done or not, but never half done.
    pub async fn txn(&self, mut txn: Txn) -> Result<TxnResponse, WriteError> {
        let Some(seal) = &self.seal else { return self.run_txn(txn).await };
        seal::seal_txn(&**seal, &mut txn)?;
        let mut response = self.run_txn(txn).await?;
        seal::open_txn(&**seal, &mut response).await?;
        Ok(response)
    }

    async fn run_txn(&self, txn: Txn) -> Result<TxnResponse, WriteError> {
        let shared = &self.inner.shared;
        txn.check(shared.options.max_txn_ops)?;
        if txn.puts() {
            self.check_quota().await?;
        }
        if !txn.changes() {
            return Box::pin(self.read_txn(&txn)).await;
        }
        let old_reads = txn.reads_the_past().then(|| txn.clone());
        match self.write(Command::Txn(txn)).await? {
            Outcome::Txn(mut response) => {
                if let Some(txn) = old_reads {
                    Box::pin(self.read_the_past(&txn, &mut response)).await?;
                }
                Ok(response)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Answers a transaction that changes nothing, as any other read is answered.
    async fn read_txn(&self, txn: &Txn) -> Result<TxnResponse, WriteError> {
        if self.inner.shared.stopping.load(Ordering::Acquire) {
            return Err(WriteError::Stopped);
        }
        if txn.is_linearizable() {
            self.inner.node.read_barrier().await?;
        }
        let mut response = self.inner.shared.state.read().read_txn(txn)?;
        if txn.reads_the_past() {
            self.read_the_past(txn, &mut response).await?;
        }
        Ok(response)
    }

    /// Answers a transaction's reads of older revisions, which existed when it was carried out.
    async fn read_the_past(&self, txn: &Txn, response: &mut TxnResponse) -> Result<(), WriteError> {
        let mut reads = Vec::new();
        let revision = response.revision;
        response.old_reads(txn, &mut reads);
        for (range, answer) in reads {
            // Only a compaction in this very moment, or a broken disk, can come between.
            let read = self.read_range(Range { serializable: true, ..range.clone() }).await;
            let read = read.map_err(|_| WriteError::Unknown)?;
            *answer = RangeResponse { revision, ..read };
        }
        Ok(())
    }

    /// Reads a range of keys.
    pub async fn range(&self, range: Range) -> Result<RangeResponse, ReadError> {
        let keys_only = range.keys_only;
        let mut response = self.read_range(range).await?;
        if let Some(seal) = self.seal.as_ref().filter(|_| !keys_only) {
            seal::open_range(&**seal, &mut response).await?;
        }
        Ok(response)
    }

    /// Reads values as they are kept.
    async fn read_range(&self, range: Range) -> Result<RangeResponse, ReadError> {
        let shared = &self.inner.shared;
        if shared.stopping.load(Ordering::Acquire) {
            return Err(ReadError::Stopped);
        }
        if self.is_corrupt() {
            return Err(ReadError::Corrupt);
        }
        shared.counters.ranges.fetch_add(1, Ordering::Relaxed);
        if !range.serializable {
            self.inner.node.read_barrier().await?;
        }
        let fetch = range.to_fetch();
        let read = shared.read(&fetch)?;
        if read.missing.is_empty() {
            let mut response = read.response;
            if range.keys_only && range.revision.is_some() {
                drop_values(&mut response);
            }
            range.arrange(&mut response);
            return Ok(response);
        }
        let (shared, fetch) = (Arc::clone(shared), fetch.into_owned());
        let blocking = shared.options.blocking;
        let complete = blocking.run(move || {
            let mut response = shared.complete(&fetch, read)?;
            range.arrange(&mut response);
            if range.keys_only {
                drop_values(&mut response);
            }
            Ok(response)
        });
        complete.await.map_err(ReadError::History)?
    }

    /// Whether it is this member whose data differs from the others'.
    fn is_corrupt(&self) -> bool {
        self.inner.shared.state.read().alarms().contains(&self.own_alarm(AlarmKind::Corrupt))
    }

    /// Watches a range of keys.
    pub fn watch(&self, watch: Watch) -> Result<Watcher, WatchError> {
        Ok(Watcher::new(Arc::clone(&self.inner.shared), watch)?.sealed(self.seal.clone()))
    }

    /// The same, with values as they are kept: sealed ones are not opened, so that nobody waits for a key.
    pub fn watch_kept(&self, watch: Watch) -> Result<Watcher, WatchError> {
        Watcher::new(Arc::clone(&self.inner.shared), watch)
    }

    /// The newest applied revision.
    pub fn revision(&self) -> Revision {
        self.inner.shared.state.read().revision()
    }

    /// The oldest revision that can be read; 0 if nothing was ever compacted.
    pub fn compacted_revision(&self) -> Revision {
        self.inner.shared.state.read().compacted()
    }

    /// Forgets what only reads before `revision` need.
    pub async fn compact(&self, revision: Revision) -> Result<(), WriteError> {
        // Known at once, without an entry in the log.
        let (compacted, current) = (self.compacted_revision(), self.revision());
        if revision <= compacted {
            return Err(WriteError::Compacted { requested: revision, compacted });
        }
        if revision > current {
            return Err(WriteError::FutureRevision { requested: revision, current });
        }
        self.write(Command::Compact(revision)).await.map(drop)
    }

    /// Makes a lease of `ttl_seconds` with a name of the store's choice.
    pub async fn lease_grant(&self, ttl_seconds: i64) -> Result<Lease, WriteError> {
        self.lease_grant_as(self.inner.shared.options.random.lease_id(), ttl_seconds).await
    }

    /// Makes a lease of `ttl_seconds` named `id`, which is not 0.
    pub async fn lease_grant_as(&self, id: LeaseId, ttl_seconds: i64) -> Result<Lease, WriteError> {
        if !(1..=MAX_LEASE_TTL_SECONDS).contains(&ttl_seconds) {
            return Err(WriteError::LeaseTtl { ttl: ttl_seconds, max: MAX_LEASE_TTL_SECONDS });
        }
        if id == 0 {
            return Err(WriteError::LeaseNotFound(id));
        }
        self.check_quota().await?;
        self.write(Command::LeaseGrant { id, ttl: ttl_seconds }).await?;
        Ok(Lease { id, granted_ttl: ttl_seconds, remaining_ttl: ttl_seconds })
    }

    /// Starts the time of a lease anew.
    pub async fn lease_keep_alive(&self, id: LeaseId) -> Result<Lease, WriteError> {
        if self.inner.shared.stopping.load(Ordering::Acquire) {
            return Err(WriteError::Stopped);
        }
        let ttl = self.inner.node.keep_alive(id).await?.ok_or(WriteError::LeaseNotFound(id))?;
        Ok(Lease { id, granted_ttl: ttl, remaining_ttl: ttl })
    }

    /// Ends a lease and deletes its keys, in one revision.
    pub async fn lease_revoke(&self, id: LeaseId) -> Result<(), WriteError> {
        self.write(Command::LeaseRevoke { id }).await.map(drop)
    }

    /// A lease as the leader knows it, and its keys; `None` if there is none of that name.
    pub async fn lease_time_to_live(&self, id: LeaseId) -> Result<Option<(Lease, Vec<Bytes>)>, WriteError> {
        let Some(remaining_ttl) = self.inner.node.lease_remaining(id).await? else { return Ok(None) };
        Ok(self.lease(id).map(|(lease, keys)| (Lease { remaining_ttl, ..lease }, keys)))
    }

    /// A lease and its keys, as known here; `None` if there is none of that name. Only the leader knows how much
    /// time is left, elsewhere it is 0: see [`Store::lease_time_to_live`].
    pub fn lease(&self, id: LeaseId) -> Option<(Lease, Vec<Bytes>)> {
        let shared = &self.inner.shared;
        let state = shared.state.read();
        let lease = state.leases().get(&id)?;
        let remaining_ttl = shared.lessor.remaining(id, Instant::now()).unwrap_or_default();
        Some((Lease { id, granted_ttl: lease.ttl, remaining_ttl }, lease.keys.iter().cloned().collect()))
    }

    /// The names of all leases.
    pub fn leases(&self) -> Vec<LeaseId> {
        self.inner.shared.state.read().leases().keys().copied().collect()
    }

    /// The store's condition.
    pub fn status(&self) -> Status {
        let Inner { shared, node, .. } = &*self.inner;
        let raft = node.status();
        let state = shared.state.read();
        let (keys, db_bytes_in_use) = state.size();
        let counters = &shared.counters;
        Status {
            cluster_id: shared.identity.cluster_id,
            member_id: shared.identity.member_id,
            leader: raft.leader.filter(|id| *id != shared.identity.member_id || node.leads()),
            is_learner: raft.is_learner,
            leader_changes: counters.leader_changes.load(Ordering::Relaxed),
            term: raft.term,
            raft_index: raft.last_index,
            applied_index: state.marks().applied.map_or(0, |at| at.index),
            checkpoint_index: shared.checkpointed.lock().applied.map_or(0, |at| at.index),
            revision: state.revision(),
            compacted_revision: state.compacted(),
            keys,
            leases: state.leases().len() as u64,
            watchers: counters.watchers.load(Ordering::Relaxed),
            db_bytes_in_use,
            quota_bytes: shared.options.quota_bytes,
            db_bytes: shared.backend.file_bytes(),
            log_bytes: counters.log_disk_bytes.load(Ordering::Relaxed),
            log_bytes_written: counters.log_bytes.load(Ordering::Relaxed),
            pending_bytes: state.unflushed_bytes() as u64,
            history_reads: counters.history_reads.load(Ordering::Relaxed),
            log_sync: counters.log_sync.snapshot(),
            checkpoint: counters.checkpoint.snapshot(),
            shortage: shared.gate.shortage().or_else(|| self.check_quota_of(db_bytes_in_use).err()).or_else(
                || state.alarms().iter().any(|a| a.kind == AlarmKind::NoSpace).then_some(Shortage::Alarm),
            ),
            tally: state.tally(),
            ranges: counters.ranges.load(Ordering::Relaxed),
            proposals_pending: counters.proposals_pending.load(Ordering::Relaxed),
            proposals_failed: counters.proposals_failed.load(Ordering::Relaxed),
            failed: shared.failure(),
        }
    }

    /// Writes everything to the history now, so that the log is not needed. For maintenance and tests; it happens
    /// on its own often enough.
    pub async fn checkpoint(&self) -> Result<(), WriteError> {
        self.inner.shared.checkpoint().await
    }

    pub(crate) async fn write(&self, command: Command) -> Result<Outcome, WriteError> {
        let shared = &self.inner.shared;
        if shared.stopping.load(Ordering::Acquire) {
            return Err(WriteError::Stopped);
        }
        let counters = &shared.counters;
        // Lowered also if the future is dropped.
        let _pending = Pending::new(&counters.proposals_pending);
        let written = self.inner.node.write(command).await;
        if written.as_ref().is_err_and(WriteError::is_fault) {
            counters.proposals_failed.fetch_add(1, Ordering::Relaxed);
        }
        written
    }

    /// Refuses what needs space if there is none, and raises the alarm that says so.
    async fn check_quota(&self) -> Result<(), WriteError> {
        let (used, alarmed) = {
            let state = self.inner.shared.state.read();
            (state.size().1, state.alarms().iter().any(|alarm| alarm.kind == AlarmKind::NoSpace))
        };
        match self.check_quota_of(used) {
            Err(shortage) => {
                if !alarmed {
                    // Boxed, as what is rare must not make room for itself in each write.
                    Box::pin(self.alarm(self.own_alarm(AlarmKind::NoSpace), true)).await?;
                }
                Err(WriteError::NoSpace(shortage))
            }
            Ok(()) if alarmed => Err(WriteError::NoSpace(Shortage::Alarm)),
            Ok(()) => Ok(()),
        }
    }

    fn check_quota_of(&self, used: u64) -> Result<(), Shortage> {
        let quota = self.inner.shared.options.quota_bytes;
        if used < quota { Ok(()) } else { Err(Shortage::Quota { used, quota }) }
    }
}

/// Counts something under way.
struct Pending<'a>(&'a AtomicU64);

impl Pending<'_> {
    fn new(counter: &AtomicU64) -> Pending<'_> {
        counter.fetch_add(1, Ordering::Relaxed);
        Pending(counter)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn unexpected(outcome: &Outcome) -> WriteError {
    WriteError::Failed(format!("a command had an outcome of another kind: {outcome:?}"))
}

fn drop_values(response: &mut RangeResponse) {
    for kv in &mut response.kvs {
        *kv = Arc::new(kv.without_value());
    }
}
