//! The objects of one kind as a watch last showed them, with indexes, and how far the watch has come.
//!
//! Revisions of the store behind the API are one total order, so that "has this cache seen my write?" is a
//! comparison: [`Store::caught_up`] waits until the cache has shown a revision at least as new as the write,
//! or until a list that began after the write has been taken over whole. That is what keeps a controller from
//! acting twice on what it did not see yet.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::runtime::watcher::Event;
use parking_lot::RwLock;
use thiserror::Error;
use tokio::sync::watch;

use crate::Key;

/// Calls its second argument with each index value under which an object shall be found.
pub type Indexer<K> = fn(&K, &mut dyn FnMut(&str));

/// One object that came, changed or went.
#[derive(Debug, Clone)]
pub struct Change<K> {
    /// The object before, `None` when it is new.
    pub old: Option<Arc<K>>,
    /// The object now, `None` when it is gone.
    pub new: Option<Arc<K>>,
}

impl<K> Change<K> {
    /// The object now or, when it is gone, as it last was.
    #[must_use]
    pub fn latest(&self) -> Option<&Arc<K>> {
        self.new.as_ref().or(self.old.as_ref())
    }
}

/// How far a cache has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// The newest revision of which everything older has been seen too.
    pub revision: u64,
    /// Lists begun so far.
    pub lists_begun: u64,
    /// The number of the last list that was taken over whole; 0 before the first.
    pub lists_done: u64,
}

/// Why waiting for a cache ended without what was waited for.
#[derive(Debug, Error)]
pub enum WaitError {
    /// The watch did not deliver in time; it is behind or its connection is broken.
    #[error("the cache has not reached revision {wanted} within {limit:?} (it is at {at})")]
    Late {
        /// The revision waited for.
        wanted: u64,
        /// The revision reached.
        at: u64,
        /// How long was waited.
        limit: Duration,
    },
}

/// Waiting for any kind of cache.
pub trait Synced: Send + Sync {
    /// How far the cache is now, and a handle that is told of each step.
    fn progress(&self) -> watch::Receiver<Progress>;
}

struct Inner<K> {
    objects: HashMap<Key, Arc<K>>,
    namespaces: HashMap<String, HashSet<Key>>,
    indexes: Vec<HashMap<String, HashSet<Key>>>,
    /// Keys shown by the list that is under way.
    listed: Option<HashSet<Key>>,
    /// Newest revision among the objects of the list that is under way.
    listed_revision: u64,
}

/// The cache of one kind. Readers share it; one [`crate::Informer`] writes it.
pub struct Store<K> {
    inner: RwLock<Inner<K>>,
    indexers: Vec<Indexer<K>>,
    progress: watch::Sender<Progress>,
}

impl<K> Store<K>
where
    K: Resource<DynamicType = ()> + Send + Sync + 'static,
{
    /// An empty store that indexes objects by each of `indexers` (named by their position).
    #[must_use]
    pub fn new(indexers: Vec<Indexer<K>>) -> Self {
        let inner = Inner {
            objects: HashMap::new(),
            namespaces: HashMap::new(),
            indexes: indexers.iter().map(|_| HashMap::new()).collect(),
            listed: None,
            listed_revision: 0,
        };
        Self { inner: RwLock::new(inner), indexers, progress: watch::Sender::new(Progress::default()) }
    }

    /// The object under `key`.
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.inner.read().objects.get(key).cloned()
    }

    /// Every object, in no order.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.inner.read().objects.values().cloned().collect()
    }

    /// The number of objects.
    pub fn len(&self) -> usize {
        self.inner.read().objects.len()
    }

    /// Whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The objects of a namespace, in no order.
    pub fn namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let inner = self.inner.read();
        inner.resolve(inner.namespaces.get(namespace))
    }

    /// The objects that indexer number `index` filed under `value`, in no order.
    pub fn indexed(&self, index: usize, value: &str) -> Vec<Arc<K>> {
        let inner = self.inner.read();
        inner.resolve(inner.indexes.get(index).and_then(|values| values.get(value)))
    }

    /// Takes over what a watch reported and says what changed by it.
    pub fn apply(&self, event: Event<K>) -> Vec<Change<K>> {
        match event {
            Event::Init => self.begin_list(),
            Event::InitApply(object) => self.list_item(object),
            Event::InitDone => self.end_list(),
            Event::Apply(object) => {
                let revision = revision_of(object.meta());
                let change = self.inner.write().put(object, &self.indexers);
                self.advance(revision);
                change.into_iter().collect()
            }
            Event::Delete(object) => {
                let revision = revision_of(object.meta());
                let change = self.inner.write().delete(object, &self.indexers);
                self.advance(revision);
                change.into_iter().collect()
            }
        }
    }

    /// Whether the first list is complete.
    pub fn is_synced(&self) -> bool {
        self.progress.borrow().lists_done > 0
    }

    /// Waits until the first list is complete.
    pub async fn synced(&self) {
        let mut progress = self.progress.subscribe();
        // The sender lives in `self`, so that waiting cannot fail.
        let _ = progress.wait_for(|p| p.lists_done > 0).await;
    }

    /// Waits until this cache has seen `revision`, of a write made when `lists` lists had begun.
    ///
    /// # Errors
    /// [`WaitError::Late`] after `limit`.
    pub async fn caught_up(&self, revision: u64, lists: u64, limit: Duration) -> Result<(), WaitError> {
        let mut progress = self.progress.subscribe();
        let seen = |p: &Progress| p.revision >= revision || p.lists_done > lists;
        match tokio::time::timeout(limit, progress.wait_for(seen)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(WaitError::Late { wanted: revision, at: self.progress.borrow().revision, limit }),
        }
    }

    fn begin_list(&self) -> Vec<Change<K>> {
        {
            let mut inner = self.inner.write();
            inner.listed = Some(HashSet::new());
            inner.listed_revision = 0;
        }
        self.progress.send_modify(|p| p.lists_begun += 1);
        Vec::new()
    }

    fn list_item(&self, object: K) -> Vec<Change<K>> {
        let mut inner = self.inner.write();
        // The revision of a list counts only once the list is whole: its pages come in the order of names.
        inner.listed_revision = inner.listed_revision.max(revision_of(object.meta()));
        let key = Key::of(object.meta());
        if let Some(listed) = &mut inner.listed {
            listed.insert(key);
        }
        inner.put(object, &self.indexers).into_iter().collect()
    }

    fn end_list(&self) -> Vec<Change<K>> {
        let (gone, revision) = {
            let mut inner = self.inner.write();
            let listed = inner.listed.take().unwrap_or_default();
            let missing: Vec<Key> = inner.objects.keys().filter(|k| !listed.contains(*k)).cloned().collect();
            let gone: Vec<_> = missing.iter().filter_map(|key| inner.remove(key, &self.indexers)).collect();
            (gone, inner.listed_revision)
        };
        self.progress.send_modify(|p| {
            p.revision = p.revision.max(revision);
            p.lists_done = p.lists_begun;
        });
        gone.into_iter().map(|old| Change { old: Some(old), new: None }).collect()
    }

    fn advance(&self, revision: u64) {
        self.progress.send_modify(|p| p.revision = p.revision.max(revision));
    }
}

impl<K: Send + Sync> Synced for Store<K> {
    fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }
}

impl<K: Resource<DynamicType = ()>> Inner<K> {
    fn resolve(&self, keys: Option<&HashSet<Key>>) -> Vec<Arc<K>> {
        keys.into_iter().flatten().filter_map(|key| self.objects.get(key).cloned()).collect()
    }

    fn put(&mut self, object: K, indexers: &[Indexer<K>]) -> Option<Change<K>> {
        let key = Key::of(object.meta());
        if let Some(current) = self.objects.get(&key) {
            let (have, got) = (revision_of(current.meta()), revision_of(object.meta()));
            if got != 0 && got <= have {
                return None;
            }
        }
        let old = self.remove(&key, indexers);
        let new = Arc::new(object);
        self.namespaces.entry(key.namespace.clone()).or_default().insert(key.clone());
        for (index, indexer) in self.indexes.iter_mut().zip(indexers) {
            indexer(&new, &mut |value| {
                index.entry(value.to_owned()).or_default().insert(key.clone());
            });
        }
        self.objects.insert(key, Arc::clone(&new));
        Some(Change { old, new: Some(new) })
    }

    /// Removes what the watch says is deleted, unless a newer object of that name is here already.
    fn delete(&mut self, object: K, indexers: &[Indexer<K>]) -> Option<Change<K>> {
        let key = Key::of(object.meta());
        let current = self.objects.get(&key)?;
        let (have, got) = (revision_of(current.meta()), revision_of(object.meta()));
        if got != 0 && got < have {
            return None;
        }
        self.remove(&key, indexers);
        // The last state is what the event carries: it may be newer than what was seen here.
        Some(Change { old: Some(Arc::new(object)), new: None })
    }

    fn remove(&mut self, key: &Key, indexers: &[Indexer<K>]) -> Option<Arc<K>> {
        let old = self.objects.remove(key)?;
        drop_key(&mut self.namespaces, &key.namespace, key);
        for (index, indexer) in self.indexes.iter_mut().zip(indexers) {
            indexer(&old, &mut |value| drop_key(index, value, key));
        }
        Some(old)
    }
}

fn drop_key(index: &mut HashMap<String, HashSet<Key>>, value: &str, key: &Key) {
    if let Some(keys) = index.get_mut(value) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(value);
        }
    }
}

/// The revision in `meta`, 0 when there is none or when it is not a number.
#[must_use]
pub fn revision_of(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
