//! Decoders: what they take can be encoded, and is the same again.

use std::fmt::Debug;

use bytes::Bytes;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{decode_command, decode_record, encode_command, encode_record};
use crate::command::{Command, Outcome};
use crate::etcd::proto::{cluster, concurrency, kv, lease, maintenance, watch};
use crate::image::Item;
use crate::kv::KeyValue;
use crate::log::{Position, SavedVote};
use crate::mvcc::{Mvcc, Window};
use crate::peer::message::{self, Append, Envelope, PeerEntry, Refused, Request, Response};
use crate::txn::Txn;

pub(super) fn etcd_seeds() -> Vec<Vec<u8>> {
    let range = kv::RangeRequest { key: "abc".into(), serializable: true, ..kv::RangeRequest::default() };
    let event = kv::KeyValue { key: "k".into(), ..kv::KeyValue::default() };
    vec![range.encode_to_vec(), event.encode_to_vec()]
}

fn proto<M: Message + Default + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(known) = M::decode(bytes) {
        let again = M::decode(known.encode_to_vec().as_slice());
        assert_eq!(again.as_ref(), Ok(&known));
    }
}

/// Every message that a client may send.
pub(super) fn etcd_messages(data: &[u8]) {
    proto::<kv::RangeRequest>(data);
    proto::<kv::PutRequest>(data);
    proto::<kv::DeleteRangeRequest>(data);
    proto::<kv::TxnRequest>(data);
    proto::<kv::CompactionRequest>(data);
    proto::<watch::WatchRequest>(data);
    proto::<lease::LeaseGrantRequest>(data);
    proto::<cluster::MemberAddRequest>(data);
    proto::<maintenance::AlarmRequest>(data);
    proto::<concurrency::CampaignRequest>(data);
    let request = kv::TxnRequest::decode(data);
    if let Some(txn) = request.ok().and_then(|request| crate::etcd::fuzzing::txn(request).ok()) {
        let _ = txn.check(128);
    }
}

pub(super) fn command_seeds() -> Vec<Vec<u8>> {
    let lease = Command::LeaseGrant { id: 5, ttl: 60 };
    let commands =
        [Command::Txn(Txn::put("a", "1").or_else(crate::txn::Op::put("a", "2"))), lease, Command::Compact(1)];
    let record = KeyValue::new("key", "value", 1, 2, 3, 4);
    commands.iter().map(encode_command).chain([encode_record(&record)]).collect()
}

/// Commands of the log, applied, and records of the history.
pub(super) fn commands(data: &[u8]) {
    if let Ok(command) = decode_command(data) {
        assert_eq!(decode_command(&encode_command(&command)).as_ref(), Ok(&command));
        let mut state = Mvcc::new(Window::new(8, 1 << 20));
        for setup in [Command::Txn(Txn::put("a", "0")), Command::LeaseGrant { id: 5, ttl: 9 }] {
            state.apply(&setup);
        }
        let (first, before) = (state.apply(&command), state.revision());
        let second = state.apply(&command);
        let refused = matches!(first, Outcome::Refused(_)) && matches!(second, Outcome::Refused(_));
        assert!(!refused || state.revision() == before, "what is refused changes nothing");
    }
    if let Ok(record) = decode_record(7, 1, data) {
        assert_eq!(encode_record(&record), data, "a record has one form");
    }
}

pub(super) fn peer_seeds() -> Vec<Vec<u8>> {
    let at = Position { term: 1, index: 2 };
    let entry = PeerEntry { at, kind: 2, body: Bytes::from_static(b"body") };
    let vote = SavedVote { term: 1, node: 2, committed: true };
    let append = Append { vote, prev: Some(at), entries: vec![entry], commit: Some(at) };
    let requests = [Request::Append(append), Request::ReadIndex, Request::Members, Request::KeepAlive(5)];
    requests
        .into_iter()
        .filter_map(|request| message::encode(&Envelope { cluster_id: 1, from: 2, to: 3, request }).ok())
        .map(|bytes| bytes.to_vec())
        .collect()
}

fn plain<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(known) = message::decode::<T>(bytes) {
        let encoded = message::encode(&known).expect("what was decoded can be encoded");
        assert_eq!(message::decode::<T>(&encoded), Ok(known));
    }
}

/// What members say to each other.
pub(super) fn peer_messages(data: &[u8]) {
    plain::<Envelope>(data);
    plain::<Response>(data);
    plain::<Refused>(data);
    plain::<Vec<Item>>(data);
    plain::<Outcome>(data);
}
