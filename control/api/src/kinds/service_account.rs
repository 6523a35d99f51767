//! ServiceAccount.

use k8s_openapi::api::core as core_api;

use super::{BASE, POST, core, gvk};
use crate::resource::{Resource, Subresource};
use crate::schema::TypeRef;
use crate::strategy::{Rules, Typed};

/// The row of serviceaccounts.
pub(super) const RESOURCE: Resource = Resource {
    kind: "ServiceAccount",
    list_kind: "ServiceAccountList",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    subresources: &[Subresource {
        name: "token",
        kind: gvk("authentication.k8s.io", "v1", "TokenRequest"),
        verbs: POST,
    }],
    storage_prefix: "/registry/serviceaccounts/",
    storage: core("v1", "ServiceAccount"),
    strategy: &Typed::<ServiceAccountRules>::new(),
    schema: TypeRef::of::<core_api::v1::ServiceAccount>("io.k8s.api.core.v1.ServiceAccount"),
    ..BASE
};

/// What is true of serviceaccounts.
pub(super) struct ServiceAccountRules;

impl Rules for ServiceAccountRules {
    type Object = core_api::v1::ServiceAccount;
}
