//! What several tests share.

use std::sync::Arc;

use carrack_simulation::disk::SimDisk;
use carrack_store::{Op, OpResponse, Options, Range, RangeResponse, Store, Txn, TxnResponse};

/// Small files and frequent checkpoints, so that short tests reach rotation, purging and the backend.
pub(crate) fn small(mut options: Options) -> Options {
    options.segment_bytes = 1 << 20;
    options.max_request_bytes = 128 << 10;
    options.checkpoint_bytes = 64 << 10;
    options.checkpoint_changes = 200;
    options.window_revisions = 64;
    options
}

/// A store in memory that lives as long as the test.
pub(crate) async fn open_sim() -> (Arc<SimDisk>, Store) {
    let disk = Arc::new(SimDisk::new(1, u64::MAX));
    (Arc::clone(&disk), reopen(&disk).await)
}

pub(crate) async fn reopen(disk: &Arc<SimDisk>) -> Store {
    Store::open(sim_options(disk)).await.expect("opens")
}

pub(crate) fn sim_options(disk: &Arc<SimDisk>) -> Options {
    let mut options = small(Options::new("/store"));
    options.disk = Arc::clone(disk) as _;
    options
}

pub(crate) async fn put(store: &Store, key: &str, value: &str) -> TxnResponse {
    store.txn(Txn::put(key.to_owned(), value.to_owned())).await.expect("put")
}

pub(crate) async fn delete(store: &Store, key: &str) -> TxnResponse {
    store.txn(Txn::delete(key.to_owned())).await.expect("delete")
}

pub(crate) async fn range(store: &Store, range: Range) -> RangeResponse {
    store.range(range).await.expect("range")
}

/// Keys and values as text.
pub(crate) fn pairs(response: &RangeResponse) -> Vec<(String, String)> {
    let text = |bytes: &bytes::Bytes| String::from_utf8_lossy(bytes).into_owned();
    response.kvs.iter().map(|kv| (text(&kv.key), text(&kv.value))).collect()
}

/// A put with all its fields.
pub(crate) fn put_op(key: &str, value: &str, lease: i64, prev_kv: bool) -> Op {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    Op::Put(carrack_store::Put { key, value, lease, prev_kv, ..Default::default() })
}

/// The number of keys that the first step of a transaction deleted.
pub(crate) fn deleted(response: &TxnResponse) -> u64 {
    match &response.responses[0] {
        OpResponse::Delete { deleted, .. } => *deleted,
        other => panic!("not a deletion: {other:?}"),
    }
}
