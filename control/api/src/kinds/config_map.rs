//! ConfigMaps.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core as core_api;
use serde_json::Value;

use super::{BASE, core};
use crate::meta;
use crate::names;
use crate::resource::Resource;
use crate::schema::TypeRef;
use crate::status::{FieldError, FieldPath};
use crate::strategy::{Rules, Typed};
use crate::table::read::age;
use crate::table::{Column, Printer};
use crate::validate::{Errors, refuse};

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
    printer: Printer {
        columns: &[Column::NAME, Column::text("Data", "core.v1.ConfigMap#data"), Column::AGE],
        cells,
    },
    ..BASE
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let count = |field| object.get(field).and_then(Value::as_object).map_or(0, serde_json::Map::len);
    vec![meta::name(object).into(), (count("data") + count("binaryData")).into(), age(object, now)]
}

/// Most bytes of all values together, of ConfigMaps and Secrets alike.
pub(super) const MAX_DATA: usize = 1024 * 1024;

/// What is true of configmaps.
pub(super) struct ConfigMapRules;

impl Rules for ConfigMapRules {
    type Object = core_api::v1::ConfigMap;

    fn validate(map: &Self::Object, errors: &mut Errors) {
        let (data_at, binary_at) = (FieldPath::root("data"), FieldPath::root("binaryData"));
        let mut total = 0;
        for (key, value) in map.data.iter().flatten() {
            refuse(&data_at.key(key), key, names::config_key(key), errors);
            if map.binary_data.as_ref().is_some_and(|binary| binary.contains_key(key)) {
                let why = "duplicate of key present in binaryData";
                errors.push(FieldError::invalid(&data_at.key(key), key.as_str(), why));
            }
            total += value.len();
        }
        for (key, value) in map.binary_data.iter().flatten() {
            refuse(&binary_at.key(key), key, names::config_key(key), errors);
            total += value.0.len();
        }
        if total > MAX_DATA {
            // Upstream names no field here, which its messages show like this.
            errors.push(FieldError::too_long(&FieldPath::root("[]"), MAX_DATA));
        }
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        if old.immutable == Some(true) {
            stays_immutable(new.immutable, errors);
            unchanged("data", entries(&new.data), entries(&old.data), errors);
            unchanged("binaryData", entries(&new.binary_data), entries(&old.binary_data), errors);
        }
        Self::validate(new, errors);
    }
}

const WHY: &str = "field is immutable when `immutable` is set";

/// The mark itself cannot be taken back.
pub(super) fn stays_immutable(new: Option<bool>, errors: &mut Errors) {
    if new != Some(true) {
        errors.push(FieldError::forbidden(&FieldPath::root("immutable"), WHY));
    }
}

/// A field of an immutable object.
pub(super) fn unchanged<T: PartialEq>(field: &str, new: T, old: T, errors: &mut Errors) {
    if new != old {
        errors.push(FieldError::forbidden(&FieldPath::root(field), WHY));
    }
}

/// A map, an empty one being absent.
pub(super) fn entries<T>(map: &Option<BTreeMap<String, T>>) -> Option<&BTreeMap<String, T>> {
    map.as_ref().filter(|m| !m.is_empty())
}

/// The bytes of all values of a map.
pub(super) fn size(map: &Option<BTreeMap<String, ByteString>>) -> usize {
    map.iter().flatten().map(|(_, value)| value.0.len()).sum()
}
