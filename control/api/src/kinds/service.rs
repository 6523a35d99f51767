//! Service.

use k8s_openapi::api::core as core_api;

use super::{BASE, PROXY, core, status};
use crate::resource::{Resource, Subresource};
use crate::schema::TypeRef;
use crate::strategy::{Rules, Typed};

/// The row of services.
pub(super) const RESOURCE: Resource = Resource {
    kind: "Service",
    list_kind: "ServiceList",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    subresources: &[
        Subresource { name: "proxy", kind: core("v1", "ServiceProxyOptions"), verbs: PROXY },
        status(core("v1", "Service")),
    ],
    storage_prefix: "/registry/services/",
    storage: core("v1", "Service"),
    strategy: &Typed::<ServiceRules>::new(),
    schema: TypeRef::of::<core_api::v1::Service>("io.k8s.api.core.v1.Service"),
    ..BASE
};

/// What is true of services.
pub(super) struct ServiceRules;

impl Rules for ServiceRules {
    type Object = core_api::v1::Service;
}
