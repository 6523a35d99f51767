//! The table of kinds: one row each, made in a file each.
//!
//! To add a kind: write its file with a `Resource` constant (everything that `BASE` does not say for it) and a type that
//! implements [`crate::strategy::Rules`], and name the constant in `RESOURCES`. Lists that merge by key go into
//! `schema/lists.rs`. The tests in `tests/kinds.rs` then hold for it too.

mod authorization;
mod config_map;
mod deployment;
mod endpoint_slice;
mod endpoints;
mod event;
mod lease;
mod namespace;
mod node;
mod pod;
mod rbac;
mod replica_set;
mod secret;
mod service;
mod service_account;
mod workload;

use crate::resource::{GroupVersionKind, Resource, Scope, Subresource, Verb};
use crate::schema::TypeRef;
use crate::strategy::Typed;
use crate::table::Printer;

/// Every served resource in every served version, the preferred version of a group first.
static RESOURCES: &[Resource] = &[
    pod::BINDING,
    config_map::RESOURCE,
    endpoints::RESOURCE,
    event::CORE,
    namespace::RESOURCE,
    node::RESOURCE,
    pod::RESOURCE,
    secret::RESOURCE,
    service_account::RESOURCE,
    service::RESOURCE,
    deployment::RESOURCE,
    replica_set::RESOURCE,
    authorization::TOKEN_REVIEW,
    authorization::SELF_SUBJECT_REVIEW,
    authorization::LOCAL_SUBJECT_ACCESS_REVIEW,
    authorization::SELF_SUBJECT_ACCESS_REVIEW,
    authorization::SELF_SUBJECT_RULES_REVIEW,
    authorization::SUBJECT_ACCESS_REVIEW,
    lease::RESOURCE,
    endpoint_slice::RESOURCE,
    event::EVENTS_GROUP,
    rbac::CLUSTER_ROLE_BINDING,
    rbac::CLUSTER_ROLE,
    rbac::ROLE_BINDING,
    rbac::ROLE,
];

/// The table of kinds.
pub fn resources() -> &'static [Resource] {
    RESOURCES
}

/// The resource of a path.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    RESOURCES.iter().find(|r| r.plural == plural && r.group == group && r.version == version)
}

/// The resource of a kind.
pub fn find_kind(group: &str, version: &str, kind: &str) -> Option<&'static Resource> {
    RESOURCES.iter().find(|r| r.kind == kind && r.group == group && r.version == version)
}

/// Rules of kinds that are answered and never stored: their shape says it all.
struct Unstored;

impl crate::strategy::Rules for Unstored {
    type Object = serde::de::IgnoredAny;
}

/// What most rows share; each row names the rest.
const BASE: Resource = Resource {
    group: "",
    version: "v1",
    api_version: "v1",
    kind: "",
    list_kind: "",
    plural: "",
    singular: "",
    short_names: &[],
    categories: &[],
    scope: Scope::Namespaced,
    verbs: Verb::ALL,
    subresources: &[],
    storage_prefix: "",
    storage: core("v1", ""),
    conversion: None,
    strategy: &Typed::<Unstored>::new(),
    schema: TypeRef::of::<k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta>(
        "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
    ),
    printer: Printer::PLAIN,
};

const fn core(version: &'static str, kind: &'static str) -> GroupVersionKind {
    GroupVersionKind { group: "", version, kind }
}

const fn gvk(group: &'static str, version: &'static str, kind: &'static str) -> GroupVersionKind {
    GroupVersionKind { group, version, kind }
}

/// Verbs of `status` and other parts that are read and written with their object.
const PART: &[Verb] = &[Verb::Get, Verb::Patch, Verb::Update];
/// Verbs of `proxy`.
const PROXY: &[Verb] = &[Verb::Create, Verb::Delete, Verb::Get, Verb::Patch, Verb::Update];
/// Verbs of streams that are opened by GET or POST.
const STREAM: &[Verb] = &[Verb::Create, Verb::Get];
/// Verbs of what is only ever posted.
const POST: &[Verb] = &[Verb::Create];

const fn status(kind: GroupVersionKind) -> Subresource {
    Subresource { name: "status", kind, verbs: PART }
}

const fn scale() -> Subresource {
    Subresource { name: "scale", kind: gvk("autoscaling", "v1", "Scale"), verbs: PART }
}
