//! Messages of a member, in any order and with any content, to one that takes it for a member.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::timeout;

use super::{Scratch, piece, pieces, runtime};
use crate::cluster::InitialMember;
use crate::codec::encode_command;
use crate::command::Command;
use crate::log::{Position, SavedVote};
use crate::peer::message::{self, Append, Ballot, Envelope, PeerEntry, Request, Response};
use crate::peer::{Peer, Transport, TransportError};
use crate::store::Store;
use crate::txn::Txn;

/// Messages of one run.
const MAX_MESSAGES: usize = 16;

/// How long an answer may take; a request that waits for a leader takes as long as the options say.
const ANSWER: Duration = Duration::from_secs(20);

/// Nobody is there.
struct Nowhere;

#[async_trait]
impl Transport for Nowhere {
    async fn call(&self, _: &Peer, _: Envelope, _: Duration) -> Result<Response, TransportError> {
        Err(TransportError::Undelivered("nobody is there".to_owned()))
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let leader = SavedVote { term: 3, node: 0, committed: true };
    let at = |index| Position { term: 3, index };
    let body = Bytes::from(encode_command(&Command::Txn(Txn::put("k", "v"))));
    let entry = |index, kind: u8, body: &Bytes| PeerEntry { at: at(index), kind, body: body.clone() };
    let first = vec![entry(1, 1, &Bytes::new()), entry(2, 2, &body)];
    let append = |prev, entries, commit| Request::Append(Append { vote: leader, prev, entries, commit });
    let vote = SavedVote { committed: false, ..leader };
    let requests = [
        Request::Vote(Ballot { vote, last: Some(at(9)), transfer: false }),
        append(Some(Position { term: 0, index: 0 }), first, None),
        append(Some(at(2)), vec![], Some(at(2))),
        Request::Members,
        Request::ReadIndex,
    ];
    vec![pieces(requests.iter().filter_map(|r| message::encode(r).ok()).map(|r| [&[1], r.as_ref()].concat()))]
}

fn member(n: usize) -> InitialMember {
    InitialMember { name: format!("m{n}"), peer_urls: vec![format!("http://m{n}:2380")] }
}

/// Each piece is who sends it, and the request.
pub(super) fn messages(mut data: &[u8]) {
    let scratch = Scratch::new();
    let mut options = scratch.options();
    options.name = "m0".to_owned();
    options.initial_cluster = (0..3).map(member).collect();
    options.request_timeout = Duration::from_millis(20);
    options.transport = Some(Arc::new(Nowhere));
    runtime().block_on(async {
        let store = Store::open(options).await.expect("opens");
        let (cluster_id, to) = store.ids();
        let ids: Vec<u64> = store.members().iter().map(|m| m.id).collect();
        let others: Vec<u64> = ids.iter().copied().filter(|id| *id != to).collect();
        let handler = store.peer_handler();
        let mut revision = store.revision();
        for _ in 0..MAX_MESSAGES {
            let Some([from, bytes @ ..]) = piece(&mut data) else { break };
            let Ok(mut request) = message::decode::<Request>(bytes) else { continue };
            let from = others.get(usize::from(*from) % others.len().max(1)).copied().unwrap_or(1);
            name_sender(&mut request, from);
            let answer = handler.handle(Envelope { cluster_id, from, to, request: request.clone() });
            let answer = timeout(ANSWER, answer).await;
            assert!(answer.is_ok(), "no answer to {request:?}");
            assert!(store.revision() >= revision, "the revision goes back after {request:?}");
            revision = store.revision();
        }
        // It may have stopped, with a reason; it has not gone wrong.
        timeout(ANSWER, store.shutdown()).await.expect("stops");
    });
}

/// So that leaders and candidates speak for themselves, mostly.
fn name_sender(request: &mut Request, from: u64) {
    let vote = match request {
        Request::Append(append) => &mut append.vote,
        Request::Vote(ballot) | Request::PreVote(ballot) => &mut ballot.vote,
        Request::TransferLeader(transfer) => &mut transfer.from,
        Request::Snapshot(chunk) => &mut chunk.vote,
        _ => return,
    };
    if vote.node < 200 {
        vote.node = from;
    }
}
