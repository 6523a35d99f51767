//! A member that was removed may never hear of it: the leader that removes it sends it nothing any more, and a member that
//! knows itself out of the membership does not stand for election, which others would answer. So it asks.

use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;

use super::Node;
use super::network::REMOVED;
use crate::peer::TransportError;
use crate::peer::message::{Refused, Request};
use crate::shared::until;

/// Times of an election without a leader after which a member asks.
const PATIENCE: u32 = 4;

/// Asks the others whether this member is still one of them, whenever it has long had no leader and no vote.
pub(super) async fn run(node: Node, mut stop: watch::Receiver<bool>) {
    tokio::select! {
        biased;
        () = until(&mut stop) => {}
        () = ask_again_and_again(&node) => {}
    }
}

async fn ask_again_and_again(node: &Node) {
    let mut role = node.role.clone();
    while role.wait_for(|role| role.leader.is_none()).await.is_ok() {
        tokio::time::sleep(node.shared.options.election * PATIENCE).await;
        if role.borrow_and_update().leader.is_none() && !votes(node) && is_removed(node).await {
            return node.shared.fail(REMOVED);
        }
    }
}

/// Whether this member stands for election.
fn votes(node: &Node) -> bool {
    let metrics = node.raft.server_metrics();
    let now = metrics.borrow_watched();
    now.membership_config.membership().voter_ids().any(|id| id == node.shared.identity.member_id)
}

/// Whether one of the others says so.
async fn is_removed(node: &Node) -> bool {
    let shared = &node.shared;
    let me = shared.identity.member_id;
    let others: Vec<u64> = shared.addresses.read().keys().copied().filter(|id| *id != me).collect();
    for other in others {
        let answer = shared.call(other, Request::Members, shared.options.election).await;
        if matches!(answer, Err(TransportError::Refused(Refused::Removed(id))) if id == me) {
            return true;
        }
    }
    false
}
