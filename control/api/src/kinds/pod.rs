//! Pods, and the Binding that puts one on a node.

use k8s_openapi::api::core as core_api;

use super::{BASE, PART, POST, PROXY, STREAM, core, gvk, status};
use crate::resource::{Resource, Subresource, Verb};
use crate::schema::TypeRef;
use crate::strategy::{Rules, Typed};

/// The row of pods.
pub(super) const RESOURCE: Resource = Resource {
    kind: "Pod",
    list_kind: "PodList",
    plural: "pods",
    singular: "pod",
    short_names: &["po"],
    categories: &["all"],
    subresources: &[
        Subresource { name: "attach", kind: core("v1", "PodAttachOptions"), verbs: STREAM },
        Subresource { name: "binding", kind: core("v1", "Binding"), verbs: POST },
        Subresource { name: "ephemeralcontainers", kind: core("v1", "Pod"), verbs: PART },
        Subresource { name: "eviction", kind: gvk("policy", "v1", "Eviction"), verbs: POST },
        Subresource { name: "exec", kind: core("v1", "PodExecOptions"), verbs: STREAM },
        Subresource { name: "log", kind: core("v1", "Pod"), verbs: &[Verb::Get] },
        Subresource { name: "portforward", kind: core("v1", "PodPortForwardOptions"), verbs: STREAM },
        Subresource { name: "proxy", kind: core("v1", "PodProxyOptions"), verbs: PROXY },
        Subresource { name: "resize", kind: core("v1", "Pod"), verbs: PART },
        status(core("v1", "Pod")),
    ],
    storage_prefix: "/registry/pods/",
    storage: core("v1", "Pod"),
    strategy: &Typed::<PodRules>::new(),
    schema: TypeRef::of::<core_api::v1::Pod>("io.k8s.api.core.v1.Pod"),
    ..BASE
};

/// The row of bindings, which are posted and never stored.
pub(super) const BINDING: Resource = Resource {
    kind: "Binding",
    plural: "bindings",
    singular: "binding",
    verbs: POST,
    storage: core("v1", "Binding"),
    schema: TypeRef::of::<core_api::v1::Binding>("io.k8s.api.core.v1.Binding"),
    ..BASE
};

/// What is true of pods.
pub(super) struct PodRules;

impl Rules for PodRules {
    type Object = core_api::v1::Pod;
}
