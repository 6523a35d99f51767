//! The APIServices in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::remote::Remote;
use crate::authz::index::Index;

/// The APIServices that other servers answer for, by their names.
#[derive(Default)]
pub(crate) struct Services(BTreeMap<String, Arc<Remote>>);

impl Services {
    pub(super) fn remote(&self, group: &str, version: &str) -> Option<Arc<Remote>> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&format!("{version}.{group}")).cloned()
    }

    pub(super) fn remotes(&self) -> Vec<Arc<Remote>> {
        self.0.values().cloned().collect()
    }
}

impl Index for Services {
    const WHAT: &'static str = "APIServices";
    const RESOURCES: &'static [(&'static str, &'static str)] = &[("apiregistration.k8s.io", "apiservices")];

    fn put(&mut self, _: usize, _: &str, name: &str, object: &Value) {
        match Remote::read(name, object) {
            Some(remote) => self.0.insert(name.to_owned(), Arc::new(remote)),
            None => self.0.remove(name),
        };
    }

    fn remove(&mut self, _: usize, _: &str, name: &str) {
        self.0.remove(name);
    }
}
