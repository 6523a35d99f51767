//! The end of a namespace.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::Remains;
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

fn snapshot(content: Result<Vec<Content>, Unknown>) -> Snapshot {
    let namespace = json!({
        "metadata": { "name": "a", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z" },
        "spec": { "finalizers": ["kubernetes", "example.com/mine"] },
    });
    Snapshot { namespace: Arc::new(serde_json::from_value(namespace).unwrap()), content }
}

fn deleted(plan: &Plan) -> Vec<String> {
    plan.actions().map(|a| a.resource.kind.to_string()).collect()
}

#[test]
fn pods_go_first_and_then_the_rest() {
    let maps = || content(CONFIG_MAP, vec![remains("m", false, &[])]);
    let running = content(POD, vec![remains("p", false, &[])]);
    let first = plan(&snapshot(Ok(vec![maps(), running])), now());
    assert_eq!(deleted(&first), ["Pod"]);
    let ending = content(POD, vec![remains("p", true, &[])]);
    let then = plan(&snapshot(Ok(vec![maps(), ending])), now());
    assert_eq!((deleted(&then).len(), then.report.again), (0, Some(LOOK_AGAIN)));
    let held = content(POD, vec![remains("p", true, &["example.com/hold"])]);
    let past = plan(&snapshot(Ok(vec![maps(), held])), now());
    assert_eq!(deleted(&past), ["ConfigMap"], "a pod that only a finalizer holds blocks nothing else");
}

#[test]
fn an_empty_namespace_is_finalized_and_other_finalizers_stay() {
    let plan = plan(&snapshot(Ok(vec![])), now());
    let Verb::Replace { body, subresource } = &plan.actions().next().unwrap().verb else { panic!() };
    assert_eq!((*subresource, &body["spec"]["finalizers"]), ("finalize", &json!(["example.com/mine"])));
    assert_eq!(settle(&snapshot(Ok(vec![])), None, now()), Plan::none());
}

#[test]
fn nothing_is_deleted_or_finalized_while_the_content_is_unknown() {
    for unknown in [Unknown::Kinds("no answer".into()), Unknown::Objects("no answer".into())] {
        let plan = plan(&snapshot(Err(unknown)), now());
        assert_eq!(plan.actions().count(), 0);
        assert!(plan.report.again.is_some());
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
    let said = conditions(&snapshot(Ok(vec![maps])));
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
    let said = conditions(&snapshot(Err(Unknown::Kinds("no answer".into()))));
    assert_eq!(said[0]["status"], "True");
}
