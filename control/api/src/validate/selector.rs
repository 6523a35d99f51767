//! Label selectors and plain maps of labels.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::{Errors, list, refuse};
use crate::names;
use crate::status::{FieldError, FieldPath};

/// A map of labels.
pub(crate) fn label_map(labels: Option<&BTreeMap<String, String>>, path: &FieldPath, errors: &mut Errors) {
    for (key, value) in labels.into_iter().flatten() {
        refuse(path, key, names::qualified_name(key), errors);
        refuse(path, value, names::label_value(value), errors);
    }
}

/// A selector of labels.
pub(crate) fn label_selector(selector: &LabelSelector, path: &FieldPath, errors: &mut Errors) {
    label_map(selector.match_labels.as_ref(), &path.child("matchLabels"), errors);
    let expressions = path.child("matchExpressions");
    for (index, expression) in list(&selector.match_expressions).iter().enumerate() {
        requirement(expression, &expressions.index(index), errors);
    }
}

/// One expression of a selector.
pub(crate) fn requirement(expression: &LabelSelectorRequirement, path: &FieldPath, errors: &mut Errors) {
    let values = list(&expression.values);
    let at = path.child("values");
    match expression.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            errors.push(FieldError::required(&at, "must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(&at, why));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => {
            errors.push(FieldError::invalid(&path.child("operator"), other, "not a valid selector operator"))
        }
    }
    for (index, value) in values.iter().enumerate() {
        refuse(&at.index(index), value, names::label_value(value), errors);
    }
    refuse(&path.child("key"), &expression.key, names::qualified_name(&expression.key), errors);
}
