//! The roles and bindings of the cluster, indexed by who they are for. No I/O: fed with objects, asked for rules.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::rule::Rule;
use crate::UserInfo;
use crate::authn::text;

/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// The four kinds that make up the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PolicyKind {
    /// Rules in one namespace.
    Role,
    /// Rules anywhere.
    ClusterRole,
    /// Grants a role in one namespace.
    RoleBinding,
    /// Grants a ClusterRole everywhere.
    ClusterRoleBinding,
}

impl PolicyKind {
    /// All kinds.
    pub const ALL: [PolicyKind; 4] =
        [PolicyKind::Role, PolicyKind::ClusterRole, PolicyKind::RoleBinding, PolicyKind::ClusterRoleBinding];

    /// The plural name in paths and store keys.
    pub const fn resource(self) -> &'static str {
        match self {
            PolicyKind::Role => "roles",
            PolicyKind::ClusterRole => "clusterroles",
            PolicyKind::RoleBinding => "rolebindings",
            PolicyKind::ClusterRoleBinding => "clusterrolebindings",
        }
    }

    /// The name of the kind.
    pub const fn kind(self) -> &'static str {
        match self {
            PolicyKind::Role => "Role",
            PolicyKind::ClusterRole => "ClusterRole",
            PolicyKind::RoleBinding => "RoleBinding",
            PolicyKind::ClusterRoleBinding => "ClusterRoleBinding",
        }
    }
}

/// What a binding refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RoleRef {
    /// `Role` or `ClusterRole`.
    pub kind: String,
    /// The role's name.
    pub name: String,
}

/// A user or group, as bindings name them and as requests come from them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    User(String),
    Group(String),
}

#[derive(Debug, Clone)]
struct Binding {
    role: RoleRef,
    subjects: Vec<Subject>,
}

/// Namespace (empty for the cluster) and name.
type Key = (String, String);

/// The policy as it is now.
#[derive(Debug, Default)]
pub struct Policy {
    roles: HashMap<Key, Arc<[Rule]>>,
    bindings: HashMap<Key, Binding>,
    /// Which bindings name a subject.
    by_subject: HashMap<Subject, Vec<Key>>,
}

/// Why rules apply: the binding and the role, for the reason of a verdict.
#[derive(Debug, Clone, Copy)]
pub struct Grant<'a> {
    /// The binding's namespace; empty for a ClusterRoleBinding.
    pub namespace: &'a str,
    /// The binding's name.
    pub binding: &'a str,
    /// The role it grants.
    pub role: &'a RoleRef,
    /// Whom it names.
    pub(super) subject: &'a Subject,
}

impl std::fmt::Display for Grant<'_> {
    /// In upstream's words, as the audit tells them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.namespace {
            "" => write!(f, "ClusterRoleBinding {:?}", self.binding)?,
            namespace => write!(f, "RoleBinding \"{}/{namespace}\"", self.binding)?,
        }
        write!(f, " of {} {:?} to ", self.role.kind, self.role.name)?;
        match self.subject {
            Subject::Group(name) => write!(f, "Group {name:?}"),
            Subject::User(name) => {
                let account = name.strip_prefix("system:serviceaccount:").and_then(|n| n.split_once(':'));
                match account {
                    Some((namespace, name)) => write!(f, "ServiceAccount \"{name}/{namespace}\""),
                    None => write!(f, "User {name:?}"),
                }
            }
        }
    }
}

impl Policy {
    /// Takes in an object, new or changed.
    pub fn put(&mut self, kind: PolicyKind, object: &Value) {
        let key = (text(object, "/metadata/namespace").to_owned(), text(object, "/metadata/name").to_owned());
        match kind {
            PolicyKind::Role | PolicyKind::ClusterRole => {
                self.roles.insert(key, rules(object).into());
            }
            PolicyKind::RoleBinding | PolicyKind::ClusterRoleBinding => {
                self.remove(kind, &key.0, &key.1);
                let binding = read_binding(object);
                for subject in &binding.subjects {
                    self.by_subject.entry(subject.clone()).or_default().push(key.clone());
                }
                self.bindings.insert(key, binding);
            }
        }
    }

    /// Forgets an object.
    pub fn remove(&mut self, kind: PolicyKind, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        match kind {
            PolicyKind::Role | PolicyKind::ClusterRole => {
                self.roles.remove(&key);
            }
            PolicyKind::RoleBinding | PolicyKind::ClusterRoleBinding => {
                let Some(old) = self.bindings.remove(&key) else { return };
                for subject in old.subjects {
                    if let Some(keys) = self.by_subject.get_mut(&subject) {
                        keys.retain(|other| *other != key);
                        if keys.is_empty() {
                            self.by_subject.remove(&subject);
                        }
                    }
                }
            }
        }
    }

    /// The rules of the role that a binding in `namespace` refers to; `None` when there is no such role.
    pub fn role_rules(&self, role: &RoleRef, namespace: &str) -> Option<Arc<[Rule]>> {
        let namespace = if role.kind == "Role" { namespace } else { "" };
        self.roles.get(&(namespace.to_owned(), role.name.clone())).cloned()
    }

    /// Shows `visit` every rule that `user` has: everywhere, and in `namespace` unless it is empty. Stops when told.
    pub fn visit<B>(
        &self,
        user: &UserInfo,
        namespace: &str,
        mut visit: impl FnMut(Grant<'_>, &Rule) -> ControlFlow<B>,
    ) -> Option<B> {
        let subjects = std::iter::once(Subject::User(user.name.clone()))
            .chain(user.groups.iter().map(|group| Subject::Group(group.clone())));
        for subject in subjects {
            for key in self.by_subject.get(&subject).into_iter().flatten() {
                if !key.0.is_empty() && key.0 != namespace {
                    continue;
                }
                let Some(binding) = self.bindings.get(key) else { continue };
                let Some(rules) = self.role_rules(&binding.role, &key.0) else { continue };
                let grant =
                    Grant { namespace: &key.0, binding: &key.1, role: &binding.role, subject: &subject };
                for rule in rules.iter() {
                    if let ControlFlow::Break(found) = visit(grant, rule) {
                        return Some(found);
                    }
                }
            }
        }
        None
    }

    /// All rules that `user` has in `namespace` (everywhere, when it is empty).
    pub fn rules_of(&self, user: &UserInfo, namespace: &str) -> Vec<Rule> {
        let mut rules = Vec::new();
        self.visit(user, namespace, |_, rule| -> ControlFlow<()> {
            rules.push(rule.clone());
            ControlFlow::Continue(())
        });
        rules
    }
}

/// The rules of a Role or ClusterRole. A rule that cannot be read grants nothing.
pub(super) fn rules(object: &Value) -> Vec<Rule> {
    let rules = object.get("rules").and_then(Value::as_array).into_iter().flatten();
    rules.filter_map(|rule| without_nulls(rule).and_then(|rule| serde_json::from_value(rule).ok())).collect()
}

/// Go writes absent lists as null.
fn without_nulls(rule: &Value) -> Option<Value> {
    let fields = rule.as_object()?.iter().filter(|(_, value)| !value.is_null());
    Some(Value::Object(fields.map(|(name, value)| (name.clone(), value.clone())).collect()))
}

/// What a binding refers to.
pub(super) fn role_ref(object: &Value) -> RoleRef {
    RoleRef { kind: text(object, "/roleRef/kind").into(), name: text(object, "/roleRef/name").into() }
}

fn read_binding(object: &Value) -> Binding {
    let own = text(object, "/metadata/namespace");
    let subjects = object.get("subjects").and_then(Value::as_array).into_iter().flatten();
    let mut subjects: Vec<Subject> = subjects.filter_map(|subject| read_subject(subject, own)).collect();
    // Named twice, a subject still has the binding once.
    let mut seen = std::collections::HashSet::new();
    subjects.retain(|subject| seen.insert(subject.clone()));
    Binding { role: role_ref(object), subjects }
}

fn read_subject(subject: &Value, own_namespace: &str) -> Option<Subject> {
    let name = text(subject, "/name");
    match text(subject, "/kind") {
        _ if name.is_empty() => None,
        "User" => Some(Subject::User(name.to_owned())),
        "Group" => Some(Subject::Group(name.to_owned())),
        "ServiceAccount" => {
            let namespace = match text(subject, "/namespace") {
                "" => own_namespace,
                namespace => namespace,
            };
            (!namespace.is_empty())
                .then(|| Subject::User(format!("system:serviceaccount:{namespace}:{name}")))
        }
        _ => None,
    }
}
