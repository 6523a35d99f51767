//! What most files of kinds name.

// Lists are of the client's making and may have a hundred thousand entries: whatever looks for each one among those before it
// must not walk through them.
pub(in crate::kinds) use std::collections::HashSet;

pub(in crate::kinds) use jiff::Timestamp;
pub(in crate::kinds) use serde_json::{Map, Value, json};

pub(in crate::kinds) use super::{gvk, row, scale, status};
pub(in crate::kinds) use crate::defaults::{self, Fields, make_object, object, objects, set};
pub(in crate::kinds) use crate::meta::{self, NameRule};
pub(in crate::kinds) use crate::names;
pub(in crate::kinds) use crate::resource::{Resource, Scope};
pub(in crate::kinds) use crate::status::{FieldError, FieldPath};
pub(in crate::kinds) use crate::strategy::Rules;
pub(in crate::kinds) use crate::table::read::{self, age};
pub(in crate::kinds) use crate::table::{Column, Printer, duration};
pub(in crate::kinds) use crate::validate::{
    self, Errors, not_negative, one_in_order, one_of, refuse, require, require_by, require_one_of,
};

/// The path of `spec`.
pub(in crate::kinds) fn spec_path() -> FieldPath {
    FieldPath::root("spec")
}

/// The path of `status`.
pub(in crate::kinds) fn status_path() -> FieldPath {
    FieldPath::root("status")
}

/// The fields of an object's `spec`, made when absent.
pub(in crate::kinds) fn spec_of(object: &mut Value) -> Option<&mut Fields> {
    object.as_object_mut().and_then(|fields| make_object(fields, "spec"))
}

/// Notes each count of a status that is below 0.
pub(in crate::kinds) fn counts(path: &FieldPath, counts: &[(&str, i64)], errors: &mut Errors) {
    for (field, count) in counts {
        not_negative(&path.child(field), *count, errors);
    }
}

/// Notes a count of a status that went down.
pub(in crate::kinds) fn never_less(
    path: &FieldPath,
    new: Option<i32>,
    old: Option<i32>,
    errors: &mut Errors,
) {
    if old.is_some_and(|old| new.is_none_or(|new| new < old)) {
        errors.push(FieldError::invalid(path, new.unwrap_or_default(), "cannot be decremented"));
    }
}

/// Says of an object of a kind that a controller would act upon that there is none yet.
pub(in crate::kinds) fn has_no_controller(warnings: &mut Vec<String>) {
    warnings.push(
        "this server stores objects of this kind, and has no controller yet that acts upon them".to_owned(),
    );
}

/// Says of an object of a kind that would bind others that nothing comes of it yet, so that nobody relies on it.
pub(in crate::kinds) fn has_no_effect(warnings: &mut Vec<String>) {
    warnings.push("this server stores objects of this kind and does not enforce them yet".to_owned());
}
