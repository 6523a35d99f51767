//! CSINodes: the drivers on a node.

use k8s_openapi::api::storage::v1 as storage;

use crate::kinds::prelude::*;

/// The row of csinodes.
pub(in crate::kinds) const RESOURCE: Resource = Resource {
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::integer("Drivers", "Drivers indicates the number of CSI drivers registered on the node"),
            Column::AGE,
        ],
        cells,
    },
    ..row!("storage.k8s.io" / "v1", "CSINode", "csinode", "csinodes", "storage", storage::CSINode, NodeRules)
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![meta::name(object).into(), read::list(object, "/spec/drivers").len().into(), age(object, now)]
}

/// Longest name of a node in a driver's terms.
const MAX_NODE_ID: usize = 256;

/// What is true of csinodes.
pub(in crate::kinds) struct NodeRules;

impl Rules for NodeRules {
    type Object = storage::CSINode;

    const SCOPE: Scope = Scope::Cluster;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn validate(node: &Self::Object, errors: &mut Errors) {
        let all = spec_path().child("drivers");
        let drivers = &node.spec.drivers;
        let mut seen = HashSet::new();
        for (index, driver) in drivers.iter().enumerate() {
            let at = all.index(index);
            validate::csi_driver_name(&at.child("name"), &driver.name, errors);
            let id = at.child("nodeID");
            if require(&id, &driver.node_id, errors) && driver.node_id.len() > MAX_NODE_ID {
                let why = format!("must be {MAX_NODE_ID} characters or less");
                errors.push(FieldError::invalid(&id, driver.node_id.as_str(), why));
            }
            if let Some(count) = driver.allocatable.as_ref().and_then(|a| a.count) {
                not_negative(&at.child("allocatable").child("count"), i64::from(count), errors);
            }
            if !seen.insert(&driver.name) {
                errors.push(FieldError::duplicate(&at.child("name"), driver.name.as_str()));
            }
            // The path of keys is upstream's.
            let keys = validate::list(&driver.topology_keys);
            let mut seen = HashSet::new();
            for key in keys {
                require(&at, key, errors);
                if !seen.insert(key) {
                    errors.push(FieldError::duplicate(&at, key.as_str()));
                }
                refuse(&at, key, names::qualified_name(key), errors);
            }
        }
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        Self::validate(new, errors);
        // A driver may come, go, and say anew how much the node can hold, but stays who it is.
        let identity = |driver: &storage::CSINodeDriver| {
            let mut driver = driver.clone();
            driver.allocatable = None;
            driver
        };
        let at = spec_path().child("drivers");
        for known in &old.spec.drivers {
            for driver in new.spec.drivers.iter().filter(|driver| driver.name == known.name) {
                validate::unchanged(&at, &identity(driver), &identity(known), errors);
            }
        }
    }
}
