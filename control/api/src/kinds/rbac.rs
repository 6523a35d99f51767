//! Roles and their bindings.

use jiff::Timestamp;
use k8s_openapi::api::rbac;
use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef, Subject};
use serde_json::Value;

use super::{BASE, gvk};
use crate::defaults::{make_object, objects, set, text as field_text};
use crate::meta::{self, NameRule};
use crate::names;
use crate::resource::{Resource, Scope};
use crate::schema::TypeRef;
use crate::select::LabelSelector;
use crate::status::{FieldError, FieldPath};
use crate::strategy::{Rules, Typed};
use crate::table::read::{age, list, text};
use crate::table::{Column, Printer};
use crate::validate::{self, Errors, refuse, require};

const GROUP: &str = "rbac.authorization.k8s.io";
const API_VERSION: &str = "rbac.authorization.k8s.io/v1";

/// The columns of a binding, by the field of its role and what upstream calls it.
macro_rules! binding_printer {
    ($role:literal, $name:literal) => {
        Printer {
            columns: &[
                Column::NAME,
                Column::text("Role", $role),
                Column::AGE,
                Column::text("Users", concat!("Users in the ", $name)).wide(),
                Column::text("Groups", concat!("Groups in the ", $name)).wide(),
                Column::text("ServiceAccounts", concat!("ServiceAccounts in the ", $name)).wide(),
            ],
            cells: binding_cells,
        }
    };
}

/// The row of roles.
pub(super) const ROLE: Resource = Resource {
    group: GROUP,
    api_version: API_VERSION,
    kind: "Role",
    list_kind: "RoleList",
    plural: "roles",
    singular: "role",
    storage_prefix: "/registry/roles/",
    storage: gvk(GROUP, "v1", "Role"),
    strategy: &Typed::<RoleRules>::new(),
    schema: TypeRef::of::<rbac::v1::Role>("io.k8s.api.rbac.v1.Role"),
    printer: Printer::CREATED,
    ..BASE
};

/// The row of clusterroles.
pub(super) const CLUSTER_ROLE: Resource = Resource {
    group: GROUP,
    api_version: API_VERSION,
    kind: "ClusterRole",
    list_kind: "ClusterRoleList",
    plural: "clusterroles",
    singular: "clusterrole",
    scope: Scope::Cluster,
    storage_prefix: "/registry/clusterroles/",
    storage: gvk(GROUP, "v1", "ClusterRole"),
    strategy: &Typed::<ClusterRoleRules>::new(),
    schema: TypeRef::of::<rbac::v1::ClusterRole>("io.k8s.api.rbac.v1.ClusterRole"),
    printer: Printer::CREATED,
    ..BASE
};

/// The row of rolebindings.
pub(super) const ROLE_BINDING: Resource = Resource {
    group: GROUP,
    api_version: API_VERSION,
    kind: "RoleBinding",
    list_kind: "RoleBindingList",
    plural: "rolebindings",
    singular: "rolebinding",
    storage_prefix: "/registry/rolebindings/",
    storage: gvk(GROUP, "v1", "RoleBinding"),
    strategy: &Typed::<RoleBindingRules>::new(),
    schema: TypeRef::of::<rbac::v1::RoleBinding>("io.k8s.api.rbac.v1.RoleBinding"),
    printer: binding_printer!("rbac.v1.RoleBinding#roleRef", "roleBinding"),
    ..BASE
};

/// The row of clusterrolebindings.
pub(super) const CLUSTER_ROLE_BINDING: Resource = Resource {
    group: GROUP,
    api_version: API_VERSION,
    kind: "ClusterRoleBinding",
    list_kind: "ClusterRoleBindingList",
    plural: "clusterrolebindings",
    singular: "clusterrolebinding",
    scope: Scope::Cluster,
    storage_prefix: "/registry/clusterrolebindings/",
    storage: gvk(GROUP, "v1", "ClusterRoleBinding"),
    strategy: &Typed::<ClusterRoleBindingRules>::new(),
    schema: TypeRef::of::<rbac::v1::ClusterRoleBinding>("io.k8s.api.rbac.v1.ClusterRoleBinding"),
    printer: binding_printer!("rbac.v1.ClusterRoleBinding#roleRef", "clusterRoleBinding"),
    ..BASE
};

fn binding_cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let role = format!("{}/{}", text(object, "/roleRef/kind"), text(object, "/roleRef/name"));
    let subjects = |kind: &str| -> Value {
        let names: Vec<String> = list(object, "/subjects")
            .iter()
            .filter(|s| text(s, "/kind") == kind)
            .map(|s| match kind {
                "ServiceAccount" => format!("{}/{}", text(s, "/namespace"), text(s, "/name")),
                _ => text(s, "/name").to_owned(),
            })
            .collect();
        names.join(", ").into()
    };
    vec![
        meta::name(object).into(),
        role.into(),
        age(object, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

fn rules(rules: &[PolicyRule], namespaced: bool, errors: &mut Errors) {
    let path = FieldPath::root("rules");
    for (index, rule) in rules.iter().enumerate() {
        let at = path.index(index);
        if rule.verbs.is_empty() {
            errors.push(FieldError::required(&at.child("verbs"), "verbs must contain at least one value"));
        }
        let (groups, resources) = (validate::list(&rule.api_groups), validate::list(&rule.resources));
        let names = validate::list(&rule.resource_names);
        let urls = validate::list(&rule.non_resource_urls);
        if !urls.is_empty() {
            let urls_at = at.child("nonResourceURLs");
            if namespaced {
                let why = "namespaced rules cannot apply to non-resource URLs";
                errors.push(FieldError::invalid(&urls_at, validate::shown(&urls), why));
            }
            if !groups.is_empty() || !resources.is_empty() || !names.is_empty() {
                let why = "rules cannot apply to both regular resources and non-resource URLs";
                errors.push(FieldError::invalid(&urls_at, validate::shown(&urls), why));
            }
            continue;
        }
        if groups.is_empty() {
            let why = "resource rules must supply at least one api group";
            errors.push(FieldError::required(&at.child("apiGroups"), why));
        }
        if resources.is_empty() {
            let why = "resource rules must supply at least one resource";
            errors.push(FieldError::required(&at.child("resources"), why));
        }
    }
}

fn binding_default(binding: &mut Value) {
    let Some(fields) = binding.as_object_mut() else { return };
    if let Some(role) = make_object(fields, "roleRef") {
        set(role, "apiGroup", GROUP);
    }
    for subject in objects(fields, "subjects") {
        let group = match field_text(subject, "kind") {
            "User" | "Group" => GROUP,
            _ => continue,
        };
        set(subject, "apiGroup", group);
    }
}

fn binding(role: &RoleRef, subjects: &[Subject], namespaced: bool, errors: &mut Errors) {
    let path = FieldPath::root("roleRef");
    if role.api_group != GROUP {
        let at = path.child("apiGroup");
        errors.push(FieldError::not_supported(&at, role.api_group.as_str(), &[GROUP]));
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    validate::one_in_order(&path.child("kind"), &role.kind, kinds, errors);
    if require(&path.child("name"), &role.name, errors) {
        refuse(&path.child("name"), &role.name, names::path_segment(&role.name, false), errors);
    }
    let all = FieldPath::root("subjects");
    for (index, subject) in subjects.iter().enumerate() {
        let at = all.index(index);
        require(&at.child("name"), &subject.name, errors);
        let group = validate::text(&subject.api_group);
        match subject.kind.as_str() {
            "ServiceAccount" => {
                if !subject.name.is_empty() {
                    refuse(&at.child("name"), &subject.name, names::dns1123_subdomain(&subject.name), errors);
                }
                if !group.is_empty() {
                    errors.push(FieldError::not_supported(&at.child("apiGroup"), group, &[""]));
                }
                // In a namespace it is that one's own account that is meant.
                if !namespaced && validate::text(&subject.namespace).is_empty() {
                    errors.push(FieldError::required(&at.child("namespace"), ""));
                }
            }
            "User" | "Group" => {
                if group != GROUP {
                    errors.push(FieldError::not_supported(&at.child("apiGroup"), group, &[GROUP]));
                }
            }
            other => {
                let kinds = ["ServiceAccount", "User", "Group"];
                errors.push(FieldError::not_supported_in_order(&at.child("kind"), other, &kinds));
            }
        }
    }
}

fn same_role(new: &RoleRef, old: &RoleRef, errors: &mut Errors) {
    if new != old {
        let at = FieldPath::root("roleRef");
        errors.push(FieldError::invalid(&at, validate::shown(new), "cannot change roleRef"));
    }
}

/// What is true of roles.
pub(super) struct RoleRules;

impl Rules for RoleRules {
    type Object = rbac::v1::Role;

    const NAME: NameRule = NameRule::PathSegment;
    const CREATE_ON_UPDATE: bool = true;

    fn validate(role: &Self::Object, errors: &mut Errors) {
        rules(validate::list(&role.rules), true, errors);
    }
}

/// What is true of clusterroles.
pub(super) struct ClusterRoleRules;

impl Rules for ClusterRoleRules {
    type Object = rbac::v1::ClusterRole;

    const SCOPE: Scope = Scope::Cluster;
    const NAME: NameRule = NameRule::PathSegment;
    const CREATE_ON_UPDATE: bool = true;

    fn validate(role: &Self::Object, errors: &mut Errors) {
        rules(validate::list(&role.rules), false, errors);
        let Some(aggregation) = &role.aggregation_rule else { return };
        let at = FieldPath::root("aggregationRule").child("clusterRoleSelectors");
        let selectors = validate::list(&aggregation.cluster_role_selectors);
        if selectors.is_empty() {
            let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
            errors.push(FieldError::required(&at, why));
        }
        for (index, selector) in selectors.iter().enumerate() {
            validate::label_selector(selector, &at.index(index), errors);
            if LabelSelector::from_typed(selector).is_err() {
                // Upstream shows that nothing came of it.
                errors.push(FieldError::invalid(&at.index(index), "null", "invalid label selector."));
            }
        }
    }
}

/// What is true of rolebindings.
pub(super) struct RoleBindingRules;

impl Rules for RoleBindingRules {
    type Object = rbac::v1::RoleBinding;

    const NAME: NameRule = NameRule::PathSegment;
    const CREATE_ON_UPDATE: bool = true;

    fn default(object: &mut Value) {
        binding_default(object);
    }

    fn validate(object: &Self::Object, errors: &mut Errors) {
        binding(&object.role_ref, validate::list(&object.subjects), true, errors);
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        Self::validate(new, errors);
        same_role(&new.role_ref, &old.role_ref, errors);
    }
}

/// What is true of clusterrolebindings.
pub(super) struct ClusterRoleBindingRules;

impl Rules for ClusterRoleBindingRules {
    type Object = rbac::v1::ClusterRoleBinding;

    const SCOPE: Scope = Scope::Cluster;
    const NAME: NameRule = NameRule::PathSegment;
    const CREATE_ON_UPDATE: bool = true;

    fn default(object: &mut Value) {
        binding_default(object);
    }

    fn validate(object: &Self::Object, errors: &mut Errors) {
        binding(&object.role_ref, validate::list(&object.subjects), false, errors);
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        Self::validate(new, errors);
        same_role(&new.role_ref, &old.role_ref, errors);
    }
}
