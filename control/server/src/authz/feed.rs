//! Keeps an index in memory equal to the store: loads it once, then follows watches.

use std::marker::PhantomData;
use std::sync::{Arc, Weak};
use std::time::Duration;

use carrack_api::codec;
use carrack_store::{
    EventKind, KeyValue, Range, ReadError, Revision, Store, Watch, WatchBatch, WatchError, Watcher,
};
use futures::FutureExt as _;
use tokio::sync::mpsc;

use super::index::{Ask, Index, Indexed};

/// How long to wait after a failure before the policy is loaded again.
const RETRY: Duration = Duration::from_secs(1);
/// How long a watch that reads old history from disk is left to itself before it is looked at again.
const HISTORY: Duration = Duration::from_millis(10);

/// Why the policy could not be loaded or followed.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The store cannot be read.
    #[error("what requests are judged by cannot be read: {0}")]
    Read(#[from] ReadError),
    /// The store cannot be watched (any more).
    #[error("what requests are judged by cannot be followed: {0}")]
    Watch(#[from] WatchError),
    /// The store was closed.
    #[error("the store was closed")]
    Closed,
}

/// An index that follows `store`. On return it knows all that is stored. A task follows the store until the index is
/// dropped or the store is closed.
pub(crate) async fn start<I: Index>(store: Store) -> Result<Arc<Indexed<I>>, FeedError> {
    let (index, asks) = Indexed::new();
    let feed = Feed::open(&index, &store).await?;
    tokio::spawn(run(Arc::downgrade(&index), asks, store, feed));
    Ok(index)
}

/// Follows the store, and begins anew after a failure, until nobody needs the index.
async fn run<I: Index>(
    index: Weak<Indexed<I>>,
    mut asks: mpsc::Receiver<Ask>,
    store: Store,
    mut feed: Feed<I>,
) {
    loop {
        let error = match feed.follow(&index, &mut asks, &store).await {
            Ok(()) | Err(FeedError::Closed | FeedError::Watch(WatchError::Stopped)) => return,
            Err(error) => error,
        };
        tracing::warn!(%error, "loading {} anew", I::WHAT);
        feed = loop {
            let Some(index) = index.upgrade() else { return };
            match Feed::open(&index, &store).await {
                Ok(feed) => break feed,
                Err(FeedError::Read(ReadError::Stopped)) => return,
                Err(error) => tracing::error!(%error, "requests are judged by {} as it was", I::WHAT),
            }
            tokio::time::sleep(RETRY).await;
        };
    }
}

/// One watch for each resource of the index.
struct Feed<I> {
    lines: Vec<Line>,
    index: PhantomData<fn(I)>,
}

struct Line {
    resource: usize,
    prefix: &'static str,
    watcher: Watcher,
}

/// What a watch says next: the place of its line, and the changes.
type News = (usize, Option<Result<WatchBatch, WatchError>>);

impl<I: Index> Feed<I> {
    /// Loads all objects as of one revision and watches from there.
    async fn open(indexed: &Indexed<I>, store: &Store) -> Result<Self, FeedError> {
        let mut index = I::default();
        let mut lines = Vec::with_capacity(I::RESOURCES.len());
        let mut revision = None;
        for (resource, (group, plural)) in I::RESOURCES.iter().enumerate() {
            // What is not served has no objects.
            let Some(prefix) = prefix(group, plural) else { continue };
            let range = Range::prefix(prefix);
            let page = store.range(revision.map_or(range.clone(), |revision| range.at(revision))).await?;
            let since = *revision.get_or_insert(page.revision);
            for kv in &page.kvs {
                put(&mut index, resource, prefix, kv);
            }
            let watcher = store.watch(Watch { prev_kv: false, ..Watch::prefix(prefix).since(since + 1) })?;
            lines.push(Line { resource, prefix, watcher });
        }
        indexed.change(|old| *old = index);
        Ok(Self { lines, index: PhantomData })
    }

    /// Takes in changes and answers questions, until the index is not needed.
    async fn follow(
        &mut self,
        indexed: &Weak<Indexed<I>>,
        asks: &mut mpsc::Receiver<Ask>,
        store: &Store,
    ) -> Result<(), FeedError> {
        loop {
            let (which, batch) = tokio::select! {
                news = self.next() => news,
                ask = asks.recv() => {
                    let Some(ask) = ask else { return Ok(()) };
                    let more = std::iter::from_fn(|| asks.try_recv().ok());
                    let all: Vec<Ask> = std::iter::once(ask).chain(more).collect();
                    // What another server acknowledged counts here too. Without a leader nobody acknowledges anything.
                    if let Err(error) = store.ready().await {
                        tracing::debug!(%error, "{} may be older than elsewhere", I::WHAT);
                    }
                    self.settle(indexed, store.revision()).await?;
                    for ask in all {
                        // Who asked may have given up.
                        let _ = ask.send(());
                    }
                    continue;
                }
            };
            let Some(indexed) = indexed.upgrade() else { return Ok(()) };
            self.lines[which].take(&indexed, batch)?;
        }
    }

    /// The next news of any watch. Nothing is lost when it is dropped.
    async fn next(&mut self) -> News {
        let news = self.lines.iter_mut().enumerate();
        let next = news.map(|(which, line)| Box::pin(async move { (which, line.watcher.next().await) }));
        futures::future::select_all(next).await.0
    }

    /// Takes in all up to `revision`.
    async fn settle(&mut self, indexed: &Weak<Indexed<I>>, revision: Revision) -> Result<(), FeedError> {
        let Some(indexed) = indexed.upgrade() else { return Ok(()) };
        for line in &mut self.lines {
            while line.watcher.progress() < revision {
                // A look into memory, which also moves the watch's position when there is nothing for it.
                let look = tokio::task::unconstrained(line.watcher.next()).now_or_never();
                if let Some(batch) = look {
                    line.take(&indexed, batch)?;
                } else if line.watcher.progress() < revision {
                    // The watch is so far behind that it reads from disk.
                    if let Ok(batch) = tokio::time::timeout(HISTORY, line.watcher.next()).await {
                        line.take(&indexed, batch)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Line {
    fn take<I: Index>(
        &self,
        indexed: &Indexed<I>,
        batch: Option<Result<WatchBatch, WatchError>>,
    ) -> Result<(), FeedError> {
        let batch = batch.ok_or(FeedError::Closed)??;
        for event in batch.events {
            match event.kind {
                EventKind::Put => {
                    indexed.change(|index| put(index, self.resource, self.prefix, &event.kv));
                }
                EventKind::Delete => {
                    let (namespace, name) = split_key(&event.kv.key, self.prefix);
                    indexed.change(|index| index.remove(self.resource, &namespace, &name));
                }
            }
        }
        Ok(())
    }
}

fn put<I: Index>(index: &mut I, resource: usize, prefix: &str, kv: &KeyValue) {
    let (namespace, name) = split_key(&kv.key, prefix);
    let read = match I::parts(resource) {
        Some(parts) => parts.read(&kv.value),
        None => codec::read_lean(&kv.value).map(|lean| lean.object),
    };
    match read {
        Ok(object) => index.put(resource, &namespace, &name, &object),
        Err(error) => {
            tracing::error!(key = ?kv.key, %error, "a damaged object grants nothing");
        }
    }
}

/// Where the objects of a resource are in the store.
fn prefix(group: &str, plural: &str) -> Option<&'static str> {
    let mut rows = carrack_api::resources().iter();
    let row = rows.find(|row| row.group == group && row.plural == plural && row.is_storage_version());
    row.map(|row| row.storage_prefix)
}

/// Namespace (empty for the cluster) and name of a key.
fn split_key(key: &[u8], prefix: &str) -> (String, String) {
    let key = String::from_utf8_lossy(key);
    let rest = key.strip_prefix(prefix).unwrap_or(&key);
    let (namespace, name) = rest.split_once('/').unwrap_or(("", rest));
    (namespace.to_owned(), name.to_owned())
}
