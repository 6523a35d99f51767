//! Metadata that every object has: reading, the parts that only the server sets, and its validation.

mod owner;
mod validate;

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::{Map, Value};

pub use owner::{OwnerReference, controller_of, dedup_owners, owners};
pub use validate::{
    NameRule, finalizer_warnings, validate_annotations, validate_create, validate_kube_finalizers,
    validate_labels, validate_update,
};

use crate::resource::{Resource, Scope};
use crate::status::{FieldError, FieldPath, Status};

/// Letters of generated names: no vowels and nothing that looks like another.
const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Length of a generated suffix.
pub const SUFFIX_LENGTH: usize = 5;
/// Longest part of `generateName` that is kept, so that the name stays a label.
const MAX_GENERATE_BASE: usize = 63 - SUFFIX_LENGTH;

/// The metadata object, if there is one.
pub fn metadata(object: &Value) -> Option<&Map<String, Value>> {
    object.get("metadata").and_then(Value::as_object)
}

/// The metadata object, made if it is absent. `None` when `object` is no JSON object.
pub fn metadata_mut(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let metadata = object.as_object_mut()?.entry("metadata").or_insert_with(|| Map::new().into());
    if !metadata.is_object() {
        *metadata = Map::new().into();
    }
    metadata.as_object_mut()
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    metadata(object).and_then(|m| m.get(field)).and_then(Value::as_str).unwrap_or_default()
}

/// `metadata.name`, or the empty string.
pub fn name(object: &Value) -> &str {
    text(object, "name")
}

/// `metadata.namespace`, or the empty string.
pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

/// `metadata.uid`, or the empty string.
pub fn uid(object: &Value) -> &str {
    text(object, "uid")
}

/// `metadata.resourceVersion`, or the empty string.
pub fn resource_version(object: &Value) -> &str {
    text(object, "resourceVersion")
}

/// `metadata.generation`, or 0.
pub fn generation(object: &Value) -> i64 {
    metadata(object).and_then(|m| m.get("generation")).and_then(Value::as_i64).unwrap_or_default()
}

/// `metadata.labels`.
pub fn labels(object: &Value) -> Option<&Map<String, Value>> {
    metadata(object)?.get("labels")?.as_object()
}

/// `metadata.annotations`.
pub fn annotations(object: &Value) -> Option<&Map<String, Value>> {
    metadata(object)?.get("annotations")?.as_object()
}

/// One annotation.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    metadata(object)?.get("annotations")?.get(key)?.as_str()
}

/// Finalizers, in order.
pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    metadata(object)
        .and_then(|m| m.get("finalizers"))
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

/// When the object was made.
pub fn creation_time(object: &Value) -> Option<Timestamp> {
    text(object, "creationTimestamp").parse().ok()
}

/// When the object is to be gone; set means that its deletion has begun.
pub fn deletion_time(object: &Value) -> Option<Timestamp> {
    text(object, "deletionTimestamp").parse().ok()
}

/// Whether the object's deletion has begun.
pub fn is_deleting(object: &Value) -> bool {
    !text(object, "deletionTimestamp").is_empty()
}

/// Seconds of grace of a deletion that has begun.
pub fn deletion_grace(object: &Value) -> Option<i64> {
    metadata(object)?.get("deletionGracePeriodSeconds")?.as_i64()
}

/// A time as `metav1.Time` writes it: UTC, whole seconds.
pub fn format_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A time as `metav1.MicroTime` writes it: UTC, microseconds.
pub fn format_micro_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// `base` with a suffix made of the random bytes, as `metadata.generateName` asks for.
pub fn generate_name(base: &str, random: [u8; SUFFIX_LENGTH]) -> String {
    let mut end = base.len().min(MAX_GENERATE_BASE);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = base[..end].to_owned();
    name.extend(random.iter().map(|r| char::from(SUFFIX_ALPHABET[usize::from(*r) % SUFFIX_ALPHABET.len()])));
    name
}

/// The `generateName` of an object that has no name; `None` when nothing is to be generated.
pub fn wants_generated_name(object: &Value) -> Option<&str> {
    let base = text(object, "generateName");
    (name(object).is_empty() && !base.is_empty()).then_some(base)
}

/// Sets a field of metadata.
pub fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    if let Some(metadata) = metadata_mut(object) {
        metadata.insert(field.to_owned(), value.into());
    }
}

/// Sets what only the server may set on a new object, and drops what a client may not bring along. `namespace` is the
/// path's, ignored for cluster scope; an object that names another one is refused before with
/// [`check_namespace`].
pub fn stamp_new(object: &mut Value, scope: Scope, namespace: &str, uid: &str, now: Timestamp) {
    let Some(metadata) = metadata_mut(object) else { return };
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion", "selfLink"] {
        metadata.remove(field);
    }
    metadata.insert("uid".into(), uid.into());
    metadata.insert("creationTimestamp".into(), format_time(now).into());
    if scope == Scope::Namespaced {
        metadata.insert("namespace".into(), namespace.into());
    }
}

/// Fills, from the stored object, server-managed metadata that an update leaves out. What it contradicts is found by
/// [`validate_update`], but for the times of creation and deletion, which an update cannot change and may say wrongly.
pub fn stamp_update(new: &mut Value, old: &Value) {
    let old = metadata(old);
    let Some(new) = metadata_mut(new) else { return };
    new.remove("selfLink");
    for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "namespace"]
    {
        let absent = new.get(field).is_none_or(|v| v.is_null() || v.as_str() == Some(""));
        let fixed = matches!(field, "creationTimestamp" | "deletionTimestamp");
        if let (true, Some(value)) = (absent || fixed, old.and_then(|o| o.get(field))) {
            new.insert(field.to_owned(), value.clone());
        }
    }
}

/// Begins a graceful deletion: sets `deletionTimestamp` to `now` plus the grace, and raises the generation where
/// there is one.
pub fn mark_deleted(object: &mut Value, now: Timestamp, grace_seconds: i64) {
    let generation = generation(object);
    let Some(metadata) = metadata_mut(object) else { return };
    let grace = grace_seconds.max(0);
    let at = now.checked_add(jiff::SignedDuration::from_secs(grace)).unwrap_or(Timestamp::MAX);
    metadata.insert("deletionTimestamp".into(), format_time(at).into());
    metadata.insert("deletionGracePeriodSeconds".into(), grace.into());
    if generation > 0 {
        metadata.insert("generation".into(), (generation + 1).into());
    }
}

/// Whether the body's namespace agrees with the path's; an absent one does.
pub fn check_namespace(object: &Value, path: &str) -> Result<(), Status> {
    let found = namespace(object);
    if found.is_empty() || found == path {
        return Ok(());
    }
    Err(crate::status::bad_request(
        "the namespace of the provided object does not match the namespace sent on the request",
    ))
}

/// Whether the body's name agrees with the path's; an absent one does.
pub fn check_name(object: &Value, path: &str) -> Result<(), Status> {
    let found = name(object);
    if found.is_empty() || found == path {
        return Ok(());
    }
    Err(crate::status::bad_request(format!(
        "the name of the object ({found}) does not match the name on the URL ({path})"
    )))
}

/// The refusal of an update without `metadata.resourceVersion` where the kind needs it.
pub fn resource_version_required(resource: &Resource, name: &str) -> Status {
    let path = FieldPath::root("metadata").child("resourceVersion");
    let error = FieldError::invalid(&path, 0, "must be specified for an update");
    crate::status::invalid_object(resource, name, &[error])
}

/// The text at a dotted path of fields; scalars become text, anything absent or composed is empty.
pub fn text_at<'a>(object: &'a Value, path: &str) -> Cow<'a, str> {
    let mut here = object;
    for field in path.split('.') {
        match here.get(field) {
            Some(next) => here = next,
            None => return Cow::Borrowed(""),
        }
    }
    match here {
        Value::String(text) => Cow::Borrowed(text),
        Value::Bool(true) => Cow::Borrowed("true"),
        Value::Bool(false) => Cow::Borrowed("false"),
        Value::Number(number) => Cow::Owned(number.to_string()),
        _ => Cow::Borrowed(""),
    }
}

pub(crate) fn set_generation(object: &mut Value, generation: i64) {
    set(object, "generation", generation);
}

/// Empties `status`, which a client cannot bring along with a new object.
pub(crate) fn clear_status(object: &mut Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("status".into(), Map::new().into());
    }
}

pub(crate) fn remove_in_metadata(object: &mut Value, field: &str) {
    if let Some(metadata) = metadata_mut(object) {
        metadata.remove(field);
    }
}

/// Makes a top field of `new` what it is in `old`, absent included.
pub(crate) fn copy_field(new: &mut Value, old: &Value, field: &str) {
    let Some(fields) = new.as_object_mut() else { return };
    match old.get(field) {
        Some(value) => fields.insert(field.to_owned(), value.clone()),
        None => fields.remove(field),
    };
}

/// Makes a field of the metadata of `new` what it is in `old`, absent included.
pub(crate) fn copy_in_metadata(new: &mut Value, old: &Value, field: &str) {
    let value = metadata(old).and_then(|m| m.get(field));
    let Some(metadata) = metadata_mut(new) else { return };
    match value {
        Some(value) => metadata.insert(field.to_owned(), value.clone()),
        None => metadata.remove(field),
    };
}

/// Takes everything but `status` and metadata from `old`, and of metadata the generation and the fields in `keeps`.
/// Upstream lets the rest of metadata pass, and people patch annotations together with status.
pub(crate) fn keep_all_but_status(new: &mut Value, old: &Value, keeps: &[&str]) {
    let Some(old_fields) = old.as_object() else { return };
    if let Some(fields) = new.as_object_mut() {
        let kept = |name: &str| matches!(name, "apiVersion" | "kind" | "metadata" | "status");
        fields.retain(|name, _| kept(name) || old_fields.contains_key(name));
        for (name, value) in old_fields {
            // A patch leaves most of it as it is.
            if name != "metadata" && name != "status" && fields.get(name) != Some(value) {
                fields.insert(name.clone(), value.clone());
            }
        }
    }
    for field in keeps.iter().chain(&["generation"]) {
        copy_in_metadata(new, old, field);
    }
}

/// Whether a field of metadata differs.
pub(crate) fn differs_in_metadata(new: &Value, old: &Value, field: &str) -> bool {
    let get = |object| metadata(object).and_then(|m| m.get(field));
    !same(get(new), get(old))
}

/// Whether anything but metadata and status differs.
pub(crate) fn wanted_state_differs(new: &Value, old: &Value) -> bool {
    let skip = |name: &str| matches!(name, "metadata" | "status" | "apiVersion" | "kind");
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else { return false };
    let differs = |a: &Map<String, Value>, b: &Map<String, Value>| {
        a.iter().any(|(name, value)| !skip(name) && !same(Some(value), b.get(name)))
    };
    differs(new, old) || differs(old, new)
}

/// Whether two values mean the same: an absent field is what Go writes for nothing (false, 0, "", empty list or map).
pub fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(value), None) | (None, Some(value)) => is_zero(value),
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            a.iter().all(|(name, value)| same(Some(value), b.get(name)))
                && b.iter().all(|(name, value)| a.contains_key(name) || is_zero(value))
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(Some(a), Some(b)))
        }
        (Some(a), Some(b)) => a == b || (is_zero(a) && is_zero(b)),
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}
