//! StorageClasses, and the capacities that drivers report for them.

use k8s_openapi::api::storage::v1 as storage;

use super::{class_name, fixed, parameters, provisioner};
use crate::kinds::prelude::*;

/// The row of storageclasses.
pub(in crate::kinds) const CLASS: Resource = Resource {
    short_names: &["sc"],
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("Provisioner", "What provides the volumes of the class."),
            Column::text("ReclaimPolicy", "What happens to its volumes when their claims go."),
            Column::text("VolumeBindingMode", "When its volumes are provided."),
            Column::boolean("AllowVolumeExpansion", "Whether its volumes can grow."),
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
            Column::text("StorageClassName", "The class that the capacity is of."),
            Column::text("Capacity", "How much can be provided."),
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
        read::text(object, "/capacity").into(),
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
        one_of(&FieldPath::root("reclaimPolicy"), policy, &["Delete", "Retain"], errors);
        let mode = validate::text(&class.volume_binding_mode);
        let modes = ["Immediate", "WaitForFirstConsumer"];
        require_one_of(&FieldPath::root("volumeBindingMode"), mode, &modes, errors);
        topologies(class, errors);
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        fixed("parameters", &new.parameters, &old.parameters, errors);
        fixed("provisioner", &new.provisioner, &old.provisioner, errors);
        fixed("reclaimPolicy", &new.reclaim_policy, &old.reclaim_policy, errors);
        let at = FieldPath::root("volumeBindingMode");
        validate::unchanged(&at, &new.volume_binding_mode, &old.volume_binding_mode, errors);
        topologies(new, errors);
    }
}

fn topologies(class: &storage::StorageClass, errors: &mut Errors) {
    let all = FieldPath::root("allowedTopologies");
    for (index, term) in validate::list(&class.allowed_topologies).iter().enumerate() {
        let terms = all.index(index).child("matchLabelExpressions");
        for (index, expression) in validate::list(&term.match_label_expressions).iter().enumerate() {
            let at = terms.index(index);
            refuse(&at.child("key"), &expression.key, names::qualified_name(&expression.key), errors);
            let values = at.child("values");
            if expression.values.is_empty() {
                errors.push(FieldError::required(&values, ""));
            }
            for (index, value) in expression.values.iter().enumerate() {
                if expression.values[..index].contains(value) {
                    errors.push(FieldError::duplicate(&values.index(index), value.as_str()));
                }
            }
        }
    }
}

/// What is true of csistoragecapacities.
pub(in crate::kinds) struct CapacityRules;

impl Rules for CapacityRules {
    type Object = storage::CSIStorageCapacity;

    const UNCONDITIONAL_UPDATE: bool = false;

    fn validate(capacity: &Self::Object, errors: &mut Errors) {
        let class = FieldPath::root("storageClassName");
        refuse(
            &class,
            &capacity.storage_class_name,
            names::dns1123_subdomain(&capacity.storage_class_name),
            errors,
        );
        if let Some(topology) = &capacity.node_topology {
            validate::label_selector(topology, &FieldPath::root("nodeTopology"), errors);
        }
        for (field, amount) in
            [("capacity", &capacity.capacity), ("maximumVolumeSize", &capacity.maximum_volume_size)]
        {
            if let Some(amount) = amount.as_ref().filter(|a| validate::number(a).is_negative()) {
                let at = FieldPath::root(field);
                errors.push(FieldError::invalid(&at, amount.0.as_str(), names::NOT_NEGATIVE));
            }
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
