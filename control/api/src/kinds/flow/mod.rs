//! The kinds of flowcontrol.apiserver.k8s.io.

mod mandatory;
mod priority_level;
mod schema;

pub(super) use priority_level::RESOURCE as PRIORITY_LEVEL;
pub(super) use schema::RESOURCE as SCHEMA;

use super::prelude::*;

/// The columns' word for what is not there.
const NONE: &str = "<none>";

/// Conditions have a type, each once.
fn condition_types<'a>(types: impl Iterator<Item = &'a str>, errors: &mut Errors) {
    let all = status_path().child("conditions");
    let mut seen = HashSet::new();
    for (index, kind) in types.enumerate() {
        let at = all.index(index).child("type");
        if !seen.insert(kind) {
            errors.push(FieldError::duplicate(&at, kind));
        }
        if kind.is_empty() {
            errors.push(FieldError::required(&at, "must not be empty"));
        }
    }
}
