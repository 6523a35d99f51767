//! The table of kinds: one row each, made in a file each.
//!
//! To add a kind: write its file with a `Resource` constant (`row!` fills in what follows from the names, `BASE` the
//! rest) and a type that implements [`crate::strategy::Rules`], and name the constant in `RESOURCES`. Lists that merge by
//! key go into `schema/more_lists.rs`. The tests in `tests/kinds.rs` then hold for it too.

mod admission;
mod api_service;
mod authorization;
mod autoscaling;
mod batch;
mod certificate_request;
mod component_status;
mod config_map;
mod controller_revision;
mod daemon_set;
mod definition;
mod deployment;
mod disruption_budget;
mod endpoint_slice;
mod endpoints;
mod event;
mod flow;
mod lease;
mod limit_range;
mod metrics;
mod namespace;
mod networking;
mod node;
mod pod;
mod pod_template;
mod prelude;
mod priority_class;
mod rbac;
mod replica_set;
mod replication_controller;
mod resource;
mod resource_quota;
mod runtime_class;
mod secret;
mod service;
mod service_account;
mod stateful_set;
mod storage;
mod volume;
mod workload;

use std::sync::Arc;

pub(crate) use certificate_request::USAGES as KEY_USAGES;
pub(crate) use metrics::GROUP as METRICS_GROUP;
pub(crate) use resource_quota::COUNTED;
pub(crate) use volume::claim_spec;

use crate::catalogue::intern;
use crate::custom::Custom;
use crate::resource::{GroupVersionKind, Resource, Scope, Subresource, Verb};
use crate::schema::TypeRef;
use crate::strategy::Typed;
use crate::table::Printer;

/// Every served resource in every served version, the preferred version of a group first.
static RESOURCES: &[Resource] = &[
    pod::BINDING,
    component_status::RESOURCE,
    config_map::RESOURCE,
    endpoints::RESOURCE,
    event::CORE,
    limit_range::RESOURCE,
    namespace::RESOURCE,
    node::RESOURCE,
    volume::CLAIM,
    volume::PERSISTENT,
    pod::RESOURCE,
    pod_template::RESOURCE,
    replication_controller::RESOURCE,
    resource_quota::RESOURCE,
    secret::RESOURCE,
    service_account::RESOURCE,
    service::RESOURCE,
    admission::MUTATING,
    admission::POLICY,
    admission::POLICY_BINDING,
    admission::VALIDATING,
    admission::MUTATING_POLICY,
    admission::MUTATING_BINDING,
    definition::RESOURCE,
    api_service::RESOURCE,
    controller_revision::RESOURCE,
    daemon_set::RESOURCE,
    deployment::RESOURCE,
    replica_set::RESOURCE,
    stateful_set::RESOURCE,
    authorization::TOKEN_REVIEW,
    authorization::SELF_SUBJECT_REVIEW,
    authorization::LOCAL_SUBJECT_ACCESS_REVIEW,
    authorization::SELF_SUBJECT_ACCESS_REVIEW,
    authorization::SELF_SUBJECT_RULES_REVIEW,
    authorization::SUBJECT_ACCESS_REVIEW,
    autoscaling::V2,
    autoscaling::V1,
    batch::CRON_JOB,
    batch::JOB,
    certificate_request::RESOURCE,
    lease::RESOURCE,
    endpoint_slice::RESOURCE,
    event::EVENTS_GROUP,
    flow::SCHEMA,
    flow::PRIORITY_LEVEL,
    networking::INGRESS_CLASS,
    networking::INGRESS,
    networking::IP,
    networking::POLICY,
    networking::CIDR,
    runtime_class::RESOURCE,
    disruption_budget::RESOURCE,
    rbac::CLUSTER_ROLE_BINDING,
    rbac::CLUSTER_ROLE,
    rbac::ROLE_BINDING,
    rbac::ROLE,
    resource::CLASS,
    resource::CLAIM,
    resource::TEMPLATE,
    resource::SLICE,
    priority_class::RESOURCE,
    storage::CSI_DRIVER,
    storage::CSI_NODE,
    storage::CAPACITY,
    storage::CLASS,
    storage::ATTACHMENT,
    storage::ATTRIBUTES_CLASS,
    // Last, so that short names mean what is stored.
    metrics::NODES,
    metrics::PODS,
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

/// The row of a custom resource, whose group, version and kind are interned.
pub(crate) fn custom_row(
    kind: GroupVersionKind,
    plural: &str,
    singular: &str,
    list_kind: &str,
    custom: Arc<Custom>,
) -> Resource {
    let storage = gvk(kind.group, custom.storage().name, kind.kind);
    let GroupVersionKind { group, version, kind } = kind;
    Resource {
        group,
        version,
        api_version: custom.version().api_version,
        kind,
        list_kind: intern(list_kind),
        plural: intern(plural),
        singular: intern(singular),
        scope: custom.scope(),
        storage_prefix: intern(&format!("/registry/{group}/{plural}/")),
        storage,
        schema: TypeRef::custom(intern(&openapi_name(group, version, kind))),
        custom: Some(custom),
        ..BASE
    }
}

/// The OpenAPI name of a custom resource: the group's parts in reverse, then version and kind.
fn openapi_name(group: &str, version: &str, kind: &str) -> String {
    group.split('.').rev().chain([version, kind]).collect::<Vec<_>>().join(".")
}

/// The subresources that a custom resource may have, in the order of their names.
pub(crate) fn custom_subresources(
    kind: GroupVersionKind,
    with_status: bool,
    with_scale: bool,
) -> Vec<Subresource> {
    let all = [(with_scale, scale()), (with_status, status(kind))];
    all.into_iter().filter(|(wanted, _)| *wanted).map(|(_, part)| part).collect()
}

/// The quality-of-service class that follows from the requests and limits of a pod with defaults.
pub(crate) fn quality(pod: &serde_json::Value) -> &'static str {
    pod::quality_class(pod)
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
    custom: None,
};

/// The fields of a row that follow from its names, over [`BASE`]: `group "apps"` (or `core`), version, kind, singular,
/// plural, package of the type, type, rules.
macro_rules! row {
    (core $version:literal, $kind:literal, $singular:literal, $plural:literal, $type:ty, $rules:ty) => {
        crate::kinds::row!(@ "", $version, $version, $kind, $singular, $plural, "core", $type, $rules)
    };
    ($group:literal / $version:literal, $kind:literal, $singular:literal, $plural:literal, $package:literal, $type:ty,
     $rules:ty) => {
        crate::kinds::row!(@ $group, $version, concat!($group, "/", $version), $kind, $singular, $plural, $package, $type, $rules)
    };
    (@ $group:expr, $version:literal, $api_version:expr, $kind:literal, $singular:literal, $plural:literal,
     $package:literal, $type:ty, $rules:ty) => {
        crate::resource::Resource {
            group: $group,
            version: $version,
            api_version: $api_version,
            kind: $kind,
            list_kind: concat!($kind, "List"),
            plural: $plural,
            singular: $singular,
            scope: <$rules as crate::strategy::Rules>::SCOPE,
            storage_prefix: concat!("/registry/", $plural, "/"),
            storage: crate::kinds::gvk($group, $version, $kind),
            strategy: &crate::strategy::Typed::<$rules>::new(),
            schema: crate::schema::TypeRef::of::<$type>(
                concat!("io.k8s.api.", $package, ".", $version, ".", $kind)),
            ..crate::kinds::BASE
        }
    };
}
use row;

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
