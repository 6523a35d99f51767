//! Conditions of a status, as `metav1.Condition` has them.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{Errors, one_of, refuse};
use crate::names;
use crate::status::{FieldError, FieldPath};

const STATES: &[&str] = &["False", "True", "Unknown"];
/// Longest reason and longest message, in bytes.
const MAX_REASON: usize = 1024;
const MAX_MESSAGE: usize = 32 * 1024;

/// All conditions at `path`; each type is there once.
pub(crate) fn conditions(conditions: &[Condition], path: &FieldPath, errors: &mut Errors) {
    for (index, condition) in conditions.iter().enumerate() {
        let at = path.index(index);
        if conditions[..index].iter().any(|other| other.type_ == condition.type_) {
            errors.push(FieldError::duplicate(&at.child("type"), condition.type_.as_str()));
        }
        one(condition, &at, errors);
    }
}

fn one(condition: &Condition, path: &FieldPath, errors: &mut Errors) {
    refuse(&path.child("type"), &condition.type_, names::qualified_name(&condition.type_), errors);
    one_of(&path.child("status"), &condition.status, STATES, errors);
    if let Some(generation) = condition.observed_generation.filter(|g| *g < 0) {
        let why = "must be greater than or equal to zero";
        errors.push(FieldError::invalid(&path.child("observedGeneration"), generation, why));
    }
    // A time that is left out is read as the beginning of all.
    if condition.last_transition_time.0 == Timestamp::UNIX_EPOCH {
        errors.push(FieldError::required(&path.child("lastTransitionTime"), "must be set"));
    }
    let at = path.child("reason");
    if condition.reason.is_empty() {
        errors.push(FieldError::required(&at, "must be set"));
    } else {
        refuse(&at, &condition.reason, names::condition_reason(&condition.reason), errors);
        if condition.reason.len() > MAX_REASON {
            errors.push(FieldError::too_long(&at, MAX_REASON));
        }
    }
    if condition.message.len() > MAX_MESSAGE {
        errors.push(FieldError::too_long(&path.child("message"), MAX_MESSAGE));
    }
}
