//! What authorizers judge by, kept in memory and equal to the store; see [`super::feed`].

use std::sync::Arc;
use std::time::Duration;

use carrack_api::codec::Parts;
use parking_lot::{RwLock, RwLockReadGuard};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

/// How long a refusal may wait for the index. The watch behind it takes well under a millisecond; if it takes
/// seconds, the store is in trouble, and a refusal that comes late helps nobody.
const CATCH_UP: Duration = Duration::from_secs(5);

/// Refusals that may wait at a time; one more waits for a place.
const WAITING: usize = 256;

/// A question to whoever feeds the index: answer when all that was stored before it came is taken in.
pub type Ask = oneshot::Sender<()>;

/// An index of stored objects.
pub(crate) trait Index: Default + Send + Sync + 'static {
    /// What it holds, for messages.
    const WHAT: &'static str = "the access policy";
    /// Group and plural name of what it is made of.
    const RESOURCES: &'static [(&'static str, &'static str)];

    /// What [`Index::put`] looks at of an object of the resource at that place of [`Index::RESOURCES`]; `None` for all.
    fn parts(_resource: usize) -> Option<&'static Parts> {
        None
    }

    /// Takes in an object of the resource at that place of [`Index::RESOURCES`], or the parts of it.
    fn put(&mut self, resource: usize, namespace: &str, name: &str, object: &Value);

    /// Forgets one.
    fn remove(&mut self, resource: usize, namespace: &str, name: &str);
}

/// An index that somebody feeds.
pub(crate) struct Indexed<I> {
    index: RwLock<I>,
    asks: mpsc::Sender<Ask>,
}

impl<I: Index> Indexed<I> {
    /// An index that knows nothing yet, and the questions that its feeder has to answer.
    pub(crate) fn new() -> (Arc<Self>, mpsc::Receiver<Ask>) {
        let (asks, questions) = mpsc::channel(WAITING);
        (Arc::new(Self { index: RwLock::default(), asks }), questions)
    }

    /// The index as it is.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, I> {
        self.index.read()
    }

    /// Changes the index; no request is judged meanwhile.
    pub(crate) fn change(&self, change: impl FnOnce(&mut I)) {
        change(&mut self.index.write());
    }

    /// Waits until all that is stored now is in the index.
    pub(crate) async fn catch_up(&self) {
        let (ask, answered) = oneshot::channel();
        let caught_up = async { self.asks.send(ask).await.is_ok() && answered.await.is_ok() };
        // Without a feeder the index stays what it is, and with a slow one it is as good as it gets.
        if tokio::time::timeout(CATCH_UP, caught_up).await != Ok(true) {
            tracing::warn!("an index of access could not be brought up to date before a refusal");
        }
    }
}
