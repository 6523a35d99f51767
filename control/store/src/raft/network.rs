//! openraft's way to peers, over the store's [`Transport`].

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::SnapshotOf;
use openraft::{AnyError, OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use parking_lot::Mutex;

use super::machine::Image;
use super::{LogId, RaftVote, Types};
use super::{convert, transfer};
use crate::cluster::MemberInfo;
use crate::peer::message::{Refused, Request, Response};
use crate::peer::{Peer, TransportError};
use crate::shared::Shared;

/// What a member says that does not belong to the cluster any more.
pub(super) const REMOVED: &str = "this member was removed from the cluster; to bring it back, add it as a new one, with an empty directory";

type RpcResult<T> = Result<T, RPCError<Types>>;
type BoxFuture<'a, T> = futures::future::BoxFuture<'a, T>;

/// Makes links.
pub(super) struct Network(pub(super) Arc<Shared>);

/// The way to one member.
pub(super) struct Link {
    shared: Arc<Shared>,
    target: u64,
    /// Whether it is for signs of life only, which are not to wait behind entries.
    heartbeats: bool,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, _: &MemberInfo) -> Link {
        Link { shared: Arc::clone(&self.0), target, heartbeats: false }
    }

    async fn new_heartbeat_client(&mut self, target: u64, _: &MemberInfo) -> Link {
        Link { shared: Arc::clone(&self.0), target, heartbeats: true }
    }
}

impl Link {
    /// Looked up each time, so that a member can move.
    fn peer(&self) -> Peer {
        self.shared.peer(self.target)
    }

    async fn call(&self, request: Request, timeout: Duration) -> RpcResult<Response> {
        let answer = self.shared.call(self.target, request, timeout).await;
        answer.map_err(|error| self.failed(error))
    }

    /// What openraft is told, and what it means for this member.
    fn failed(&self, error: TransportError) -> RPCError<Types> {
        match error {
            TransportError::NoAnswer(why) => RPCError::Network(NetworkError::from_string(why)),
            TransportError::Refused(Refused::Removed(id)) if id == self.shared.identity.member_id => {
                self.shared.fail(REMOVED);
                unreachable(REMOVED)
            }
            other => unreachable(other),
        }
    }

    fn odd(&self) -> RPCError<Types> {
        unreachable("the peer gave an answer of another kind")
    }

    async fn ballot(
        &self,
        make: fn(crate::peer::message::Ballot) -> Request,
        rpc: &VoteRequest<Types>,
        option: &RPCOption,
    ) -> RpcResult<VoteResponse<Types>> {
        match self.call(make(convert::ballot(rpc)), option.soft_ttl()).await? {
            Response::Vote(answer) => Ok(convert::vote_response(&answer)),
            _ => Err(self.odd()),
        }
    }
}

fn unreachable(why: impl ToString) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::new(&AnyError::error(why)))
}

/// Where the entries of a message begin and end.
type Span = (Option<LogId>, Option<LogId>);

impl RaftNetworkV2<Types> for Link {
    type SnapshotData = Image;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<Types>> {
        let request = Request::Append(convert::append(&rpc).map_err(unreachable)?);
        match self.call(request, option.soft_ttl()).await? {
            Response::Append(answer) => Ok(convert::append_response(answer)),
            _ => Err(self.odd()),
        }
    }

    /// Sends ahead of the answers: a round trip is paid once, not for each group of entries.
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, RpcResult<BoxStream<'s, RpcResult<StreamAppendResult<Types>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        if self.heartbeats {
            return openraft::network::stream_append_sequential(self, input, option);
        }
        Box::pin(async move {
            let Some(transport) = self.shared.options.transport.clone() else {
                return Err(unreachable("this store has no transport to peers"));
            };
            let spans: Arc<Mutex<VecDeque<Span>>> = Arc::default();
            let sent = Arc::clone(&spans);
            let shared = Arc::clone(&self.shared);
            let target = self.target;
            let messages = input.map(move |rpc| {
                let last = rpc.entries.last().map(|entry| entry.log_id).or(rpc.prev_log_id);
                sent.lock().push_back((rpc.prev_log_id, last));
                convert::append(&rpc).map(|append| shared.envelope(target, Request::Append(append)))
            });
            // What cannot be encoded ends the stream; openraft then begins a new one.
            let messages = messages.take_while(|message| futures::future::ready(message.is_ok()));
            let messages = Box::pin(messages.filter_map(|message| futures::future::ready(message.ok())));
            let answers = transport.appends(self.peer(), messages, option.soft_ttl());
            let link: &'s Link = self;
            let results = futures::stream::unfold(Some(answers), move |answers| {
                let spans = Arc::clone(&spans);
                async move {
                    let mut answers = answers?;
                    let answer = answers.next().await?;
                    let span = spans.lock().pop_front();
                    let (result, go_on) = link.appended(answer, span);
                    Some((result, go_on.then_some(answers)))
                }
            });
            Ok(Box::pin(results) as BoxStream<'s, _>)
        })
    }

    async fn vote(&mut self, rpc: VoteRequest<Types>, option: RPCOption) -> RpcResult<VoteResponse<Types>> {
        self.ballot(Request::Vote, &rpc, &option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<Types>> {
        self.ballot(Request::PreVote, &rpc, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        snapshot: SnapshotOf<Types, Image>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        match snapshot.snapshot {
            Image::Export(export) => transfer::send(&self.shared, self.target, vote, export, cancel).await,
            Image::Mark | Image::Received => Err(unreachable("there is no snapshot to send").into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> RpcResult<TransferLeaderResponse<Types>> {
        match self.call(Request::TransferLeader(convert::transfer(&rpc)), option.soft_ttl()).await? {
            Response::Transfer(true) => Ok(Ok(())),
            Response::Transfer(false) => Err(unreachable(
                "the member does not take over: it lacks entries, or there is another leader",
            )),
            _ => Err(self.odd()),
        }
    }
}

impl Link {
    /// The result of one message of a stream, and whether the stream goes on.
    fn appended(
        &self,
        answer: Result<Response, TransportError>,
        span: Option<Span>,
    ) -> (RpcResult<StreamAppendResult<Types>>, bool) {
        let answer = match answer {
            Ok(Response::Append(answer)) => convert::append_response(answer),
            Ok(_) => return (Err(self.odd()), false),
            Err(error) => return (Err(self.failed(error)), false),
        };
        let Some((prev, last)) = span else {
            return (Err(unreachable("an answer to nothing")), false);
        };
        let all = match &answer {
            AppendEntriesResponse::Success => true,
            AppendEntriesResponse::PartialSuccess(upto) => *upto == last,
            // A conflict at the very beginning of a log cannot be.
            AppendEntriesResponse::Conflict if prev.is_none() => return (Err(self.odd()), false),
            AppendEntriesResponse::Conflict | AppendEntriesResponse::HigherVote(_) => false,
        };
        (Ok(answer.into_stream_result(prev, last)), all)
    }
}
