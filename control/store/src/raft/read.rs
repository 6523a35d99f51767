//! Linearizable reads on every member: a read waits until everything is applied here that anybody was told before
//! the read began. The leader knows up to which entry that is, once a majority has confirmed that it still leads.
//! One such round serves all reads that gathered while the last one was under way.

use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::raft::linearizable_read::LinearizerOption;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::Node;
use crate::error::ReadError;
use crate::peer::TransportError;
use crate::peer::message::{Refused, Request, Response};
use crate::shared::until;

/// Reads that wait for a round.
const QUEUE: usize = 1 << 16;

type Asked = oneshot::Sender<Result<u64, ReadError>>;

/// Where reads ask for a round.
#[derive(Clone)]
pub(super) struct Reads(mpsc::Sender<Asked>);

impl Reads {
    pub(super) fn new() -> (Reads, mpsc::Receiver<Asked>) {
        let (asked, rounds) = mpsc::channel(QUEUE);
        (Reads(asked), rounds)
    }
}

/// Makes rounds until `stop`.
pub(super) async fn run(node: Node, mut asked: mpsc::Receiver<Asked>, mut stop: watch::Receiver<bool>) {
    let mut readers = Vec::new();
    loop {
        tokio::select! {
            biased;
            () = until(&mut stop) => return,
            // All that are here now: the round begins after them, so its answer is good for them.
            _ = asked.recv_many(&mut readers, QUEUE) => {}
        }
        let index = node.confirmed_index().await;
        for reader in readers.drain(..) {
            // Who does not wait any more is no loss.
            let _ = reader.send(index.clone());
        }
    }
}

impl Node {
    /// Waits until everything that anybody was told is applied here.
    pub(crate) async fn read_barrier(&self) -> Result<(), ReadError> {
        let shared = &*self.shared;
        if let Some(why) = shared.failure() {
            return Err(ReadError::Failed(why));
        }
        // Nobody else can commit anything, and what is committed here is acknowledged only once it is applied.
        if shared.alone.load(Ordering::Acquire) {
            return Ok(());
        }
        let index = self.read_index().await?;
        let mut applied = shared.applied.subscribe();
        let wait = tokio::time::timeout_at(self.deadline(), applied.wait_for(|next| *next > index));
        match self.unless_over(wait).await {
            Some(Ok(Ok(_))) => Ok(()),
            Some(_) => Err(ReadError::NotLeader { leader: self.leader() }),
            None => Err(self.read_is_over()),
        }
    }

    /// Up to which entry must be applied before a read that begins now is answered.
    pub(super) async fn read_index(&self) -> Result<u64, ReadError> {
        let (told, answer) = oneshot::channel();
        let ask = async {
            self.reads.0.send(told).await.ok()?;
            answer.await.ok()
        };
        self.unless_over(ask).await.flatten().unwrap_or_else(|| Err(self.read_is_over()))
    }

    fn read_is_over(&self) -> ReadError {
        self.shared.failure().map_or(ReadError::Stopped, ReadError::Failed)
    }

    /// Asks whoever leads; again, if that changes meanwhile.
    async fn confirmed_index(&self) -> Result<u64, ReadError> {
        let deadline = self.deadline();
        loop {
            let leader = self.leader();
            let answer = match leader {
                Some(id) if id == self.shared.identity.member_id => self.index_as_leader().await,
                Some(id) => self.index_of(id, deadline).await,
                None => Err(ReadError::NotLeader { leader: None }),
            };
            match answer {
                Err(ReadError::NotLeader { .. }) => {
                    let soon = (Instant::now() + self.pause()).min(deadline);
                    self.leader_changes(leader, if leader.is_some() { soon } else { deadline }).await;
                    if Instant::now() >= deadline || *self.over.borrow() {
                        return answer;
                    }
                }
                other => return other,
            }
        }
    }

    /// The index, if this member still leads.
    pub(super) async fn index_as_leader(&self) -> Result<u64, ReadError> {
        if self.shared.alone.load(Ordering::Acquire) {
            return Ok(self.shared.applied_next.load(Ordering::Acquire).saturating_sub(1));
        }
        let option: LinearizerOption = ReadPolicy::ReadIndex.into();
        let election = self.shared.options.election;
        let option = option.with_wait_timeout(election);
        let asking = self.unless_over(self.raft.get_read_linearizer(option));
        // Raft answers in time unless it waits for its disk; then it does not lead for long.
        let Ok(answer) = tokio::time::timeout(election * 2, asking).await else {
            return Err(ReadError::NotLeader { leader: None });
        };
        match answer {
            Some(Ok(linearizer)) => Ok(linearizer.read_log_id().index()),
            Some(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)))) => {
                Err(ReadError::NotLeader { leader: forward.leader_id })
            }
            Some(Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)))) => {
                Err(ReadError::NotLeader { leader: None })
            }
            Some(Err(RaftError::Fatal(fatal))) => {
                Err(self.why_stopped(&fatal).map_or(ReadError::Stopped, ReadError::Failed))
            }
            None => Err(self.read_is_over()),
        }
    }

    async fn index_of(&self, leader: u64, deadline: Instant) -> Result<u64, ReadError> {
        let left: Duration = deadline.saturating_duration_since(Instant::now());
        let patience = left.min(self.shared.options.election * 2);
        match self.shared.call(leader, Request::ReadIndex, patience).await {
            Ok(Response::ReadIndex(index)) => Ok(index),
            Err(TransportError::Refused(Refused::NotLeader(leader))) => Err(ReadError::NotLeader { leader }),
            // A lost question does no harm: it is asked again.
            Ok(_) | Err(_) => Err(ReadError::NotLeader { leader: Some(leader) }),
        }
    }
}
