//! `status` of ValidatingAdmissionPolicies: what is wrong with their expressions for the kinds that they name.
//!
//! Upstream has a controller for it. Here the status is written with the policy, by the same request, whenever its
//! generation changes. Warnings change nothing about what the policy does. Only policies whose rules name groups,
//! versions and resources are checked, for ten kinds at most; validations and their messages are, nothing else is.
//!
//! Source: `apiserver/pkg/admission/plugin/policy/validating/typechecking.go`.

use std::collections::BTreeMap;
use std::sync::Arc;

use carrack_api::{Catalogue, GroupVersionKind, meta};
use carrack_cel::{DYN, Environment, ObjectType, Program, Type};
use serde_json::{Value, json};

use super::request::{NAMESPACE, REQUEST, with_authorizer};
use super::types::object_type;
use crate::AdmissionRequest;
use crate::authn::text;
use crate::call::Call;

/// Kinds of one policy at most.
const MAX_TYPES: usize = 10;

/// Writes the status of a policy that is created, or whose spec changed.
pub(crate) fn note(call: &Call, request: &AdmissionRequest<'_>, object: &mut Value) {
    let attributes = request.attributes;
    let is_policy = attributes.api_group == "admissionregistration.k8s.io"
        && attributes.resource == "validatingadmissionpolicies"
        && attributes.subresource.is_empty();
    let generation = object.pointer("/metadata/generation").and_then(Value::as_i64);
    let seen = object.pointer("/status/observedGeneration").and_then(Value::as_i64);
    if !is_policy || generation == seen || meta::metadata(object).is_none() {
        return;
    }
    let warnings = check(object, &call.server.kinds.now());
    if !object["status"].is_object() {
        object["status"] = json!({});
    }
    object["status"]["observedGeneration"] = json!(generation);
    object["status"]["typeChecking"] =
        if warnings.is_empty() { json!({}) } else { json!({"expressionWarnings": warnings}) };
}

/// The warnings about a policy, as its status lists them.
pub(super) fn check(policy: &Value, kinds: &Catalogue) -> Vec<Value> {
    let spec = &policy["spec"];
    let environments: Vec<(String, Environment)> =
        named(spec, kinds).into_iter().map(|(kind, ty)| (kind, environment(spec, &ty, kinds))).collect();
    let mut warnings = Vec::new();
    for (index, validation) in list(spec, "validations").iter().enumerate() {
        for field in ["expression", "messageExpression"] {
            let source = text(validation, &format!("/{field}"));
            if source.is_empty() {
                continue;
            }
            let wrong: Vec<String> = environments.iter().filter_map(|of| issues(source, of)).collect();
            if !wrong.is_empty() {
                let place = format!("spec.validations[{index}].{field}");
                warnings.push(json!({"fieldRef": place, "warning": wrong.join("\n")}));
            }
        }
    }
    warnings
}

fn list<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// What is wrong with an expression for objects of one kind.
fn issues(source: &str, (kind, environment): &(String, Environment)) -> Option<String> {
    let why = Program::compile(source, environment).err()?.to_string();
    let why = why.strip_prefix("compilation failed: ").unwrap_or(&why);
    Some(format!("{kind}: {why}\n"))
}

/// Texts of a rule without wildcards, sorted; none when one of them is a wildcard.
fn plain<'v>(rule: &'v Value, field: &str) -> Vec<&'v str> {
    let mut texts: Vec<&str> = list(rule, field).iter().filter_map(Value::as_str).collect();
    if texts.iter().any(|text| text.contains('*')) {
        return Vec::new();
    }
    texts.sort_unstable();
    texts
}

/// The kinds that the policy's rules name, in the order of group, version and kind.
fn named(spec: &Value, kinds: &Catalogue) -> Vec<(String, Type)> {
    let mut found: BTreeMap<(&str, &str, &str), Type> = BTreeMap::new();
    'rules: for rule in list(&spec["matchConstraints"], "resourceRules") {
        let mut count = 0;
        let mut resources: Vec<&str> = list(rule, "resources").iter().filter_map(Value::as_str).collect();
        resources.retain(|resource| !resource.contains(['*', '/']));
        resources.sort_unstable();
        for group in plain(rule, "apiGroups") {
            for version in plain(rule, "apiVersions") {
                for resource in &resources {
                    let Some(row) = kinds.find(group, version, resource) else { continue };
                    let GroupVersionKind { group, version, kind } = row.gvk();
                    found.entry((group, version, kind)).or_insert_with(|| object_type(&row));
                    count += 1;
                    if count == MAX_TYPES {
                        break 'rules;
                    }
                }
            }
        }
    }
    let shown = |(group, version, kind)| format!("{group}/{version}, Kind={kind}");
    found.into_iter().map(|(kind, ty)| (shown(kind), ty)).collect()
}

/// What expressions can name when they are about objects of this type.
fn environment(spec: &Value, object: &Type, kinds: &Catalogue) -> Environment {
    let environment = Environment::new()
        .with("object", object.clone())
        .with("oldObject", object.clone())
        .with("request", REQUEST.clone())
        .with("namespaceObject", NAMESPACE.clone());
    let environment = match params(spec, kinds) {
        Some(params) => environment.with("params", params),
        None => environment,
    };
    let environment = with_authorizer(environment);
    let mut known = BTreeMap::new();
    for variable in list(spec, "variables") {
        let so_far = environment.clone().with("variables", fields(&known));
        let program = Program::compile(text(variable, "/expression"), &so_far);
        let ty = program.map_or(DYN, |program| program.result_type().clone());
        known.insert(text(variable, "/name").to_owned(), ty);
    }
    environment.with("variables", fields(&known))
}

fn fields(known: &BTreeMap<String, Type>) -> Type {
    let name = "kubernetes.variables".to_owned();
    Type::Object(Arc::new(ObjectType { name, fields: known.clone(), plain: true }))
}

/// The type of the parameters; open where their kind is not known (yet).
fn params(spec: &Value, kinds: &Catalogue) -> Option<Type> {
    let kind = spec.get("paramKind").filter(|kind| kind.is_object())?;
    let version = text(kind, "/apiVersion");
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let row = kinds.find_kind(group, version, text(kind, "/kind"));
    Some(row.map_or(DYN, |row| object_type(&row)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(spec: Value) -> Vec<(String, String)> {
        let found = check(&json!({ "spec": spec }), Catalogue::builtin());
        found.iter().map(|w| (text(w, "/fieldRef").to_owned(), text(w, "/warning").to_owned())).collect()
    }

    fn rule(groups: Value, versions: Value, resources: Value) -> Value {
        json!({"resourceRules": [{"operations": ["*"], "apiGroups": groups, "apiVersions": versions, "resources": resources}]})
    }

    #[test]
    fn unknown_fields_and_wrong_operators() {
        let deployments = rule(json!(["apps"]), json!(["v1"]), json!(["deployments", "deployments/scale"]));
        let one = |expression: &str| {
            warnings(json!({"matchConstraints": deployments, "validations": [{"expression": expression}],
                "variables": [{"name": "n", "expression": "object.spec.replicas"}]}))
        };
        let expected = "apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'replicas'\n | \
                        object.replicas > 1\n | ......^\n";
        assert_eq!(one("object.replicas > 1"), [("spec.validations[0].expression".into(), expected.into())]);
        for fine in [
            "object.spec.replicas > 1 && object.metadata.labels['a'] == 'b' && variables.n < 3",
            "object.spec.template.spec.containers.all(c, c.image.startsWith('x') && !has(c.livenessProbe))",
            "object.spec.strategy.rollingUpdate.maxSurge == '25%' && oldObject == null",
            "object.metadata.creationTimestamp < timestamp('2030-01-01T00:00:00Z')",
            "object.spec.template.spec.containers[0].resources.limits['cpu'] == 1",
            "authorizer.requestResource.check('get').allowed() && request.dryRun",
        ] {
            assert_eq!(one(fine), [], "{fine}");
        }
        for (wrong, says) in [
            (
                "object.spec.replicas == '1'",
                "found no matching overload for '_==_' applied to '(int, string)'",
            ),
            ("object.spec.template.spec.container[0] == null", "undefined field 'container'"),
            (
                "variables.n.startsWith('x')",
                "found no matching overload for 'startsWith' applied to 'int.(string)'",
            ),
            ("oldObject.metadata.nothing == 1", "undefined field 'nothing'"),
            ("params.x == 1", "undeclared reference to 'params'"),
        ] {
            let found = one(wrong);
            assert!(found.len() == 1 && found[0].1.contains(says), "{wrong}: {found:?}");
        }
    }

    #[test]
    fn each_kind_that_is_named_is_checked() {
        let both = rule(json!(["", "apps"]), json!(["v1"]), json!(["pods", "deployments"]));
        let validations =
            json!([{"expression": "object.spec.replicas > 1", "messageExpression": "object.nothing"}]);
        let found = warnings(json!({"matchConstraints": both, "validations": validations}));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].1.starts_with("/v1, Kind=Pod: ERROR: <input>:1:12: undefined field 'replicas'"));
        assert_eq!(found[1].0, "spec.validations[0].messageExpression");
        assert!(found[1].1.contains("^\n\napps/v1, Kind=Deployment: ERROR"), "{}", found[1].1);
        for open in [
            rule(json!(["*"]), json!(["v1"]), json!(["pods"])),
            rule(json!([""]), json!(["*"]), json!(["pods"])),
            rule(json!([""]), json!(["v1"]), json!(["*", "pods/status", "nothings"])),
        ] {
            assert_eq!(warnings(json!({"matchConstraints": open, "validations": validations})), []);
        }
    }

    #[test]
    fn parameters_have_types() {
        let spec = json!({"matchConstraints": rule(json!([""]), json!(["v1"]), json!(["pods"])),
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "validations": [{"expression": "params.data.x == 'y'"}, {"expression": "params.spec.x == 1"}]});
        let found = warnings(spec);
        assert_eq!(found.len(), 1);
        assert!(found[0].0.contains("[1]") && found[0].1.contains("undefined field 'spec'"), "{found:?}");
    }
}
