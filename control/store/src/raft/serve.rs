//! What a member does for others.

use std::io;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{Fatal, RaftError};
use openraft::raft::StreamAppendError;

use super::plausible::{self, Known};
use super::{Node, Types, convert};
use crate::error::ReadError;
use crate::peer::message::{self, Append, AppendAnswer, BallotAnswer, Refused, Request, Response, Transfer};

impl Node {
    /// Refuses a message of Raft's that cannot be what it says.
    pub(crate) fn check_plausible(&self, request: &Request) -> Result<(), Refused> {
        if request.vote().is_none() {
            return Ok(());
        }
        let known = {
            let metrics = self.raft.metrics();
            let now = metrics.borrow_watched();
            let committed = now.local_committed.as_ref().map(convert::position);
            Known { vote: convert::saved_vote(&now.vote), committed }
        };
        plausible::check(request, &known).map_err(bad)
    }

    /// Carries out what a peer asks for.
    pub(crate) async fn serve(&self, request: Request) -> Result<Response, Refused> {
        // These say by themselves that Raft ended: then nobody knows what has happened, while a refusal says that
        // nothing has.
        if matches!(request, Request::Write(_) | Request::Change(_)) {
            return self.answer(request).await;
        }
        self.unless_over(self.answer(request)).await.unwrap_or(Err(Refused::Stopped))
    }

    async fn answer(&self, request: Request) -> Result<Response, Refused> {
        match request {
            Request::Append(append) => {
                let rpc = convert::append_request(append).map_err(bad)?;
                let response = self.raft.append_entries(rpc).await.map_err(stopped)?;
                Ok(Response::Append(convert::append_answer(&response)))
            }
            Request::Vote(ballot) => {
                let response = self.raft.vote(convert::vote_request(&ballot)).await.map_err(stopped)?;
                Ok(Response::Vote(convert::ballot_answer(&response)))
            }
            Request::PreVote(ballot) => {
                let response = self.raft.pre_vote(convert::vote_request(&ballot)).await.map_err(stopped)?;
                let answer: BallotAnswer = convert::ballot_answer(&response);
                Ok(Response::Vote(answer))
            }
            Request::TransferLeader(transfer) => self.take_over(&transfer).await,
            Request::Snapshot(chunk) => self.take_snapshot(chunk).await,
            Request::Write(encoded) => self.write_for_peer(encoded).await,
            Request::ReadIndex => self.index_for_peer().await,
            Request::KeepAlive(_) | Request::LeaseTtl(_) => {
                let known = self.lease_as_leader(&request);
                known.map(Response::Lease).ok_or_else(|| Refused::NotLeader(self.leader()))
            }
            Request::Members => {
                let cluster_id = self.shared.identity.cluster_id;
                Ok(Response::Members { cluster_id, members: self.members() })
            }
            Request::Hash(revision) => crate::corrupt::answer(&self.shared, revision).await,
            Request::Change(change) => {
                let done = self.change_here(change).await;
                if let Err(crate::cluster::MemberError::NotLeader { leader }) = done {
                    return Err(Refused::NotLeader(leader));
                }
                Ok(Response::Changed(message::encode(&done).map_err(bad)?))
            }
        }
    }

    async fn take_over(&self, transfer: &Transfer) -> Result<Response, Refused> {
        let answer = self.raft.handle_transfer_leader(convert::transfer_request(transfer)).await;
        Ok(Response::Transfer(answer.map_err(|_| Refused::Stopped)?.is_ok()))
    }

    /// One round of this member's own serves its peers' reads too.
    async fn index_for_peer(&self) -> Result<Response, Refused> {
        if self.leader() != Some(self.shared.identity.member_id) {
            return Err(Refused::NotLeader(self.leader()));
        }
        match self.read_index().await {
            Ok(index) => Ok(Response::ReadIndex(index)),
            Err(ReadError::NotLeader { leader }) => Err(Refused::NotLeader(leader)),
            Err(_) => Err(Refused::Stopped),
        }
    }

    /// Takes in a leader's entries in order, and answers in the same order. Ends after the first that does not fit.
    pub(crate) fn serve_appends(
        &self,
        appends: BoxStream<'static, Append>,
    ) -> BoxStream<'static, Result<Response, Refused>> {
        // What cannot be read ends the stream; the leader then begins a new one.
        let requests =
            appends.map(convert::append_request).take_while(|rpc| futures::future::ready(rpc.is_ok()));
        let requests = requests.filter_map(|rpc: io::Result<_>| futures::future::ready(rpc.ok()));
        let results = self.raft.stream_append(requests);
        Box::pin(answers(results))
    }
}

fn answers(
    results: impl Stream<Item = Result<openraft::raft::StreamAppendResult<Types>, Fatal<Types>>> + Send,
) -> impl Stream<Item = Result<Response, Refused>> + Send {
    results.map(|result| {
        Ok(Response::Append(match result.map_err(|_| Refused::Stopped)? {
            Ok(upto) => AppendAnswer::Partly(upto.as_ref().map(convert::position)),
            Err(StreamAppendError::Conflict(_)) => AppendAnswer::Conflict,
            Err(StreamAppendError::HigherVote(vote)) => AppendAnswer::HigherVote(convert::saved_vote(&vote)),
        }))
    })
}

fn bad(error: impl std::fmt::Display) -> Refused {
    Refused::Bad(error.to_string())
}

fn stopped<E: std::error::Error>(_: RaftError<Types, E>) -> Refused {
    Refused::Stopped
}
