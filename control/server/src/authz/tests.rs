//! Who may do what: tables of verdicts, attempts to get more, and the answers to reviews.

use std::sync::Arc;

use serde_json::{Value, json};

use super::bootstrap;
use super::*;
use crate::{
    Admission, AdmissionRequest, ApiError, Attributes, Authenticator, Authorizer, Credentials, Operation,
    UserInfo,
};

mod bootstrap_policy;
mod escalation;
mod reviews;
mod rules;

/// The bootstrap policy and what `more` adds, with a feeder that is always up to date.
fn rbac(more: &[(PolicyKind, Value)]) -> Arc<Rbac> {
    let (rbac, mut asks) = Rbac::new();
    for (kind, object) in bootstrap::objects().iter().chain(more) {
        rbac.put(*kind, object);
    }
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move {
            while let Some(ask) = asks.recv().await {
                let _ = ask.send(());
            }
        });
    }
    rbac
}

fn role(namespace: &str, name: &str, rules: Value) -> (PolicyKind, Value) {
    let kind = if namespace.is_empty() { PolicyKind::ClusterRole } else { PolicyKind::Role };
    (kind, json!({"metadata": {"name": name, "namespace": namespace}, "rules": rules}))
}

/// A binding named after its role; `role` is `Role/name` or `ClusterRole/name`.
fn binding(namespace: &str, role: &str, subjects: Value) -> (PolicyKind, Value) {
    let kind = if namespace.is_empty() { PolicyKind::ClusterRoleBinding } else { PolicyKind::RoleBinding };
    let (role_kind, name) = role.split_once('/').unwrap();
    let role = json!({"apiGroup": GROUP, "kind": role_kind, "name": name});
    let metadata = json!({"name": format!("{name}-binding"), "namespace": namespace});
    (kind, json!({"metadata": metadata, "roleRef": role, "subjects": subjects}))
}

fn user(name: &str) -> Value {
    json!([{"kind": "User", "apiGroup": GROUP, "name": name}])
}

/// A request in short: `verb [group/]resource[/subresource][:name] [@namespace]`, or `verb /path`.
pub(super) fn request(who: &UserInfo, text: &str) -> Attributes {
    let mut words = text.split(' ');
    let (verb, what) = (words.next().unwrap(), words.next().unwrap());
    let namespace = words.next().map_or("", |word| word.strip_prefix('@').unwrap());
    let mut request = Attributes { user: who.clone(), verb: verb.into(), ..Attributes::default() };
    if what.starts_with('/') {
        request.path = what.into();
        return request;
    }
    let (what, name) = what.split_once(':').unwrap_or((what, ""));
    // Groups have a dot or are one of the two old ones that have not.
    let mut parts: Vec<&str> = what.split('/').collect();
    if parts[0].contains('.') || matches!(parts[0], "apps" | "batch" | "autoscaling" | "policy") {
        request.api_group = parts.remove(0).into();
    }
    request.resource = parts[0].into();
    request.subresource = parts.get(1).copied().unwrap_or_default().into();
    request.name = name.into();
    request.namespace = namespace.into();
    request
}

fn verdicts(rbac: &Rbac, who: &UserInfo, table: &[(&str, bool)]) {
    for (text, expected) in table {
        let asked = request(who, text);
        let allowed = rbac.authorize(&asked) == crate::Decision::Allow;
        assert_eq!(allowed, *expected, "{}: {text}", who.name);
    }
}
