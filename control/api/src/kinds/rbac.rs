//! Roles and their bindings.

use k8s_openapi::api::rbac;

use super::{BASE, gvk};
use crate::resource::{Resource, Scope};
use crate::schema::TypeRef;
use crate::strategy::{Rules, Typed};

/// The row of roles.
pub(super) const ROLE: Resource = Resource {
    group: "rbac.authorization.k8s.io",
    api_version: "rbac.authorization.k8s.io/v1",
    kind: "Role",
    list_kind: "RoleList",
    plural: "roles",
    singular: "role",
    storage_prefix: "/registry/roles/",
    storage: gvk("rbac.authorization.k8s.io", "v1", "Role"),
    strategy: &Typed::<RoleRules>::new(),
    schema: TypeRef::of::<rbac::v1::Role>("io.k8s.api.rbac.v1.Role"),
    ..BASE
};

/// What is true of roles.
pub(super) struct RoleRules;

impl Rules for RoleRules {
    type Object = rbac::v1::Role;
}

/// The row of clusterroles.
pub(super) const CLUSTER_ROLE: Resource = Resource {
    group: "rbac.authorization.k8s.io",
    api_version: "rbac.authorization.k8s.io/v1",
    kind: "ClusterRole",
    list_kind: "ClusterRoleList",
    plural: "clusterroles",
    singular: "clusterrole",
    scope: Scope::Cluster,
    storage_prefix: "/registry/clusterroles/",
    storage: gvk("rbac.authorization.k8s.io", "v1", "ClusterRole"),
    strategy: &Typed::<ClusterRoleRules>::new(),
    schema: TypeRef::of::<rbac::v1::ClusterRole>("io.k8s.api.rbac.v1.ClusterRole"),
    ..BASE
};

/// What is true of clusterroles.
pub(super) struct ClusterRoleRules;

impl Rules for ClusterRoleRules {
    type Object = rbac::v1::ClusterRole;
}

/// The row of rolebindings.
pub(super) const ROLE_BINDING: Resource = Resource {
    group: "rbac.authorization.k8s.io",
    api_version: "rbac.authorization.k8s.io/v1",
    kind: "RoleBinding",
    list_kind: "RoleBindingList",
    plural: "rolebindings",
    singular: "rolebinding",
    storage_prefix: "/registry/rolebindings/",
    storage: gvk("rbac.authorization.k8s.io", "v1", "RoleBinding"),
    strategy: &Typed::<RoleBindingRules>::new(),
    schema: TypeRef::of::<rbac::v1::RoleBinding>("io.k8s.api.rbac.v1.RoleBinding"),
    ..BASE
};

/// What is true of rolebindings.
pub(super) struct RoleBindingRules;

impl Rules for RoleBindingRules {
    type Object = rbac::v1::RoleBinding;
}

/// The row of clusterrolebindings.
pub(super) const CLUSTER_ROLE_BINDING: Resource = Resource {
    group: "rbac.authorization.k8s.io",
    api_version: "rbac.authorization.k8s.io/v1",
    kind: "ClusterRoleBinding",
    list_kind: "ClusterRoleBindingList",
    plural: "clusterrolebindings",
    singular: "clusterrolebinding",
    scope: Scope::Cluster,
    storage_prefix: "/registry/clusterrolebindings/",
    storage: gvk("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding"),
    strategy: &Typed::<ClusterRoleBindingRules>::new(),
    schema: TypeRef::of::<rbac::v1::ClusterRoleBinding>("io.k8s.api.rbac.v1.ClusterRoleBinding"),
    ..BASE
};

/// What is true of clusterrolebindings.
pub(super) struct ClusterRoleBindingRules;

impl Rules for ClusterRoleBindingRules {
    type Object = rbac::v1::ClusterRoleBinding;
}
