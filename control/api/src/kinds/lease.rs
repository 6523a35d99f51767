//! Lease.

use k8s_openapi::api::coordination;

use super::{BASE, gvk};
use crate::resource::Resource;
use crate::schema::TypeRef;
use crate::strategy::{Rules, Typed};

/// The row of leases.
pub(super) const RESOURCE: Resource = Resource {
    group: "coordination.k8s.io",
    api_version: "coordination.k8s.io/v1",
    kind: "Lease",
    list_kind: "LeaseList",
    plural: "leases",
    singular: "lease",
    storage_prefix: "/registry/leases/",
    storage: gvk("coordination.k8s.io", "v1", "Lease"),
    strategy: &Typed::<LeaseRules>::new(),
    schema: TypeRef::of::<coordination::v1::Lease>("io.k8s.api.coordination.v1.Lease"),
    ..BASE
};

/// What is true of leases.
pub(super) struct LeaseRules;

impl Rules for LeaseRules {
    type Object = coordination::v1::Lease;
}
