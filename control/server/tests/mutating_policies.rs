//! MutatingAdmissionPolicies: both kinds of patches, parameters, conditions, failures and rounds; and the status of
//! validating ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use common::{Client, Cluster, DEPLOYMENTS, MAPS, deployment, map};
use serde_json::{Value, json};

const GROUP: &str = "/apis/admissionregistration.k8s.io";

fn put_over(mut spec: Value, with: &Value) -> Value {
    for (key, value) in with.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

/// A policy about a resource; `with` is put over its spec.
fn policy(name: &str, group: &str, resource: &str, with: &Value) -> Value {
    let spec = json!({
        "reinvocationPolicy": "Never",
        "matchConstraints": {"resourceRules": [
            {"operations": ["CREATE", "UPDATE"], "apiGroups": [group], "apiVersions": ["*"], "resources": [resource]}]},
    });
    json!({"metadata": {"name": name}, "spec": put_over(spec, with)})
}

fn apply(expression: &str) -> Value {
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}})
}

fn operations(expression: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}})
}

fn label(key: &str) -> Value {
    apply(&format!("Object{{metadata: Object.metadata{{labels: {{'{key}': '1'}}}}}}"))
}

/// Creates a policy and a binding of the same name, and waits until the binding is known: a second at most. A probe,
/// a policy behind it about Secrets, tells so.
async fn at_work(client: &Client, policy: &Value, binding: &Value) {
    let name = policy["metadata"]["name"].as_str().unwrap();
    let policies = format!("{GROUP}/v1beta1/mutatingadmissionpolicies");
    let bindings = format!("{GROUP}/v1beta1/mutatingadmissionpolicybindings");
    client.post(&policies, policy).await.expect(201);
    let spec = put_over(json!({"policyName": name}), binding);
    client.post(&bindings, &json!({"metadata": {"name": name}, "spec": spec})).await.expect(201);
    let probe = format!("probe-{name}");
    let change = self::policy(&probe, "", "secrets", &json!({"mutations": [label(&probe)]}));
    client.post(&policies, &change).await.expect(201);
    let bound = json!({"metadata": {"name": probe}, "spec": {"policyName": probe}});
    client.post(&bindings, &bound).await.expect(201);
    let began = Instant::now();
    loop {
        let secret = json!({"metadata": {"name": "probe"}});
        let made = client.post("/api/v1/namespaces/default/secrets?dryRun=All", &secret).await.expect(201);
        if made["metadata"]["labels"][&probe] == "1" {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "not at work");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn configurations_and_operations_change_objects() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let sidecar = "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{\
                   initContainers: [Object.spec.template.spec.initContainers{name: 'sidecar', image: 'side:1'}]}}}}";
    let escape = "[JSONPatch{op: 'test', path: '/spec/replicas', value: variables.wanted}, \
                  JSONPatch{op: 'add', path: '/metadata/annotations', value: {}}, \
                  JSONPatch{op: 'add', path: '/metadata/annotations/' + jsonpatch.escapeKey('a.b/c'), \
                  value: string(variables.wanted) + namespaceObject.metadata.name}]";
    let never =
        "[JSONPatch{op: 'test', path: '/spec/replicas', value: 100}, JSONPatch{op: 'remove', path: '/spec'}]";
    let spec = json!({
        "variables": [{"name": "wanted", "expression": "object.spec.replicas"}],
        "matchConditions": [{"name": "c", "expression": "object.metadata.name != 'left-alone'"}],
        "mutations": [apply(sidecar), operations(escape), operations(never)],
    });
    at_work(&client, &policy("p", "apps", "deployments", &spec), &json!({})).await;
    let path = format!("{DEPLOYMENTS}?dryRun=All");
    for path in [path.as_str(), DEPLOYMENTS] {
        let made = client.post(path, &deployment("web", 2)).await.expect(201);
        let init = &made["spec"]["template"]["spec"]["initContainers"];
        assert_eq!((&init[0]["name"], init[0]["imagePullPolicy"].is_string()), (&json!("sidecar"), true));
        assert_eq!(made["metadata"]["annotations"]["a.b/c"], "2default");
    }
    let left = client.post(DEPLOYMENTS, &deployment("left-alone", 2)).await.expect(201);
    assert!(
        left["spec"]["template"]["spec"]["initContainers"].is_null()
            && left["metadata"]["annotations"].is_null()
    );
}

#[tokio::test]
async fn parameters_and_rights() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    for (name, value) in [("one", "1"), ("two", "2")] {
        let mut params = map(name, value);
        params["metadata"]["labels"] = json!({"params": "yes"});
        client.post(MAPS, &params).await.expect(201);
    }
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "mutations": [apply("Object{metadata: Object.metadata{labels: {params.metadata.name: params.data.k, \
            'may': string(authorizer.group('').resource('nodes').check('list').allowed())}}}")],
    });
    let selected = json!({"paramRef": {"selector": {"matchLabels": {"params": "yes"}}, "parameterNotFoundAction": "Deny"}});
    at_work(&client, &policy("p", "apps", "deployments", &spec), &selected).await;
    let made = client.post(DEPLOYMENTS, &deployment("web", 1)).await.expect(201);
    assert_eq!(made["metadata"]["labels"]["one"], "1");
    assert_eq!(made["metadata"]["labels"]["two"], "2");
    assert_eq!(made["metadata"]["labels"]["may"], "true");
    for name in ["one", "two"] {
        client.delete(&format!("{MAPS}/{name}")).await.expect(200);
    }
    let refused = client.post(DEPLOYMENTS, &deployment("x", 1)).await.expect(403);
    assert_eq!(
        refused["message"],
        "policy 'p' with binding 'p' denied request: failed to configure binding: no params found for policy binding \
         with `Deny` parameterNotFoundAction"
    );
}

#[tokio::test]
async fn failures_refuse_or_are_ignored() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let failing = |name: &str, more: Value| {
        let when = json!([{"name": "c", "expression": format!("object.metadata.name == '{name}'")}]);
        policy(name, "apps", "deployments", &put_over(json!({"matchConditions": when}), &more))
    };
    let atomic = "Object{spec: Object.spec{selector: Object.spec.selector{matchLabels: {'a': 'b'}}}}";
    for (name, mutation, says) in [
        (
            "a",
            apply("Object{spec: Object.spec{replicas: object.nothing}}"),
            "resulted in error: no such key: nothing",
        ),
        (
            "b",
            apply(atomic),
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.selector",
        ),
        (
            "c",
            apply("Object{spec: Object.status{}}"),
            "type mismatch: unexpected type name \"Object.status\", expected \"Object.spec\"",
        ),
        ("d", operations("[JSONPatch{op: 'remove', path: '/spec/none'}]"), "JSONPath: "),
    ] {
        at_work(&client, &failing(name, json!({"mutations": [mutation]})), &json!({})).await;
        let refused = client.post(DEPLOYMENTS, &deployment(name, 1)).await.expect(403);
        let message = refused["message"].as_str().unwrap();
        let begin = format!("policy '{name}' with binding '{name}' denied request: ");
        assert!(message.starts_with(&begin) && message.contains(says), "{message}");
        assert_eq!(
            (&refused["reason"], &refused["details"]["causes"][0]["message"]),
            (&json!("Invalid"), &refused["message"])
        );
    }
    let ignored = json!({"failurePolicy": "Ignore", "mutations": [apply("Object{spec: object.nothing}"), label("done")]});
    let ignored = failing(
        "e",
        json!({"failurePolicy": "Ignore", "mutations": put_over(json!({}), &ignored)["mutations"]}),
    );
    at_work(&client, &ignored, &json!({})).await;
    let made = client.post(DEPLOYMENTS, &deployment("e", 1)).await.expect(201);
    assert_eq!(made["metadata"]["labels"]["done"], "1", "a mutation that fails leaves the others alone");
    client.post(DEPLOYMENTS, &deployment("fine", 1)).await.expect(201);
}

#[tokio::test]
async fn policies_that_want_to_run_again() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let count = operations(
        "[JSONPatch{op: 'add', path: '/data/count', value: string(int(object.data.?count.orValue('0')) + 1)}]",
    );
    let about = |name: &str, again: &str, mutation: &Value| {
        let when = json!([{"name": "c", "expression": "object.metadata.name == 'x'"}]);
        let spec = json!({"reinvocationPolicy": again, "matchConditions": when, "mutations": [mutation]});
        policy(name, "", "configmaps", &spec)
    };
    at_work(&client, &about("a", "IfNeeded", &count), &json!({})).await;
    at_work(&client, &about("b", "Never", &label("b")), &json!({})).await;
    let made = client.post(MAPS, &map("x", "1")).await.expect(201);
    assert_eq!((&made["data"]["count"], &made["metadata"]["labels"]["b"]), (&json!("2"), &json!("1")));
    let other = client.post(MAPS, &map("y", "1")).await.expect(201);
    assert!(other["data"]["count"].is_null());
}

#[tokio::test]
async fn what_cannot_be_compiled_is_refused() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    for (mutation, field, says) in [
        (apply("Object{spec"), "applyConfiguration", "compilation failed: ERROR: <input>"),
        (apply("object"), "applyConfiguration", "must evaluate to Object"),
        (operations("Object{}"), "jsonPatch", "must evaluate to list(JSONPatch)"),
        (operations("[JSONPatch{op: 1}]"), "jsonPatch", "expected type of field 'op' is 'string'"),
        (apply("Object{spec: params.x}"), "applyConfiguration", "undeclared reference to 'params'"),
    ] {
        let body = policy("p", "apps", "deployments", &json!({"mutations": [mutation]}));
        let refused =
            client.post(&format!("{GROUP}/v1beta1/mutatingadmissionpolicies"), &body).await.expect(422);
        let message = refused["message"].as_str().unwrap();
        let place = format!("spec.mutations[0].{field}.expression: Invalid value");
        assert!(message.contains(&place) && message.contains(says), "{message}");
    }
}

#[tokio::test]
async fn the_status_of_validating_policies_warns() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let path = format!("{GROUP}/v1/validatingadmissionpolicies");
    let body = |expression: &str| {
        let rules = json!({"resourceRules": [
            {"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}]});
        json!({"metadata": {"name": "p"}, "spec": {"matchConstraints": rules, "validations": [{"expression": expression}]}})
    };
    let made = client.post(&path, &body("object.replicas > 1")).await.expect(201);
    let warnings = json!([{"fieldRef": "spec.validations[0].expression", "warning":
        "apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'replicas'\n | object.replicas > 1\n | ......^\n"}]);
    assert_eq!(
        made["status"],
        json!({"observedGeneration": 1, "typeChecking": {"expressionWarnings": warnings}})
    );
    let mut fixed = body("object.spec.replicas > 1");
    fixed["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
    let fixed = client.put(&format!("{path}/p"), &fixed).await.expect(200);
    assert_eq!(fixed["status"], json!({"observedGeneration": 2, "typeChecking": {}}));
    let labelled =
        client.patch("merge", &format!("{path}/p"), &json!({"metadata": {"labels": {"a": "b"}}})).await;
    assert_eq!(labelled.expect(200)["status"]["observedGeneration"], 2);
}
