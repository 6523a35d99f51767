//! The roles and bindings that every cluster begins with, as tables, and how they are kept.
//!
//! Names and meaning are those of Kubernetes 1.35. `system:node` is bound to nobody: the Node authorizer judges by
//! its rules. One thing differs: this cluster's controllers run as one identity, whose role therefore holds what they
//! need beside what upstream's `system:kube-controller-manager` has.

mod controllers;
mod namespaced;
mod people;
mod system;

use serde_json::{Map, Value, json};

use super::policy::{self, GROUP, PolicyKind};
use super::rule::{Rule, uncovered};

#[cfg(test)]
pub(crate) use people::aggregate;

const READ: &str = "get list watch";
const RECORD: &str = "create patch update";
const WRITE: &str = "create delete deletecollection patch update";
const ALL_VERBS: &str = "create delete deletecollection get list patch update watch";
/// The two groups that events are in.
const EVENTS: &str = "core events.k8s.io";

/// What one row of a role allows. Each text is a list of words; `core` stands for the group without a name.
enum Row {
    /// Verbs on resources of groups.
    On(&'static str, &'static str, &'static str),
    /// Verbs on resources of groups, of these names alone.
    Named(&'static str, &'static str, &'static str, &'static str),
    /// Verbs on paths.
    At(&'static str, &'static str),
}
use Row::{At, Named, On};

/// Who a binding is for.
enum Subject {
    User(&'static str),
    Group(&'static str),
    /// A ServiceAccount of `kube-system`.
    Account(&'static str),
}

/// A role and its rows.
type Role = (&'static str, &'static [Row]);

const SYSTEM_NAMESPACE: &str = "kube-system";
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// What nodes may do at most; see [`super::NodeAuthorizer`].
pub(super) fn node_rules() -> Vec<Rule> {
    let rows = system::ROLES.iter().filter(|(name, _)| *name == "system:node").flat_map(|(_, rows)| *rows);
    rows.flat_map(|row| policy::rules(&json!({ "rules": [rule(row)] }))).collect()
}

/// Every object of the bootstrap policy: roles first, so that no binding refers to nothing.
pub fn objects() -> Vec<(PolicyKind, Value)> {
    let mut roles: Vec<Value> = system::ROLES.iter().map(cluster_role).collect();
    roles.extend(controllers::ROLES.iter().map(|(name, rows)| {
        let mut role = cluster_role(&("", rows));
        role["metadata"]["name"] = json!(controllers::role_name(name));
        role
    }));
    roles.extend(people::roles());
    let mut objects: Vec<(PolicyKind, Value)> =
        roles.into_iter().map(|role| (PolicyKind::ClusterRole, role)).collect();
    objects.extend(namespaced::roles());
    objects.extend(system::BINDINGS.iter().map(|(role, subjects)| cluster_binding(role, subjects)));
    objects.extend(
        controllers::ROLES
            .iter()
            .map(|(name, _)| cluster_binding(&controllers::role_name(name), &[Subject::Account(name)])),
    );
    objects.extend(namespaced::bindings());
    objects
}

/// What has to be done so that a stored object holds at least what `wanted` (one of [`objects`]) says.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Nothing: it does, or an administrator has turned updates off.
    Keep,
    /// Store this; it has the old object's metadata, for the comparison of versions.
    Update(Value),
    /// It refers to another role, which cannot be changed: delete it and create it again.
    Replace,
}

/// Compares a stored object with the wanted one. What administrators added stays; what is missing is added, since
/// the parts of the system rely on it. The annotation `rbac.authorization.kubernetes.io/autoupdate: "false"` turns
/// this off.
pub fn reconcile(stored: &Value, wanted: &Value) -> Step {
    let annotations = stored.pointer("/metadata/annotations").and_then(Value::as_object);
    if annotations.and_then(|all| all.get(AUTOUPDATE)).and_then(Value::as_str) == Some("false") {
        return Step::Keep;
    }
    if wanted.get("roleRef") != stored.get("roleRef") {
        return Step::Replace;
    }
    let mut updated = stored.clone();
    add_missing(&mut updated, wanted, &["metadata", "labels"]);
    add_missing(&mut updated, wanted, &["metadata", "annotations"]);
    let is_aggregated = |role: &Value| role.get("aggregationRule").is_some_and(|rule| !rule.is_null());
    if is_aggregated(wanted) {
        let at = |role: &Value| role.pointer("/aggregationRule/clusterRoleSelectors").cloned();
        let selectors = merged(at(stored).as_ref(), at(wanted).as_ref());
        if at(stored).as_ref() != Some(&selectors) {
            updated["aggregationRule"] = json!({ "clusterRoleSelectors": selectors });
        }
    } else if !is_aggregated(stored) {
        add_rules(&mut updated, wanted);
    }
    if wanted.get("subjects").is_some() {
        let subjects = merged(stored.get("subjects"), wanted.get("subjects"));
        if stored.get("subjects") != Some(&subjects) && subjects != json!([]) {
            updated["subjects"] = subjects;
        }
    }
    if updated == *stored { Step::Keep } else { Step::Update(updated) }
}

/// Adds the wanted rules that the stored ones do not cover.
fn add_rules(role: &mut Value, wanted: &Value) {
    let held = policy::rules(role);
    let rules = wanted.get("rules").and_then(Value::as_array).into_iter().flatten();
    let missing: Vec<Value> = rules
        .filter(|rule| !uncovered(&held, &policy::rules(&json!({ "rules": [rule] }))).is_empty())
        .cloned()
        .collect();
    if !missing.is_empty() {
        let mut rules = role.get("rules").and_then(Value::as_array).cloned().unwrap_or_default();
        rules.extend(missing);
        role["rules"] = json!(rules);
    }
}

/// Adds the keys of the map at `path` that the object has not.
fn add_missing(object: &mut Value, wanted: &Value, path: &[&str]) {
    let place = |value: &Value| path.iter().try_fold(value.clone(), |value, key| value.get(key).cloned());
    let Some(Value::Object(wanted)) = place(wanted) else { return };
    let held = place(object);
    for (key, value) in wanted {
        if held.as_ref().and_then(|held| held.get(&key)).is_none() {
            object[path[0]][path[1]][key] = value;
        }
    }
}

/// The entries of both lists, each once.
fn merged(held: Option<&Value>, wanted: Option<&Value>) -> Value {
    let mut all = held.and_then(Value::as_array).cloned().unwrap_or_default();
    for entry in wanted.and_then(Value::as_array).into_iter().flatten() {
        if !all.contains(entry) {
            all.push(entry.clone());
        }
    }
    Value::Array(all)
}

fn cluster_role((name, rows): &Role) -> Value {
    let mut role = object(PolicyKind::ClusterRole, "", name);
    role["rules"] = rows.iter().map(rule).collect();
    role
}

/// A ClusterRoleBinding, named after its role.
fn cluster_binding(role: &str, subjects: &[Subject]) -> (PolicyKind, Value) {
    let kind = PolicyKind::ClusterRoleBinding;
    (kind, bound(object(kind, "", role), PolicyKind::ClusterRole, role, subjects))
}

fn bound(mut binding: Value, kind: PolicyKind, role: &str, subjects: &[Subject]) -> Value {
    binding["roleRef"] = json!({"apiGroup": GROUP, "kind": kind.kind(), "name": role});
    let subjects = subjects.iter().map(|subject| match subject {
        Subject::User(name) => json!({"apiGroup": GROUP, "kind": "User", "name": name}),
        Subject::Group(name) => json!({"apiGroup": GROUP, "kind": "Group", "name": name}),
        Subject::Account(name) => {
            json!({"kind": "ServiceAccount", "name": name, "namespace": SYSTEM_NAMESPACE})
        }
    });
    binding["subjects"] = subjects.collect();
    binding
}

fn object(kind: PolicyKind, namespace: &str, name: &str) -> Value {
    let mut object = json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": kind.kind(),
        "metadata": {
            "name": name,
            "annotations": {AUTOUPDATE: "true"},
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        },
    });
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = json!(namespace);
    }
    object
}

fn rule(row: &Row) -> Value {
    let (verbs, lists) = match row {
        On(verbs, groups, resources) => (verbs, vec![("apiGroups", groups), ("resources", resources)]),
        Named(verbs, groups, resources, names) => {
            (verbs, vec![("apiGroups", groups), ("resourceNames", names), ("resources", resources)])
        }
        At(verbs, urls) => (verbs, vec![("nonResourceURLs", urls)]),
    };
    let mut rule = Map::new();
    for (field, text) in lists.into_iter().chain([("verbs", verbs)]) {
        let mut words: Vec<&str> =
            text.split_whitespace().map(|word| if word == "core" { "" } else { word }).collect();
        words.sort_unstable();
        rule.insert(field.into(), json!(words));
    }
    Value::Object(rule)
}
