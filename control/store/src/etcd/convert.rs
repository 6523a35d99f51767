//! Between etcd's messages and the store's types.

use std::sync::Arc;

use bytes::Bytes;
use tonic::Status;

use super::error::{
    EMPTY_KEY, INVALID_SORT, KEY_NOT_FOUND, LEASE_PROVIDED, TOO_MANY_OPS, VALUE_PROVIDED, status,
};
use super::proto::ResponseHeader;
use super::proto::kv as pb;
use crate::arrange::{Limits, Sort, SortBy};
use crate::kv::{KeyRange, KeyValue};
use crate::txn::{
    Compare, CompareOp, CompareTarget, Op, OpResponse, Put, Range, RangeResponse, Txn, TxnResponse,
};

/// The largest depth of transactions inside transactions that is looked at: each level has at least one operation,
/// and the store refuses more than so many.
const MAX_DEPTH: usize = 128;

/// The keys that a key and a range's end stand for: one key without an end, all from the key on with the end
/// `\0`, else those before the end. An empty key means the first one there can be.
pub(super) fn keys(key: Bytes, end: Bytes) -> KeyRange {
    match end.as_ref() {
        [] => KeyRange::One(key),
        [0] => KeyRange::From(key),
        _ => KeyRange::Span { start: key, end },
    }
}

pub(super) fn key_value(kv: &Arc<KeyValue>) -> pb::KeyValue {
    pb::KeyValue {
        key: kv.key.clone(),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: kv.value.clone(),
        lease: kv.lease,
    }
}

pub(super) fn range(request: pb::RangeRequest) -> Result<Range, Status> {
    if request.key.is_empty() {
        return Err(status(EMPTY_KEY));
    }
    let by = match request.sort_target {
        0 => SortBy::Key,
        1 => SortBy::Version,
        2 => SortBy::CreateRevision,
        3 => SortBy::ModRevision,
        4 => SortBy::Value,
        _ => return Err(status(INVALID_SORT)),
    };
    let sort = match (request.sort_order, by) {
        // Keys are in order anyway.
        (0 | 1, SortBy::Key) => None,
        (0 | 1, by) => Some(Sort { by, descending: false }),
        (2, by) => Some(Sort { by, descending: true }),
        _ => return Err(status(INVALID_SORT)),
    };
    Ok(Range {
        revision: Some(request.revision).filter(|revision| *revision > 0),
        limit: usize::try_from(request.limit).unwrap_or_default(),
        count_only: request.count_only,
        keys_only: request.keys_only,
        sort,
        limits: Limits {
            min_mod_revision: request.min_mod_revision,
            max_mod_revision: request.max_mod_revision,
            min_create_revision: request.min_create_revision,
            max_create_revision: request.max_create_revision,
        },
        serializable: request.serializable,
        ..Range::of(keys(request.key, request.range_end))
    })
}

pub(super) fn range_response(header: Option<ResponseHeader>, response: &RangeResponse) -> pb::RangeResponse {
    pb::RangeResponse {
        header,
        kvs: response.kvs.iter().map(key_value).collect(),
        more: response.more,
        count: response.count as i64,
    }
}

pub(super) fn put(request: pb::PutRequest) -> Result<Put, Status> {
    let pb::PutRequest { key, value, lease, prev_kv, ignore_value, ignore_lease } = request;
    let wrong = if key.is_empty() {
        EMPTY_KEY
    } else if ignore_value && !value.is_empty() {
        VALUE_PROVIDED
    } else if ignore_lease && lease != 0 {
        LEASE_PROVIDED
    } else {
        return Ok(Put { key, value, lease, prev_kv, ignore_value, ignore_lease });
    };
    Err(status(wrong))
}

pub(super) fn delete(request: pb::DeleteRangeRequest) -> Result<Op, Status> {
    if request.key.is_empty() {
        return Err(status(EMPTY_KEY));
    }
    Ok(Op::Delete { keys: keys(request.key, request.range_end), prev_kv: request.prev_kv })
}

pub(super) fn txn(request: pb::TxnRequest) -> Result<Txn, Status> {
    txn_within(request, MAX_DEPTH)
}

fn txn_within(request: pb::TxnRequest, depth: usize) -> Result<Txn, Status> {
    let depth = depth.checked_sub(1).ok_or_else(|| status(TOO_MANY_OPS))?;
    let ops = |ops: Vec<pb::RequestOp>| -> Result<Vec<Op>, Status> {
        ops.into_iter().map(|step| op(step, depth)).collect()
    };
    let compare = request.compare.into_iter().map(compare).collect::<Result<_, _>>()?;
    Ok(Txn { compare, then: ops(request.success)?, otherwise: ops(request.failure)? })
}

fn op(step: pb::RequestOp, depth: usize) -> Result<Op, Status> {
    match step.request {
        None => Err(status(KEY_NOT_FOUND)),
        Some(pb::Request::Range(request)) => range(request).map(Op::Range),
        Some(pb::Request::Put(request)) => put(request).map(Op::Put),
        Some(pb::Request::DeleteRange(request)) => delete(request),
        Some(pb::Request::Txn(request)) => txn_within(request, depth).map(Op::Txn),
    }
}

fn compare(request: pb::Compare) -> Result<Compare, Status> {
    if request.key.is_empty() {
        return Err(status(EMPTY_KEY));
    }
    let op = match request.result {
        0 => CompareOp::Equal,
        1 => CompareOp::Greater,
        2 => CompareOp::Less,
        3 => CompareOp::NotEqual,
        _ => return Err(Status::invalid_argument("etcdserver: unknown comparison")),
    };
    // An operand of another kind counts as the zero of the right one, as in etcd.
    let target = match (request.target, request.operand) {
        (0, Some(pb::Operand::Version(version))) => CompareTarget::Version(version),
        (0, _) => CompareTarget::Version(0),
        (1, Some(pb::Operand::CreateRevision(revision))) => CompareTarget::CreateRevision(revision),
        (1, _) => CompareTarget::CreateRevision(0),
        (2, Some(pb::Operand::ModRevision(revision))) => CompareTarget::ModRevision(revision),
        (2, _) => CompareTarget::ModRevision(0),
        (3, Some(pb::Operand::Value(value))) => CompareTarget::Value(value),
        (3, _) => CompareTarget::Value(Bytes::new()),
        (4, Some(pb::Operand::Lease(lease))) => CompareTarget::Lease(lease),
        (4, _) => CompareTarget::Lease(0),
        _ => return Err(Status::invalid_argument("etcdserver: unknown field to compare")),
    };
    Ok(Compare { keys: keys(request.key, request.range_end), op, target })
}

/// The header of an answer inside a transaction's: only the revision.
fn inner_header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}

pub(super) fn txn_response(header: Option<ResponseHeader>, response: TxnResponse) -> pb::TxnResponse {
    let responses = response.responses.into_iter().map(|answer| pb::ResponseOp {
        response: Some(match answer {
            OpResponse::Put { prev } => pb::Response::Put(pb::PutResponse {
                header: inner_header(response.revision),
                prev_kv: prev.as_ref().map(key_value),
            }),
            OpResponse::Delete { deleted, prev } => pb::Response::DeleteRange(pb::DeleteRangeResponse {
                header: inner_header(response.revision),
                deleted: deleted as i64,
                prev_kvs: prev.iter().map(key_value).collect(),
            }),
            OpResponse::Range(range) => {
                pb::Response::Range(range_response(inner_header(range.revision), &range))
            }
            OpResponse::Txn(inside) => pb::Response::Txn(txn_response(inner_header(0), inside)),
        }),
    });
    pb::TxnResponse { header, succeeded: response.succeeded, responses: responses.collect() }
}
