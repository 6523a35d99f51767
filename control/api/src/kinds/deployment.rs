//! Deployment.

use k8s_openapi::api::apps;

use super::{BASE, gvk, scale, status};
use crate::resource::Resource;
use crate::schema::TypeRef;
use crate::strategy::{Rules, Typed};

/// The row of deployments.
pub(super) const RESOURCE: Resource = Resource {
    group: "apps",
    api_version: "apps/v1",
    kind: "Deployment",
    list_kind: "DeploymentList",
    plural: "deployments",
    singular: "deployment",
    short_names: &["deploy"],
    categories: &["all"],
    subresources: &[scale(), status(gvk("apps", "v1", "Deployment"))],
    storage_prefix: "/registry/deployments/",
    storage: gvk("apps", "v1", "Deployment"),
    strategy: &Typed::<DeploymentRules>::new(),
    schema: TypeRef::of::<apps::v1::Deployment>("io.k8s.api.apps.v1.Deployment"),
    ..BASE
};

/// What is true of deployments.
pub(super) struct DeploymentRules;

impl Rules for DeploymentRules {
    type Object = apps::v1::Deployment;
}
