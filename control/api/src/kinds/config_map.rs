//! ConfigMap.

use k8s_openapi::api::core as core_api;

use super::{BASE, core};
use crate::resource::Resource;
use crate::schema::TypeRef;
use crate::strategy::{Rules, Typed};

/// The row of configmaps.
pub(super) const RESOURCE: Resource = Resource {
    kind: "ConfigMap",
    list_kind: "ConfigMapList",
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    storage_prefix: "/registry/configmaps/",
    storage: core("v1", "ConfigMap"),
    strategy: &Typed::<ConfigMapRules>::new(),
    schema: TypeRef::of::<core_api::v1::ConfigMap>("io.k8s.api.core.v1.ConfigMap"),
    ..BASE
};

/// What is true of configmaps.
pub(super) struct ConfigMapRules;

impl Rules for ConfigMapRules {
    type Object = core_api::v1::ConfigMap;
}
