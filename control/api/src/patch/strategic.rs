//! Strategic merge: a merge patch that knows which lists are merged by key, and has directives of its own.
//!
//! Directives: `$patch: replace | merge | delete` in an object or a list's element, `$retainKeys` in an object,
//! `$deleteFromPrimitiveList/<field>` and `$setElementOrder/<field>` beside a list. The rules for lists are
//! [`crate::schema::RULES`].

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::PatchError;
use crate::resource::Resource;
use crate::schema::{ListKind, ListRule, ObjectType, Registry, Shape, registry};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_PREFIX: &str = "$deleteFromPrimitiveList/";
const ORDER_PREFIX: &str = "$setElementOrder/";

/// Applies `patch` to an object of `resource`.
pub fn strategic_merge(resource: &Resource, original: Value, patch: Value) -> Result<Value, PatchError> {
    let merge = Merge { registry: registry() };
    match (original, patch) {
        (Value::Object(original), Value::Object(patch)) => {
            merge.object(original, patch, &resource.schema.shape()).map(Value::Object)
        }
        _ => Err(malformed("a strategic merge patch and what it changes must be objects")),
    }
}

fn malformed(why: impl Into<String>) -> PatchError {
    PatchError::Malformed(why.into())
}

struct Merge<'r> {
    registry: &'r Registry,
}

/// What a patch says of a field: the shape of its value and how its list merges.
struct FieldRule<'r> {
    shape: &'r Shape,
    rule: Option<&'static ListRule>,
}

impl<'r> Merge<'r> {
    fn field(&self, of: &'r Shape, name: &str) -> FieldRule<'r> {
        match of {
            Shape::Object(id) => {
                let object: &ObjectType = self.registry.get(*id);
                match object.field(name) {
                    Some(field) => FieldRule { shape: &field.shape, rule: field.rule },
                    None => FieldRule { shape: &Shape::Any, rule: None },
                }
            }
            Shape::Map(values) => FieldRule { shape: values, rule: None },
            _ => FieldRule { shape: &Shape::Any, rule: None },
        }
    }

    fn object(
        &self,
        mut original: Map<String, Value>,
        mut patch: Map<String, Value>,
        shape: &Shape,
    ) -> Result<Map<String, Value>, PatchError> {
        match patch.remove(DIRECTIVE) {
            None => {}
            Some(Value::String(directive)) => match directive.as_str() {
                "merge" => {}
                "replace" => return without_directives(patch),
                "delete" => return Ok(Map::new()),
                other => return Err(malformed(format!("unknown patch type found: {other}"))),
            },
            Some(other) => return Err(malformed(format!("unknown patch type found: {other}"))),
        }
        retain_keys(&mut original, &mut patch)?;
        self.ordered_lists(&mut original, &mut patch, shape)?;
        for (name, value) in patch {
            if let Some(field) = name.strip_prefix(DELETE_PREFIX) {
                delete_from_list(&mut original, field, value)?;
            } else if value.is_null() {
                original.remove(&name);
            } else {
                let merged = match original.remove(&name) {
                    Some(old) => self.value(old, value, &self.field(shape, &name), &name)?,
                    None => fresh(value)?,
                };
                original.insert(name, merged);
            }
        }
        Ok(original)
    }

    fn value(&self, old: Value, new: Value, field: &FieldRule<'_>, name: &str) -> Result<Value, PatchError> {
        match (old, new) {
            (Value::Object(old), Value::Object(new)) => self.object(old, new, field.shape).map(Value::Object),
            (Value::Array(old), Value::Array(new)) => match field.rule {
                Some(rule) if rule.merge => {
                    let (order, merged) = self.list(old, new, field.shape, rule, name)?;
                    Ok(Value::Array(in_order(merged.items, &order, &merged.before, rule.patch_key)))
                }
                _ => fresh(Value::Array(new)),
            },
            (_, new) => fresh(new),
        }
    }

    /// Merges two lists; the order of the patch's elements and the outcome in no particular order.
    fn list(
        &self,
        old: Vec<Value>,
        new: Vec<Value>,
        shape: &Shape,
        rule: &ListRule,
        name: &str,
    ) -> Result<(Vec<Value>, Merged), PatchError> {
        let Some(key) = rule.patch_key else {
            debug_assert_eq!(rule.list, ListKind::Set);
            let before = old.clone();
            let mut known = texts(&old);
            let mut items = old;
            items.extend(new.iter().filter(|value| known.insert(value.to_string())).cloned());
            return Ok((new, Merged { items, before, moved_in: Vec::new() }));
        };
        let element = if let Shape::List(of) = shape { of } else { &Shape::Any };
        let (count, mut items) = (old.len(), old);
        let (plain, replace) = special_elements(&mut items, new, key, name)?;
        let before: Vec<Value> = items.iter().map(|item| key_only(item, key)).collect();
        let mut deleted = count - items.len();
        let mut moved_in = Vec::new();
        if replace {
            items.clear();
        }
        let mut order = Vec::with_capacity(plain.len());
        let mut places = places(items.iter().map(|item| item.get(key)));
        for patch in plain {
            let Value::Object(patch) = patch else {
                return Err(malformed(format!("expected an object in list {name:?}, got {patch}")));
            };
            let wanted = patch.get(key).cloned().ok_or_else(|| {
                malformed(format!(
                    "map: {} does not contain declared merge key: {key}",
                    Value::Object(patch.clone())
                ))
            })?;
            let text = wanted.to_string();
            let place = places.get(&text).copied();
            match place.and_then(|at| items.get_mut(at)).filter(|item| item.get(key) == Some(&wanted)) {
                Some(found) => {
                    let old = match found.take() {
                        Value::Object(old) => old,
                        _ => Map::new(),
                    };
                    *found = Value::Object(self.object(old, patch, element)?);
                }
                None => {
                    places.insert(text, items.len());
                    items.push(fresh(Value::Object(patch))?);
                    if deleted > 0 {
                        deleted -= 1;
                        moved_in.push(wanted.clone());
                    }
                }
            }
            order.push(wanted);
        }
        Ok((order, Merged { items, before, moved_in }))
    }

    /// Handles `$setElementOrder/<field>` together with the list it orders.
    fn ordered_lists(
        &self,
        original: &mut Map<String, Value>,
        patch: &mut Map<String, Value>,
        shape: &Shape,
    ) -> Result<(), PatchError> {
        let directives: Vec<String> = patch.keys().filter(|k| k.starts_with(ORDER_PREFIX)).cloned().collect();
        for directive in directives {
            let name = &directive[ORDER_PREFIX.len()..];
            let Some(Value::Array(wanted)) = patch.remove(&directive) else {
                return Err(malformed(format!("{directive} must be a list")));
            };
            let field = self.field(shape, name);
            let Some(rule) = field.rule.filter(|rule| rule.merge) else {
                return Err(malformed(format!("{directive} names a list that is not merged")));
            };
            let key = rule.patch_key;
            let order: Vec<Value> = match key {
                Some(key) => wanted.iter().map(|item| key_only(item, key)).collect(),
                None => wanted,
            };
            let old = match original.remove(name) {
                Some(Value::Array(old)) => old,
                _ => Vec::new(),
            };
            let new = match patch.remove(name) {
                Some(Value::Array(new)) => new,
                None => Vec::new(),
                Some(Value::Null) => continue,
                Some(other) => return Err(malformed(format!("expected a list in {name:?}, got {other}"))),
            };
            let (patched, mut merged) = self.list(old, new, field.shape, rule, name)?;
            if !is_subsequence(&patched, &order) {
                return Err(malformed(format!(
                    "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}",
                    Value::Array(patched),
                    Value::Array(order)
                )));
            }
            merged.before.append(&mut merged.moved_in);
            if merged.items.is_empty() && merged.before.is_empty() {
                continue;
            }
            original
                .insert(name.to_owned(), Value::Array(in_order(merged.items, &order, &merged.before, key)));
        }
        Ok(())
    }
}

/// A merged list, and the identities of the list before it in their order.
struct Merged {
    items: Vec<Value>,
    before: Vec<Value>,
    /// New elements that upstream puts into the room of deleted ones. Where the order is given it then takes these for old
    /// ones at the end of the list, and clients see the outcome.
    moved_in: Vec<Value>,
}

/// What tells an element apart: the value of its key.
fn key_only(item: &Value, key: &str) -> Value {
    item.get(key).cloned().unwrap_or_default()
}

/// The texts of values. Lists are of the client's making, and may have a hundred thousand elements: whatever looks for each of
/// one in the other must not walk through it.
fn texts(values: &[Value]) -> HashSet<String> {
    values.iter().map(Value::to_string).collect()
}

/// Where each value is first, by its text.
fn places<'a>(values: impl Iterator<Item = Option<&'a Value>>) -> HashMap<String, usize> {
    let mut places = HashMap::new();
    for (at, value) in values.enumerate() {
        if let Some(value) = value {
            places.entry(value.to_string()).or_insert(at);
        }
    }
    places
}

/// Whether all of `part` appear in `whole` in the same order.
fn is_subsequence(part: &[Value], whole: &[Value]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|wanted| rest.any(|found| found == wanted))
}

/// Puts a merged list in order: elements that the patch names in the patch's order, others in the order they had, and an
/// other one goes before a named one only if it was before it in the old list.
fn in_order(items: Vec<Value>, order: &[Value], before: &[Value], key: Option<&str>) -> Vec<Value> {
    let identity = |item: &Value| key.map_or_else(|| item.clone(), |key| key_only(item, key));
    let [was_at, wanted_at] = [before, order].map(|list| places(list.iter().map(Some)));
    let mut named = Vec::new();
    let mut others = Vec::new();
    for item in items {
        let id = identity(&item).to_string();
        let was = was_at.get(&id).copied();
        match wanted_at.get(&id).copied() {
            Some(at) => named.push((at, was, item)),
            None => others.push((was.unwrap_or(usize::MAX), was, item)),
        }
    }
    named.sort_by_key(|(at, ..)| *at);
    others.sort_by_key(|(at, ..)| *at);
    let mut out = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for (_, named_was, item) in named {
        while others.peek().is_some_and(|(_, was, _)| was.zip(named_was).is_some_and(|(o, n)| o < n)) {
            out.extend(others.next().map(|(.., item)| item));
        }
        out.push(item);
    }
    out.extend(others.map(|(.., item)| item));
    out
}

/// Takes the elements with a directive out of a list's patch and carries them out. Answers the rest, and whether the
/// rest replaces the list.
fn special_elements(
    items: &mut Vec<Value>,
    patch: Vec<Value>,
    key: &str,
    name: &str,
) -> Result<(Vec<Value>, bool), PatchError> {
    let mut plain = Vec::with_capacity(patch.len());
    let mut replace = false;
    let mut deleted = HashSet::new();
    for element in patch {
        match element.get(DIRECTIVE).map(|d| d.as_str().unwrap_or_default()) {
            None => plain.push(element),
            Some("delete") => {
                let id = element.get(key).ok_or_else(|| {
                    malformed(format!("delete patch type with no merge key defined in list {name:?}"))
                })?;
                deleted.insert(id.to_string());
            }
            Some("replace") => replace = true,
            Some("merge") => {
                return Err(malformed("merging lists cannot yet be specified in the patch"));
            }
            Some(other) => return Err(malformed(format!("unknown patch type found: {other}"))),
        }
    }
    items.retain(|item| item.get(key).is_none_or(|id| !deleted.contains(&id.to_string())));
    Ok((plain, replace))
}

fn delete_from_list(original: &mut Map<String, Value>, field: &str, values: Value) -> Result<(), PatchError> {
    let Value::Array(values) = values else {
        return Err(malformed(format!("{DELETE_PREFIX}{field} must be a list")));
    };
    if let Some(Value::Array(items)) = original.get_mut(field) {
        let values = texts(&values);
        items.retain(|item| !values.contains(&item.to_string()));
        if items.is_empty() {
            original.remove(field);
        }
    }
    Ok(())
}

/// Handles `$retainKeys`: every other field of the old object goes.
fn retain_keys(original: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), PatchError> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(keys) = keys else {
        return Err(malformed("$retainKeys must be a list"));
    };
    let keys: HashSet<&str> = keys.iter().filter_map(Value::as_str).collect();
    for (name, value) in patch.iter() {
        if !value.is_null() && !name.starts_with('$') && !keys.contains(name.as_str()) {
            return Err(malformed(
                "invalid patch format of retainKeys: a field that is set is missing in the list",
            ));
        }
    }
    original.retain(|name, _| keys.contains(name.as_str()));
    Ok(())
}

/// A patch's value where nothing was: without nulls and directives.
fn fresh(value: Value) -> Result<Value, PatchError> {
    Ok(match value {
        Value::Object(fields) => Value::Object(without_directives(fields)?),
        Value::Array(items) => {
            let mut out = Vec::with_capacity(items.len());
            for item in items {
                match item.get(DIRECTIVE).and_then(Value::as_str) {
                    Some("delete" | "replace") => {}
                    _ => out.push(fresh(item)?),
                }
            }
            Value::Array(out)
        }
        other => other,
    })
}

fn without_directives(fields: Map<String, Value>) -> Result<Map<String, Value>, PatchError> {
    let mut out = Map::new();
    for (name, value) in fields {
        let directive = name == DIRECTIVE
            || name == RETAIN_KEYS
            || name.starts_with(DELETE_PREFIX)
            || name.starts_with(ORDER_PREFIX);
        if !directive && !value.is_null() {
            out.insert(name, fresh(value)?);
        }
    }
    Ok(out)
}
