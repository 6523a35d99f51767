//! The life of Raft: how it starts, what runs beside it, and how it ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::Fatal;
use openraft::{Config, SnapshotPolicy};
use tokio::sync::{oneshot, watch};

use super::log_store::LogStore;
use super::machine::Machine;
use super::network::Network;
use super::node::why_stopped;
use super::read::Reads;
use super::role::{self, Role};
use super::{Node, Raft, Types};
use crate::cluster::MemberInfo;
use crate::log::Record;
use crate::options::Options;
use crate::shared::{Shared, until};
use crate::{checkpoint, corrupt, lease, space};

/// How long a single voter may take to lead and to replay its log. Replaying a full log takes a few seconds at most.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// openraft's times, from the one in the options.
///
/// A follower that hears nothing waits until the leader's lease is over and then a random time, so that mostly one
/// follower stands first: together at most four fifths of `election`, which leaves time for the votes.
pub(super) struct Timing {
    pub(super) lease: Duration,
    least: Duration,
}

impl Timing {
    pub(super) fn of(options: &Options) -> Timing {
        // openraft's lease is the longest random time.
        Timing { lease: options.election * 2 / 5, least: options.election / 4 }
    }
}

fn config(options: &Options) -> Config {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1);
    let timing = Timing::of(options);
    Config {
        cluster_name: options.cluster_name.clone(),
        heartbeat_interval: millis(options.heartbeat),
        election_timeout_min: millis(timing.least),
        election_timeout_max: millis(timing.lease),
        install_snapshot_timeout: millis(options.request_timeout),
        enable_pre_vote: Some(true),
        // The log alone does not say what was committed: a new term settles it.
        enable_leader_restore: Some(false),
        // Without peers there are no heartbeats to send and no elections to hold: an idle store does nothing, and
        // `lead` holds the one election.
        enable_tick: false,
        // Checkpoints decide when there is a snapshot, and `Node::log_not_needed` what is purged.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        // A follower gets entries as long as they are there.
        replication_lag_threshold: u64::MAX,
        // Answers to one group of entries go out before the next group is synced.
        broadcast_submitted_on_append: Some(true),
        backoff: "50ms 100ms 200ms..500ms".to_owned(),
        ..Config::default()
    }
}

/// From start to end.
pub(super) async fn run(
    shared: Arc<Shared>,
    recent: Vec<Record>,
    ready: oneshot::Sender<Result<Node, String>>,
) {
    let (running, ended) = watch::channel(());
    let (stop, mut stopped) = watch::channel(false);
    let (is_over, over) = watch::channel(false);
    match launch(&shared, recent).await {
        Err(why) => drop(ready.send(Err(why))),
        Ok(raft) => {
            let (role, known) = watch::channel(Role::default());
            let (reads, asked) = Reads::new();
            let node = Node {
                shared: Arc::clone(&shared),
                raft: raft.clone(),
                stop: Arc::new(stop),
                over,
                ended,
                role: known,
                reads,
            };
            let checkpoints =
                tokio::spawn(checkpoint::run(Arc::clone(&shared), node.clone(), stopped.clone()));
            let core = tokio::spawn(notice_end(Arc::clone(&shared), raft.clone(), is_over));
            let leases = tokio::spawn(lease::run(Arc::clone(&shared), node.clone(), stopped.clone()));
            let roles = tokio::spawn(role::run(node.clone(), role, stopped.clone()));
            let reading = tokio::spawn(super::read::run(node.clone(), asked, stopped.clone()));
            let telling = tokio::spawn(role::publish(node.clone(), stopped.clone()));
            let comparing = tokio::spawn(corrupt::run(Arc::clone(&shared), node.clone(), stopped.clone()));
            let asking = tokio::spawn(super::lost::run(node.clone(), stopped.clone()));
            let looking = tokio::spawn(space::run(Arc::clone(&shared), stopped.clone()));
            if ready.send(Ok(node)).is_ok() {
                until(&mut stopped).await;
            } else {
                // Whoever opened the store is not interested any more.
                shared.stopping.store(true, Ordering::Release);
                for task in [&leases, &checkpoints, &roles, &reading, &telling, &comparing, &asking, &looking]
                {
                    task.abort();
                }
            }
            let _ = tokio::join!(checkpoints, leases, roles, reading, telling, comparing, asking, looking);
            let _ = raft.shutdown().await;
            let _ = core.await;
            last_checkpoint(&shared).await;
        }
    }
    shared.backend.end();
    shared.lock.lock().take();
    drop(running);
}

/// Waits until Raft ends, and records why if it was not asked to.
async fn notice_end(shared: Arc<Shared>, raft: Raft, over: watch::Sender<bool>) {
    let fatal = end(&raft).await;
    why_stopped(&shared, &fatal);
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
    match shared.options.blocking.run(move || checkpoint::write(&to_do)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "no last checkpoint; the next start replays the log"),
        Err(error) => tracing::warn!(%error, "no last checkpoint; the next start replays the log"),
    }
}

/// Starts Raft. A single voter leads when this returns.
async fn launch(shared: &Arc<Shared>, recent: Vec<Record>) -> Result<Raft, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let config = Arc::new(config(&shared.options).validate().map_err(|error| text(&error))?);
    let log = LogStore::new(Arc::clone(shared), recent).map_err(|error| text(&error))?;
    let me = shared.identity.member_id;
    let machine = Machine::new(Arc::clone(shared));
    let network = Network(Arc::clone(shared));
    let raft = Raft::new(me, config, network, log, machine).await.map_err(|error| text(&error))?;
    tokio::select! {
        biased;
        lead = lead(shared, &raft) => lead?,
        fatal = end(&raft) => return Err(text(&fatal)),
    }
    Ok(raft)
}

/// Makes a cluster of a new one. If this member is its only voter, waits until it leads and has applied its log.
async fn lead(shared: &Shared, raft: &Raft) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let me = shared.identity.member_id;
    if !raft.is_initialized().await.map_err(|error| text(&error))? {
        // A member that joins is told by the leader who belongs to the cluster.
        let Some(members) = initial_members(shared) else { return Ok(()) };
        shared.alone.store(members.keys().eq([&me]), Ordering::Release);
        raft.initialize(members).await.map_err(|error| text(&error))?;
    }
    if !raft.voter_ids().eq([me]) {
        return Ok(());
    }
    // Nobody reads before this is done, and from here on Raft's thread may wait for the disk.
    shared.alone.store(true, Ordering::Release);
    if !raft.is_leader() {
        // There is nobody to wait for.
        raft.trigger().elect(false).await.map_err(|error| text(&error))?;
    }
    raft.wait_for_recovery(Some(READY_TIMEOUT)).await.map_err(|error| text(&error))?;
    Ok(())
}

/// Who makes the new cluster; `None` if this member joins an old one.
fn initial_members(shared: &Shared) -> Option<BTreeMap<u64, MemberInfo>> {
    let options = &shared.options;
    let me = shared.identity.member_id;
    if shared.identity.joins {
        return None;
    }
    let info = |name: &str, peer_urls: &[String]| MemberInfo {
        name: name.to_owned(),
        peer_urls: peer_urls.to_vec(),
        ..MemberInfo::default()
    };
    let mut members: BTreeMap<u64, MemberInfo> = crate::identity::initial_ids(options)
        .into_iter()
        .map(|(id, member)| (id, info(&member.name, &member.peer_urls)))
        .collect();
    if members.is_empty() {
        let client_urls = options.client_urls.clone();
        let own = info(&options.name, &options.peer_urls);
        members.insert(me, MemberInfo { client_urls, ..own });
    }
    Some(members)
}
