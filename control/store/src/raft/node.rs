//! The adapter as the rest of the store holds it: a running Raft.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::Fatal;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::launch;
use super::read::Reads;
use super::role::Role;
use super::runtime::within;
use super::{Raft, Types};
use crate::blocking::RaftRuntime;
use crate::error::OpenError;
use crate::log::Record;
use crate::shared::{Shared, until};

/// Bytes of log up to which it is kept for members that receive a snapshot.
const MAX_LOG_FOR_SNAPSHOT: u64 = 1 << 30;

/// A running Raft.
#[derive(Clone)]
pub(crate) struct Node {
    pub(super) shared: Arc<Shared>,
    pub(super) raft: Raft,
    pub(super) stop: Arc<watch::Sender<bool>>,
    /// True once Raft has ended, for whatever reason. Who waits for an answer of Raft has to wait for this too: a
    /// request that reaches Raft's inbox at the very moment of its end stays there, and is never answered.
    pub(super) over: watch::Receiver<bool>,
    /// Ends when Raft's thread has.
    pub(super) ended: watch::Receiver<()>,
    pub(super) role: watch::Receiver<Role>,
    pub(super) reads: Reads,
}

/// What Raft says about itself.
pub(crate) struct RaftStatus {
    pub(crate) leader: Option<u64>,
    pub(crate) term: u64,
    pub(crate) last_index: u64,
    pub(crate) is_learner: bool,
}

impl Node {
    /// Starts Raft over the log of `shared`, whose entries that are not in the history are `recent`. A member that
    /// is alone leads on return, and has applied all that is in its log.
    pub(crate) async fn start(shared: Arc<Shared>, recent: Vec<Record>) -> Result<Node, OpenError> {
        let not_ready = |why: String| OpenError::NotReady(why);
        let (ready, started) = oneshot::channel();
        match shared.options.raft_runtime {
            RaftRuntime::Current => {
                tokio::spawn(within(Arc::clone(&shared), launch::run(shared, recent, ready)));
            }
            RaftRuntime::OwnThread => {
                let thread = std::thread::Builder::new().name("carrack-store".to_owned());
                let run = move || {
                    let mut builder = tokio::runtime::Builder::new_current_thread();
                    builder.enable_time();
                    if shared.options.transport.is_some() {
                        // Waking from a wait for sockets costs more: not for a store without peers.
                        builder.enable_io();
                    }
                    match builder.build() {
                        Ok(runtime) => {
                            runtime.block_on(within(Arc::clone(&shared), launch::run(shared, recent, ready)));
                        }
                        Err(error) => drop(ready.send(Err(format!("cannot make Raft's runtime: {error}")))),
                    }
                };
                thread
                    .spawn(run)
                    .map_err(|error| not_ready(format!("cannot start Raft's thread: {error}")))?;
            }
        }
        match started.await {
            Ok(Ok(node)) => Ok(node),
            Ok(Err(why)) => Err(not_ready(why)),
            Err(_) => Err(not_ready("Raft ended while starting".to_owned())),
        }
    }

    /// Who leads, as far as this member knows.
    pub(crate) fn leader(&self) -> Option<u64> {
        self.role.borrow().leader
    }

    /// Whether this member leads, and a majority has confirmed it so recently that nobody else can.
    pub(crate) fn leads(&self) -> bool {
        if self.shared.alone.load(Ordering::Acquire) {
            return true;
        }
        let lease = launch::Timing::of(&self.shared.options).lease;
        let Ok(leader) = self.raft.as_leader() else { return false };
        leader.last_quorum_acked().is_some_and(|at| at.elapsed() < lease)
    }

    /// Waits until another member leads than `known`, or somebody at all. False if that does not happen in time, or
    /// Raft ends.
    pub(super) async fn leader_changes(&self, known: Option<u64>, until: Instant) -> bool {
        let (mut role, mut over) = (self.role.clone(), self.over.clone());
        let changed = async {
            if role.wait_for(|role| role.leader.is_some() && role.leader != known).await.is_err() {
                // Nobody follows the role any more: Raft is ending, which `over` says soon. Who asks again at once
                // would keep Raft's thread from getting there.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = changed => true,
            () = crate::shared::until(&mut over) => false,
            () = tokio::time::sleep_until(until) => false,
        }
    }

    /// Tells Raft that a new checkpoint is there, so that it purges the log.
    pub(crate) async fn log_not_needed(&self) {
        // Both fail only if Raft has stopped.
        let _ = self.raft.trigger().snapshot().await;
        let upto = {
            let checkpointed = self.shared.checkpointed.lock().applied;
            let options = &self.shared.options;
            let (entries, bytes) = match self.shared.alone.load(Ordering::Acquire) {
                true => (0, 0),
                false => (options.log_keep_entries, options.log_keep_bytes),
            };
            // A snapshot on its way is worth nothing without what follows it, within limits.
            let log = self.shared.log.lock();
            let sent = self.shared.exporting.lock().values().min().copied();
            let sent = sent.filter(|_| log.sizes().0 < MAX_LOG_FOR_SNAPSHOT).unwrap_or(u64::MAX);
            checkpointed.map(|at| log.purgeable(at.index, entries, bytes).min(sent))
        };
        if let Some(upto) = upto.filter(|upto| *upto > 0) {
            let _ = self.raft.trigger().purge_log(upto).await;
        }
    }

    /// What Raft says about itself.
    pub(crate) fn status(&self) -> RaftStatus {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let me = self.shared.identity.member_id;
        RaftStatus {
            leader: metrics.current_leader,
            term: metrics.current_term,
            last_index: metrics.last_log_index.unwrap_or_default(),
            is_learner: !metrics.membership_config.voter_ids().any(|id| id == me),
        }
    }

    /// True once the store is asked to stop.
    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    /// Asks Raft to stop.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until Raft has stopped and all files are closed.
    pub(crate) async fn ended(&self) {
        let mut ended = self.ended.clone();
        // An error is what is waited for: the sender is gone.
        while ended.changed().await.is_ok() {}
    }

    /// Waits for `work`, but not longer than Raft lives.
    pub(super) async fn unless_over<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut over = self.over.clone();
        tokio::select! {
            biased;
            done = work => Some(done),
            () = until(&mut over) => None,
        }
    }

    /// Why Raft stopped; `None` if it was asked to.
    pub(super) fn why_stopped(&self, fatal: &Fatal<Types>) -> Option<String> {
        why_stopped(&self.shared, fatal)
    }

    /// How long a request may take.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.shared.options.request_timeout
    }

    /// How long to wait before something is tried again at the same leader.
    pub(super) fn pause(&self) -> Duration {
        self.shared.options.heartbeat / 2
    }
}

/// `None` if Raft was asked to stop.
pub(super) fn why_stopped(shared: &Shared, fatal: &Fatal<Types>) -> Option<String> {
    if matches!(fatal, Fatal::Stopped) && shared.stopping.load(Ordering::Acquire) {
        return None;
    }
    shared.fail(fatal);
    shared.failure()
}
