//! Where rules of `x-kubernetes-validations` come in: compiled with the schema, evaluated with each value.
//!
//! The seam for the evaluator of CEL. [`compile`] is called for every node of a schema when a definition is created or
//! updated and when it is loaded; [`evaluate`] for every value that a node with rules applies to. A server without an
//! evaluator refuses definitions with rules, so that none is skipped in silence.

use std::fmt::Debug;

use serde_json::Value;

use super::structural::SchemaError;
use crate::status::{FieldError, FieldPath};

/// One compiled rule of a node.
pub trait Rule: Debug + Send + Sync {
    /// What is wrong with `value`, which is at `path`. `old` is the value that it replaces, where it can be correlated
    /// with one.
    fn evaluate(&self, path: &FieldPath, value: &Value, old: Option<&Value>) -> Vec<FieldError>;
}

/// Compiles the rules of a node, whose schema is given as JSON: its declarations follow from it.
///
/// # Errors
/// [`SchemaError::Rule`] with the text that stands in the refusal of the definition.
pub fn compile(schema: &Value) -> Result<Vec<Box<dyn Rule>>, SchemaError> {
    match schema.get("x-kubernetes-validations").and_then(Value::as_array) {
        Some(rules) if !rules.is_empty() => Err(SchemaError::Rule(
            "x-kubernetes-validations: rules are not evaluated by this server yet; remove them, or state what they \
             say by the schema or an admission webhook"
                .to_owned(),
        )),
        _ => Ok(Vec::new()),
    }
}

/// Appends what `rules` say against `value` at `path`.
pub fn evaluate(
    rules: &[Box<dyn Rule>],
    path: &FieldPath,
    value: &Value,
    old: Option<&Value>,
    errors: &mut Vec<FieldError>,
) {
    errors.extend(rules.iter().flat_map(|rule| rule.evaluate(path, value, old)));
}
