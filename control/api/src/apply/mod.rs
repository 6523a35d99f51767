//! Server-side apply, and the tracking of who manages which fields.
//!
//! The semantics are those of `sigs.k8s.io/structured-merge-diff` and of `k8s.io/apimachinery`'s field manager around
//! it: a manager that applies owns what its configuration says; every other write owns what it changed. Applying
//! conflicts with fields that another manager owns and that would change; what a manager applied before and leaves out
//! now goes, unless somebody else owns it. How values merge comes from the schemas: fields of objects one by one,
//! lists by the table of list types.

mod compare;
mod conflict;
mod form;
mod managed;
mod merge;
mod newborn;
mod overlay;
mod set;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::Value;

pub use conflict::ApplyError;
pub use overlay::{Kind, OverlayError, overlay};

use crate::codec;
use crate::meta;
use crate::resource::Resource;
use compare::{Difference, compare, fields, with_parents};
use conflict::Conflict;
use form::Form;
use managed::{Entry, Managers, Operation};
use merge::{merge, without};
use set::Set;

/// Media types of a configuration to apply.
pub const MEDIA_TYPE: &str = "application/apply-patch+yaml";
/// Who is said to have set what was there before the first apply.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// The manager whose applies take over what it wrote as `kubectl apply` without `--server-side`.
const KUBECTL: &str = "kubectl";
/// Where `kubectl apply` keeps what it applied last.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Largest annotation that is written; all annotations together may have this many bytes.
const MAX_ANNOTATION: usize = 256 * 1024;

/// A write: of what, by whom, when.
#[derive(Clone, Copy)]
pub struct Write<'a> {
    /// The row that the request came in by.
    pub resource: &'a Resource,
    /// The subresource, or empty.
    pub subresource: &'a str,
    /// The field manager's name.
    pub manager: &'a str,
    /// The time of the write.
    pub now: Timestamp,
    /// Converts custom resources; `None` where versions differ in their name alone.
    pub versions: Option<&'a dyn Versions>,
}

/// Converts the objects of a custom resource to other versions, as far as it can.
pub trait Versions: Sync {
    /// The object in the form of that version; `None` when that is not known.
    fn convert(&self, object: &Value, api_version: &str) -> Option<Value>;
}

impl Write<'_> {
    fn entry(&self, operation: Operation, fields: Set) -> Entry {
        Entry {
            manager: self.manager.to_owned(),
            operation,
            api_version: self.resource.api_version.to_owned(),
            subresource: self.subresource.to_owned(),
            time: managed::time(self.now),
            fields,
        }
    }
}

/// The object in the form of another version of its kind; `None` when that is not served.
fn in_version<'w>(write: &Write<'w>, object: &Value, api_version: &str) -> Option<(Value, Form<'w>)> {
    let resource = write.resource;
    if let Some(custom) = resource.custom() {
        let form = Form::Resource(&custom.find(api_version)?.schema);
        let object = match write.versions {
            Some(versions) => versions.convert(object, api_version)?,
            // A conversion that changes nothing but the version.
            None => object.clone(),
        };
        return Some((object, form));
    }
    let same =
        |row: &&Resource| row.storage_prefix == resource.storage_prefix && row.api_version == api_version;
    let row = crate::resources().iter().find(same)?;
    let mut object = object.clone();
    if let Some(conversion) = resource.conversion {
        (conversion.to_storage)(&mut object);
    }
    if let Some(conversion) = row.conversion {
        (conversion.from_storage)(&mut object);
    }
    Some((object, Form::of_resource(row)))
}

/// Takes from `managers` what `old` to `new` takes from them: changed and removed fields, of which `own` has those in
/// the form of the write's resource. With `but`, the manager that writes, is left alone. Answers the conflicts, with
/// the entries they were taken from.
fn take_over(
    write: &Write<'_>,
    old: &Value,
    new: &Value,
    own: &Difference,
    managers: &mut Managers,
    but: Option<&Entry>,
) -> Vec<Conflict> {
    let mut by_version: HashMap<String, Option<Difference>> = HashMap::new();
    let mut conflicts = Vec::new();
    managers.entries.retain_mut(|entry| {
        if but.is_some_and(|but| but.is_same(entry)) {
            return true;
        }
        let difference = if entry.api_version == write.resource.api_version {
            Some(own)
        } else {
            let other = by_version.entry(entry.api_version.clone()).or_insert_with(|| {
                let (old, form) = in_version(write, old, &entry.api_version)?;
                let (new, _) = in_version(write, new, &entry.api_version)?;
                Some(compare(&old, &new, form))
            });
            other.as_ref()
        };
        // What a version that is gone said of the object means nothing any more.
        let Some(difference) = difference else { return false };
        let mut lost = entry.fields.and(&difference.modified);
        lost.unite(entry.fields.and(&difference.added));
        if !lost.is_empty() {
            entry.fields.subtract(&lost);
            conflicts.push(Conflict::with(entry, lost));
        }
        entry.fields.subtract(&difference.removed);
        !entry.fields.is_empty()
    });
    conflicts
}

/// Tracks a write that is no apply: `manager` owns what differs between `old` and `new`, and others no longer do. For a
/// new object `old` is `None`. Both are in the form of the write's resource; `new` gets its `managedFields`.
pub fn track(write: &Write<'_>, old: Option<&Value>, new: &mut Value) {
    let before = match old {
        Some(old) => newborn::with_parts(old, write.resource),
        None => Cow::Owned(newborn::newborn(write.resource)),
    };
    let before = &*before;
    let mut managers = Managers::of_write(before, new, write.subresource);
    // What was never tracked is not tracked from the middle on: nobody could tell who set the rest.
    if managers.entries.is_empty() && old.is_some() {
        managers.store(new);
        return;
    }
    let difference = compare(before, new, Form::of_resource(write.resource));
    take_over(write, before, new, &difference, &mut managers, None);
    let mut owned = difference.added;
    owned.unite(difference.modified);
    if write.subresource.is_empty() && write.resource.has_status() {
        owned.remove_field("status");
    }
    managed::strip(&mut owned);
    if !owned.is_empty() {
        managers.unite(write.entry(Operation::Update, owned));
    }
    managers.store(new);
}

/// Applies `config` to `live` (`None`: the object does not exist), both in the form of the write's resource. Answers the
/// object as it is wanted, with its `managedFields`; `force` takes fields over that others own.
pub fn apply(
    write: &Write<'_>,
    live: Option<&Value>,
    config: &Value,
    force: bool,
) -> Result<Value, ApplyError> {
    if meta::metadata(config).is_some_and(|m| m.contains_key("managedFields")) {
        return Err(ApplyError::ManagedFields);
    }
    match attempt(write, live, config, force) {
        Err(ApplyError::Conflicts(conflicts))
            if write.manager == KUBECTL && kept_by_kubectl(write, live, &conflicts) =>
        {
            attempt(write, live, config, true)
        }
        other => other,
    }
}

fn attempt(
    write: &Write<'_>,
    live: Option<&Value>,
    config: &Value,
    force: bool,
) -> Result<Value, ApplyError> {
    let form = Form::of_resource(write.resource);
    let config = &only_own_part(write, config);
    let nothing = Value::Object(serde_json::Map::new());
    let before = live.unwrap_or(&nothing);
    let mut managers = Managers::of(before).unwrap_or_default();
    if managers.entries.is_empty() && live.is_some() {
        let first = Write { manager: BEFORE_FIRST_APPLY, subresource: "", ..*write };
        let mut entry = first.entry(Operation::Update, fields(before, form));
        entry.time.clear();
        managers.unite(entry);
    }
    let mut mine = write.entry(Operation::Apply, fields(config, form));
    let mut merged = merge(before, config, form);
    let place = managers.entries.iter().position(|known| known.is_same(&mine));
    let last = place.map(|at| managers.entries.swap_remove(at));
    managers.entries.push(mine.clone());
    if let Some(last) = &last
        && takes_away(config, &mine.fields, &last.fields)
    {
        merged = prune(&merged, &managers, &last.fields, form);
    }
    let own = compare(before, &merged, form);
    let conflicts = take_over(write, before, &merged, &own, &mut managers, Some(&mine));
    if !force && !conflicts.is_empty() {
        return Err(ApplyError::Conflicts(conflicts));
    }
    carry_last_applied(write, before, config, &mut merged);
    if write.resource.custom().is_none() {
        // Their author owns them all the same.
        codec::drop_nothing(&mut merged, &write.resource.schema.shape());
    }
    // An apply that changes nothing leaves the time of the one before.
    managed::strip(&mut mine.fields);
    if let Some(last) = last.filter(|last| last.fields == mine.fields && *before == merged)
        && let Some(entry) = managers.entries.iter_mut().find(|known| known.is_same(&mine))
    {
        entry.time = last.time;
    }
    managers.store(&mut merged);
    Ok(merged)
}

/// The part of a configuration that the write's (sub)resource sets: `status` has its own.
fn only_own_part(write: &Write<'_>, config: &Value) -> Value {
    let mut config = config.clone();
    let Some(fields) = config.as_object_mut() else { return config };
    match write.subresource {
        "" if write.resource.has_status() => {
            fields.remove("status");
        }
        "status" => {
            fields.retain(|name, _| matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "status"));
        }
        _ => {}
    }
    config
}

/// Whether a configuration with these `fields` may take away something of the `last` one. What is said again stays with all
/// that it holds, unless it holds nothing: then [`prune`] has to tell whose the content of the live object is.
fn takes_away(config: &Value, fields: &Set, last: &Set) -> bool {
    fn has_hollow(value: &Value) -> bool {
        match value {
            Value::Object(fields) => fields.is_empty() || fields.values().any(has_hollow),
            Value::Array(items) => items.is_empty() || items.iter().any(has_hollow),
            _ => value.is_null(),
        }
    }
    has_hollow(config) || !last.minus(fields).is_empty()
}

/// Takes out of `merged` what the manager applied last and does not any more, unless somebody owns it.
fn prune(merged: &Value, managers: &Managers, last: &Set, form: Form<'_>) -> Value {
    let last = with_parents(last, form);
    let there = with_parents(&fields(merged, form), form);
    let mut owned = Set::default();
    for entry in &managers.entries {
        owned.unite(with_parents(&entry.fields, form));
    }
    let empty = || Value::Object(serde_json::Map::new());
    let pruned = without(merged, &last, form).unwrap_or_else(empty);
    let mut left = with_parents(&fields(&pruned, form), form);
    left.unite(owned);
    // What others own comes back first, then what was removed along with it and was never this manager's.
    let pruned = without(merged, &there.minus(&left), form).unwrap_or_else(empty);
    let left = with_parents(&fields(&pruned, form), form);
    without(merged, &there.minus(&left).and(&last), form).unwrap_or_else(empty)
}

/// Whether all conflicts are about fields that `kubectl apply` without `--server-side` set and still keeps.
fn kept_by_kubectl(write: &Write<'_>, live: Option<&Value>, conflicts: &[Conflict]) -> bool {
    let Some(last) = live.and_then(|live| meta::annotation(live, LAST_APPLIED)) else { return false };
    let decoded = crate::codec::decode_object(last.as_bytes(), crate::codec::Media::Json, write.resource);
    let Ok(decoded) = decoded else { return false };
    let known = fields(&decoded.value, Form::of_resource(write.resource));
    conflicts.iter().all(|conflict| conflict.lost.minus(&known).is_empty())
}

/// Keeps the annotation of `kubectl apply` in step, so that people can go back to it.
fn carry_last_applied(write: &Write<'_>, live: &Value, config: &Value, merged: &mut Value) {
    if write.manager != KUBECTL || meta::annotation(live, LAST_APPLIED).is_none() {
        return;
    }
    let mut last = config.clone();
    if let Some(annotations) = last.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    let mut text = last.to_string();
    text.push('\n');
    if let Some(annotations) = merged.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        if text.len() <= MAX_ANNOTATION {
            annotations.insert(LAST_APPLIED.into(), text.into());
        } else {
            annotations.remove(LAST_APPLIED);
        }
    }
}
