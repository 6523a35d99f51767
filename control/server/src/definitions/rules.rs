//! Rules of definitions, `x-kubernetes-validations`: checked when a definition is written, applied to its objects.
//!
//! They are compiled by the first write of an object and kept with the row of its version. A definition that was let in
//! by another version of this server, with a rule that this one cannot compile, stays served; its objects are read and
//! deleted, but not changed. Upstream: `apiextensions-apiserver/pkg/registry/customresource/strategy.go`.

use carrack_api::FieldError;
use carrack_api::custom::{Judged, Rules};
use carrack_api::status::{ErrorType, FieldPath};
use carrack_cel::{Budget, PER_REQUEST, rules};
use serde_json::Value;

use crate::ApiError;
use crate::call::Call;

/// Errors that say that an object is not of the shape that rules are written for.
const BLOCKING: &[ErrorType] = &[
    ErrorType::NotSupported,
    ErrorType::Required,
    ErrorType::TooLong,
    ErrorType::TooMany,
    ErrorType::TypeInvalid,
];

/// Appends to `errors`, which are those of the kind's other rules, what rules say against `new`, which replaces `old`:
/// those in a definition itself, or those that a definition has for its objects. Warnings go to the client.
///
/// Compiling is work of many milliseconds, and is done beside the workers that answer requests.
pub(crate) async fn judge(
    call: &Call,
    new: &Value,
    old: Option<&Value>,
    errors: &mut Vec<FieldError>,
) -> Result<(), ApiError> {
    let Some(custom) = call.resource.custom() else {
        if call.resource.kind == "CustomResourceDefinition" && errors.is_empty() {
            let (new, old) = (new.clone(), old.cloned());
            errors.extend(aside(move || check(&new, old.as_ref())).await?);
        }
        return Ok(());
    };
    if !custom.version().has_compiled() {
        let custom = custom.clone();
        aside(move || custom.version().rules(compile).is_some()).await?;
    }
    let Some(rules) = custom.version().rules(compile) else { return Ok(()) };
    if errors.iter().any(|error| BLOCKING.contains(&error.kind)) {
        let detail = "some validation rules were not checked because the object was invalid; correct the existing \
                      errors to complete validation";
        errors.push(FieldError::invalid(&FieldPath::root("<nil>"), Value::Null, detail));
        return Ok(());
    }
    let judged = rules.judge(new, old);
    errors.extend(judged.errors);
    call.warnings.add(judged.warnings);
    Ok(())
}

/// Runs work on a thread where nobody waits for others.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)
}

/// The rules of a version.
#[derive(Debug)]
enum Compiled {
    Rules(rules::Rules),
    /// What is wrong with one that cannot be compiled.
    Broken(FieldError),
}

fn compile(schema: &Value) -> Option<Box<dyn Rules>> {
    let (rules, errors) = rules::compile(schema, true, &FieldPath::root("openAPIV3Schema"));
    let compiled = match errors.into_iter().next() {
        Some(error) => Compiled::Broken(error),
        None if rules.is_empty() => return None,
        None => Compiled::Rules(rules),
    };
    Some(Box::new(compiled))
}

impl Rules for Compiled {
    fn judge(&self, new: &Value, old: Option<&Value>) -> Judged {
        match self {
            Compiled::Rules(rules) => {
                let outcome =
                    rules::validate(rules, new, old, &FieldPath::default(), &mut Budget::new(PER_REQUEST));
                Judged { errors: outcome.errors, warnings: outcome.warnings }
            }
            // Finalizers can be taken away all the same, so that objects can go.
            Compiled::Broken(_) if old.is_some_and(|old| differ_in_metadata_alone(new, old)) => {
                Judged::default()
            }
            Compiled::Broken(error) => {
                let why = format!(
                    "a validation rule in the definition of this resource cannot be compiled; correct the \
                     CustomResourceDefinition: {error}"
                );
                Judged {
                    errors: vec![FieldError::internal(&FieldPath::root("<nil>"), why)],
                    warnings: Vec::new(),
                }
            }
        }
    }
}

fn differ_in_metadata_alone(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else { return false };
    let rest = |name: &&String| *name != "metadata";
    new.keys().chain(old.keys()).filter(rest).all(|name| new.get(name) == old.get(name))
}

/// What is wrong with the rules of a definition. Schemas that `old` has are not judged again, so that what was
/// let in by another version of this server can be changed elsewhere.
fn check(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let versions = versions(new);
    let known = old.map_or(&[][..], self::versions);
    let spec = FieldPath::root("spec");
    // Where all versions have the same schema, upstream names the place that it had before versions were told apart.
    let shared = versions.windows(2).all(|pair| pair[0]["schema"] == pair[1]["schema"]);
    for (index, version) in versions.iter().enumerate().take(if shared { 1 } else { versions.len() }) {
        let same = |old: &Value| old["name"] == version["name"] && old["schema"] == version["schema"];
        if known.iter().any(same) {
            continue;
        }
        let at = if shared {
            spec.child("validation")
        } else {
            spec.child("versions").index(index).child("schema")
        };
        let (at, schema) = (at.child("openAPIV3Schema"), &version["schema"]["openAPIV3Schema"]);
        let before = errors.len();
        errors.extend(rules::compile(schema, true, &at).1);
        if errors.len() == before {
            defaults(schema, &at, &mut Budget::new(PER_REQUEST), &mut errors);
        }
    }
    errors
}

fn versions(definition: &Value) -> &[Value] {
    definition["spec"]["versions"].as_array().map_or(&[], Vec::as_slice)
}

/// Defaults have to be what the rules of their place allow. The rules themselves are fine.
fn defaults(schema: &Value, at: &FieldPath, budget: &mut Budget, errors: &mut Vec<FieldError>) {
    if let Some(default) = schema.get("default").filter(|default| !default.is_null()) {
        let (rules, _) = rules::compile(schema, false, at);
        errors.extend(rules::validate(&rules, default, None, &at.child("default"), budget).errors);
    }
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        defaults(below, &at.child("properties").key(name), budget, errors);
    }
    for name in ["items", "additionalProperties"] {
        if schema[name].is_object() {
            defaults(&schema[name], &at.child(name), budget, errors);
        }
    }
}
