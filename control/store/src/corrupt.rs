//! Do all members hold the same? They compare hashes of the history at one revision: when a member starts, if
//! [`crate::Options::initial_corrupt_check`] says so, and every [`crate::Options::corrupt_check_interval`], by the leader. Who differs
//! from the rest gets the alarm CORRUPT, which only an operator ends: `server/etcdserver/corrupt.go` in etcd.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;

use crate::alarm::{Alarm, AlarmKind};
use crate::command::Command;
use crate::hash;
use crate::kv::Revision;
use crate::peer::message::{Refused, Request, Response};
use crate::raft::Node;
use crate::shared::{Shared, until};
use crate::upkeep::{Hash, UpkeepError};

/// How long a member may take to read all of its history.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often hashes are compared until all members have answered, and the pause in between.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// Compares until `stop`.
pub(crate) async fn run(shared: Arc<Shared>, node: Node, mut stop: watch::Receiver<bool>) {
    let (initial, interval) = (shared.options.initial_corrupt_check, shared.options.corrupt_check_interval);
    let work = async {
        if initial {
            wait_until_ready(&node).await;
            check(&shared, &node).await;
        }
        let Some(interval) = interval else { return };
        loop {
            tokio::time::sleep(interval).await;
            if node.leads() {
                check(&shared, &node).await;
            }
        }
    };
    tokio::select! {
        biased;
        () = until(&mut stop) => {}
        () = work => {}
    }
}

async fn wait_until_ready(node: &Node) {
    while node.read_barrier().await.is_err() {
        tokio::time::sleep(PAUSE).await;
    }
}

/// Compares once; again, as long as there are members that cannot answer, a few times.
async fn check(shared: &Arc<Shared>, node: &Node) {
    for _ in 0..TRIES {
        match compare(shared, node).await {
            Ok(compared) => {
                raise(shared, node, &compared.differ).await;
                if compared.all {
                    return;
                }
            }
            Err(error) => tracing::debug!(%error, "cannot compare hashes with the other members yet"),
        }
        tokio::time::sleep(PAUSE).await;
    }
    tracing::info!("not all members could be compared with this one; the next check tries again");
}

struct Compared {
    /// Who differs.
    differ: BTreeSet<u64>,
    /// Whether everybody has answered about the same history.
    all: bool,
}

async fn compare(shared: &Arc<Shared>, node: &Node) -> Result<Compared, UpkeepError> {
    let me = shared.identity.member_id;
    let others: Vec<u64> = node.members().iter().map(|member| member.id).filter(|id| *id != me).collect();
    if others.is_empty() {
        return Ok(Compared { differ: BTreeSet::new(), all: true });
    }
    let own = hash_kv(shared, 0).await?;
    let ask = |id: u64| async move {
        let asked = shared.call(id, Request::Hash(own.revision), PATIENCE).await;
        (id, asked.ok().and_then(|answer| if let Response::Hash(hash) = answer { hash } else { None }))
    };
    let answers = join_all(others.iter().map(|id| ask(*id))).await;
    // What was compacted elsewhere in the meantime has another hash without being another history.
    let same_history = |hash: &Hash| (hash.revision, hash.compacted) == (own.revision, own.compacted);
    let found = answers.iter().filter_map(|(id, hash)| Some((*id, hash.filter(same_history)?.hash)));
    let hashes: BTreeMap<u64, u32> = found.chain([(me, own.hash)]).collect();
    Ok(Compared {
        all: hashes.len() == others.len() + 1,
        differ: differing(&hashes, node.leader().unwrap_or(me)),
    })
}

/// Who differs from most of the members; from the leader, if there is no majority.
fn differing(hashes: &BTreeMap<u64, u32>, leader: u64) -> BTreeSet<u64> {
    let count = |hash: &u32| hashes.values().filter(|other| *other == hash).count();
    let most = hashes.values().find(|hash| count(hash) * 2 > hashes.len());
    let Some(right) = most.or_else(|| hashes.get(&leader)) else { return BTreeSet::new() };
    hashes.iter().filter(|(_, hash)| *hash != right).map(|(id, _)| *id).collect()
}

async fn raise(shared: &Arc<Shared>, node: &Node, members: &BTreeSet<u64>) {
    for member in members {
        let alarm = Alarm { member: *member, kind: AlarmKind::Corrupt };
        if shared.state.read().alarms().contains(&alarm) {
            continue;
        }
        tracing::error!(
            member = %format_args!("{member:x}"),
            "this member's data differs from the others': remove it, empty its data directory, add it anew, disarm the alarm"
        );
        if let Err(error) = node.write(Command::Alarm { alarm, raise: true }).await {
            tracing::warn!(%error, "the alarm CORRUPT could not be raised");
        }
    }
}

/// Answers another member. One at a time: it reads all of the history.
pub(crate) async fn answer(shared: &Arc<Shared>, revision: Revision) -> Result<Response, Refused> {
    let Ok(_turn) = shared.hashing.try_lock() else { return Err(Refused::Busy) };
    match hash_kv(shared, revision).await {
        Ok(hash) => Ok(Response::Hash(Some(hash))),
        Err(UpkeepError::FutureRevision { .. } | UpkeepError::Compacted { .. }) => Ok(Response::Hash(None)),
        Err(error) => Err(Refused::Bad(error.to_string())),
    }
}

/// Hashes what was changed up to `revision` (0: the newest).
pub(crate) async fn hash_kv(shared: &Arc<Shared>, revision: Revision) -> Result<Hash, UpkeepError> {
    let of = Arc::clone(shared);
    shared.with_view(move |view| hash::of_keys(&of, view, revision)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minority_differs_and_without_a_majority_who_differs_from_the_leader() {
        let judge = |hashes: &[(u64, u32)], leader| differing(&hashes.iter().copied().collect(), leader);
        assert!(judge(&[(1, 5), (2, 5), (3, 5)], 1).is_empty());
        assert_eq!(judge(&[(1, 5), (2, 6), (3, 5)], 2), BTreeSet::from([2]), "also if it leads");
        assert_eq!(judge(&[(1, 5), (2, 6)], 2), BTreeSet::from([1]));
        assert_eq!(judge(&[(1, 5), (2, 6), (3, 7)], 3), BTreeSet::from([1, 2]));
        assert!(judge(&[(1, 5)], 2).is_empty());
        assert!(judge(&[(1, 5), (2, 6)], 9).is_empty(), "the leader could not be asked");
    }
}
