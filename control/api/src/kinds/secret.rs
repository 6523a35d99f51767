//! Secret.

use k8s_openapi::api::core as core_api;

use super::{BASE, core};
use crate::resource::Resource;
use crate::schema::TypeRef;
use crate::strategy::{Rules, Typed};

/// The row of secrets.
pub(super) const RESOURCE: Resource = Resource {
    kind: "Secret",
    list_kind: "SecretList",
    plural: "secrets",
    singular: "secret",
    storage_prefix: "/registry/secrets/",
    storage: core("v1", "Secret"),
    strategy: &Typed::<SecretRules>::new(),
    schema: TypeRef::of::<core_api::v1::Secret>("io.k8s.api.core.v1.Secret"),
    ..BASE
};

/// What is true of secrets.
pub(super) struct SecretRules;

impl Rules for SecretRules {
    type Object = core_api::v1::Secret;
}
