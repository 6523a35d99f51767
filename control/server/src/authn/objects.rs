//! Reads stored objects: what authentication and admission judge by.

use std::sync::Arc;

use serde_json::Value;

use crate::ApiError;

/// Access to the objects as they are now. Answers from the store's memory; a failure is the server's.
#[async_trait::async_trait]
pub trait Objects: Send + Sync {
    /// The object, or `None`. `group` is empty for the core group, `namespace` for cluster-scoped resources.
    async fn get(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Value>>, ApiError>;

    /// All objects of a resource, in all namespaces when `namespace` is empty.
    async fn list(&self, group: &str, resource: &str, namespace: &str) -> Result<Vec<Arc<Value>>, ApiError>;
}

/// A string inside an object, by JSON pointer; empty when it is not there.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
