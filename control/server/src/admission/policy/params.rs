//! The parameters of a policy that a binding names. Source: `apiserver/pkg/admission/plugin/policy/generic/policy_dispatcher.go`.

use std::sync::Arc;

use carrack_api::select::LabelSelector;
use carrack_api::{ResourceRef, Scope, meta};
use carrack_store::{KeyValue, Range};
use serde_json::Value;

use super::compile::Policy;
use super::index::Binding;
use crate::ApiError;
use crate::authn::text;
use crate::call::Call;

/// The objects to judge with, one after the other; a single null when the policy has no parameters. `Ok(Err)` says why
/// there are none.
pub(super) async fn find(
    policy: &Policy,
    binding: &Binding,
    namespace: &str,
    call: &Call,
) -> Result<Result<Vec<Arc<Value>>, String>, ApiError> {
    let Some((version, kind)) = &policy.param_kind else { return Ok(Ok(vec![Arc::default()])) };
    let reference = &binding.params;
    if reference.is_null() {
        return Ok(Ok(vec![Arc::default()]));
    }
    let (group, version_only) = version.split_once('/').unwrap_or(("", version));
    let Some(row) = call.server.kinds.now().find_kind(group, version_only, kind) else {
        return Ok(Err(format!("failed to find resource referenced by paramKind: '{version}, Kind={kind}'")));
    };
    let wanted = text(reference, "/namespace");
    let namespace = match (row.scope, wanted) {
        (Scope::Cluster, "") => "",
        (Scope::Cluster, _) => {
            let why = "paramRef.namespace must not be provided for a cluster-scoped `paramKind`";
            return Ok(Err(why.to_owned()));
        }
        (Scope::Namespaced, "") if namespace.is_empty() => {
            let why =
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
            return Ok(Err(why.to_owned()));
        }
        (Scope::Namespaced, "") => namespace,
        (Scope::Namespaced, wanted) => wanted,
    };
    let name = text(reference, "/name");
    let found = if name.is_empty() {
        let selector = match LabelSelector::from_value(reference.get("selector")) {
            Ok(selector) => selector,
            Err(why) => return Ok(Err(why.to_string())),
        };
        let found = call.registry().range(Range::prefix(row.list_prefix(namespace))).await?;
        let all = served(call, &row, found.kvs).await?;
        all.into_iter().filter(|object| is_selected(&selector, object)).collect()
    } else {
        let stored = call.registry().get(&row, namespace, name).await?;
        served(call, &row, stored.into_iter().collect()).await?
    };
    if found.is_empty() && text(reference, "/parameterNotFoundAction") == "Deny" {
        return Ok(Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned()));
    }
    Ok(Ok(found))
}

/// Stored objects in the form that `paramKind` names.
async fn served(
    call: &Call,
    row: &ResourceRef,
    kvs: Vec<Arc<KeyValue>>,
) -> Result<Vec<Arc<Value>>, ApiError> {
    let found = call.server.converter.found(row, kvs).await?;
    found.iter().map(|object| object.stored().served(row).map(Arc::new)).collect()
}

fn is_selected(selector: &LabelSelector, object: &Value) -> bool {
    let labels = meta::labels(object);
    selector.matches(|key| labels.and_then(|labels| labels.get(key)?.as_str()))
}
