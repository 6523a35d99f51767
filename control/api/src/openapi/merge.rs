//! OpenAPI v2 documents of other servers, put into this one's: what they say of the group versions that they answer
//! for, with the types that this takes. A type that both have under one name and not alike gets another name, as
//! upstream has it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

const REF: &str = "$ref";
const PREFIX: &str = "#/definitions/";
const KINDS: &str = "x-kubernetes-group-version-kind";

/// What another server tells of a group version.
#[derive(Clone, Debug)]
pub struct Part<'a> {
    /// `/apis/<group>/<version>`.
    pub root: &'a str,
    /// The server's whole document.
    pub document: &'a Value,
}

/// Puts parts into `own`, in their order. Paths that are there stay.
pub(super) fn merge(own: &mut Value, parts: &[Part<'_>]) {
    for part in parts {
        put(own, part);
    }
}

fn put(own: &mut Value, part: &Part<'_>) {
    let map =
        |value: &Value, field: &str| value.get(field).and_then(Value::as_object).cloned().unwrap_or_default();
    let below = format!("{}/", part.root);
    let present = map(own, "paths");
    let mut paths: Map<String, Value> = map(part.document, "paths")
        .into_iter()
        .filter(|(path, _)| (*path == part.root || path.starts_with(&below)) && !present.contains_key(path))
        .collect();
    let theirs = map(part.document, "definitions");
    let mut definitions = needed(&paths, &theirs);
    let Some(known) = own.get_mut("definitions").and_then(Value::as_object_mut) else { return };
    let names = names(&mut definitions, known);
    let rename = |value: &mut Value| refs(value, &mut |name| *name = names.get(name).unwrap_or(name).clone());
    for (name, mut definition) in definitions {
        rename(&mut definition);
        known.insert(names.get(&name).cloned().unwrap_or(name), definition);
    }
    paths.values_mut().for_each(rename);
    if let Some(all) = own.get_mut("paths").and_then(Value::as_object_mut) {
        all.extend(paths);
    }
}

/// The definitions that paths lead to.
fn needed(paths: &Map<String, Value>, all: &Map<String, Value>) -> BTreeMap<String, Value> {
    let mut waiting = BTreeSet::new();
    for path in paths.values() {
        refs(&mut path.clone(), &mut |name| waiting.extend([name.clone()]));
    }
    let mut found = BTreeMap::new();
    while let Some(name) = waiting.pop_first() {
        let Some(definition) = all.get(&name).filter(|_| !found.contains_key(&name)) else { continue };
        refs(&mut definition.clone(), &mut |name| waiting.extend([name.clone()]));
        found.insert(name, definition.clone());
    }
    found
}

/// Takes out of `definitions` those that `known` has alike, whose kinds it gets, and says what the others whose names are
/// taken are called.
fn names(
    definitions: &mut BTreeMap<String, Value>,
    known: &mut Map<String, Value>,
) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    definitions.retain(|name, definition| {
        let Some(present) = known.get_mut(name) else { return true };
        if without_kinds(present) == without_kinds(definition) {
            let more: Vec<Value> =
                kinds(definition).filter(|kind| !kinds(present).any(|k| k == *kind)).cloned().collect();
            if let (false, Some(fields)) = (more.is_empty(), present.as_object_mut()) {
                let all = fields.entry(KINDS).or_insert_with(|| Value::Array(Vec::new()));
                if let Some(all) = all.as_array_mut() {
                    all.extend(more);
                }
            }
            return false;
        }
        // Two types of one kind would leave it to chance which one clients take.
        let own: Vec<Value> =
            kinds(definition).filter(|kind| !kinds(present).any(|k| k == *kind)).cloned().collect();
        if let Some(fields) = definition.as_object_mut() {
            match own.is_empty() {
                true => fields.remove(KINDS),
                false => fields.insert(KINDS.to_owned(), own.into()),
            };
        }
        true
    });
    for name in definitions.keys().filter(|name| known.contains_key(*name)) {
        let free = (2_u32..).map(|number| format!("{name}_v{number}"));
        if let Some(new) =
            free.into_iter().find(|new| !known.contains_key(new) && !definitions.contains_key(new))
        {
            names.insert(name.clone(), new);
        }
    }
    names
}

fn kinds(definition: &Value) -> impl Iterator<Item = &Value> {
    definition.get(KINDS).and_then(Value::as_array).into_iter().flatten()
}

fn without_kinds(definition: &Value) -> Value {
    let mut definition = definition.clone();
    if let Some(fields) = definition.as_object_mut() {
        fields.remove(KINDS);
    }
    definition
}

/// Hands the name of each definition that a value refers to to `see`, which may change it.
fn refs(value: &mut Value, see: &mut impl FnMut(&mut String)) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields.iter_mut() {
                match value {
                    Value::String(text) if key == REF => {
                        if let Some(name) = text.strip_prefix(PREFIX) {
                            let mut name = name.to_owned();
                            see(&mut name);
                            *text = format!("{PREFIX}{name}");
                        }
                    }
                    value => refs(value, see),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| refs(item, see)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn to(name: &str) -> Value {
        json!({"get": {"responses": {"200": {"schema": {"$ref": format!("#/definitions/{name}")}}}}})
    }

    #[test]
    fn a_part_brings_its_paths_and_types_and_nothing_else() {
        let gvk = |kind: &str| json!({"group": "g", "version": "v", "kind": kind});
        let mut own = json!({
            "paths": {"/apis/a/v1/x": to("X"), "/apis/g/v1/mine": to("X")},
            "definitions": {"X": {"type": "object", KINDS: [gvk("X")]}, "Meta": {"type": "object", KINDS: [gvk("M")]}},
        });
        let theirs = json!({
            "paths": {
                "/apis/g/v1": to("List"), "/apis/g/v1/y": to("Y"), "/apis/g/v1/mine": to("Lost"), "/apis/g/v10/z": to("Z"),
                "/apis/a/v1/x": to("Z"),
            },
            "definitions": {
                "List": {"type": "array", "items": {"$ref": "#/definitions/Y"}},
                "Y": {"properties": {"meta": {"$ref": "#/definitions/Meta"}, "x": {"$ref": "#/definitions/X"}}},
                "Meta": {"type": "object", KINDS: [gvk("M"), gvk("N")]},
                "X": {"type": "string", KINDS: [gvk("X"), gvk("Other")]},
                "Z": {}, "Lost": {},
            },
        });
        merge(&mut own, &[Part { root: "/apis/g/v1", document: &theirs }]);
        let keys = |field: &str| own[field].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys("paths"), ["/apis/a/v1/x", "/apis/g/v1", "/apis/g/v1/mine", "/apis/g/v1/y"]);
        assert_eq!(own["paths"]["/apis/g/v1/mine"], to("X"), "what is there stays");
        let mut definitions = keys("definitions");
        definitions.sort();
        assert_eq!(definitions, ["List", "Meta", "X", "X_v2", "Y"]);
        assert_eq!(own["definitions"]["Meta"][KINDS], json!([gvk("M"), gvk("N")]), "alike, for more kinds");
        assert_eq!(own["definitions"]["X_v2"], json!({"type": "string", KINDS: [gvk("Other")]}));
        assert_eq!(own["definitions"]["Y"]["properties"]["x"]["$ref"], "#/definitions/X_v2");
        assert_eq!(own["definitions"]["X"], json!({"type": "object", KINDS: [gvk("X")]}));
    }

    #[test]
    fn nonsense_adds_nothing() {
        let mut own = json!({"paths": {}, "definitions": {}});
        for document in
            [json!(null), json!({"paths": []}), json!({"paths": {"/apis/g/v1/x": 1}, "definitions": 1})]
        {
            merge(&mut own, &[Part { root: "/apis/g/v1", document: &document }]);
        }
        assert_eq!(own["definitions"], json!({}));
    }
}
