//! Rules of CustomResourceDefinitions over HTTP: refused when they are created, applied to objects, in upstream's words.
// Helpers outside the test functions: one that fails ends its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::{Client, Cluster, DEPLOYMENTS, deployment};
use serde_json::{Value, json};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const DEFINITION: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/scalers.stable.example.com";
const SCALERS: &str = "/apis/stable.example.com/v1/namespaces/default/scalers";

fn definition() -> Value {
    let version = json!({
        "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": {
            "type": "object",
            "x-kubernetes-validations": [{"rule": "self.metadata.name != 'reserved'", "message": "the name is reserved"}],
            "properties": {
                "spec": {
                    "type": "object",
                    "required": ["min", "max"],
                    "properties": {
                        "min": {"type": "integer"},
                        "max": {"type": "integer"},
                        "class": {"type": "string", "maxLength": 20, "x-kubernetes-validations": [
                            {"rule": "self == oldSelf", "message": "class is immutable"}]},
                        "zone": {"type": "string", "maxLength": 20},
                    },
                    "x-kubernetes-validations": [
                        {"rule": "self.min <= self.max"},
                        {"rule": "self.max <= 100",
                            "messageExpression": "'over 100 in class ' + (has(self.class) ? self.class : 'none')",
                            "reason": "FieldValueForbidden", "fieldPath": ".max"},
                        {"rule": "has(self.zone) == has(oldSelf.zone)", "message": "zone cannot be added or removed"},
                    ],
                },
                "status": {
                    "type": "object",
                    "properties": {"ready": {"type": "integer"}, "wanted": {"type": "integer"}},
                    "x-kubernetes-validations": [{"rule": "self.ready <= self.wanted",
                        "message": "more are ready than are wanted"}],
                },
            },
        }},
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "scalers.stable.example.com"},
        "spec": {
            "group": "stable.example.com", "scope": "Namespaced",
            "names": {"plural": "scalers", "kind": "Scaler"},
            "versions": [version],
        },
    })
}

/// The definition with something else at a pointer below the schema of `spec`.
fn with(pointer: &str, value: Value) -> Value {
    let mut changed = definition();
    let spec = changed.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec").unwrap();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    spec.pointer_mut(parent).unwrap()[field] = value;
    changed
}

fn scaler(name: &str, min: i64, max: i64) -> Value {
    json!({
        "apiVersion": "stable.example.com/v1", "kind": "Scaler", "metadata": {"name": name},
        "spec": {"min": min, "max": max, "class": "fast"},
    })
}

/// Waits until the resource is served.
async fn serve(client: &Client, definition: &Value) {
    client.post(DEFINITIONS, definition).await.expect(201);
    for _ in 0..200 {
        if client.get(SCALERS).await.code == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the definition is not served");
}

/// The message of a refusal, as kubectl shows it.
fn message(refused: &Value) -> &str {
    refused["message"].as_str().unwrap()
}

#[tokio::test]
async fn rules_that_cannot_be_used_are_refused() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let rule = |rule: Value| with("/x-kubernetes-validations", json!([rule]));
    let at = "spec.validation.openAPIV3Schema.properties[spec]";
    let free = json!({"type": "array", "items": {"type": "string", "x-kubernetes-validations": [
        {"rule": "self.matches('^a+b+c+$') && self.contains('b')"}]}});
    let cases = [
        (
            rule(json!({"rule": "self.min <= self.most"})),
            format!(
                "{at}.x-kubernetes-validations[0].rule: Invalid value: \"self.min <= self.most\": compilation failed: \
                 ERROR: <input>:1:17: undefined field 'most'\n | self.min <= self.most\n | ................^"
            ),
        ),
        (
            rule(json!({"rule": "self.min + 1"})),
            format!(
                "{at}.x-kubernetes-validations[0].rule: Invalid value: \"self.min + 1\": cel expression must evaluate \
                 to a bool"
            ),
        ),
        (
            rule(json!({"rule": "true", "reason": "Other"})),
            format!(
                "{at}.x-kubernetes-validations[0].reason: Unsupported value: \"Other\": supported values:"
            ),
        ),
        (
            rule(json!({"rule": "true", "fieldPath": ".none"})),
            format!(
                "{at}.x-kubernetes-validations[0].fieldPath: Invalid value: \".none\": fieldPath must be a valid path: \
                 does not refer to a valid field"
            ),
        ),
        (
            with("/properties/zone", free),
            format!(
                "{at}.properties[zone].items.x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds \
                 budget by factor of"
            ),
        ),
        (
            with("/properties/class/default", json!("none")),
            format!("{at}.properties[class].default: Invalid value: \"string\": none is no class"),
        ),
    ];
    for (mut definition, expected) in cases {
        let class = definition.pointer_mut(
            "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/class/x-kubernetes-validations",
        );
        class
            .unwrap()
            .as_array_mut()
            .unwrap()
            .push(json!({"rule": "self != 'none'", "message": "none is no class"}));
        let refused = client.post(DEFINITIONS, &definition).await.expect(422);
        assert!(message(&refused).contains(&expected), "{}\nlacks\n{expected}", message(&refused));
        assert_eq!(refused["reason"], "Invalid");
    }
    assert_eq!(client.get(DEFINITION).await.code, 404);
}

#[tokio::test]
async fn rules_judge_new_objects() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    serve(&client, &definition()).await;
    client.post(SCALERS, &scaler("fine", 1, 5)).await.expect(201);

    let refused = client.post(SCALERS, &scaler("a", 6, 5)).await.expect(422);
    assert_eq!(
        message(&refused),
        "Scaler.stable.example.com \"a\" is invalid: spec: Invalid value: \"object\": failed rule: self.min <= self.max"
    );
    assert_eq!(
        refused["details"]["causes"],
        json!([{"reason": "FieldValueInvalid", "field": "spec",
            "message": "Invalid value: \"object\": failed rule: self.min <= self.max"}])
    );

    let refused = client.post(SCALERS, &scaler("a", 1, 101)).await.expect(422);
    assert_eq!(
        message(&refused),
        "Scaler.stable.example.com \"a\" is invalid: spec.max: Forbidden: over 100 in class fast"
    );
    assert_eq!(refused["details"]["causes"][0]["reason"], "FieldValueForbidden");

    // All that is wrong is said at once, rules of the root first.
    let refused = client.post(SCALERS, &scaler("reserved", 200, 101)).await.expect(422);
    assert_eq!(
        message(&refused),
        "Scaler.stable.example.com \"reserved\" is invalid: [<nil>: Invalid value: \"object\": the name is reserved, \
         spec: Invalid value: \"object\": failed rule: self.min <= self.max, spec.max: Forbidden: over 100 in class fast]"
    );

    // What has not the shape that rules are written for is not judged by them.
    let mut shapeless = scaler("a", 1, 5);
    shapeless["spec"] = json!({"min": 1});
    let refused = client.post(SCALERS, &shapeless).await.expect(422);
    assert!(
        message(&refused).ends_with(
            "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; \
             correct the existing errors to complete validation]"
        ),
        "{}",
        message(&refused)
    );
    let refused = client.post(&format!("{SCALERS}?dryRun=All"), &scaler("a", 6, 5)).await;
    assert_eq!(refused.code, 422);
}

#[tokio::test]
async fn transition_rules_judge_changes() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    serve(&client, &definition()).await;
    client.post(SCALERS, &scaler("a", 1, 5)).await.expect(201);
    let path = format!("{SCALERS}/a");
    let patch = async |spec: Value| client.patch("merge", &path, &json!({"spec": spec})).await;
    let refused = patch(json!({"class": "slow"})).await.expect(422);
    assert_eq!(
        message(&refused),
        "Scaler.stable.example.com \"a\" is invalid: spec.class: Invalid value: \"string\": class is immutable"
    );
    let refused = patch(json!({"zone": "north"})).await.expect(422);
    assert!(message(&refused).ends_with("spec: Invalid value: \"object\": zone cannot be added or removed"));
    // Without a predecessor there is nothing to compare with.
    patch(json!({"class": null})).await.expect(200);
    patch(json!({"class": "slow"})).await.expect(200);
    patch(json!({"min": 2})).await.expect(200);
    assert_eq!(patch(json!({"min": 6})).await.code, 422);
    let apply = json!({"apiVersion": "stable.example.com/v1", "kind": "Scaler", "metadata": {"name": "a"},
        "spec": {"min": 7, "max": 5}});
    let refused =
        client.patch("apply", &format!("{path}?fieldManager=me&force=true"), &apply).await.expect(422);
    assert!(message(&refused).contains("failed rule: self.min <= self.max"), "{}", message(&refused));
}

#[tokio::test]
async fn status_has_its_rules() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    serve(&client, &definition()).await;
    client.post(SCALERS, &scaler("a", 1, 5)).await.expect(201);
    let path = format!("{SCALERS}/a/status");
    let status = |ready: u8| json!({"status": {"ready": ready, "wanted": 3}});
    let refused = client.patch("merge", &path, &status(4)).await.expect(422);
    assert_eq!(
        message(&refused),
        "Scaler.stable.example.com \"a\" is invalid: status: Invalid value: \"object\": more are ready than are wanted"
    );
    client.patch("merge", &path, &status(3)).await.expect(200);
    // An update of the rest does not look at the status that it brings along.
    let mut whole = client.get(&format!("{SCALERS}/a")).await.expect(200);
    whole["status"]["ready"] = json!(9);
    let kept = client.put(&format!("{SCALERS}/a"), &whole).await.expect(200);
    assert_eq!(kept["status"]["ready"], 3);
}

#[tokio::test]
async fn a_new_rule_spares_what_is_there_until_it_changes() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    serve(&client, &with("/x-kubernetes-validations", json!([]))).await;
    client.post(SCALERS, &scaler("a", 9, 5)).await.expect(201);
    // A patch: conditions may still be written beside it.
    client.patch("merge", DEFINITION, &json!({"spec": definition()["spec"]})).await.expect(200);
    for attempt in 0..100 {
        if client.post(&format!("{SCALERS}?dryRun=All"), &scaler("b", 9, 5)).await.code == 422 {
            break;
        }
        assert!(attempt < 99, "the rule is not at work");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let path = format!("{SCALERS}/a");
    let labelled = client.patch("merge", &path, &json!({"metadata": {"labels": {"a": "b"}}})).await;
    assert_eq!(labelled.code, 200);
    let expected = "spec: Invalid value: \\\"object\\\": failed rule: self.min <= self.max";
    assert!(labelled.warnings().iter().any(|w| w.contains(expected)), "{:?}", labelled.warnings());
    assert_eq!(client.patch("merge", &path, &json!({"spec": {"max": 6}})).await.code, 422);
    client.patch("merge", &path, &json!({"spec": {"max": 10}})).await.expect(200);
}

/// A definition that another version of this server let in, with a rule that this one cannot compile.
#[tokio::test]
async fn a_stored_rule_that_cannot_be_compiled_lets_nothing_be_changed() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let lenient = with("/x-kubernetes-validations", json!([{"rule": "self.min <= self.max"}]));
    serve(&client, &lenient).await;
    let mut held = scaler("a", 1, 5);
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    client.post(SCALERS, &held).await.expect(201);

    let key = "/registry/apiextensions.k8s.io/customresourcedefinitions/scalers.stable.example.com";
    let stored = cluster.store.range(carrack_store::Range::key(key)).await.unwrap();
    let text = String::from_utf8(stored.kvs[0].value.to_vec()).unwrap();
    assert!(text.contains("self.min <= self.max"));
    let text = text.replace("self.min <= self.max", "self.min <= quux(1, 2)");
    let put = carrack_store::Put { key: key.into(), value: text.into(), ..Default::default() };
    let txn = carrack_store::Txn::of(vec![carrack_store::Op::Put(put)]);
    cluster.store.txn(txn).await.unwrap();

    let expected = "a validation rule in the definition of this resource cannot be compiled; correct the \
                    CustomResourceDefinition: openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: Invalid \
                    value: \"self.min <= quux(1, 2)\"";
    for attempt in 0..100 {
        let answer = client.post(SCALERS, &scaler("b", 1, 5)).await;
        if answer.code == 422 {
            assert!(message(&answer.json()).contains(expected), "{}", answer.text());
            break;
        }
        assert!(attempt < 99 && answer.code == 409 || attempt == 0, "{}", answer.text());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let path = format!("{SCALERS}/a");
    client.get(&path).await.expect(200);
    assert_eq!(client.patch("merge", &path, &json!({"spec": {"max": 6}})).await.code, 422);
    // Objects can go, and the definition be mended.
    client.patch("merge", &path, &json!({"metadata": {"finalizers": null}})).await.expect(200);
    client.delete(&path).await.expect(200);
    client.patch("merge", DEFINITION, &json!({"metadata": {"labels": {"a": "b"}}})).await.expect(200);
    client.patch("merge", DEFINITION, &json!({"spec": lenient["spec"]})).await.expect(200);
}

#[tokio::test]
async fn the_parameters_of_a_policy_are_custom_resources() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    serve(&client, &definition()).await;
    client.post(SCALERS, &scaler("limit", 1, 2)).await.expect(201);
    let group = "/apis/admissionregistration.k8s.io/v1";
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "few"},
        "spec": {
            "paramKind": {"apiVersion": "stable.example.com/v1", "kind": "Scaler"},
            "matchConstraints": {"resourceRules": [{"operations": ["CREATE"], "apiGroups": ["apps"],
                "apiVersions": ["*"], "resources": ["deployments"]}]},
            "validations": [{"expression": "object.spec.replicas <= params.spec.max"}],
        },
    });
    client.post(&format!("{group}/validatingadmissionpolicies"), &policy).await.expect(201);
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "few"},
        "spec": {"policyName": "few", "validationActions": ["Deny"],
            "paramRef": {"selector": {}, "parameterNotFoundAction": "Deny"}},
    });
    client.post(&format!("{group}/validatingadmissionpolicybindings"), &binding).await.expect(201);
    let path = format!("{DEPLOYMENTS}?dryRun=All");
    for attempt in 0..100 {
        let answer = client.post(&path, &deployment("web", 3)).await;
        if answer.code == 422 {
            let expected = "denied request: failed expression: object.spec.replicas <= params.spec.max";
            assert!(message(&answer.json()).ends_with(expected), "{}", answer.text());
            break;
        }
        assert!(attempt < 99, "the policy is not at work: {}", answer.text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    client.post(&path, &deployment("web", 2)).await.expect(201);
    client.delete(&format!("{SCALERS}/limit")).await.expect(200);
    let refused = client.post(&path, &deployment("web", 1)).await.expect(422);
    assert!(message(&refused).contains("no params found for policy binding"), "{}", message(&refused));
}
