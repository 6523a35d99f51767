//! The kinds that are served now. A request takes one state of them and keeps it to its end; a watch ends when its kind
//! changes, so that nobody reads on by a schema that is gone.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use carrack_api::{Catalogue, Resource, ResourceRef};
use carrack_store::Revision;
use tokio::sync::watch;

/// Holds the present catalogue, which is replaced as a whole.
pub(crate) struct Kinds(watch::Sender<Arc<Catalogue>>, watch::Sender<Option<Revision>>);

impl Default for Kinds {
    fn default() -> Self {
        Kinds(watch::Sender::new(Arc::default()), watch::Sender::new(None))
    }
}

impl Kinds {
    /// The present catalogue.
    pub(crate) fn now(&self) -> Arc<Catalogue> {
        self.0.borrow().clone()
    }

    /// Serves these custom resources from now on, and no others; `terminating` are the storage prefixes of those that
    /// take no new objects.
    pub(crate) fn set_custom(&self, rows: Vec<Arc<Resource>>, terminating: HashSet<&'static str>) {
        let next = Catalogue::with(rows, terminating);
        self.0.send_if_modified(|now| {
            let changes = !now.is_same(&next);
            if changes {
                *now = Arc::new(next);
            }
            changes
        });
    }

    /// Tells of changes of the catalogue.
    pub(crate) fn changes(&self) -> watch::Receiver<Arc<Catalogue>> {
        self.0.subscribe()
    }

    /// Says that all definitions up to `revision` are served.
    pub(crate) fn set_synced(&self, revision: Revision) {
        self.1.send_replace(Some(revision));
    }

    /// Waits until the definitions up to `revision` are served, at most for `limit`; not at all where nobody has begun to
    /// serve any.
    pub(crate) async fn synced(&self, revision: Revision, limit: Duration) {
        let mut synced = self.1.subscribe();
        if synced.borrow().is_none() {
            return;
        }
        // In vain or not: who asked looks for himself.
        let _ = tokio::time::timeout(limit, synced.wait_for(|now| *now >= Some(revision))).await;
    }

    /// Tells of the end of a row: built-in ones have none.
    pub(crate) fn end_of(&self, row: &ResourceRef) -> End {
        End { row: row.clone(), changes: self.0.subscribe() }
    }
}

/// The end of a row that was taken from a catalogue.
pub(crate) struct End {
    row: ResourceRef,
    changes: watch::Receiver<Arc<Catalogue>>,
}

impl End {
    /// Comes back when the row is no longer served as it was.
    pub(crate) async fn reached(&mut self) {
        if matches!(self.row, ResourceRef::Builtin(_)) {
            return std::future::pending().await;
        }
        // An error means that the server has ended, which watches learn by other means.
        if self.changes.wait_for(|now| !now.still_has(&self.row)).await.is_err() {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use carrack_api::{custom, discovery};
    use futures::FutureExt;
    use serde_json::json;

    fn crontabs() -> Vec<Arc<Resource>> {
        let definition = json!({
            "metadata": {"name": "crontabs.stable.example.com"},
            "spec": {
                "group": "stable.example.com",
                "scope": "Namespaced",
                "names": {"plural": "crontabs", "kind": "CronTab", "listKind": "CronTabList", "shortNames": ["ct"]},
                "versions": [{
                    "name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}},
                }],
            },
        });
        custom::rows(&definition).unwrap().into_iter().map(Arc::new).collect()
    }

    #[test]
    fn custom_resources_come_and_go() {
        let kinds = Kinds::default();
        let before = kinds.now();
        let rows = crontabs();
        kinds.set_custom(rows.clone(), HashSet::new());
        let now = kinds.now();
        let row = now.find("stable.example.com", "v1", "crontabs").unwrap();
        assert_eq!(row.key("default", "a"), "/registry/stable.example.com/crontabs/default/a");
        let listed = discovery::api_resource_list(&now, "stable.example.com", "v1").unwrap();
        assert_eq!(listed["resources"][0]["shortNames"][0], "ct");
        assert!(now.find("", "v1", "pods").is_some());
        let mut end = kinds.end_of(&row);
        assert!(end.reached().now_or_never().is_none());
        kinds.set_custom(rows.clone(), HashSet::from([row.storage_prefix]));
        assert!(kinds.now().is_terminating(&row));
        assert!(end.reached().now_or_never().is_none());
        // Who took the state before sees it to the end.
        assert!(before.find("stable.example.com", "v1", "crontabs").is_none());
        kinds.set_custom(Vec::new(), HashSet::new());
        assert!(end.reached().now_or_never().is_some());
        assert!(kinds.now().find("stable.example.com", "v1", "crontabs").is_none());
    }
}
