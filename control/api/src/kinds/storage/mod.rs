//! The kinds of storage.k8s.io.

mod attachment;
mod attributes_class;
mod class;
mod csi_driver;
mod csi_node;

use super::prelude::*;
use std::collections::BTreeMap;

pub(super) use attachment::RESOURCE as ATTACHMENT;
pub(super) use attributes_class::RESOURCE as ATTRIBUTES_CLASS;
pub(super) use class::{CAPACITY, CLASS};
pub(super) use csi_driver::RESOURCE as CSI_DRIVER;
pub(super) use csi_node::RESOURCE as CSI_NODE;

/// Most parameters of a class, and most bytes of them together.
const MAX_PARAMETERS: usize = 512;
const MAX_PARAMETER_BYTES: usize = 256 * 1024;

/// A name that marks the default among classes.
fn class_name(object: &Value, annotations: &[&str]) -> String {
    let default = annotations.iter().any(|key| meta::annotation(object, key) == Some("true"));
    if default { format!("{} (default)", meta::name(object)) } else { meta::name(object).to_owned() }
}

/// The name of what provides volumes.
fn provisioner(path: &FieldPath, name: &str, errors: &mut Errors) {
    if require(path, name, errors) {
        let name = name.to_lowercase();
        refuse(path, &name, names::qualified_name(&name), errors);
    }
}

fn parameters(parameters: Option<&BTreeMap<String, String>>, path: &FieldPath, errors: &mut Errors) {
    let Some(parameters) = parameters else { return };
    if parameters.len() > MAX_PARAMETERS {
        errors.push(FieldError::too_long(path, MAX_PARAMETERS));
        return;
    }
    if parameters.contains_key("") {
        errors.push(FieldError::invalid(path, "", "field can not be empty."));
    }
    if parameters.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > MAX_PARAMETER_BYTES {
        errors.push(FieldError::too_long(path, MAX_PARAMETER_BYTES));
    }
}

/// Refuses the change of a field of a class: others have read it.
fn fixed<T: PartialEq + serde::Serialize>(field: &str, new: &T, old: &T, errors: &mut Errors) {
    if !validate::same(new, old) {
        let why = format!("updates to {field} are forbidden.");
        errors.push(FieldError::forbidden(&FieldPath::root(field), why));
    }
}
