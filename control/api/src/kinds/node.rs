//! Node.

use k8s_openapi::api::core as core_api;

use super::{BASE, PROXY, core, status};
use crate::resource::{Resource, Scope, Subresource};
use crate::schema::TypeRef;
use crate::strategy::{Rules, Typed};

/// The row of nodes.
pub(super) const RESOURCE: Resource = Resource {
    kind: "Node",
    list_kind: "NodeList",
    plural: "nodes",
    singular: "node",
    short_names: &["no"],
    scope: Scope::Cluster,
    subresources: &[
        Subresource { name: "proxy", kind: core("v1", "NodeProxyOptions"), verbs: PROXY },
        status(core("v1", "Node")),
    ],
    storage_prefix: "/registry/nodes/",
    storage: core("v1", "Node"),
    strategy: &Typed::<NodeRules>::new(),
    schema: TypeRef::of::<core_api::v1::Node>("io.k8s.api.core.v1.Node"),
    ..BASE
};

/// What is true of nodes.
pub(super) struct NodeRules;

impl Rules for NodeRules {
    type Object = core_api::v1::Node;
}
