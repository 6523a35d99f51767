//! Endpoints.

use k8s_openapi::api::core as core_api;

use super::{BASE, core};
use crate::resource::Resource;
use crate::schema::TypeRef;
use crate::strategy::{Rules, Typed};

/// The row of endpoints.
pub(super) const RESOURCE: Resource = Resource {
    kind: "Endpoints",
    list_kind: "EndpointsList",
    plural: "endpoints",
    singular: "endpoints",
    short_names: &["ep"],
    storage_prefix: "/registry/endpoints/",
    storage: core("v1", "Endpoints"),
    strategy: &Typed::<EndpointsRules>::new(),
    schema: TypeRef::of::<core_api::v1::Endpoints>("io.k8s.api.core.v1.Endpoints"),
    ..BASE
};

/// What is true of endpoints.
pub(super) struct EndpointsRules;

impl Rules for EndpointsRules {
    type Object = core_api::v1::Endpoints;
}
