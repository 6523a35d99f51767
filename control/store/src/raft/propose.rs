//! Writes: proposed by the leader, forwarded to it by all others.

use std::sync::atomic::Ordering;

use openraft::errors::{ClientWriteError, RaftError};
use tokio::time::Instant;

use super::{Node, Types};
use crate::command::{Command, Outcome, Proposal};
use crate::error::{Shortage, WriteError};
use crate::kv::LeaseId;
use crate::peer::TransportError;
use crate::peer::message::{self, Refused, Request, Response};

impl Node {
    /// Has a command carried out, and waits until it is durable and applied at the leader, and applied here.
    pub(crate) async fn write(&self, command: Command) -> Result<Outcome, WriteError> {
        let proposal = Proposal::new(command);
        self.check(&proposal)?;
        if self.shared.alone.load(Ordering::Acquire) {
            return self.propose(proposal).await;
        }
        let deadline = self.deadline();
        loop {
            let leader = self.leader();
            let done = match leader {
                Some(id) if id == self.shared.identity.member_id => self.propose(proposal.clone()).await,
                Some(id) => Box::pin(self.forward(id, &proposal, deadline)).await,
                None => Err(WriteError::NotLeader { leader: None }),
            };
            // Only what was certainly not proposed is tried again.
            let Err(WriteError::NotLeader { .. }) = done else { return done };
            let soon = (Instant::now() + self.pause()).min(deadline);
            self.leader_changes(leader, if leader.is_some() { soon } else { deadline }).await;
            if Instant::now() >= deadline || *self.over.borrow() {
                return done;
            }
        }
    }

    /// Has a command carried out if this member leads.
    pub(crate) async fn write_as_leader(&self, command: Command) -> Result<Outcome, WriteError> {
        let proposal = Proposal::new(command);
        self.check(&proposal)?;
        self.propose(proposal).await
    }

    fn check(&self, proposal: &Proposal) -> Result<(), WriteError> {
        let len = proposal.encoded().len();
        let limit = self.shared.options.max_request_bytes;
        if len > limit {
            return Err(WriteError::TooLarge { size: len, limit });
        }
        self.shared.failure().map_or(Ok(()), |why| Err(WriteError::Failed(why)))
    }

    /// Passes the gate and proposes, as the leader. [`WriteError::NotLeader`] says that it was not proposed.
    async fn propose(&self, proposal: Proposal) -> Result<Outcome, WriteError> {
        let shared = &*self.shared;
        let _pass = match shared.gate.enter(shared, proposal.encoded().len()).await {
            // Another member may have the space that this one lacks.
            Err(WriteError::NoSpace(Shortage::Disk)) if Box::pin(self.step_aside()).await => {
                return Err(WriteError::NotLeader { leader: self.leader() });
            }
            pass => pass?,
        };
        // Boxed: it would be copied into each of the futures around it.
        let proposing = Box::pin(self.raft.client_write(proposal));
        let done = if shared.alone.load(Ordering::Acquire) {
            self.unless_over(proposing).await
        } else {
            // Without a majority it may take for ever. What is in the log may still be agreed on.
            match tokio::time::timeout(shared.options.request_timeout, self.unless_over(proposing)).await {
                Ok(done) => done,
                Err(_) => return Err(WriteError::Unknown),
            }
        };
        match done {
            Some(Ok(done)) => match done.data {
                Outcome::Refused(refusal) => Err(refusal.into()),
                outcome => Ok(outcome),
            },
            Some(Err(RaftError::APIError(error))) => Err(write_error(error)),
            Some(Err(RaftError::Fatal(fatal))) => {
                Err(self.why_stopped(&fatal).map_or(WriteError::Unknown, WriteError::Failed))
            }
            None => Err(shared.failure().map_or(WriteError::Unknown, WriteError::Failed)),
        }
    }

    async fn forward(
        &self,
        leader: u64,
        proposal: &Proposal,
        deadline: Instant,
    ) -> Result<Outcome, WriteError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = self.shared.call(leader, Request::Write(proposal.encoded().clone()), left).await;
        match answer {
            Ok(Response::Written(bytes)) => {
                let (done, applied): (Result<Outcome, WriteError>, u64) =
                    message::decode(&bytes).map_err(|_| WriteError::Unknown)?;
                // So that who wrote here reads it here, and watches see it.
                if done.is_ok() {
                    let mut here = self.shared.applied.subscribe();
                    let caught_up = here.wait_for(|next| *next >= applied);
                    // A member whose disk is full may not get it for long, and whoever wrote should know that it is done.
                    let until = match self.shared.gate.shortage() {
                        Some(_) => deadline.min(Instant::now() + self.shared.options.election / 2),
                        None => deadline,
                    };
                    let _ = tokio::time::timeout_at(until, self.unless_over(caught_up)).await;
                }
                done
            }
            Err(TransportError::Undelivered(_) | TransportError::Refused(Refused::NotLeader(_))) => {
                Err(WriteError::NotLeader { leader: Some(leader) })
            }
            Err(TransportError::Refused(Refused::Stopped | Refused::Busy)) => {
                Err(WriteError::NotLeader { leader: Some(leader) })
            }
            Err(TransportError::Refused(refused)) => Err(WriteError::Failed(refused.to_string())),
            Ok(_) | Err(TransportError::NoAnswer(_)) => Err(WriteError::Unknown),
        }
    }

    /// Carries out a forwarded command; gives the encoded outcome.
    pub(super) async fn write_for_peer(&self, encoded: bytes::Bytes) -> Result<Response, Refused> {
        let bad = |why: &dyn std::fmt::Display| Refused::Bad(why.to_string());
        let proposal = Proposal::decode(encoded).map_err(|error| bad(&error))?;
        let done = match self.check(&proposal) {
            Ok(()) => self.propose(proposal).await,
            Err(error) => Err(error),
        };
        match done {
            Err(WriteError::NotLeader { leader }) => Err(Refused::NotLeader(leader)),
            Err(WriteError::Stopped) => Err(Refused::Stopped),
            done => {
                let applied = self.shared.applied_next.load(Ordering::Acquire);
                Ok(Response::Written(message::encode(&(done, applied)).map_err(|error| bad(&error))?))
            }
        }
    }

    /// Starts the time of a lease anew, at the leader; gives its TTL, or `None` if there is no such lease.
    pub(crate) async fn keep_alive(&self, id: LeaseId) -> Result<Option<i64>, WriteError> {
        self.ask_lessor(Request::KeepAlive(id)).await
    }

    /// Seconds that a lease has left, by the leader's clock; `None` if there is no such lease.
    pub(crate) async fn lease_remaining(&self, id: LeaseId) -> Result<Option<i64>, WriteError> {
        self.ask_lessor(Request::LeaseTtl(id)).await
    }

    async fn ask_lessor(&self, request: Request) -> Result<Option<i64>, WriteError> {
        if let Some(why) = self.shared.failure() {
            return Err(WriteError::Failed(why));
        }
        let deadline = self.deadline();
        loop {
            let leader = self.leader();
            if let Some(ttl) = self.lease_as_leader(&request) {
                return Ok(ttl);
            }
            if let Some(id) = leader.filter(|id| *id != self.shared.identity.member_id) {
                let left = deadline.saturating_duration_since(Instant::now());
                let patience = left.min(self.shared.options.election * 2);
                // A lost question does no harm: it is asked again.
                if let Ok(Response::Lease(ttl)) = self.shared.call(id, request.clone(), patience).await {
                    return Ok(ttl);
                }
            }
            let soon = (Instant::now() + self.pause()).min(deadline);
            self.leader_changes(leader, if leader.is_some() { soon } else { deadline }).await;
            if Instant::now() >= deadline || *self.over.borrow() {
                return Err(WriteError::NotLeader { leader });
            }
        }
    }

    /// Answers about a lease, if this member leads for sure. `None` if it does not.
    pub(super) fn lease_as_leader(&self, request: &Request) -> Option<Option<i64>> {
        if !self.leads() || !self.shared.lessor.runs() {
            return None;
        }
        let now = Instant::now();
        match request {
            Request::KeepAlive(id) => Some(self.shared.lessor.keep_alive(*id, now)),
            Request::LeaseTtl(id) => Some(self.shared.lessor.remaining(*id, now)),
            _ => None,
        }
    }
}

fn write_error(error: ClientWriteError<Types>) -> WriteError {
    match error {
        ClientWriteError::ForwardToLeader(forward) => WriteError::NotLeader { leader: forward.leader_id },
        ClientWriteError::LogEntryDiscarded(_) => WriteError::Unknown,
        other => WriteError::Failed(other.to_string()),
    }
}
