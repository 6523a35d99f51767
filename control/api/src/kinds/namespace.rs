//! Namespace.

use k8s_openapi::api::core as core_api;

use super::{BASE, core, status};
use crate::resource::{Resource, Scope, Subresource, Verb};
use crate::schema::TypeRef;
use crate::strategy::{Rules, Typed};

/// The row of namespaces.
pub(super) const RESOURCE: Resource = Resource {
    kind: "Namespace",
    list_kind: "NamespaceList",
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    scope: Scope::Cluster,
    subresources: &[
        Subresource { name: "finalize", kind: core("v1", "Namespace"), verbs: &[Verb::Update] },
        status(core("v1", "Namespace")),
    ],
    storage_prefix: "/registry/namespaces/",
    storage: core("v1", "Namespace"),
    strategy: &Typed::<NamespaceRules>::new(),
    schema: TypeRef::of::<core_api::v1::Namespace>("io.k8s.api.core.v1.Namespace"),
    ..BASE
};

/// What is true of namespaces.
pub(super) struct NamespaceRules;

impl Rules for NamespaceRules {
    type Object = core_api::v1::Namespace;
}
