//! What differs between two objects, and which fields an object has, as sets of paths.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::{Map, Value};

use super::form::{Form, form_with_entries, form_with_fields, is_hollow};
use super::set::{Element, Set};

/// The paths that differ.
#[derive(Debug, Default)]
pub(super) struct Difference {
    pub(super) added: Set,
    pub(super) modified: Set,
    pub(super) removed: Set,
}

/// What became of a value as a whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    None,
    Added,
    Modified,
    Removed,
}

/// What differs between `old` and `new`.
pub(super) fn compare(old: &Value, new: &Value, form: Form<'_>) -> Difference {
    let mut out = Difference::default();
    walk(Some(old), Some(new), form, &mut out);
    out
}

/// Compares two values: answers what became of the value itself and adds what is below it to `out`.
fn walk(old: Option<&Value>, new: Option<&Value>, form: Form<'_>, out: &mut Difference) -> Change {
    if old == new {
        return Change::None;
    }
    let whole = match (old, new) {
        (None, _) => Change::Added,
        (_, None) => Change::Removed,
        _ => Change::Modified,
    };
    // What holds nothing on both sides is a leaf, so that it counts whether it is there.
    if is_hollow(old) && is_hollow(new) {
        return whole;
    }
    match form {
        Form::Leaf => return whole,
        form_with_fields!() => {
            let names: BTreeSet<&String> =
                [old, new].into_iter().flatten().filter_map(Value::as_object).flat_map(Map::keys).collect();
            for name in names {
                let (old, new) = (old.and_then(|o| o.get(name)), new.and_then(|n| n.get(name)));
                if old != new {
                    enter(Element::field(name), old, new, form.child(name), out);
                }
            }
        }
        form_with_entries!() => {
            let (Some(was), Some(is)) = (form.entries(old), form.entries(new)) else { return whole };
            let now: HashMap<&Element, &Value> =
                is.iter().map(|(element, entry)| (element, *entry)).collect();
            let known: HashSet<&Element> = was.iter().map(|(element, _)| element).collect();
            for (element, entry) in &was {
                enter(element.clone(), Some(entry), now.get(element).copied(), form.entry(), out);
            }
            for (element, entry) in &is {
                if !known.contains(element) {
                    enter(element.clone(), None, Some(entry), form.entry(), out);
                }
            }
        }
    }
    if whole == Change::Modified { Change::None } else { whole }
}

fn enter(element: Element, old: Option<&Value>, new: Option<&Value>, form: Form<'_>, out: &mut Difference) {
    let mut below = Difference::default();
    let change = walk(old, new, form, &mut below);
    let Difference { added, modified, removed } = below;
    let parts = [
        (&mut out.added, Change::Added, added),
        (&mut out.modified, Change::Modified, modified),
        (&mut out.removed, Change::Removed, removed),
    ];
    for (set, sort, below) in parts {
        if change == sort || !below.is_empty() {
            set.add(element.clone(), change == sort, below);
        }
    }
}

/// The fields that an object has. Lists and objects with known fields are there by what they hold; entries, free keys and
/// empty objects also by themselves.
pub(super) fn fields(value: &Value, form: Form<'_>) -> Set {
    let mut out = Set::default();
    match (form, value) {
        (form_with_fields!(), Value::Object(members)) => {
            for (name, value) in members {
                let (is_leaf, below) = inside(value, form.child(name));
                let empty = matches!(value, Value::Object(fields) if fields.is_empty());
                out.add(Element::field(name), is_leaf || empty || !form.declares(name), below);
            }
        }
        (form_with_entries!(), Value::Array(_)) => {
            for (element, entry) in form.entries(Some(value)).unwrap_or_default() {
                out.add(element, true, inside(entry, form.entry()).1);
            }
        }
        _ => {}
    }
    out
}

/// Whether a value is owned as one piece, and what is owned of it otherwise.
fn inside(value: &Value, form: Form<'_>) -> (bool, Set) {
    match (form, value) {
        (Form::Leaf, _) => (true, Set::default()),
        (form_with_entries!(), _) if form.entries(Some(value)).is_none() => (true, Set::default()),
        (_, Value::Object(_) | Value::Array(_)) => (false, fields(value, form)),
        _ => (true, Set::default()),
    }
}

/// The set with the declared fields as members that lead to its paths: removing a path removes what held only it.
pub(super) fn with_parents(set: &Set, form: Form<'_>) -> Set {
    let mut out = Set::default();
    for (element, node) in set.iter() {
        let leads = !node.below.is_empty() && element.name().is_some_and(|name| form.declares(name));
        out.add(element.clone(), node.member || leads, with_parents(&node.below, form.below(element)));
    }
    out
}
