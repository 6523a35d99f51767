//! EndpointSlice.

use k8s_openapi::api::discovery;

use super::{BASE, gvk};
use crate::resource::Resource;
use crate::schema::TypeRef;
use crate::strategy::{Rules, Typed};

/// The row of endpointslices.
pub(super) const RESOURCE: Resource = Resource {
    group: "discovery.k8s.io",
    api_version: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    list_kind: "EndpointSliceList",
    plural: "endpointslices",
    singular: "endpointslice",
    storage_prefix: "/registry/endpointslices/",
    storage: gvk("discovery.k8s.io", "v1", "EndpointSlice"),
    strategy: &Typed::<EndpointSliceRules>::new(),
    schema: TypeRef::of::<discovery::v1::EndpointSlice>("io.k8s.api.discovery.v1.EndpointSlice"),
    ..BASE
};

/// What is true of endpointslices.
pub(super) struct EndpointSliceRules;

impl Rules for EndpointSliceRules {
    type Object = discovery::v1::EndpointSlice;
}
