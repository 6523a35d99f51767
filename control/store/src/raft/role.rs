//! What this member is at the moment, and what follows from that: who keeps time for leases, whether heartbeats and
//! elections are needed, who may vote now that it has caught up.

use std::sync::atomic::Ordering;

use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;

use super::network::REMOVED;
use super::{Node, RaftStatus};
use crate::cluster::{MemberChange, MemberError};
use crate::shared::until;

/// Who leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Role {
    pub(crate) leader: Option<u64>,
    pub(crate) term: u64,
}

/// Follows Raft's role until `stop`.
pub(super) async fn run(node: Node, role: watch::Sender<Role>, mut stop: watch::Receiver<bool>) {
    let me = node.shared.identity.member_id;
    let mut metrics = node.raft.server_metrics();
    let mut led = None;
    let mut seen: Option<Role> = None;
    let mut ticks = false;
    let mut removed = node.shared.removed.subscribe();
    let mut applied = node.shared.applied.subscribe();
    loop {
        // Marks as seen what is looked at now.
        applied.mark_unchanged();
        let (leader, members, joining) = {
            let now = metrics.borrow_watched();
            let members = now.membership_config.membership().nodes();
            let joining = members.filter(|(_, info)| info.joining).map(|(id, _)| *id).next();
            (now.current_leader, now.membership_config.membership().nodes().count(), joining)
        };
        let RaftStatus { term, .. } = node.status();
        let new = Role { leader, term };
        let changed = leader.is_some() && seen.replace(new) != Some(new);
        if changed {
            node.shared.counters.leader_changes.fetch_add(1, Ordering::Relaxed);
        }
        role.send_if_modified(|old| std::mem::replace(old, new) != new);
        let leads = (leader == Some(me)).then_some(term);
        // Each time anew that this member becomes the leader, all leases get their full time: once it has applied an
        // entry of its own term, and with it all that any leader before it has done. A lease that was ended before
        // must not be kept alive.
        let keeps_time = leads.filter(|term| applied_term(&node) == Some(*term));
        if keeps_time != led {
            led = keeps_time;
            lead_leases(&node, keeps_time.is_some());
        }
        if members > 1 && !ticks {
            ticks = true;
            node.raft.runtime_config().tick(true);
        }
        // A leader that removes itself hands over first.
        if leads.is_none() && removed.borrow_and_update().contains(&me) {
            return node.shared.fail(REMOVED);
        }
        let again = joining.filter(|_| leads.is_some());
        tokio::select! {
            biased;
            () = until(&mut stop) => return,
            changed = metrics.changed() => if changed.is_err() { return },
            // An error means that the sender is gone, and the node holds the sender.
            _ = applied.changed(), if leads != keeps_time => {}
            _ = removed.changed() => {}
            () = tokio::time::sleep(node.shared.options.heartbeat), if again.is_some() => {
                if let Some(id) = again { let_vote(&node, id).await }
            }
        }
    }
}

/// The term of the last applied entry.
fn applied_term(node: &Node) -> Option<u64> {
    node.shared.state.read().marks().applied.map(|at| at.term)
}

fn lead_leases(node: &Node, leads: bool) {
    let shared = &node.shared;
    if !leads {
        return shared.lessor.stop();
    }
    let now = tokio::time::Instant::now();
    // First the lessor, then what is there: a lease that is granted in between is counted twice, not left out.
    shared.lessor.start();
    for (id, lease) in shared.state.read().leases() {
        shared.lessor.granted(*id, lease.ttl, now);
    }
}

/// Tells the others what this member is called and where its clients reach it, once there is a leader.
pub(super) async fn publish(node: Node, mut stop: watch::Receiver<bool>) {
    let telling = async {
        let mut role = node.role.clone();
        loop {
            if role.wait_for(|role| role.leader.is_some()).await.is_err() || is_published(&node) == Some(true)
            {
                return;
            }
            let options = &node.shared.options;
            let (name, client_urls) = (options.name.clone(), options.client_urls.clone());
            let id = node.shared.identity.member_id;
            match node.change(MemberChange::Publish { id, name, client_urls }).await {
                Ok(_) => return,
                Err(error) => tracing::debug!(%error, "cannot publish this member's addresses yet"),
            }
            tokio::time::sleep(node.shared.options.election).await;
        }
    };
    tokio::select! {
        biased;
        () = until(&mut stop) => {}
        () = telling => {}
    }
}

/// Whether the others know what they should; `None` if this member is none.
fn is_published(node: &Node) -> Option<bool> {
    let options = &node.shared.options;
    let me = node.members().into_iter().find(|member| member.id == node.shared.identity.member_id)?;
    Some(me.name == options.name && me.client_urls == options.client_urls)
}

/// Gives a member that was added as a voter its vote, if it has caught up.
async fn let_vote(node: &Node, id: u64) {
    match node.change_here(MemberChange::Promote(id)).await {
        Ok(_) => tracing::info!(member = %format_args!("{id:x}"), "a new member has caught up and votes"),
        Err(MemberError::LearnerNotReady { .. } | MemberError::InProgress) => {}
        Err(error) => tracing::debug!(member = %format_args!("{id:x}"), %error, "cannot let it vote yet"),
    }
}
