//! Changes of the membership: decided and carried out by the leader, forwarded to it by all others.

use std::collections::{BTreeMap, BTreeSet};

use openraft::ChangeMembers;
use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use tokio::time::Instant;

use super::{Members, Node, Types};
use crate::cluster::{Member, MemberChange, MemberError, MemberInfo};
use crate::peer::TransportError;
use crate::peer::message::{self, Refused, Request, Response};

/// A learner may lack so many entries and still get a vote: it is going to have them in a moment.
const READY_LAG: u64 = 1000;

type Change = ChangeMembers<u64, MemberInfo>;
type Done = Result<u64, MemberError>;

impl Node {
    /// All members, by id.
    pub(crate) fn members(&self) -> Vec<Member> {
        let metrics = self.raft.server_metrics();
        let stored = std::sync::Arc::clone(&metrics.borrow_watched().membership_config);
        members_of(stored.membership())
    }

    /// Changes the membership; gives the id of the member that it is about.
    pub(crate) async fn change(&self, change: MemberChange) -> Done {
        let deadline = self.deadline();
        loop {
            if let Some(why) = self.shared.failure() {
                return Err(MemberError::Failed(why));
            }
            let leader = self.leader();
            let done = match leader {
                Some(id) if id == self.shared.identity.member_id => self.change_here(change.clone()).await,
                Some(id) => self.forward_change(id, &change, deadline).await,
                None => Err(MemberError::NotLeader { leader: None }),
            };
            // Nothing has happened yet: another leader, or the end of another change, is waited for.
            let Err(MemberError::NotLeader { .. } | MemberError::InProgress) = done else { return done };
            let soon = (Instant::now() + self.pause()).min(deadline);
            self.leader_changes(leader, if leader.is_some() { soon } else { deadline }).await;
            if Instant::now() >= deadline || *self.over.borrow() {
                return done;
            }
        }
    }

    async fn forward_change(&self, leader: u64, change: &MemberChange, deadline: Instant) -> Done {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.shared.call(leader, Request::Change(change.clone()), left).await {
            Ok(Response::Changed(bytes)) => message::decode(&bytes).map_err(|_| MemberError::Unknown)?,
            Ok(_) | Err(TransportError::NoAnswer(_)) => Err(MemberError::Unknown),
            Err(TransportError::Refused(Refused::Removed(_) | Refused::Bad(_))) => {
                Err(MemberError::Failed("the leader does not know this member".to_owned()))
            }
            Err(_) => Err(MemberError::NotLeader { leader: Some(leader) }),
        }
    }

    /// Changes the membership, as the leader.
    pub(super) async fn change_here(&self, change: MemberChange) -> Done {
        let members = match change {
            MemberChange::MoveLeader(_) => self.members_now(),
            _ => self.settled_members().await?,
        };
        let known = |id: u64| members.get_node(&id).cloned().ok_or(MemberError::NotFound(id));
        match change {
            MemberChange::Add { as_learner, peer_urls } => self.add(&members, as_learner, peer_urls).await,
            MemberChange::Remove(id) => {
                known(id)?;
                self.remove(&members, id).await
            }
            MemberChange::Promote(id) => {
                let info = known(id)?;
                self.promote(&members, id, info).await
            }
            MemberChange::Update { id, peer_urls } => {
                let info = known(id)?;
                check_urls(&members, &peer_urls, Some(id))?;
                self.set(id, MemberInfo { peer_urls, ..info }).await
            }
            MemberChange::Publish { id, name, client_urls } => {
                let info = known(id)?;
                self.set(id, MemberInfo { name, client_urls, ..info }).await
            }
            MemberChange::MoveLeader(id) => {
                known(id)?;
                if !is_voter(&members, id) {
                    return Err(MemberError::CannotLead(id));
                }
                self.move_leader_here(id).await
            }
        }
    }

    fn members_now(&self) -> Members {
        self.raft.server_metrics().borrow_watched().membership_config.membership().clone()
    }

    /// The members, once a change that was left halfway is done: whoever asked for it waits no more, or asked another
    /// leader. A leader that is out by then changes nothing any more.
    async fn settled_members(&self) -> Result<Members, MemberError> {
        if self.members_now().get_joint_config().len() > 1 {
            self.commit(Change::AddVoterIds(BTreeSet::new())).await?;
        }
        let members = self.members_now();
        match members.get_node(&self.shared.identity.member_id) {
            Some(_) => Ok(members),
            None => Err(MemberError::NotLeader { leader: None }),
        }
    }

    async fn add(&self, members: &Members, as_learner: bool, peer_urls: Vec<String>) -> Done {
        check_urls(members, &peer_urls, None)?;
        let id = loop {
            let id = self.shared.options.random.id();
            if members.get_node(&id).is_none() && !self.shared.is_removed(id) {
                break id;
            }
        };
        // It votes once it has caught up, so that nothing waits for a member that is not there yet.
        let info = MemberInfo { peer_urls, joining: !as_learner, ..MemberInfo::default() };
        self.commit(Change::AddNodes(BTreeMap::from([(id, info)]))).await?;
        Ok(id)
    }

    async fn remove(&self, members: &Members, id: u64) -> Done {
        let one = BTreeSet::from([id]);
        if !is_voter(members, id) {
            self.commit(Change::RemoveNodes(one)).await?;
            return Ok(id);
        }
        let rest: Vec<u64> = members.voter_ids().filter(|voter| *voter != id).collect();
        if rest.is_empty() {
            return Err(MemberError::LastVoter);
        }
        let reached = rest.iter().filter(|voter| self.is_reached(**voter)).count();
        if reached <= rest.len() / 2 {
            return Err(MemberError::Unhealthy(id));
        }
        // Without the batch the removed voter would stay in the list as a learner.
        self.commit(Change::RemoveVoters(one)).await?;
        Ok(id)
    }

    async fn promote(&self, members: &Members, id: u64, info: MemberInfo) -> Done {
        if is_voter(members, id) {
            return Err(MemberError::NotLearner(id));
        }
        let (matched, last) = {
            let metrics = self.raft.metrics();
            let now = metrics.borrow_watched();
            let matched = now.replication.as_ref().and_then(|all| all.get(&id).copied().flatten());
            (matched.map_or(0, |at| at.index()), now.last_log_index.unwrap_or_default())
        };
        let behind = last.saturating_sub(matched);
        if matched == 0 || behind > READY_LAG {
            return Err(MemberError::LearnerNotReady { id, behind });
        }
        let info = BTreeMap::from([(id, MemberInfo { joining: false, ..info })]);
        self.commit(Change::Batch(vec![Change::SetNodes(info), Change::AddVoterIds(BTreeSet::from([id]))]))
            .await?;
        Ok(id)
    }

    async fn set(&self, id: u64, info: MemberInfo) -> Done {
        self.commit(Change::SetNodes(BTreeMap::from([(id, info)]))).await?;
        Ok(id)
    }

    /// Whether a voter has answered lately.
    fn is_reached(&self, id: u64) -> bool {
        if id == self.shared.identity.member_id {
            return true;
        }
        let metrics = self.raft.metrics();
        let now = metrics.borrow_watched();
        let heard = now.heartbeat.as_ref().and_then(|all| all.get(&id).copied().flatten());
        heard.is_some_and(|at| at.elapsed() < self.shared.options.election * 2)
    }

    async fn commit(&self, change: Change) -> Result<(), MemberError> {
        let changing = self.unless_over(self.raft.change_membership(change, false));
        let Ok(done) = tokio::time::timeout(self.shared.options.request_timeout, changing).await else {
            return Err(MemberError::Unknown);
        };
        match done {
            Some(Ok(_)) => Ok(()),
            Some(Err(RaftError::APIError(error))) => Err(member_error(error)),
            Some(Err(RaftError::Fatal(fatal))) => {
                Err(self.why_stopped(&fatal).map_or(MemberError::Unknown, MemberError::Failed))
            }
            None => Err(MemberError::Unknown),
        }
    }

    async fn move_leader_here(&self, to: u64) -> Done {
        let me = self.shared.identity.member_id;
        if to == me {
            return Ok(to);
        }
        let until = Instant::now() + self.shared.options.election * 2;
        if self.raft.trigger().transfer_leader(to).await.is_err() {
            return Err(MemberError::Stopped);
        }
        let mut role = self.role.clone();
        let moved = role.wait_for(|role| role.leader == Some(to));
        match tokio::time::timeout_at(until, self.unless_over(moved)).await {
            Ok(Some(Ok(_))) => Ok(to),
            _ if self.leader() == Some(to) => Ok(to),
            _ => Err(MemberError::NotTransferred),
        }
    }

    /// Hands leadership to the voter that has most of the log, before this member stops. Takes at most twice the
    /// election time; if nobody takes over, the others notice by themselves that the leader is gone.
    pub(crate) async fn hand_over(&self) {
        if let Some(next) = self.successor()
            && let Err(error) = self.move_leader_here(next).await
        {
            tracing::info!(%error, "stopping without a hand-over");
        }
    }

    /// Lets another voter lead, since the disk of this one is full. True if one does. Whether it has space is found out
    /// by asking it to write: it steps aside in turn if not, so each waits a while before it does so again.
    pub(super) async fn step_aside(&self) -> bool {
        let me = self.shared.identity.member_id;
        let mut last = self.shared.gate.stepping_aside().await;
        let now = Instant::now();
        let may = last.is_none_or(|last| now.duration_since(last) >= self.shared.options.election * 4);
        if may && let Some(next) = self.successor() {
            *last = Some(now);
            tracing::warn!(member = %format_args!("{next:x}"), "the disk is full: another member is asked to lead");
            if let Err(error) = self.move_leader_here(next).await {
                tracing::warn!(%error, "the disk is full, and no other member takes over");
            }
        }
        self.leader().is_some_and(|leader| leader != me)
    }

    /// Who could lead instead of this member, if it leads: the voter that has most of the log; one of them at random.
    fn successor(&self) -> Option<u64> {
        let metrics = self.raft.metrics();
        let now = metrics.borrow_watched();
        let me = self.shared.identity.member_id;
        if now.current_leader != Some(me) {
            return None;
        }
        let voters: BTreeSet<u64> = now.membership_config.voter_ids().filter(|id| *id != me).collect();
        let progress = now.replication.iter().flatten();
        let matched = progress.filter(|(id, _)| voters.contains(id));
        let matched: Vec<_> = matched.map(|(id, at)| (*id, at.map(|at| at.index()))).collect();
        let most = matched.iter().map(|(_, index)| *index).max()?;
        let best: Vec<u64> = matched.iter().filter(|(_, index)| *index == most).map(|(id, _)| *id).collect();
        let choice = self.shared.options.random.number() as usize % best.len();
        best.get(choice).copied()
    }
}

pub(super) fn members_of(members: &Members) -> Vec<Member> {
    let all = members.nodes().map(|(id, info)| {
        let votes = is_voter(members, *id);
        Member {
            id: *id,
            name: info.name.clone(),
            peer_urls: info.peer_urls.clone(),
            client_urls: info.client_urls.clone(),
            is_learner: !votes && !info.joining,
            votes,
        }
    });
    all.collect()
}

fn is_voter(members: &Members, id: u64) -> bool {
    members.voter_ids().any(|voter| voter == id)
}

/// Refuses addresses that cannot be, or that another member has.
fn check_urls(members: &Members, urls: &[String], except: Option<u64>) -> Result<(), MemberError> {
    if urls.is_empty() {
        return Err(MemberError::BadPeerUrl(String::new()));
    }
    for url in urls {
        crate::peer::check_url(url).map_err(|_| MemberError::BadPeerUrl(url.clone()))?;
        let mut others = members.nodes().filter(|(id, _)| Some(**id) != except);
        if others.any(|(_, info)| info.peer_urls.contains(url)) {
            return Err(MemberError::PeerUrlExists(url.clone()));
        }
    }
    Ok(())
}

fn member_error(error: ClientWriteError<Types>) -> MemberError {
    match error {
        ClientWriteError::ForwardToLeader(forward) => MemberError::NotLeader { leader: forward.leader_id },
        ClientWriteError::LogEntryDiscarded(_) => MemberError::Unknown,
        ClientWriteError::ChangeMembershipError(
            ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_),
        )
        | ClientWriteError::PreconditionFailed(_) => MemberError::InProgress,
        ClientWriteError::ChangeMembershipError(ChangeMembershipError::EmptyMembership(_)) => {
            MemberError::LastVoter
        }
        ClientWriteError::ChangeMembershipError(ChangeMembershipError::LearnerNotFound(missing)) => {
            MemberError::NotFound(missing.node_id)
        }
        ClientWriteError::ChangeMembershipError(other) => MemberError::Failed(other.to_string()),
    }
}
