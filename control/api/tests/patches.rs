//! Laws of patches.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at what it does not understand")]

use carrack_api::codec::{DecodeError, MAX_DEPTH};
use carrack_api::patch::{self, PatchError, PatchKind};
use carrack_api::{find, schema};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Objects without nulls, which merge patches cannot put anywhere.
fn object(depth: u32) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        (0..9i64).prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from)
    ];
    leaf.prop_recursive(depth, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
    .prop_map(|value| if value.is_object() { value } else { json!({"a": value}) })
}

/// The merge patch that turns `from` into `to`.
fn difference(from: &Value, to: &Value) -> Value {
    let (Value::Object(from), Value::Object(to)) = (from, to) else { return to.clone() };
    let mut out = Map::new();
    for name in from.keys().filter(|name| !to.contains_key(*name)) {
        out.insert(name.clone(), Value::Null);
    }
    for (name, value) in to {
        match from.get(name) {
            Some(old) if old == value => {}
            Some(old) => {
                out.insert(name.clone(), difference(old, value));
            }
            None => {
                out.insert(name.clone(), value.clone());
            }
        }
    }
    out.into()
}

/// Pods of a few containers with variables, ports and labels.
fn pod() -> impl Strategy<Value = Value> {
    let variable = ("[A-C]", "[a-c]").prop_map(|(name, value)| json!({"name": name, "value": value}));
    let variables = prop::collection::vec(variable, 0..3).prop_map(|list| unique(list, "name"));
    let container = ("[a-d]", "[x-z]", variables)
        .prop_map(|(name, image, env)| json!({"name": name, "image": image, "env": env}));
    let containers = prop::collection::vec(container, 1..4).prop_map(|list| unique(list, "name"));
    let labels = prop::collection::btree_map("[a-c]", "[x-z]", 0..3);
    let finalizers = prop::collection::btree_set("[a-c]", 0..3);
    (containers, labels, finalizers).prop_map(|(containers, labels, finalizers)| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "labels": labels, "finalizers": finalizers},
            "spec": {"containers": containers},
        })
    })
}

fn unique(list: Vec<Value>, key: &str) -> Vec<Value> {
    let mut out: Vec<Value> = Vec::new();
    for item in list {
        if !out.iter().any(|other| other[key] == item[key]) {
            out.push(item);
        }
    }
    out
}

fn names(pod: &Value) -> Vec<&str> {
    pod["spec"]["containers"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect()
}

proptest! {
    #[test]
    fn merge_reaches_any_object_and_back(from in object(4), to in object(4)) {
        let mut value = from.clone();
        patch::merge_patch(&mut value, difference(&from, &to));
        prop_assert_eq!(&value, &to);
        patch::merge_patch(&mut value, difference(&to, &from));
        prop_assert_eq!(value, from);
    }

    #[test]
    fn merge_twice_changes_nothing(from in object(4), change in object(4)) {
        let mut once = from;
        patch::merge_patch(&mut once, change.clone());
        let mut twice = once.clone();
        patch::merge_patch(&mut twice, change);
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn strategic_twice_changes_nothing(from in pod(), change in pod()) {
        let pods = find("", "v1", "pods").unwrap();
        let once = patch::strategic_merge(pods, from, change.clone()).unwrap();
        let twice = patch::strategic_merge(pods, once.clone(), change).unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn strategic_keeps_what_it_does_not_name(from in pod(), change in pod()) {
        let pods = find("", "v1", "pods").unwrap();
        let merged = patch::strategic_merge(pods, from.clone(), change.clone()).unwrap();
        let all = names(&merged);
        for name in names(&from).into_iter().chain(names(&change)) {
            prop_assert_eq!(all.iter().filter(|n| **n == name).count(), 1);
        }
        // Relative order holds for what only the object has, and for what the patch names.
        let of = |wanted: &[&str]| all.iter().copied().filter(|n| wanted.contains(n)).collect::<Vec<_>>();
        let named = names(&change);
        let others: Vec<&str> = names(&from).into_iter().filter(|n| !named.contains(n)).collect();
        prop_assert_eq!(of(&named), named);
        prop_assert_eq!(of(&others), others);
    }

    #[test]
    fn strategic_of_itself_is_itself(from in pod()) {
        let pods = find("", "v1", "pods").unwrap();
        prop_assert_eq!(patch::strategic_merge(pods, from.clone(), from.clone()).unwrap(), from);
    }

    #[test]
    fn no_patch_panics(from in pod(), change in object(4), kind in 0..3) {
        let pods = find("", "v1", "pods").unwrap();
        let kind = [PatchKind::Json, PatchKind::Merge, PatchKind::Strategic][kind as usize];
        let _ = patch::apply(kind, pods, from, change.to_string().as_bytes());
    }
}

#[test]
fn a_field_that_is_not_there_passes_for_null_in_tests() {
    // What kube-rs sends for an object's first finalizer.
    let first = |path: &str| json!([{"op": "test", "path": path, "value": null}, {"op": "add", "path": path, "value": ["a"]}]);
    let mut target = json!({"metadata": {}});
    patch::json_patch(&mut target, first("/metadata/finalizers")).unwrap();
    assert_eq!(target, json!({"metadata": {"finalizers": ["a"]}}));
    for (path, says) in [
        ("/metadata/finalizers", "testing value /metadata/finalizers failed: test failed"),
        ("/spec/x", "is missing path: /spec/x"),
    ] {
        let why = patch::json_patch(&mut target, first(path)).unwrap_err();
        assert!(why.to_string().contains(says), "{why}");
    }
}

#[test]
fn a_json_patch_cannot_fill_memory() {
    let mut target = json!({"a": "x".repeat(1000)});
    let mut operations = Vec::new();
    for round in 0..40 {
        operations.push(json!({"op": "copy", "from": "", "path": format!("/c{round}")}));
    }
    let why = patch::json_patch(&mut target, operations.into()).unwrap_err();
    assert!(matches!(why, PatchError::TooLarge(_)), "{why}");
    let many = vec![json!({"op": "test", "path": "", "value": 1}); patch::MAX_OPERATIONS + 1];
    let why = patch::json_patch(&mut target, many.into()).unwrap_err();
    assert_eq!(why.to_string(), "The allowed maximum operations in a JSON patch is 10000, got 10001");
}

#[test]
fn a_json_patch_cannot_nest_without_end() {
    let deepest = |levels: usize| "/a".repeat(levels);
    let start = json!({"op": "add", "path": "/a", "value": {}});
    // Each makes twice as many levels as there were.
    let mut doubling = vec![start.clone()];
    doubling
        .extend((0..14).map(|round| json!({"op": "copy", "from": "/a", "path": deepest((1 << round) + 1)})));
    // Each makes one more; what has the most levels that an object may have is moved one level down.
    let adding = (2..200).map(|levels| json!({"op": "add", "path": deepest(levels), "value": {}}));
    let adding: Vec<Value> = std::iter::once(start).chain(adding).collect();
    let mut moving = adding[..MAX_DEPTH - 1].to_vec();
    let mut target = json!({});
    patch::json_patch(&mut target, moving.clone().into()).unwrap();
    moving.push(json!({"op": "add", "path": "/b", "value": {}}));
    moving.push(json!({"op": "move", "from": "/a", "path": "/b/c"}));
    for operations in [doubling, adding, moving] {
        let why = patch::json_patch(&mut json!({}), operations.into()).unwrap_err();
        assert!(matches!(why, PatchError::Result(DecodeError::TooDeep)), "{why}");
    }
}

#[test]
fn every_merge_rule_is_about_a_field_there_is() {
    let registry = schema::registry();
    for rule in schema::rules() {
        let id = registry.find(rule.of).unwrap_or_else(|| panic!("no type {}", rule.of));
        let field = registry
            .get(id)
            .field(rule.field)
            .unwrap_or_else(|| panic!("no field {} of {}", rule.field, rule.of));
        if let (schema::ListKind::Map(keys), schema::Shape::List(of)) = (rule.list, &field.shape) {
            let schema::Shape::Object(of) = **of else {
                panic!("{}.{} has keys and no objects", rule.of, rule.field)
            };
            for key in keys {
                assert!(registry.get(of).field(key).is_some(), "{key} of {}.{}", rule.of, rule.field);
            }
        }
    }
}
