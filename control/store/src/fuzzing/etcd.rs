//! Requests of clients, one after the other, to a store that is alone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use prost::Message;
use tokio::time::timeout;

use super::{Scratch, piece, pieces, runtime};
use crate::etcd::fuzzing::{CALLS, Face, answer, face};
use crate::etcd::proto::kv::*;
use crate::etcd::proto::lease::LeaseGrantRequest;
use crate::etcd::proto::watch::{WatchCall, WatchCreateRequest, WatchRequest};
use crate::kv::{KeyRange, KeyValue};
use crate::store::Store;
use crate::txn::Range;

/// Requests of one run.
const MAX_REQUESTS: usize = 24;

/// How long a call is listened to that goes on until the client ends it.
const LISTEN: Duration = Duration::from_millis(5);

/// How long any other may take.
const ANSWER: Duration = Duration::from_secs(20);

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let put =
        |key: &str| PutRequest { key: key.to_owned().into(), value: "v".into(), ..PutRequest::default() };
    let range = RangeRequest { key: "a".into(), range_end: "z".into(), limit: 1, ..RangeRequest::default() };
    let compare = Compare { key: "a".into(), target: 1, ..Compare::default() };
    let step = |request| RequestOp { request: Some(request) };
    let txn = TxnRequest {
        compare: vec![compare],
        success: vec![step(Request::Put(put("b"))), step(Request::Range(range.clone()))],
        failure: vec![],
    };
    let lease = LeaseGrantRequest { ttl: 5, id: 7 };
    let watch = WatchCreateRequest { key: "a".into(), start_revision: 1, ..WatchCreateRequest::default() };
    let watch = WatchRequest { call: Some(WatchCall::Create(watch)) };
    let of = |method: &str, message: Vec<u8>| -> Vec<u8> {
        let index = CALLS.iter().position(|call| call.method == method).unwrap_or_default();
        [vec![index as u8], message].concat()
    };
    vec![pieces([
        of("Put", put("a").encode_to_vec()),
        of("Range", range.encode_to_vec()),
        of("Txn", txn.encode_to_vec()),
        of("LeaseGrant", lease.encode_to_vec()),
        of("Watch", watch.encode_to_vec()),
        of("Compact", CompactionRequest { revision: 2, physical: true }.encode_to_vec()),
        of("HashKV", vec![]),
    ])]
}

/// Each piece is the number of a call, and its message.
pub(super) fn requests(mut data: &[u8]) {
    let scratch = Scratch::new();
    runtime().block_on(async {
        let store = Store::open(scratch.options()).await.expect("opens");
        let face = face(&store);
        let mut revision = store.revision();
        for _ in 0..MAX_REQUESTS {
            let Some([which, message @ ..]) = piece(&mut data) else { break };
            ask(&face, usize::from(*which) % CALLS.len(), message).await;
            assert_eq!(store.status().failed, None, "a request ended the store");
            assert!(store.revision() >= revision, "the revision goes back");
            revision = store.revision();
        }
        let before = contents(&store).await;
        store.shutdown().await;
        drop(face);
        drop(store);
        let store = Store::open(scratch.options()).await.expect("opens again");
        assert_eq!(contents(&store).await, before, "what was there before is there after a restart");
        store.shutdown().await;
    });
}

/// Keys (`None`: it does not answer, since somebody raised CORRUPT), revisions, leases.
type Contents = (Option<Vec<Arc<KeyValue>>>, i64, i64, Vec<i64>);

/// Everything, as clients see it.
async fn contents(store: &Store) -> Contents {
    let all = Range { serializable: true, ..Range::of(KeyRange::prefix("")) };
    let kvs = store.range(all).await.ok().map(|found| found.kvs);
    (kvs, store.revision(), store.compacted_revision(), store.leases())
}

async fn ask(face: &Arc<Face>, call: usize, message: &[u8]) {
    let call = &CALLS[call];
    let framed = [&[0], (message.len() as u32).to_be_bytes().as_slice(), message].concat();
    let request = http::Request::post(call.path)
        .header("content-type", "application/grpc")
        .body(Full::<Bytes>::from(framed))
        .expect("a request");
    let goes_on = call.kind != "unary" || matches!(call.method, "Lock" | "Campaign" | "MemberAdd");
    let answered = async {
        let body = answer(Arc::clone(face), request).await.into_body();
        let _ = body.collect().await;
    };
    let done = timeout(if goes_on { LISTEN } else { ANSWER }, answered).await;
    assert!(done.is_ok() || goes_on, "no answer to {}", call.path);
}
