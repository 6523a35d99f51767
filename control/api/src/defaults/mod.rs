//! Defaults that several kinds share: pod templates and what is in them. They work on values in place.

mod container;
mod pod;
mod volume;

use serde_json::{Map, Value};

pub(crate) use pod::{pod, pod_template};
pub(crate) use volume::source as volume_source;

/// An object's fields.
pub(crate) type Fields = Map<String, Value>;

/// The fields of the object at `name`, if it is there.
pub(crate) fn object<'a>(fields: &'a mut Fields, name: &str) -> Option<&'a mut Fields> {
    fields.get_mut(name)?.as_object_mut()
}

/// The fields of the object at `name`, which is made if it is absent.
pub(crate) fn make_object<'a>(fields: &'a mut Fields, name: &str) -> Option<&'a mut Fields> {
    fields.entry(name).or_insert_with(|| Map::new().into()).as_object_mut()
}

/// The objects in the list at `name`.
pub(crate) fn objects<'a>(fields: &'a mut Fields, name: &str) -> impl Iterator<Item = &'a mut Fields> {
    fields.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

/// Sets a field that is absent or empty text.
pub(crate) fn set(fields: &mut Fields, name: &str, value: impl Into<Value>) {
    let absent = fields.get(name).is_none_or(|found| found.as_str() == Some(""));
    if absent {
        fields.insert(name.to_owned(), value.into());
    }
}

/// Sets a field that is absent, empty text or 0: what Go's zero-valued fields cannot tell apart.
pub(crate) fn set_nonzero(fields: &mut Fields, name: &str, value: impl Into<Value>) {
    if fields.get(name).and_then(Value::as_i64) == Some(0) {
        fields.remove(name);
    }
    set(fields, name, value);
}

/// The text of a field, or nothing.
pub(crate) fn text<'a>(fields: &'a Fields, name: &str) -> &'a str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}
