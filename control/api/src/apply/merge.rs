//! Merging an applied configuration into an object, and taking paths out of one.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::form::{Form, form_with_entries, form_with_fields, is_hollow};
use super::set::{Element, Set};

/// `live` with everything that `applied` says.
pub(super) fn merge(live: &Value, applied: &Value, form: Form<'_>) -> Value {
    if is_hollow(Some(live)) || is_hollow(Some(applied)) {
        // Nothing said of a map or list with content leaves it as it is.
        let keep = is_hollow(Some(applied)) && !matches!(form, Form::Leaf) && !is_hollow(Some(live));
        return if keep { live.clone() } else { applied.clone() };
    }
    match (form, live, applied) {
        (form_with_fields!(), Value::Object(live), Value::Object(applied)) => {
            let kept = live.iter().map(|(name, value)| match applied.get(name) {
                Some(wanted) => (name.clone(), merge(value, wanted, form.child(name))),
                None => (name.clone(), value.clone()),
            });
            let added = applied.iter().filter(|(name, _)| !live.contains_key(*name));
            let added = added.map(|(name, value)| (name.clone(), value.clone()));
            kept.chain(added).collect::<Map<String, Value>>().into()
        }
        (form_with_entries!(), Value::Array(_), Value::Array(_)) => {
            match (form.entries(Some(live)), form.entries(Some(applied))) {
                (Some(live), Some(applied)) => lists(&live, &applied, form.entry()),
                _ => applied.clone(),
            }
        }
        _ => applied.clone(),
    }
}

type Entries<'v> = [(Element, &'v Value)];

/// Merges two lists of entries. The order is the applied one; entries that are only in the live list stay behind the entry
/// that they followed.
fn lists(live: &Entries<'_>, applied: &Entries<'_>, form: Form<'_>) -> Value {
    let known: HashMap<&Element, &Value> = live.iter().map(|(element, value)| (element, *value)).collect();
    let wanted: HashSet<&Element> = applied.iter().map(|(element, _)| element).collect();
    let mut shared = applied.iter().map(|(e, _)| e).filter(|e| known.contains_key(e)).peekable();
    let mut done: HashSet<&Element> = HashSet::new();
    let mut out = Vec::new();
    let (mut l, mut r) = (0, 0);
    while l < live.len() || r < applied.len() {
        if let Some((element, old)) = live.get(l) {
            if !wanted.contains(element) {
                out.push((*old).clone());
                l += 1;
                continue;
            }
            // Merged before, or its turn is not yet: the applied order decides.
            let waits = r < applied.len() && shared.peek().is_some_and(|next| *next != element);
            if done.contains(element) || waits {
                l += 1;
                continue;
            }
        }
        let Some((element, new)) = applied.get(r) else { continue };
        let old = known.get(element);
        out.push(old.map_or_else(|| (*new).clone(), |old| merge(old, new, form)));
        done.insert(element);
        shared.next_if(|next| *next == element);
        r += 1;
        if live.get(l).is_some_and(|(other, _)| other == element) {
            l += 1;
        }
    }
    out.into()
}

/// `value` without the paths in `remove`. What loses everything goes, too; `None` then.
pub(super) fn without(value: &Value, remove: &Set, form: Form<'_>) -> Option<Value> {
    let kept = |element: &Element, value: &Value, form: Form<'_>| match remove.get(element) {
        Some(node) if node.member => None,
        Some(node) => without(value, &node.below, form),
        None => Some(value.clone()),
    };
    match (form, value) {
        (form_with_fields!(), Value::Object(fields)) if !fields.is_empty() => {
            let left: Map<String, Value> = fields
                .iter()
                .filter_map(|(name, value)| {
                    Some((name.clone(), kept(&Element::field(name), value, form.child(name))?))
                })
                .collect();
            (!left.is_empty()).then(|| left.into())
        }
        (form_with_entries!(), Value::Array(items)) if !items.is_empty() => {
            let left: Vec<Value> = items
                .iter()
                .filter_map(|entry| match form.identity(entry) {
                    Some(element) => kept(&element, entry, form.entry()),
                    None => Some(entry.clone()),
                })
                .collect();
            (!left.is_empty()).then(|| left.into())
        }
        _ => Some(value.clone()),
    }
}
