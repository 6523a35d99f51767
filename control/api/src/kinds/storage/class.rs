//! StorageClasses, and the capacities that drivers report for them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::storage::v1 as storage;

use super::{class_name, fixed, parameters, provisioner};
use crate::kinds::prelude::*;

/// The row of storageclasses.
pub(in crate::kinds) const CLASS: Resource = Resource {
    short_names: &["sc"],
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("Provisioner", "storage.v1.StorageClass#provisioner"),
            Column::text("ReclaimPolicy", "storage.v1.StorageClass#reclaimPolicy"),
            Column::text("VolumeBindingMode", "storage.v1.StorageClass#volumeBindingMode"),
            Column::text("AllowVolumeExpansion", "storage.v1.StorageClass#allowVolumeExpansion"),
            Column::AGE,
        ],
        cells,
    },
    ..row!(
        "storage.k8s.io" / "v1",
        "StorageClass",
        "storageclass",
        "storageclasses",
        "storage",
        storage::StorageClass,
        StorageClassRules
    )
};

/// The row of csistoragecapacities.
pub(in crate::kinds) const CAPACITY: Resource = Resource {
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("StorageClassName", "storage.v1.CSIStorageCapacity#storageClassName"),
            Column::text("Capacity", "storage.v1.CSIStorageCapacity#capacity"),
        ],
        cells: capacity_cells,
    },
    ..row!(
        "storage.k8s.io" / "v1",
        "CSIStorageCapacity",
        "csistoragecapacity",
        "csistoragecapacities",
        "storage",
        storage::CSIStorageCapacity,
        CapacityRules
    )
};

const DEFAULT: &[&str] =
    &["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let or = |pointer: &str, absent: &str| match read::text(object, pointer) {
        "" => absent.to_owned(),
        found => found.to_owned(),
    };
    vec![
        class_name(object, DEFAULT).into(),
        read::text(object, "/provisioner").into(),
        or("/reclaimPolicy", "Delete").into(),
        or("/volumeBindingMode", "Immediate").into(),
        (object.get("allowVolumeExpansion") == Some(&Value::Bool(true))).into(),
        age(object, now),
    ]
}

fn capacity_cells(object: &Value, _now: Timestamp) -> Vec<Value> {
    vec![
        meta::name(object).into(),
        read::text(object, "/storageClassName").into(),
        object.get("capacity").and_then(Value::as_str).unwrap_or("<unset>").into(),
    ]
}

/// What is true of storageclasses.
pub(in crate::kinds) struct StorageClassRules;

impl Rules for StorageClassRules {
    type Object = storage::StorageClass;

    const SCOPE: Scope = Scope::Cluster;
    const CREATE_ON_UPDATE: bool = true;

    fn default(class: &mut Value) {
        let Some(fields) = class.as_object_mut() else { return };
        set(fields, "reclaimPolicy", "Delete");
        set(fields, "volumeBindingMode", "Immediate");
    }

    fn validate(class: &Self::Object, errors: &mut Errors) {
        provisioner(&FieldPath::root("provisioner"), &class.provisioner, errors);
        parameters(class.parameters.as_ref(), &FieldPath::root("parameters"), errors);
        let policy = validate::text(&class.reclaim_policy);
        if !policy.is_empty() {
            one_of(&FieldPath::root("reclaimPolicy"), policy, &["Delete", "Retain"], errors);
        }
        let mode = validate::text(&class.volume_binding_mode);
        let modes = ["Immediate", "WaitForFirstConsumer"];
        one_of(&FieldPath::root("volumeBindingMode"), mode, &modes, errors);
        topologies(class, errors);
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        Self::validate(new, errors);
        fixed("parameters", &new.parameters, &old.parameters, errors);
        fixed("provisioner", &new.provisioner, &old.provisioner, errors);
        fixed("reclaimPolicy", &new.reclaim_policy, &old.reclaim_policy, errors);
        let at = FieldPath::root("volumeBindingMode");
        validate::unchanged(&at, &new.volume_binding_mode, &old.volume_binding_mode, errors);
    }
}

fn topologies(class: &storage::StorageClass, errors: &mut Errors) {
    let all = FieldPath::root("allowedTopologies");
    let mut seen: BTreeSet<Term> = BTreeSet::new();
    for (index, term) in validate::list(&class.allowed_topologies).iter().enumerate() {
        let at = all.index(index).child("matchLabelExpressions");
        let term = topology(validate::list(&term.match_label_expressions), &at, errors);
        // Upstream takes a term without expressions for one that it has seen.
        if term.is_empty() || !seen.insert(term) {
            errors.push(FieldError::duplicate(&at, ""));
        }
    }
}

/// The values of each key.
type Term<'a> = BTreeMap<&'a str, BTreeSet<&'a str>>;

fn topology<'a>(
    expressions: &'a [core::TopologySelectorLabelRequirement],
    path: &FieldPath,
    errors: &mut Errors,
) -> Term<'a> {
    let mut term = Term::new();
    for (index, expression) in expressions.iter().enumerate() {
        let at = path.index(index);
        let values = at.child("values");
        if expression.values.is_empty() {
            errors.push(FieldError::required(&values, ""));
        }
        let mut known = BTreeSet::new();
        for (index, value) in expression.values.iter().enumerate() {
            if !known.insert(value.as_str()) {
                errors.push(FieldError::duplicate(&values.index(index), value.as_str()));
            }
        }
        let (at, key) = (at.child("key"), expression.key.as_str());
        refuse(&at, key, names::qualified_name(key), errors);
        if term.insert(key, known).is_some() {
            errors.push(FieldError::duplicate(&at, key));
        }
    }
    term
}

/// What is true of csistoragecapacities.
pub(in crate::kinds) struct CapacityRules;

impl Rules for CapacityRules {
    type Object = storage::CSIStorageCapacity;

    const UNCONDITIONAL_UPDATE: bool = false;

    fn validate(capacity: &Self::Object, errors: &mut Errors) {
        if let Some(topology) = &capacity.node_topology {
            validate::label_selector(topology, &FieldPath::root("nodeTopology"), errors);
        }
        let (at, class) = (FieldPath::root("storageClassName"), capacity.storage_class_name.as_str());
        refuse(&at, class, names::dns1123_subdomain(class), errors);
        if let Some(amount) = capacity.capacity.as_ref().filter(|a| validate::number(a).is_negative()) {
            let at = FieldPath::root("capacity");
            errors.push(FieldError::invalid(&at, amount.0.as_str(), names::NOT_NEGATIVE));
        }
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        Self::validate(new, errors);
        let topology = FieldPath::root("nodeTopology");
        validate::unchanged(&topology, &new.node_topology, &old.node_topology, errors);
        let class = FieldPath::root("storageClassName");
        validate::unchanged(&class, &new.storage_class_name, &old.storage_class_name, errors);
    }
}
