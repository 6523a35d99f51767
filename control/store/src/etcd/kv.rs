//! `KV`: reading and writing keys.

use tonic::Status;

use super::Shared;
use super::convert;
use super::error::{of_read, of_write};
use super::proto::kv::*;
use crate::txn::{Op, OpResponse, Txn};

pub(super) async fn range(face: Shared, request: RangeRequest) -> Result<RangeResponse, Status> {
    let response = face.store.range(convert::range(request)?).await.map_err(of_read)?;
    Ok(convert::range_response(face.header(response.revision), &response))
}

pub(super) async fn put(face: Shared, request: PutRequest) -> Result<PutResponse, Status> {
    let put = Op::Put(convert::put(request)?);
    let done = face.store.txn(Txn::of(vec![put])).await.map_err(of_write)?;
    let prev_kv = done.responses.first().and_then(|response| match response {
        OpResponse::Put { prev } => prev.as_ref().map(convert::key_value),
        _ => None,
    });
    Ok(PutResponse { header: face.header(done.revision), prev_kv })
}

pub(super) async fn delete_range(
    face: Shared,
    request: DeleteRangeRequest,
) -> Result<DeleteRangeResponse, Status> {
    let delete = convert::delete(request)?;
    let done = face.store.txn(Txn::of(vec![delete])).await.map_err(of_write)?;
    let header = face.header(done.revision);
    Ok(match done.responses.first() {
        Some(OpResponse::Delete { deleted, prev }) => DeleteRangeResponse {
            header,
            deleted: *deleted as i64,
            prev_kvs: prev.iter().map(convert::key_value).collect(),
        },
        _ => DeleteRangeResponse { header, ..DeleteRangeResponse::default() },
    })
}

pub(super) async fn txn(face: Shared, request: TxnRequest) -> Result<TxnResponse, Status> {
    let txn = convert::txn(request)?;
    let done = face.store.txn(txn).await.map_err(of_write)?;
    Ok(convert::txn_response(face.header(done.revision), done))
}

/// Compaction is done in memory at once; the disk follows with the next checkpoint, for which `physical` waits.
pub(super) async fn compact(face: Shared, request: CompactionRequest) -> Result<CompactionResponse, Status> {
    face.store.compact(request.revision).await.map_err(of_write)?;
    if request.physical {
        face.store.checkpoint().await.map_err(of_write)?;
    }
    Ok(CompactionResponse { header: face.header_now() })
}
