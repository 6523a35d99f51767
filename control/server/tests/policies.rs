//! ValidatingAdmissionPolicies: at work right after they are created, in upstream's words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use common::{Client, Cluster, DEPLOYMENTS, MAPS, deployment, map};
use serde_json::{Value, json};

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const BINDINGS: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";

/// A policy about a resource; `with` is put over its spec.
fn policy(name: &str, group: &str, resource: &str, with: &Value) -> Value {
    let mut spec = json!({
        "matchConstraints": {"resourceRules": [
            {"operations": ["CREATE", "UPDATE"], "apiGroups": [group], "apiVersions": ["*"], "resources": [resource]}]},
        "validations": [{"expression": "false"}],
    });
    for (key, value) in with.as_object().unwrap() {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name}, "spec": spec})
}

fn binding(name: &str, policy: &str, with: &Value) -> Value {
    let mut spec = json!({"policyName": policy, "validationActions": ["Deny"]});
    for (key, value) in with.as_object().unwrap() {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name}, "spec": spec})
}

/// Creates both, and waits until the policy, which must refuse `object`, is at work: a second at most.
async fn at_work(client: &Client, policy: &Value, binding: &Value, path: &str, object: &Value) -> Value {
    client.post(POLICIES, policy).await.expect(201);
    client.post(BINDINGS, binding).await.expect(201);
    let start = Instant::now();
    let path = format!("{path}?dryRun=All");
    loop {
        let answer = client.post(&path, object).await;
        if answer.code != 201 {
            return answer.json();
        }
        assert!(start.elapsed() < Duration::from_secs(30), "the policy is not at work");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_policy_refuses_and_says_why() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let rule = json!({"validations": [{"expression": "object.spec.replicas <= 5"}]});
    let refused = at_work(
        &client,
        &policy("few", "apps", "deployments", &rule),
        &binding("few-everywhere", "few", &json!({})),
        DEPLOYMENTS,
        &deployment("web", 6),
    )
    .await;
    let message = "ValidatingAdmissionPolicy 'few' with binding 'few-everywhere' denied request: failed expression: \
                   object.spec.replicas <= 5";
    assert_eq!(refused["message"], format!("deployments.apps \"web\" is forbidden: {message}"));
    assert_eq!((&refused["code"], &refused["reason"]), (&json!(422), &json!("Invalid")));
    assert_eq!(refused["details"]["causes"][0]["message"], message);
    client.post(DEPLOYMENTS, &deployment("web", 5)).await.expect(201);
    let scale = json!({"spec": {"replicas": 9}});
    let path = format!("{DEPLOYMENTS}/web");
    client.patch("merge", &path, &scale).await.expect(422);
    client.delete(&format!("{BINDINGS}/few-everywhere")).await.expect(200);
    tokio::time::sleep(Duration::from_millis(300)).await;
    client.patch("merge", &path, &scale).await.expect(200);
}

#[tokio::test]
async fn warnings_reasons_and_selectors() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let rule = json!({"validations": [{"expression": "object.data.k != 'bad'", "message": "bad key",
        "reason": "Forbidden"}]});
    let deny = binding(
        "deny",
        "keys",
        &json!({"matchResources": {"objectSelector": {"matchLabels": {"strict": "yes"}}}}),
    );
    let warn = binding("warn", "keys", &json!({"validationActions": ["Warn", "Audit"]}));
    let mut strict = map("a", "bad");
    strict["metadata"]["labels"] = json!({"strict": "yes"});
    let refused = at_work(&client, &policy("keys", "", "configmaps", &rule), &deny, MAPS, &strict).await;
    assert_eq!((&refused["code"], &refused["reason"]), (&json!(403), &json!("Forbidden")));
    client.post(BINDINGS, &warn).await.expect(201);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let answer = client.post(MAPS, &map("b", "bad")).await;
    let expected = "Validation failed for ValidatingAdmissionPolicy 'keys' with binding 'warn': bad key";
    assert_eq!(answer.code, 201);
    assert!(answer.warnings().iter().any(|warning| warning.contains(expected)), "{:?}", answer.warnings());
    let fine = client.post(MAPS, &map("c", "good")).await;
    assert_eq!((fine.code, fine.warnings()), (201, Vec::new()));
}

#[tokio::test]
async fn parameters() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let rule = json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "validations": [{"expression": "object.spec.replicas <= int(params.data.k)"}]});
    client.post(MAPS, &map("limit", "2")).await.expect(201);
    let reference =
        json!({"paramRef": {"name": "limit", "namespace": "default", "parameterNotFoundAction": "Deny"}});
    let refused = at_work(
        &client,
        &policy("few", "apps", "deployments", &rule),
        &binding("few", "few", &reference),
        DEPLOYMENTS,
        &deployment("web", 3),
    )
    .await;
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .ends_with("failed expression: object.spec.replicas <= int(params.data.k)")
    );
    client.post(DEPLOYMENTS, &deployment("web", 2)).await.expect(201);
    client.delete(&format!("{MAPS}/limit")).await.expect(200);
    let refused = client.post(DEPLOYMENTS, &deployment("other", 1)).await.expect(422);
    let message = "no params found for policy binding with `Deny` parameterNotFoundAction";
    assert!(refused["message"].as_str().unwrap().contains(message), "{refused}");
}

#[tokio::test]
async fn what_cannot_be_compiled_is_refused() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let rule = json!({"validations": [{"expression": "object.spec.replicas <= limit"}]});
    let refused = client.post(POLICIES, &policy("p", "apps", "deployments", &rule)).await.expect(422);
    let message = refused["message"].as_str().unwrap();
    let expected = "spec.validations[0].expression: Invalid value: \"object.spec.replicas <= limit\": compilation failed: \
                    ERROR: <input>:1:25: undeclared reference to 'limit' (in container '')\n | object.spec.replicas <= \
                    limit\n | ........................^";
    assert!(message.contains(expected), "{message}");
    let fine = client.post(POLICIES, &policy("p", "apps", "deployments", &json!({}))).await;
    assert_eq!((fine.code, fine.warnings()), (201, Vec::new()));
}
