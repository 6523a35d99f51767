//! Objects and changes of the store, as readers and watchers of a row see them.

use std::sync::Arc;

use bytes::Bytes;
use carrack_api::Resource;
use carrack_api::select::View;
use carrack_store::{Event, EventKind, KeyValue, Revision};

use super::slot::Ready;
use crate::object::{Stored, view};

/// An object in the store as readers of a row see it.
#[derive(Clone)]
pub(crate) struct Found {
    pub(super) kv: Arc<KeyValue>,
    /// Its form; `None` for built-in kinds, whose stored bytes tell.
    pub(super) ready: Option<Arc<Ready>>,
}

impl Found {
    /// The canonical bytes, without resourceVersion.
    pub(crate) fn value(&self) -> &Bytes {
        self.ready.as_ref().map_or(&self.kv.value, |ready| &ready.value)
    }

    /// The revision of the last change.
    pub(crate) fn revision(&self) -> Revision {
        self.kv.mod_revision
    }

    /// The key in the store.
    pub(crate) fn key(&self) -> &Bytes {
        &self.kv.key
    }

    /// The same with its revision, for whoever makes a value of it.
    pub(crate) fn stored(&self) -> Stored {
        Stored { value: self.value().clone(), revision: self.revision() }
    }

    /// What selectors of the row look at.
    pub(crate) fn view(&self, row: &Resource) -> Arc<View> {
        self.ready.as_ref().map_or_else(|| view(row, &self.kv), |ready| ready.view(row))
    }
}

/// A change as a watcher of a row sees it.
pub(crate) struct Change {
    pub(crate) event: Event,
    /// The object behind the change; `None` when it is gone.
    pub(crate) now: Option<Found>,
    /// The object before it, as far as it is known and somebody looks at it.
    pub(crate) before: Option<Found>,
}

impl Change {
    /// A change of a built-in kind, which needs nobody to be asked. Those who watch `everything` see what was there before
    /// only at its end.
    pub(crate) fn of_built_in(event: Event, everything: bool) -> Change {
        let found = |kv: &Arc<KeyValue>| Found { kv: kv.clone(), ready: None };
        let gone = event.kind == EventKind::Delete;
        let now = (!gone).then(|| found(&event.kv));
        let before = event.prev.as_ref().filter(|_| gone || !everything).map(found);
        Change { event, now, before }
    }
}
