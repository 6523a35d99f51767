//! Policies on a request, without a server.

use std::sync::Arc;

use carrack_cel::{Check, Query};
use serde_json::{Value, json};

use super::compile::Policy;
use super::evaluate::judge;
use super::request::Asked;
use super::rights::Rights;
use crate::UserInfo;

fn policy(spec: Value) -> (Policy, Vec<String>) {
    let object = json!({"metadata": {"name": "p"}, "spec": spec});
    let (policy, errors) = Policy::read(&object).unwrap();
    (policy, errors.iter().map(|error| format!("{}: {}", error.field, error.body())).collect())
}

fn asked() -> Asked {
    let rights = Arc::new(Rights::new(Vec::new(), UserInfo::default()));
    let query = Query { authorizer: rights.clone(), check: Arc::new(Check::default()) };
    Asked {
        object: json!({"metadata": {"name": "x", "namespace": "ns"}, "spec": {"replicas": 7}}),
        old: Value::Null,
        request: json!({"name": "x", "namespace": "ns", "operation": "CREATE", "userInfo": {"username": "ann"}}),
        rights,
        authorizer: query.clone(),
        resource: query,
    }
}

/// What a policy says: messages and reasons of failures, and annotations.
fn said(spec: Value, params: Value) -> Vec<String> {
    let (policy, errors) = policy(spec);
    assert_eq!(errors, Vec::<String>::new());
    let namespace = json!({"metadata": {"name": "ns", "labels": {"tier": "gold"}}});
    let judged = judge(&policy, &asked(), &namespace, &params);
    let failures =
        judged.failures.into_iter().map(|failure| format!("{}{}", failure.reason, failure.message));
    failures.chain(judged.annotations.into_iter().map(|(key, value)| format!("{key}={value}"))).collect()
}

#[test]
fn validations() {
    let cases = [
        (json!({"expression": "object.spec.replicas <= 7"}), None),
        (
            json!({"expression": "object.spec.replicas <= 5"}),
            Some("failed expression: object.spec.replicas <= 5"),
        ),
        (json!({"expression": "object.spec.replicas <= 5", "message": "too many "}), Some("too many")),
        (
            json!({"expression": "false", "message": "m", "messageExpression": "'%d is too many'.format([object.spec.replicas])"}),
            Some("7 is too many"),
        ),
        (json!({"expression": "false", "message": "m", "messageExpression": "string(1 / 0)"}), Some("m")),
        (json!({"expression": "false", "message": "m", "reason": "Forbidden"}), Some("Forbiddenm")),
        (
            json!({"expression": "object.spec.paused"}),
            Some("expression 'object.spec.paused' resulted in error: no such key: paused"),
        ),
        (json!({"expression": "oldObject == null && request.userInfo.username == 'ann'"}), None),
        (json!({"expression": "namespaceObject.metadata.labels.tier == 'gold'"}), None),
        (json!({"expression": "variables.double == 14 && variables.quad == 28"}), None),
        (json!({"expression": "!authorizer.requestResource.check('get').allowed()"}), None),
        (json!({"expression": "object.metadata.namespace == request.namespace"}), None),
    ];
    for (validation, expected) in cases {
        let spec = json!({"validations": [validation], "variables": [
            {"name": "double", "expression": "object.spec.replicas * 2"},
            {"name": "quad", "expression": "variables.double * 2"},
            {"name": "broken", "expression": "1 / 0"},
        ]});
        let expected: Vec<&str> = expected.into_iter().collect();
        assert_eq!(said(spec.clone(), Value::Null), expected, "{spec}");
    }
}

#[test]
fn failures_and_conditions() {
    let fails = json!([{"expression": "object.nothing > 1"}]);
    assert_eq!(said(json!({"validations": fails}), Value::Null).len(), 1);
    assert_eq!(
        said(json!({"validations": fails, "failurePolicy": "Ignore"}), Value::Null),
        Vec::<String>::new()
    );
    let conditions = |expressions: &[&str]| {
        let list: Vec<Value> = expressions.iter().map(|e| json!({"name": "n", "expression": e})).collect();
        said(
            json!({"validations": [{"expression": "false", "message": "no"}], "matchConditions": list}),
            Value::Null,
        )
    };
    assert_eq!(conditions(&["true", "request.operation == 'CREATE'"]), ["no"]);
    assert_eq!(conditions(&["true", "false"]), Vec::<String>::new());
    assert_eq!(conditions(&["1 / 0 == 1", "false"]), Vec::<String>::new());
    assert_eq!(conditions(&["1 / 0 == 1"]), ["expression '1 / 0 == 1' resulted in error: division by zero"]);
}

#[test]
fn params_and_annotations() {
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "validations": [{"expression": "object.spec.replicas <= int(params.data.max)"}],
        "auditAnnotations": [{"key": "k", "valueExpression": "'replicas: ' + string(object.spec.replicas)"},
            {"key": "none", "valueExpression": "null"}],
    });
    assert_eq!(said(spec.clone(), json!({"data": {"max": "9"}})), ["k=replicas: 7"]);
    assert_eq!(said(spec, json!({"data": {"max": "6"}})).len(), 2);
}

#[test]
fn expressions_that_cannot_be_compiled() {
    let (broken, errors) = policy(json!({
        "validations": [{"expression": "object.x", "messageExpression": "1"}, {"expression": "request.nothing == 1"},
            {"expression": "'text'"}, {"expression": "params.x"}, {"expression": "true", "messageExpression": "string(authorizer.path('/').check('get').allowed())"}],
        "variables": [{"name": "a", "expression": "variables.b"}, {"name": "b", "expression": "1"}],
        "matchConditions": [{"name": "n", "expression": "foo"}],
        "auditAnnotations": [{"key": "k", "valueExpression": "1"}],
    }));
    let why = broken.broken.as_deref().unwrap();
    assert!(why.starts_with("spec.variables[0].expression: compilation failed: "), "{why}");
    assert_eq!(broken.failures(why.to_owned()).len(), 1, "a policy that is broken refuses");
    let fields: Vec<&str> = errors.iter().map(|error| error.split(':').next().unwrap()).collect();
    assert_eq!(
        fields,
        [
            "spec.variables[0].expression",
            "spec.matchConditions[0].expression",
            "spec.validations[0].messageExpression",
            "spec.validations[1].expression",
            "spec.validations[2].expression",
            "spec.validations[3].expression",
            "spec.validations[4].messageExpression",
            "spec.auditAnnotations[0].valueExpression",
        ]
    );
    assert!(
        errors[3].contains("compilation failed: ERROR: <input>:1:8: undefined field 'nothing'"),
        "{}",
        errors[3]
    );
    assert!(errors[4].contains("must evaluate to bool"), "{}", errors[4]);
}
