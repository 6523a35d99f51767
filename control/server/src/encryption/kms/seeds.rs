//! Seeds in plain, as the plugin decrypted them, in memory alone: one question for each, however many wait for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::envelope::DataKey;

/// How long a seed is kept; upstream's figure.
const KEEP: Duration = Duration::from_secs(24 * 3600);
/// Most seeds in memory. There is one for each start of a server and each key of the plugin.
const MOST: usize = 4096;
/// Most questions at once; what more is asked for fails at once.
const AT_ONCE: usize = 64;

type CacheKey = [u8; 32];
type Asked = Shared<BoxFuture<'static, Result<(), String>>>;

/// What is known, and what is being asked for.
#[derive(Default)]
pub(super) struct Seeds(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    known: HashMap<CacheKey, (Arc<DataKey>, Instant)>,
    asked: HashMap<CacheKey, Asked>,
}

impl Seeds {
    pub(super) fn known(&self, key: &CacheKey) -> Option<Arc<DataKey>> {
        let inner = self.0.lock();
        let (seed, since) = inner.known.get(key)?;
        (since.elapsed() < KEEP).then(|| seed.clone())
    }

    pub(super) fn put(&self, key: CacheKey, seed: Arc<DataKey>) {
        let mut inner = self.0.lock();
        inner.known.retain(|_, (_, since)| since.elapsed() < KEEP);
        if inner.known.len() >= MOST {
            let oldest = inner.known.iter().min_by_key(|(_, (_, since))| *since).map(|(key, _)| *key);
            oldest.and_then(|oldest| inner.known.remove(&oldest));
        }
        inner.known.insert(key, (seed, Instant::now()));
    }

    /// Waits for the answer to a question that is under way, or asks: in a task of its own, so that it comes to an end
    /// (and serves others) if this waiter goes away. Needs a runtime.
    pub(super) fn fetch(
        self: &Arc<Self>,
        key: CacheKey,
        ask: impl Future<Output = Result<DataKey, String>> + Send + 'static,
    ) -> BoxFuture<'static, Result<(), String>> {
        let mut inner = self.0.lock();
        if let Some(asked) = inner.asked.get(&key) {
            return asked.clone().boxed();
        }
        if inner.asked.len() >= AT_ONCE {
            let why = format!("{AT_ONCE} keys are being decrypted by the KMS plugin already: try again");
            return std::future::ready(Err(why)).boxed();
        }
        let seeds = Arc::clone(self);
        let task = tokio::spawn(async move {
            let answer = ask.await.map(|seed| seeds.put(key, Arc::new(seed)));
            seeds.0.lock().asked.remove(&key);
            answer
        });
        let asked = task.map(|ended| ended.unwrap_or_else(|error| Err(error.to_string()))).boxed().shared();
        inner.asked.insert(key, asked.clone());
        asked.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn seed() -> DataKey {
        DataKey::generate().unwrap().0
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_is_asked_once_and_its_answer_lasts_for_a_day() {
        let (seeds, count) = (Arc::new(Seeds::default()), Arc::new(AtomicUsize::new(0)));
        let fetch = || {
            let count = count.clone();
            seeds.fetch([1; 32], async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                count.fetch_add(1, Ordering::Relaxed);
                Ok(seed())
            })
        };
        drop(fetch());
        let all = futures::future::join_all((0..20).map(|_| fetch())).await;
        assert!(all.iter().all(Result::is_ok));
        assert_eq!(count.load(Ordering::Relaxed), 1);
        assert!(seeds.known(&[1; 32]).is_some() && seeds.known(&[2; 32]).is_none());
        tokio::time::advance(KEEP).await;
        assert!(seeds.known(&[1; 32]).is_none());
    }

    #[tokio::test]
    async fn a_failure_is_told_to_all_and_not_kept() {
        let seeds = Arc::new(Seeds::default());
        let failing = || seeds.fetch([1; 32], async { Err("away".to_owned()) });
        let (one, two) = tokio::join!(failing(), failing());
        assert_eq!((one, two), (Err("away".to_owned()), Err("away".to_owned())));
        seeds.fetch([1; 32], async { Ok(seed()) }).await.unwrap();
        assert!(seeds.known(&[1; 32]).is_some());
    }

    #[tokio::test]
    async fn questions_and_seeds_are_bounded() {
        let seeds = Arc::new(Seeds::default());
        let key = |n: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_be_bytes());
            key
        };
        for n in 0..AT_ONCE {
            drop(seeds.fetch(key(n), std::future::pending()));
        }
        let refused = seeds.fetch(key(AT_ONCE), std::future::pending()).await.unwrap_err();
        assert!(refused.contains("try again"), "{refused}");
        let shared = Arc::new(seed());
        (0..=MOST).for_each(|n| seeds.put(key(n), shared.clone()));
        assert!(seeds.known(&key(MOST)).is_some());
        assert_eq!(seeds.0.lock().known.len(), MOST);
    }
}
