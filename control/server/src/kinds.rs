//! The kinds that are served now. A request takes one state of them and keeps it to its end.

use std::sync::Arc;

use carrack_api::{Catalogue, Resource};
use parking_lot::RwLock;

/// Holds the present catalogue, which is replaced as a whole.
#[derive(Default)]
pub(crate) struct Kinds(RwLock<Arc<Catalogue>>);

impl Kinds {
    /// The present catalogue.
    pub(crate) fn now(&self) -> Arc<Catalogue> {
        self.0.read().clone()
    }

    /// Serves these custom resources from now on, and no others.
    pub(crate) fn set_custom(&self, rows: Vec<Arc<Resource>>) {
        *self.0.write() = Arc::new(Catalogue::with(rows));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use carrack_api::{custom, discovery};
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
        kinds.set_custom(crontabs());
        let now = kinds.now();
        let row = now.find("stable.example.com", "v1", "crontabs").unwrap();
        assert_eq!(row.key("default", "a"), "/registry/stable.example.com/crontabs/default/a");
        let listed = discovery::api_resource_list(&now, "stable.example.com", "v1").unwrap();
        assert_eq!(listed["resources"][0]["shortNames"][0], "ct");
        assert!(now.find("", "v1", "pods").is_some());
        // Who took the state before sees it to the end.
        assert!(before.find("stable.example.com", "v1", "crontabs").is_none());
        kinds.set_custom(Vec::new());
        assert!(kinds.now().find("stable.example.com", "v1", "crontabs").is_none());
    }
}
