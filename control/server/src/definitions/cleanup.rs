//! The end of a definition: its objects are deleted first, as their own finalizers allow, then its finalizer goes.
//! Upstream: the finalizing controller.

use std::collections::BTreeSet;
use std::sync::Arc;

use carrack_api::custom::{FINALIZER, set_condition};
use carrack_api::{Resource, Scope, meta};
use carrack_store::Range;
use http::Method;
use jiff::Timestamp;
use serde_json::Value;

use super::COLLECTION;
use super::todo::store_status;
use crate::ApiError;
use crate::server::ApiServer;

const IN_PROGRESS: &str = "InstanceDeletionInProgress";

/// One step towards the end of a definition that is being deleted; true when nothing is left to do here.
pub(super) async fn step(
    server: &ApiServer,
    name: &str,
    definition: &Value,
    rows: &[Arc<Resource>],
) -> Result<bool, ApiError> {
    if !meta::finalizers(definition).any(|f| f == FINALIZER) {
        return Ok(true);
    }
    // In the version that is stored no webhook is needed, which may be gone by now.
    let is_stored = |row: &&Arc<Resource>| {
        row.custom().is_some_and(|custom| custom.storage().api_version == row.api_version)
    };
    let Some(row) = rows.iter().find(is_stored).or(rows.first()) else {
        return Ok(release(server, name, definition).await);
    };
    let namespaces = occupied(server, row).await?;
    if namespaces.is_empty() {
        return Ok(release(server, name, definition).await);
    }
    if !says_in_progress(definition) {
        let mut new = definition.clone();
        let message = "CustomResource deletion is in progress";
        set_condition(&mut new, "Terminating", "True", IN_PROGRESS, message, Timestamp::now());
        store_status(server, name, &new).await;
    }
    for namespace in namespaces {
        let root = row.root_path();
        let path = match row.scope {
            Scope::Namespaced => format!("{root}/namespaces/{namespace}/{}", row.plural),
            Scope::Cluster => format!("{root}/{}", row.plural),
        };
        let (code, answer) = server.request(Method::DELETE, &path, None).await;
        if code >= 400 {
            tracing::warn!(definition = name, message = %answer["message"], "cannot delete objects of a definition");
        }
    }
    Ok(false)
}

fn says_in_progress(definition: &Value) -> bool {
    let conditions = definition["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| c["type"] == "Terminating" && c["reason"] == IN_PROGRESS)
}

/// The namespaces in which objects are left; one empty name for those of the cluster.
async fn occupied(server: &ApiServer, row: &Resource) -> Result<BTreeSet<String>, ApiError> {
    let found = server.inner.registry.range(Range::prefix(row.list_prefix(""))).await?;
    let namespace = |key: &[u8]| {
        let key = String::from_utf8_lossy(key);
        let path = key.trim_start_matches(row.storage_prefix);
        match row.scope {
            Scope::Namespaced => path.split('/').next().unwrap_or_default().to_owned(),
            Scope::Cluster => String::new(),
        }
    };
    Ok(found.kvs.iter().map(|kv| namespace(&kv.key)).collect())
}

/// Takes the finalizer away; the definition goes with it, unless others hold it.
async fn release(server: &ApiServer, name: &str, definition: &Value) -> bool {
    let mut new = definition.clone();
    let left: Vec<Value> = meta::finalizers(&new).filter(|f| *f != FINALIZER).map(Into::into).collect();
    meta::set(&mut new, "finalizers", left);
    let (code, answer) = server.request(Method::PUT, &format!("{COLLECTION}/{name}"), Some(&new)).await;
    if code >= 400 && code != 409 && code != 404 {
        tracing::warn!(definition = name, message = %answer["message"], "cannot let a definition go");
    }
    code < 400 || code == 404
}
