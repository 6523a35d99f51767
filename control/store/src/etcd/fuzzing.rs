//! The calls without a connection, for `crate::fuzzing`.

use std::sync::{Arc, OnceLock};

use tokio::sync::watch;
use tonic::Status;

pub(crate) use super::Face;
pub(crate) use super::calls::{CALLS, answer};
use super::{Config, convert, metrics, proto};
use crate::store::Store;
use crate::txn::Txn;

/// A face of a store that does not stop.
pub(crate) fn face(store: &Store) -> Arc<Face> {
    static STOP: OnceLock<watch::Sender<bool>> = OnceLock::new();
    let stopping = STOP.get_or_init(|| watch::Sender::new(false)).subscribe();
    let (store, config, counters) = (store.clone(), Config::default(), metrics::Counters::new());
    Arc::new(Face { store, config, counters, stopping })
}

/// What a request means.
pub(crate) fn txn(request: proto::kv::TxnRequest) -> Result<Txn, Status> {
    convert::txn(request)
}
