//! Keeps the policy in memory equal to the store: loads it once, then follows a watch.

use std::sync::{Arc, Weak};
use std::time::Duration;

use carrack_store::{
    EventKind, KeyValue, Range, ReadError, Revision, Store, Watch, WatchBatch, WatchError, Watcher,
};
use futures::FutureExt as _;
use tokio::sync::mpsc;

use super::policy::{GROUP, Policy, PolicyKind};
use super::rbac::{Ask, Rbac};

/// How long to wait after a failure before the policy is loaded again.
const RETRY: Duration = Duration::from_secs(1);
/// How long a watch that reads old history from disk is left to itself before it is looked at again.
const HISTORY: Duration = Duration::from_millis(10);

/// Why the policy could not be loaded or followed.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The store cannot be read.
    #[error("the access policy cannot be read: {0}")]
    Read(#[from] ReadError),
    /// The store cannot be watched (any more).
    #[error("the access policy cannot be followed: {0}")]
    Watch(#[from] WatchError),
    /// The store was closed.
    #[error("the store was closed")]
    Closed,
    /// The table of kinds lacks the kinds of the policy.
    #[error("the kind {0} is not served")]
    Kind(&'static str),
}

impl Rbac {
    /// An authorizer that follows the policy in `store`. On return it knows all that is stored. A task follows the
    /// store until the authorizer is dropped or the store is closed.
    pub async fn start(store: Store) -> Result<Arc<Self>, FeedError> {
        let (rbac, asks) = Self::new();
        let feed = Feed::open(&rbac, &store).await?;
        tokio::spawn(run(Arc::downgrade(&rbac), asks, store, feed));
        Ok(rbac)
    }
}

/// Follows the store, and begins anew after a failure, until nobody needs the policy.
async fn run(rbac: Weak<Rbac>, mut asks: mpsc::Receiver<Ask>, store: Store, mut feed: Feed) {
    loop {
        let error = match feed.follow(&rbac, &mut asks, &store).await {
            Ok(()) | Err(FeedError::Closed | FeedError::Watch(WatchError::Stopped)) => return,
            Err(error) => error,
        };
        tracing::warn!(%error, "loading the access policy anew");
        feed = loop {
            let Some(rbac) = rbac.upgrade() else { return };
            match Feed::open(&rbac, &store).await {
                Ok(feed) => break feed,
                Err(FeedError::Read(ReadError::Stopped)) => return,
                Err(error) => tracing::error!(%error, "access is judged by an outdated policy"),
            }
            tokio::time::sleep(RETRY).await;
        };
    }
}

/// One watch for each kind of the policy.
struct Feed {
    lines: [Line; 4],
}

struct Line {
    kind: PolicyKind,
    prefix: &'static str,
    watcher: Watcher,
}

impl Feed {
    /// Loads all objects as of one revision and watches from there.
    async fn open(rbac: &Rbac, store: &Store) -> Result<Self, FeedError> {
        let mut policy = Policy::default();
        let mut lines = Vec::with_capacity(PolicyKind::ALL.len());
        let mut revision = None;
        for kind in PolicyKind::ALL {
            let prefix = prefix(kind)?;
            let range = Range::prefix(prefix);
            let page = store.range(revision.map_or(range.clone(), |revision| range.at(revision))).await?;
            let since = *revision.get_or_insert(page.revision);
            for kv in &page.kvs {
                put(&mut policy, kind, kv);
            }
            let watcher = store.watch(Watch { prev_kv: false, ..Watch::prefix(prefix).since(since + 1) })?;
            lines.push(Line { kind, prefix, watcher });
        }
        rbac.replace(policy);
        let lines = lines.try_into().map_err(|_| FeedError::Closed)?;
        Ok(Self { lines })
    }

    /// Takes in changes and answers questions, until the authorizer is gone.
    async fn follow(
        &mut self,
        rbac: &Weak<Rbac>,
        asks: &mut mpsc::Receiver<Ask>,
        store: &Store,
    ) -> Result<(), FeedError> {
        loop {
            let [a, b, c, d] = &mut self.lines;
            let (which, batch) = tokio::select! {
                batch = a.watcher.next() => (0, batch),
                batch = b.watcher.next() => (1, batch),
                batch = c.watcher.next() => (2, batch),
                batch = d.watcher.next() => (3, batch),
                ask = asks.recv() => {
                    let Some(ask) = ask else { return Ok(()) };
                    self.settle(rbac, store.revision()).await?;
                    // Who asked may have given up.
                    let _ = ask.send(());
                    continue;
                }
            };
            let Some(rbac) = rbac.upgrade() else { return Ok(()) };
            self.lines[which].take(&rbac, batch)?;
        }
    }

    /// Takes in all up to `revision`.
    async fn settle(&mut self, rbac: &Weak<Rbac>, revision: Revision) -> Result<(), FeedError> {
        let Some(rbac) = rbac.upgrade() else { return Ok(()) };
        for line in &mut self.lines {
            while line.watcher.progress() < revision {
                // A look into memory, which also moves the watch's position when there is nothing for it.
                let look = tokio::task::unconstrained(line.watcher.next()).now_or_never();
                if let Some(batch) = look {
                    line.take(&rbac, batch)?;
                } else if line.watcher.progress() < revision {
                    // The watch is so far behind that it reads from disk.
                    if let Ok(batch) = tokio::time::timeout(HISTORY, line.watcher.next()).await {
                        line.take(&rbac, batch)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Line {
    fn take(&self, rbac: &Rbac, batch: Option<Result<WatchBatch, WatchError>>) -> Result<(), FeedError> {
        let batch = batch.ok_or(FeedError::Closed)??;
        for event in batch.events {
            match event.kind {
                EventKind::Put => rbac.change(|policy| put(policy, self.kind, &event.kv)),
                EventKind::Delete => {
                    let (namespace, name) = split_key(&event.kv.key, self.prefix);
                    rbac.remove(self.kind, &namespace, &name);
                }
            }
        }
        Ok(())
    }
}

fn put(policy: &mut Policy, kind: PolicyKind, kv: &KeyValue) {
    match serde_json::from_slice(&kv.value) {
        Ok(object) => policy.put(kind, &object),
        Err(error) => {
            tracing::error!(key = ?kv.key, %error, "a damaged object of the access policy grants nothing")
        }
    }
}

fn prefix(kind: PolicyKind) -> Result<&'static str, FeedError> {
    let resource = carrack_api::find(GROUP, "v1", kind.resource()).ok_or(FeedError::Kind(kind.kind()))?;
    Ok(resource.storage_prefix)
}

/// Namespace (empty for the cluster) and name of a key.
fn split_key(key: &[u8], prefix: &str) -> (String, String) {
    let key = String::from_utf8_lossy(key);
    let rest = key.strip_prefix(prefix).unwrap_or(&key);
    let (namespace, name) = rest.split_once('/').unwrap_or(("", rest));
    (namespace.to_owned(), name.to_owned())
}
