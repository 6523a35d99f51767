//! The policy follows a real store: what is written there counts for the very next question.

use std::sync::Arc;
use std::time::Duration;

use carrack_store::{Options, Store, Txn};
use serde_json::{Value, json};

use super::*;
use crate::{Attributes, Authorizer, Decision, UserInfo};

async fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(Options::new(dir.path().join("store"))).await.unwrap();
    (dir, store)
}

fn key(kind: PolicyKind, namespace: &str, name: &str) -> String {
    carrack_api::find(GROUP, "v1", kind.resource()).unwrap().key(namespace, name)
}

async fn put(store: &Store, kind: PolicyKind, namespace: &str, name: &str, mut object: Value) {
    object["metadata"] = json!({"name": name, "namespace": namespace});
    store.txn(Txn::put(key(kind, namespace, name), object.to_string())).await.unwrap();
}

async fn grant(store: &Store, name: &str) {
    let rules = json!({"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": [name]}]});
    put(store, PolicyKind::Role, "web", name, rules).await;
    let binding = json!({
        "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": name},
        "subjects": [{"kind": "User", "apiGroup": GROUP, "name": "jane"}],
    });
    put(store, PolicyKind::RoleBinding, "web", name, binding).await;
}

fn get(name: &str) -> Attributes {
    Attributes {
        user: UserInfo::new("jane", []),
        verb: "get".into(),
        resource: "pods".into(),
        namespace: "web".into(),
        name: name.into(),
        ..Attributes::default()
    }
}

/// Waits for a change that nobody asks for: the policy has to follow by itself.
async fn eventually(rbac: &Rbac, name: &str, decision: Decision) {
    let follows = async {
        while rbac.authorize(&get(name)) != decision {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), follows).await.expect("the policy does not follow");
}

#[tokio::test]
async fn what_is_stored_counts_from_the_start_and_at_once() {
    let (_dir, store) = store().await;
    grant(&store, "before").await;
    let rbac = Rbac::start(store.clone()).await.unwrap();
    assert_eq!(rbac.authorize(&get("before")), Decision::Allow, "without waiting");

    let authorizers: [Arc<dyn Authorizer>; 1] = [Arc::clone(&rbac) as Arc<dyn Authorizer>];
    for round in 0..50 {
        let name = format!("pod-{round}");
        grant(&store, &name).await;
        // Writes that do not concern the policy must not keep a refusal waiting either.
        store.txn(Txn::put(format!("/registry/pods/web/{name}"), "{}")).await.unwrap();
        let asked = std::time::Instant::now();
        decide(&authorizers, &get(&name)).await.unwrap_or_else(|error| panic!("round {round}: {error}"));
        decide(&authorizers, &get("nothing")).await.unwrap_err();
        assert!(asked.elapsed() < Duration::from_secs(10), "round {round} took {:?}", asked.elapsed());
    }

    store.txn(Txn::delete(key(PolicyKind::RoleBinding, "web", "before"))).await.unwrap();
    rbac.catch_up().await;
    assert_ne!(rbac.authorize(&get("before")), Decision::Allow, "what was taken away is gone");
    grant(&store, "by-itself").await;
    eventually(&rbac, "by-itself", Decision::Allow).await;
    store.shutdown().await;
}

#[tokio::test]
async fn a_policy_nobody_needs_is_not_followed() {
    let (_dir, store) = store().await;
    let rbac = Rbac::start(store.clone()).await.unwrap();
    assert_eq!(store.status().watchers, 4);
    drop(rbac);
    let ends = async {
        while store.status().watchers > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ends).await.expect("the watches go on");
    store.shutdown().await;
}

#[tokio::test]
async fn a_closed_store_leaves_the_last_policy_and_no_question_open() {
    let (_dir, store) = store().await;
    grant(&store, "a").await;
    let rbac = Rbac::start(store.clone()).await.unwrap();
    store.shutdown().await;
    let answered = tokio::time::timeout(Duration::from_secs(30), rbac.catch_up()).await;
    assert!(answered.is_ok(), "the question was left open");
    assert_eq!(rbac.authorize(&get("a")), Decision::Allow);
}
