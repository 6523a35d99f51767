//! Access to the store by resource: reads, and compare-and-swap writes that keep side records in step.

use std::sync::Arc;

use bytes::Bytes;
use carrack_api::Resource;
use carrack_store::{
    Compare, KeyValue, LeaseId, Op, OpResponse, Put, Range, RangeResponse, Revision, Store, Txn, TxnResponse,
};

use crate::ApiError;
use crate::quota::Turn;

/// Where the objects of all resources are.
#[derive(Clone)]
pub(crate) struct Registry {
    store: Store,
}

/// What else a write of an object checks and does in the same transaction.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// What must hold.
    pub(crate) compare: Vec<Compare>,
    /// What is done.
    pub(crate) then: Vec<Op>,
    /// The lease that the object goes away with; 0 for none.
    pub(crate) lease: LeaseId,
    /// The turn among those who charge quotas, held until the write is done.
    pub(crate) turn: Option<Turn>,
}

impl Beside {
    /// This and what another part checks and does.
    #[must_use]
    pub(crate) fn with(mut self, other: Beside) -> Self {
        self.compare.extend(other.compare);
        self.then.extend(other.then);
        self.turn = self.turn.or(other.turn);
        self
    }
}

/// What became of a compare-and-swap.
#[derive(Debug)]
pub(crate) enum Swap {
    /// Done in this revision.
    Done(Revision),
    /// Something was not as assumed; what the key holds now.
    Lost(Option<Arc<KeyValue>>),
}

impl Registry {
    pub(crate) fn new(store: Store) -> Self {
        Registry { store }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// One object as of now.
    pub(crate) async fn get(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<KeyValue>>, ApiError> {
        self.get_key(resource.key(namespace, name)).await
    }

    /// One key as of now.
    pub(crate) async fn get_key(&self, key: String) -> Result<Option<Arc<KeyValue>>, ApiError> {
        Ok(self.store.range(Range::key(key)).await?.kvs.into_iter().next())
    }

    /// A range as asked for.
    pub(crate) async fn range(&self, range: Range) -> Result<RangeResponse, ApiError> {
        Ok(self.store.range(range).await?)
    }

    /// Writes an object whose key was last changed in `known` (0: does not exist yet).
    pub(crate) async fn put(
        &self,
        key: &str,
        known: Revision,
        value: Bytes,
        beside: Beside,
    ) -> Result<Swap, ApiError> {
        let put = Op::Put(Put { key: key.to_owned().into(), value, lease: beside.lease, ..Put::default() });
        self.swap(key, known, put, beside).await
    }

    /// Removes an object whose key was last changed in `known`.
    pub(crate) async fn remove(&self, key: &str, known: Revision, beside: Beside) -> Result<Swap, ApiError> {
        self.swap(key, known, Op::delete(key.to_owned()), beside).await
    }

    async fn swap(&self, key: &str, known: Revision, op: Op, beside: Beside) -> Result<Swap, ApiError> {
        let mut txn = Txn::of(vec![op]).when(Compare::mod_revision(key.to_owned(), known));
        let _until_written = beside.turn;
        txn.compare.extend(beside.compare);
        txn.then.extend(beside.then);
        let response = self.store.txn(txn.or_else(Op::get(key.to_owned()))).await?;
        Ok(outcome(response))
    }
}

/// Reads the answer to a compare-and-swap, whose only alternative step reads the key.
fn outcome(response: TxnResponse) -> Swap {
    if response.succeeded {
        return Swap::Done(response.revision);
    }
    let found = response.responses.into_iter().find_map(|r| match r {
        OpResponse::Range(range) => range.kvs.into_iter().next(),
        _ => None,
    });
    Swap::Lost(found)
}
