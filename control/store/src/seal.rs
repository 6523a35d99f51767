//! Values that are changed on their way into the store and back: the seam for encryption at rest.
//!
//! A handle made by [`Store::sealed`](crate::Store::sealed) seals every value it writes and opens every value it reads or
//! watches, so that no reader behind it can forget to. Other handles of the same store (snapshots, etcd's API) see the
//! bytes as they are kept.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::error::Unreadable;
use crate::kv::KeyValue;
use crate::txn::{Op, OpResponse, RangeResponse, Txn, TxnResponse};
use crate::watch::WatchBatch;

/// Says how values are kept. What it says of a key may change over time (keys are rotated); what was sealed must be
/// opened for as long as it is kept.
pub trait Seal: Send + Sync {
    /// The bytes to keep for the value of a key; `Err` says why there are none.
    fn seal(&self, key: &[u8], value: &Bytes) -> Result<Bytes, String>;

    /// The value behind the kept bytes; `None` when they are the value. `Err` says why they cannot be read.
    fn open(&self, key: &[u8], kept: &Bytes) -> Result<Option<Bytes>, String>;

    /// Asked when [`Seal::open`] failed: `Some` fetches what it lacked, such as a key that another process holds, after
    /// which it is worth trying once more. It ends within a bounded time; `Err` says why it fetched nothing.
    fn fetch(&self, _key: &[u8], _kept: &Bytes) -> Option<BoxFuture<'static, Result<(), String>>> {
        None
    }

    /// Whether [`Seal::seal`] would keep the value in another way today, with a newer key for instance.
    fn is_outdated(&self, key: &[u8], kept: &Bytes) -> bool;
}

/// What the slot of [`KeyValue::decoded`] holds for a sealed value: the opened one, which has a slot of its own.
struct Opened(Arc<KeyValue>);

/// Opens the value of a key. Done once for all readers, since they share the `KeyValue`.
async fn open(seal: &dyn Seal, kv: &mut Arc<KeyValue>) -> Result<(), Unreadable> {
    if let Some(known) = kv.known::<Opened>() {
        *kv = Arc::clone(&known.0);
        return Ok(());
    }
    if kv.value.is_empty() {
        return Ok(());
    }
    let refuse = |why| Unreadable { key: String::from_utf8_lossy(&kv.key).into_owned(), why };
    let value = match seal.open(&kv.key, &kv.value) {
        Err(why) => match seal.fetch(&kv.key, &kv.value) {
            None => return Err(refuse(why)),
            Some(fetched) => {
                fetched.await.map_err(refuse)?;
                seal.open(&kv.key, &kv.value).map_err(refuse)?
            }
        },
        Ok(value) => value,
    };
    let Some(value) = value else { return Ok(()) };
    let shared = kv.decoded(|_| Opened(Arc::new(kv.with_value(value))));
    *kv = Arc::clone(&shared.0);
    Ok(())
}

/// Opens all of an answer.
pub(crate) async fn open_range(seal: &dyn Seal, response: &mut RangeResponse) -> Result<(), Unreadable> {
    for kv in &mut response.kvs {
        open(seal, kv).await?;
    }
    Ok(())
}

/// Opens what a transaction answered.
pub(crate) async fn open_txn(seal: &dyn Seal, response: &mut TxnResponse) -> Result<(), Unreadable> {
    let mut kvs = Vec::new();
    collect(response, &mut kvs);
    for kv in kvs {
        open(seal, kv).await?;
    }
    Ok(())
}

/// All values in an answer to a transaction.
fn collect<'a>(response: &'a mut TxnResponse, kvs: &mut Vec<&'a mut Arc<KeyValue>>) {
    for response in &mut response.responses {
        match response {
            OpResponse::Put { prev } => kvs.extend(prev),
            OpResponse::Delete { prev, .. } => kvs.extend(prev),
            OpResponse::Range(range) => kvs.extend(&mut range.kvs),
            OpResponse::Txn(inner) => collect(inner, kvs),
        }
    }
}

/// Opens what a watch brings.
pub(crate) async fn open_batch(seal: &dyn Seal, batch: &mut WatchBatch) -> Result<(), Unreadable> {
    for event in &mut batch.events {
        open(seal, &mut event.kv).await?;
        if let Some(prev) = &mut event.prev {
            open(seal, prev).await?;
        }
    }
    Ok(())
}

/// Seals all that a transaction writes. Comparisons of values would see the kept bytes: compare revisions.
pub(crate) fn seal_txn(seal: &dyn Seal, txn: &mut Txn) -> Result<(), Unreadable> {
    txn.then.iter_mut().chain(&mut txn.otherwise).try_for_each(|op| match op {
        Op::Put(put) if !put.ignore_value => {
            let refuse = |why| Unreadable { key: String::from_utf8_lossy(&put.key).into_owned(), why };
            put.value = seal.seal(&put.key, &put.value).map_err(refuse)?;
            Ok(())
        }
        Op::Txn(inner) => seal_txn(seal, inner),
        _ => Ok(()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Keeps values reversed behind an `x`; counts what it opens, and refuses keys that end in `!`.
    #[derive(Default)]
    struct Reversed(AtomicUsize);

    impl Seal for Reversed {
        fn seal(&self, _: &[u8], value: &Bytes) -> Result<Bytes, String> {
            Ok(b"x".iter().chain(value.iter().rev()).copied().collect())
        }
        fn open(&self, key: &[u8], kept: &Bytes) -> Result<Option<Bytes>, String> {
            self.0.fetch_add(1, Ordering::Relaxed);
            if key.ends_with(b"!") {
                return Err("no key".into());
            }
            Ok(kept.strip_prefix(b"x").map(|rest| rest.iter().rev().copied().collect()))
        }
        fn is_outdated(&self, _: &[u8], kept: &Bytes) -> bool {
            !kept.starts_with(b"x")
        }
    }

    #[tokio::test]
    async fn what_was_opened_is_shared_and_what_failed_is_tried_again() {
        let seal = Reversed::default();
        let kept = Arc::new(KeyValue::new("k", "xcba", 2, 2, 1, 0));
        let (mut first, mut second) = (kept.clone(), kept.clone());
        open(&seal, &mut first).await.unwrap();
        open(&seal, &mut second).await.unwrap();
        assert_eq!(first.value, "abc");
        assert!(Arc::ptr_eq(&first, &second), "opened twice");
        assert_eq!(seal.0.load(Ordering::Relaxed), 1);
        let plain = Arc::new(KeyValue::new("k", "abc", 2, 2, 1, 0));
        let mut same = plain.clone();
        open(&seal, &mut same).await.unwrap();
        assert!(Arc::ptr_eq(&plain, &same));
        // The slot of a value that needs no opening belongs to its readers.
        let length = plain.decoded(|bytes| bytes.len());
        open(&seal, &mut same).await.unwrap();
        assert!(Arc::ptr_eq(&length, &plain.decoded(|_| -> usize { unreachable!("decoded before") })));
        let mut bad = Arc::new(KeyValue::new("k!", "xcba", 2, 2, 1, 0));
        for _ in 0..2 {
            assert_eq!(
                open(&seal, &mut bad).await.unwrap_err().to_string(),
                "unable to transform key \"k!\": no key"
            );
        }
    }

    #[test]
    fn all_puts_of_a_transaction_are_sealed() {
        let inner = Txn::put("c", "3").or_else(Op::put("d", "4"));
        let mut txn = Txn::put("a", "12").or_else(Op::Txn(inner));
        seal_txn(&Reversed::default(), &mut txn).unwrap();
        assert_eq!(txn.then, [Op::put("a", "x21")]);
        assert_eq!(txn.otherwise, [Op::Txn(Txn::put("c", "x3").or_else(Op::put("d", "x4")))]);
    }

    /// Keeps values behind an `x`, and opens them only after the key was fetched. Fails to fetch that of `gone`.
    #[derive(Default)]
    struct Remote(Arc<AtomicUsize>);

    impl Seal for Remote {
        fn seal(&self, _: &[u8], value: &Bytes) -> Result<Bytes, String> {
            Ok(value.clone())
        }
        fn open(&self, _: &[u8], kept: &Bytes) -> Result<Option<Bytes>, String> {
            match self.0.load(Ordering::Relaxed) {
                0 => Err("the key is not here".into()),
                _ => Ok(Some(kept.slice(1..))),
            }
        }
        fn fetch(&self, key: &[u8], _: &Bytes) -> Option<BoxFuture<'static, Result<(), String>>> {
            let (fetched, is_gone) = (self.0.clone(), key == b"gone");
            Some(Box::pin(async move {
                tokio::task::yield_now().await;
                if is_gone {
                    return Err("nobody has it".into());
                }
                fetched.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }))
        }
        fn is_outdated(&self, _: &[u8], _: &Bytes) -> bool {
            false
        }
    }

    #[tokio::test]
    async fn a_key_that_is_elsewhere_is_fetched_once_and_what_cannot_be_fetched_says_why() {
        let seal = Remote::default();
        let mut gone = Arc::new(KeyValue::new("gone", "xabc", 2, 2, 1, 0));
        let error = open(&seal, &mut gone).await.unwrap_err();
        assert_eq!(error.to_string(), "unable to transform key \"gone\": nobody has it");
        let kv = |key: &'static str| Arc::new(KeyValue::new(key, "xabc", 2, 2, 1, 0));
        let answered = |responses| TxnResponse { revision: 2, succeeded: true, responses };
        let inner = answered(vec![OpResponse::Put { prev: Some(kv("b")) }]);
        let range = RangeResponse { kvs: vec![kv("a")], ..RangeResponse::default() };
        let mut response = answered(vec![OpResponse::Range(range), OpResponse::Txn(inner)]);
        open_txn(&seal, &mut response).await.unwrap();
        let mut kvs = Vec::new();
        collect(&mut response, &mut kvs);
        assert!(kvs.len() == 2 && kvs.iter().all(|kv| kv.value == "abc"), "{kvs:?}");
        assert_eq!(seal.0.load(Ordering::Relaxed), 1, "what was fetched serves all");
    }
}
