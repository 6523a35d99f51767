//! The adapter: starting Raft on its thread, proposing to it, asking it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, Fatal, LinearizableReadError, RaftError};
use openraft::{BasicNode, Config, ReadPolicy, SnapshotPolicy};
use tokio::sync::{oneshot, watch};

use super::log_store::LogStore;
use super::machine::Machine;
use super::network::NoPeers;
use super::{Raft, Types};
use crate::checkpoint;
use crate::command::{Command, Outcome, Proposal};
use crate::error::{OpenError, ReadError, WriteError};
use crate::lease;
use crate::log::Record;
use crate::shared::{Shared, until};

/// How long a member may take to lead and to replay its log. Replaying a full log takes a few seconds at most.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// A running Raft.
#[derive(Clone)]
pub(crate) struct Node {
    raft: Raft,
    stop: Arc<watch::Sender<bool>>,
    /// True once Raft has ended, for whatever reason. Who waits for an answer of Raft has to wait for this too: a
    /// request that reaches Raft's inbox at the very moment of its end stays there, and is never answered.
    over: watch::Receiver<bool>,
    /// Ends when Raft's thread has.
    ended: watch::Receiver<()>,
}

/// What Raft says about itself.
pub(crate) struct RaftStatus {
    pub(crate) leader: Option<u64>,
    pub(crate) term: u64,
    pub(crate) last_index: u64,
}

impl Node {
    /// Starts Raft over the log of `shared`, whose entries that are not in the history are `recent`. Returns when
    /// this member leads and has applied all that is in its log.
    pub(crate) async fn start(shared: Arc<Shared>, recent: Vec<Record>) -> Result<Node, OpenError> {
        let not_ready = |why: String| OpenError::NotReady(why);
        let (ready, started) = oneshot::channel();
        let thread = std::thread::Builder::new().name("carrack-store".to_owned());
        let run = move || match tokio::runtime::Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime.block_on(run(shared, recent, ready)),
            Err(error) => drop(ready.send(Err(format!("cannot make Raft's runtime: {error}")))),
        };
        thread.spawn(run).map_err(|error| not_ready(format!("cannot start Raft's thread: {error}")))?;
        match started.await {
            Ok(Ok(node)) => Ok(node),
            Ok(Err(why)) => Err(not_ready(why)),
            Err(_) => Err(not_ready("Raft's thread ended while starting".to_owned())),
        }
    }

    /// Passes the gate, proposes a command, and waits until it is durable and applied.
    pub(crate) async fn write(&self, shared: &Shared, command: Command) -> Result<Outcome, WriteError> {
        let proposal = Proposal::new(command);
        let len = proposal.encoded().len();
        let limit = shared.options.max_request_bytes;
        if len > limit {
            return Err(WriteError::TooLarge { size: len, limit });
        }
        if let Some(why) = shared.failure() {
            return Err(WriteError::Failed(why));
        }
        let _pass = shared.gate.enter(shared, len).await?;
        let mut over = self.over.clone();
        let answer = tokio::select! {
            biased;
            answer = self.raft.client_write(proposal) => answer,
            () = until(&mut over) => Err(RaftError::Fatal(Fatal::Stopped)),
        };
        match answer {
            Ok(done) => match done.data {
                Outcome::Refused(refusal) => Err(refusal.into()),
                outcome => Ok(outcome),
            },
            Err(RaftError::APIError(error)) => Err(write_error(error)),
            Err(RaftError::Fatal(fatal)) => Err(match why_stopped(shared, fatal) {
                None => WriteError::Unknown,
                Some(why) => WriteError::Failed(why),
            }),
        }
    }

    /// Waits until everything that anybody was told is applied here.
    pub(crate) async fn read_barrier(&self, shared: &Shared) -> Result<(), ReadError> {
        if let Some(why) = shared.failure() {
            return Err(ReadError::Failed(why));
        }
        // Nobody else can commit anything, and what is committed here is acknowledged only once it is applied.
        if shared.alone.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut over = self.over.clone();
        let answer = tokio::select! {
            biased;
            answer = self.raft.ensure_linearizable(ReadPolicy::ReadIndex) => answer,
            () = until(&mut over) => Err(RaftError::Fatal(Fatal::Stopped)),
        };
        match answer {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(ReadError::NotLeader { leader: forward.leader_id })
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(ReadError::NotLeader { leader: None })
            }
            Err(RaftError::Fatal(fatal)) => Err(match why_stopped(shared, fatal) {
                None => ReadError::Stopped,
                Some(why) => ReadError::Failed(why),
            }),
        }
    }

    /// Tells Raft that a new checkpoint is there, so that it purges the log.
    pub(crate) async fn log_not_needed(&self) {
        // Fails only if Raft has stopped.
        let _ = self.raft.trigger().snapshot().await;
    }

    /// What Raft says about itself.
    pub(crate) fn status(&self) -> RaftStatus {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        RaftStatus {
            leader: metrics.current_leader,
            term: metrics.current_term,
            last_index: metrics.last_log_index.unwrap_or_default(),
        }
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
}

fn write_error(error: ClientWriteError<Types>) -> WriteError {
    match error {
        ClientWriteError::ForwardToLeader(forward) => WriteError::NotLeader { leader: forward.leader_id },
        ClientWriteError::LogEntryDiscarded(_) => WriteError::Unknown,
        other => WriteError::Failed(other.to_string()),
    }
}

/// `None` if Raft was asked to stop.
fn why_stopped(shared: &Shared, fatal: Fatal<Types>) -> Option<String> {
    if matches!(fatal, Fatal::Stopped) && shared.stopping.load(Ordering::Acquire) {
        return None;
    }
    shared.fail(&fatal);
    shared.failure()
}

/// The life of Raft's thread.
async fn run(shared: Arc<Shared>, recent: Vec<Record>, ready: oneshot::Sender<Result<Node, String>>) {
    let (running, ended) = watch::channel(());
    let (stop, mut stopped) = watch::channel(false);
    let (is_over, over) = watch::channel(false);
    match launch(&shared, recent).await {
        Err(why) => drop(ready.send(Err(why))),
        Ok(raft) => {
            let node = Node { raft: raft.clone(), stop: Arc::new(stop), over, ended };
            let checkpoints =
                tokio::spawn(checkpoint::run(Arc::clone(&shared), node.clone(), stopped.clone()));
            let core = tokio::spawn(notice_end(Arc::clone(&shared), raft.clone(), is_over));
            let leases = tokio::spawn(lease::run(Arc::clone(&shared), node.clone(), stopped.clone()));
            if ready.send(Ok(node)).is_ok() {
                until(&mut stopped).await;
            } else {
                // Whoever opened the store is not interested any more.
                shared.stopping.store(true, Ordering::Release);
                leases.abort();
                checkpoints.abort();
            }
            let _ = tokio::join!(checkpoints, leases);
            let _ = raft.shutdown().await;
            let _ = core.await;
            last_checkpoint(&shared).await;
        }
    }
    shared.backend.close();
    shared.lock.lock().take();
    drop(running);
}

/// Waits until Raft ends, and records why if it was not asked to.
async fn notice_end(shared: Arc<Shared>, raft: Raft, over: watch::Sender<bool>) {
    let fatal = end(&raft).await;
    why_stopped(&shared, fatal);
    // Only after this has Raft's own record of its end no reader that could be interrupted in the middle.
    let _ = raft.shutdown().await;
    over.send_replace(true);
}

/// Waits until Raft ends; gives the reason.
async fn end(raft: &Raft) -> Fatal<Types> {
    let mut role = raft.server_metrics();
    // They seldom change, and their sender goes when Raft does.
    while role.changed().await.is_ok() {}
    raft.metrics().borrow_watched().running_state.clone().err().unwrap_or(Fatal::Panicked)
}

/// Leaves nothing to replay for the next start. If it fails, the log has it all.
async fn last_checkpoint(shared: &Arc<Shared>) {
    if shared.failure().is_some() {
        return;
    }
    let to_do = Arc::clone(shared);
    match tokio::task::spawn_blocking(move || checkpoint::write(&to_do)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "no last checkpoint; the next start replays the log"),
        Err(error) => tracing::warn!(%error, "no last checkpoint; the next start replays the log"),
    }
}

/// Starts Raft and waits until it leads.
async fn launch(shared: &Arc<Shared>, recent: Vec<Record>) -> Result<Raft, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let options = &shared.options;
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1);
    let config = Config {
        cluster_name: options.cluster_name.clone(),
        heartbeat_interval: millis(options.heartbeat),
        election_timeout_min: millis(options.election),
        election_timeout_max: millis(options.election).saturating_mul(2),
        enable_pre_vote: Some(true),
        // Without peers there are no heartbeats to send and no elections to hold: an idle store does nothing, and
        // `launch` holds the one election.
        enable_tick: false,
        // Checkpoints decide when there is a snapshot, and then the log up to it is not needed.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 0,
        // Answers to one group of entries go out before the next group is synced.
        broadcast_submitted_on_append: Some(true),
        ..Config::default()
    };
    let config = Arc::new(config.validate().map_err(|error| text(&error))?);
    let log = LogStore::new(Arc::clone(shared), recent).map_err(|error| text(&error))?;
    let me = shared.identity.member_id;
    let machine = Machine::new(Arc::clone(shared));
    let raft = Raft::new(me, config, NoPeers, log, machine).await.map_err(|error| text(&error))?;
    tokio::select! {
        biased;
        lead = lead(shared, &raft) => lead?,
        fatal = end(&raft) => return Err(text(&fatal)),
    }
    start_leases(shared);
    Ok(raft)
}

/// Waits until this member leads and has applied its log; makes a cluster of it if it is new.
async fn lead(shared: &Shared, raft: &Raft) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let me = shared.identity.member_id;
    let alone = if raft.is_initialized().await.map_err(|error| text(&error))? {
        raft.voter_ids().eq([me])
    } else {
        let members = BTreeMap::from([(me, BasicNode::new(""))]);
        raft.initialize(members).await.map_err(|error| text(&error))?;
        true
    };
    if !alone {
        raft.runtime_config().tick(true);
    } else if !raft.is_leader() {
        // There is nobody to wait for.
        raft.trigger().elect(false).await.map_err(|error| text(&error))?;
    }
    raft.wait_for_recovery(Some(READY_TIMEOUT)).await.map_err(|error| text(&error))?;
    shared.alone.store(alone, Ordering::Release);
    Ok(())
}

/// Leases that were there before get their full time again.
fn start_leases(shared: &Shared) {
    let now = tokio::time::Instant::now();
    for (id, lease) in shared.state.read().leases() {
        shared.lessor.granted(*id, lease.ttl, now);
    }
}
