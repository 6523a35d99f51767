//! The end of a namespace.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::{Remains, Unknown};
use super::*;
use crate::discovery::Kind;
use crate::resource::{CONFIG_MAP, Resource};
use crate::testing::now;

fn content(resource: Resource, remains: Vec<Remains>) -> Content {
    Content { kind: Kind { resource, delete_collection: true, watch: true }, remains }
}

fn remains(name: &str, deleting: bool, finalizers: &[&str]) -> Remains {
    Remains {
        name: name.into(),
        uid: Some(name.into()),
        deleting,
        finalizers: finalizers.iter().map(|f| (*f).to_owned()).collect(),
        grace: deleting.then_some(Duration::from_secs(30)),
    }
}

fn snapshot(content: Vec<Content>) -> Snapshot {
    partly(content, Unknown::default())
}

fn partly(content: Vec<Content>, unknown: Unknown) -> Snapshot {
    let namespace = json!({
        "metadata": { "name": "a", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z" },
        "spec": { "finalizers": ["kubernetes", "example.com/mine"] },
    });
    Snapshot { namespace: Arc::new(serde_json::from_value(namespace).unwrap()), content, unknown }
}

fn deleted(plan: &Plan) -> Vec<String> {
    plan.actions().map(|a| a.resource.kind.to_string()).collect()
}

#[test]
fn pods_go_first_and_then_the_rest() {
    let maps = || content(CONFIG_MAP, vec![remains("m", false, &[])]);
    let running = content(POD, vec![remains("p", false, &[])]);
    let first = plan(&snapshot(vec![maps(), running]), now());
    assert_eq!(deleted(&first), ["Pod"]);
    let ending = content(POD, vec![remains("p", true, &[])]);
    let then = plan(&snapshot(vec![maps(), ending]), now());
    assert_eq!((deleted(&then).len(), then.report.again), (0, Some(LOOK_AGAIN)));
    let held = content(POD, vec![remains("p", true, &["example.com/hold"])]);
    let past = plan(&snapshot(vec![maps(), held]), now());
    assert_eq!(deleted(&past), ["ConfigMap"], "a pod that only a finalizer holds blocks nothing else");
}

#[test]
fn an_empty_namespace_is_finalized_and_other_finalizers_stay() {
    let plan = plan(&snapshot(vec![]), now());
    let Verb::Replace { body, subresource } = &plan.actions().next().unwrap().verb else { panic!() };
    assert_eq!((*subresource, &body["spec"]["finalizers"]), ("finalize", &json!(["example.com/mine"])));
    assert_eq!(settle(&snapshot(vec![]), None, now()), Plan::none());
}

#[test]
fn what_is_known_is_deleted_and_nothing_finalized_while_some_is_unknown() {
    let kinds = Unknown { kinds: Some("no answer".into()), ..Unknown::default() };
    let objects = Unknown { objects: vec!["no answer".into()], ..Unknown::default() };
    for unknown in [kinds, objects] {
        let nothing = plan(&partly(vec![], unknown.clone()), now());
        assert_eq!((nothing.actions().count(), nothing.report.again), (0, Some(LOOK_AGAIN)));
        let maps = content(CONFIG_MAP, vec![remains("m", false, &[])]);
        assert_eq!(deleted(&plan(&partly(vec![maps], unknown.clone()), now())), ["ConfigMap"]);
        assert_eq!(settle(&partly(vec![], unknown), None, now()).actions().count(), 1, "it is told");
    }
}

fn conditions(snapshot: &Snapshot) -> Value {
    let plan = settle(snapshot, None, now());
    let Verb::Patch { body, .. } = &plan.actions().next().unwrap().verb else { panic!() };
    body["status"]["conditions"].clone()
}

#[test]
fn conditions_say_what_is_left_and_what_holds_it() {
    let maps = content(CONFIG_MAP, vec![remains("m", true, &["example.com/hold"]), remains("n", true, &[])]);
    let said = conditions(&snapshot(vec![maps]));
    let of = |type_: &str| {
        let found = said.as_array().unwrap().iter().find(|c| c["type"] == type_).unwrap();
        (found["status"].as_str().unwrap().to_owned(), found["message"].as_str().unwrap().to_owned())
    };
    let left = "Some resources are remaining: configmaps. has 2 resource instances";
    assert_eq!(of("NamespaceContentRemaining"), ("True".into(), left.into()));
    let held =
        "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances";
    assert_eq!(of("NamespaceFinalizersRemaining"), ("True".into(), held.into()));
    assert_eq!(of("NamespaceDeletionContentFailure").0, "False");
    let unknown = Unknown { kinds: Some("no answer".into()), objects: vec!["a".into(), "b".into()] };
    let said = conditions(&partly(vec![], unknown));
    assert_eq!((&said[0]["status"], &said[0]["message"]), (&json!("True"), &json!("no answer")));
    assert_eq!(said[2]["message"], "Failed to delete all resource types, 2 remaining: a, b");
}
