//! VolumeAttributesClasses.

use k8s_openapi::api::storage::v1 as storage;

use super::{fixed, parameters};
use crate::kinds::prelude::*;

/// The row of volumeattributesclasses.
pub(in crate::kinds) const RESOURCE: Resource = Resource {
    short_names: &["vac"],
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("DriverName", "storage.v1.VolumeAttributesClass#driverName"),
            Column::AGE,
        ],
        cells,
    },
    ..row!(
        "storage.k8s.io" / "v1",
        "VolumeAttributesClass",
        "volumeattributesclass",
        "volumeattributesclasses",
        "storage",
        storage::VolumeAttributesClass,
        AttributesClassRules
    )
};

const DEFAULT: &[&str] = &["volumeattributesclass.alpha.kubernetes.io/is-default-class"];

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        super::class_name(object, DEFAULT).into(),
        read::text(object, "/driverName").into(),
        age(object, now),
    ]
}

/// What is true of volumeattributesclasses.
pub(in crate::kinds) struct AttributesClassRules;

impl Rules for AttributesClassRules {
    type Object = storage::VolumeAttributesClass;

    const SCOPE: Scope = Scope::Cluster;
    const CREATE_ON_UPDATE: bool = true;

    fn validate(class: &Self::Object, errors: &mut Errors) {
        super::provisioner(&FieldPath::root("driverName"), &class.driver_name, errors);
        let at = FieldPath::root("parameters");
        if class.parameters.as_ref().is_none_or(|p| p.is_empty()) {
            errors.push(FieldError::required(&at, "must contain at least one key/value pair"));
        }
        parameters(class.parameters.as_ref(), &at, errors);
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        fixed("driverName", &new.driver_name, &old.driver_name, errors);
        fixed("parameters", &new.parameters, &old.parameters, errors);
        Self::validate(new, errors);
    }
}
