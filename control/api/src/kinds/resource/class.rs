//! DeviceClasses.

use k8s_openapi::api::resource::v1 as api;

use super::{at_most, opaque, request};
use crate::kinds::prelude::*;

/// The row of deviceclasses.
pub(in crate::kinds) const RESOURCE: Resource = Resource {
    ..row!(
        "resource.k8s.io" / "v1",
        "DeviceClass",
        "deviceclass",
        "deviceclasses",
        "resource",
        api::DeviceClass,
        ClassRules
    )
};

const MAX_CONFIGURATIONS: usize = 32;

/// What is true of deviceclasses.
pub(in crate::kinds) struct ClassRules;

impl Rules for ClassRules {
    type Object = api::DeviceClass;

    const SCOPE: Scope = Scope::Cluster;
    const HAS_GENERATION: bool = true;

    fn validate(class: &Self::Object, errors: &mut Errors) {
        let (spec, path) = (&class.spec, spec_path());
        request::selectors(validate::list(&spec.selectors), &path.child("selectors"), errors);
        let (at, configurations) = (path.child("config"), validate::list(&spec.config));
        at_most(&at, configurations, MAX_CONFIGURATIONS, errors);
        for (index, configuration) in configurations.iter().enumerate() {
            opaque(configuration.opaque.as_ref(), &at.index(index), errors);
        }
        if let Some(name) = spec.extended_resource_name.as_deref() {
            let at = path.child("extendedResourceName");
            refuse(&at, name, names::qualified_name(name), errors);
            if !name.contains('/') {
                errors.push(FieldError::invalid(&at, name, "must be a valid extended resource name"));
            }
        }
    }
}
