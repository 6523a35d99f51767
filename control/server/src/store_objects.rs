//! The stored objects for those who judge by them: authentication and admission.

use std::sync::Arc;

use carrack_api::{Resource, resources};
use carrack_store::{KeyValue, Range, Store};
use serde_json::Value;

use crate::ApiError;
use crate::authn::Objects;
use crate::object::Stored;
use crate::registry::Registry;

/// Reads objects from the store, in their stored version.
#[derive(Clone)]
pub struct StoreObjects(Registry);

impl StoreObjects {
    /// Reads from `store`.
    pub fn new(store: Store) -> Self {
        StoreObjects(Registry::new(store))
    }
}

/// The row of the stored version of a resource. An unknown one is a mistake in this server.
fn row(group: &str, plural: &str) -> Result<&'static Resource, ApiError> {
    resources()
        .iter()
        .find(|r| r.group == group && r.plural == plural && r.is_storage_version())
        .ok_or_else(|| ApiError::internal(format!("the table has no {plural} in group {group:?}")))
}

/// What creations of many other objects are judged by: few objects, which are read once for each that is stored.
const JUDGED_BY: &[(&str, &str)] = &[
    ("", "limitranges"),
    ("", "namespaces"),
    ("", "serviceaccounts"),
    ("networking.k8s.io", "ingressclasses"),
    ("node.k8s.io", "runtimeclasses"),
    ("scheduling.k8s.io", "priorityclasses"),
    ("storage.k8s.io", "storageclasses"),
];

fn object(group: &str, plural: &str, kv: &KeyValue) -> Result<Arc<Value>, ApiError> {
    if JUDGED_BY.contains(&(group, plural)) { known(kv) } else { Stored::from(kv).object().map(Arc::new) }
}

/// A stored object with its resourceVersion, read by whoever asks first and shared with all later ones. For kinds of
/// which there are few: a value takes several times the memory of its text.
pub(crate) fn known(kv: &KeyValue) -> Result<Arc<Value>, ApiError> {
    let read = || Stored::from(kv).object().map(Arc::new);
    match &*kv.decoded(|_| read().ok()) {
        Some(object) => Ok(object.clone()),
        // What is damaged stays so; the reason is told anew.
        None => read(),
    }
}

#[async_trait::async_trait]
impl Objects for StoreObjects {
    async fn get(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Value>>, ApiError> {
        let found = self.0.get(row(group, resource)?, namespace, name).await?;
        found.map(|kv| object(group, resource, &kv)).transpose()
    }

    async fn list(&self, group: &str, resource: &str, namespace: &str) -> Result<Vec<Arc<Value>>, ApiError> {
        let range = Range::prefix(row(group, resource)?.list_prefix(namespace));
        let found = self.0.range(range).await?;
        found.kvs.iter().map(|kv| object(group, resource, kv)).collect()
    }
}
