//! ReplicaSet.

use k8s_openapi::api::apps;

use super::{BASE, gvk, scale, status};
use crate::resource::Resource;
use crate::schema::TypeRef;
use crate::strategy::{Rules, Typed};

/// The row of replicasets.
pub(super) const RESOURCE: Resource = Resource {
    group: "apps",
    api_version: "apps/v1",
    kind: "ReplicaSet",
    list_kind: "ReplicaSetList",
    plural: "replicasets",
    singular: "replicaset",
    short_names: &["rs"],
    categories: &["all"],
    subresources: &[scale(), status(gvk("apps", "v1", "ReplicaSet"))],
    storage_prefix: "/registry/replicasets/",
    storage: gvk("apps", "v1", "ReplicaSet"),
    strategy: &Typed::<ReplicaSetRules>::new(),
    schema: TypeRef::of::<apps::v1::ReplicaSet>("io.k8s.api.apps.v1.ReplicaSet"),
    ..BASE
};

/// What is true of replicasets.
pub(super) struct ReplicaSetRules;

impl Rules for ReplicaSetRules {
    type Object = apps::v1::ReplicaSet;
}
