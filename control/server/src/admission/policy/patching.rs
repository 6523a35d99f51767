//! What one mutation of a policy makes of an object. Source: `apiserver/pkg/admission/plugin/policy/mutating/patch`.

use carrack_api::apply::{self, Kind};
use carrack_api::patch::{self, PatchError};
use carrack_cel::{Budget, List, Map, PER_REQUEST, Value as Cel};
use serde_json::Value;

use super::compile::{Mutation, Patch, Policy};
use super::evaluate::{bind, failed};
use super::request::Asked;

/// The type of an operation.
const OPERATION: &str = "JSONPatch";

/// The object that `asked` shows, changed by a mutation; an error says why it cannot be. `kind` is what the object
/// is; nothing known of it can be merged.
pub(super) fn patched(
    policy: &Policy,
    mutation: &Mutation,
    (asked, namespace, params): (&Asked, &Value, &Value),
    kind: Option<Kind<'_>>,
) -> Result<Value, String> {
    let bindings = bind(policy, asked, namespace, params).map_err(|why| why.to_string())?;
    let value = mutation
        .program
        .evaluate(&bindings, &mut Budget::new(PER_REQUEST))
        .map_err(|why| failed(&mutation.source, &why))?;
    match mutation.patch {
        Patch::Apply => applied(&asked.object, &value, kind),
        Patch::Json => json_patched(&asked.object, &value),
    }
}

fn named(value: &Cel<'_>) -> Result<(), String> {
    match value.misnamed() {
        wrong if wrong.is_empty() => Ok(()),
        wrong => Err(format!("type mismatch: {}", wrong.join("\n"))),
    }
}

fn applied(object: &Value, value: &Cel<'_>, kind: Option<Kind<'_>>) -> Result<Value, String> {
    if value.type_name() != "Object" {
        let found = value.type_name();
        return Err(format!("unsupported return type from ApplyConfiguration expression: {found}"));
    }
    named(value)?;
    let mut config = value.to_json().map_err(|why| format!("invalid return type: {why}"))?;
    for field in ["apiVersion", "kind"] {
        config[field] = object[field].clone();
    }
    let Some(kind) = kind else {
        return Err("error applying patch: the object of this request has no schema".to_owned());
    };
    apply::overlay(kind, object, &config).map_err(|why| format!("error applying patch: {why}"))
}

fn json_patched(object: &Value, value: &Cel<'_>) -> Result<Value, String> {
    let Cel::List(list) = value else {
        return Err("type mismatch: JSONPatchType.expression should evaluate to array".to_owned());
    };
    let operations = operations(list)?;
    let mut object_patched = object.clone();
    match patch::json_patch(&mut object_patched, Value::Array(operations)) {
        Ok(()) => Ok(object_patched),
        // A test that does not hold means that nothing is to be done.
        Err(PatchError::TestFailed(_)) => Ok(object.clone()),
        Err(why) => Err(format!("JSONPath: {why}")),
    }
}

fn operations(list: &List<'_>) -> Result<Vec<Value>, String> {
    let mut operations = Vec::new();
    for operation in list.iter() {
        let operation = operation.map_err(|why| why.to_string())?;
        let Cel::Map(Map::Made(OPERATION, fields)) = &operation else {
            return Err(format!(
                "type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch, got element of {}",
                operation.type_name()
            ));
        };
        fields.values().try_for_each(named)?;
        operations.push(operation.to_json().map_err(|why| {
            format!("JSONPath valueExpression evaluated to a type that could not marshal to JSON: {why}")
        })?);
    }
    Ok(operations)
}
