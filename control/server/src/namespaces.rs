//! The rules that tie objects to their namespace: it has to exist, and takes nothing new while it goes away.

use carrack_api::status::Cause;
use carrack_api::{Resource, Scope, find, meta, status};
use carrack_store::Compare;

use crate::ApiError;
use crate::registry::Registry;
use crate::store_objects::known;

/// What a creation in `namespace` assumes: that the namespace is as it is now. 404 when there is none, 403 when
/// it is being deleted. Nothing for cluster-scoped resources.
pub(crate) async fn guard(
    registry: &Registry,
    resource: &Resource,
    namespace: &str,
    name: &str,
) -> Result<Option<Compare>, ApiError> {
    if resource.scope == Scope::Cluster {
        return Ok(None);
    }
    let table = find("", "v1", "namespaces").ok_or_else(|| ApiError::internal("no kind Namespace"))?;
    let key = table.key("", namespace);
    let Some(kv) = registry.get_key(key.clone()).await? else {
        return Err(status::not_found(table, namespace).into());
    };
    let namespace_now = known(&kv)?;
    if meta::is_deleting(&namespace_now) {
        let why =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        let cause = Cause {
            reason: "NamespaceTerminating".to_owned(),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".to_owned(),
        };
        return Err(ApiError::from(status::forbidden_because(resource, name, &why)).with_cause(cause));
    }
    Ok(Some(Compare::mod_revision(key, kv.mod_revision)))
}
