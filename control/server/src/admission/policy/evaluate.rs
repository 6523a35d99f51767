//! Runs a policy's expressions on one request. Source: `apiserver/pkg/admission/plugin/policy/validating/validator.go`.

use carrack_cel::{
    Bindings, Budget, EvalError, Opaque, PER_MATCH_CONDITIONS, PER_REQUEST, Program, Value as Cel,
};
use serde_json::Value;

use super::compile::{Policy, Validation};
use super::request::{Asked, NAMESPACE, REQUEST};

/// Bytes of a message, and of an annotation, at most.
const MAX_MESSAGE: usize = 5 << 10;
const MAX_ANNOTATION: usize = 10 << 10;

/// A validation that does not hold, or could not be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) message: String,
    /// The reason that the policy gives; empty for `Invalid`.
    pub(super) reason: String,
    /// Which validation it is; none when it is about the policy as a whole.
    pub(super) index: Option<usize>,
}

/// What a policy says of a request.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) failures: Vec<Failure>,
    /// Keys and values for the audit log.
    pub(super) annotations: Vec<(String, String)>,
}

impl Judged {
    pub(super) fn of_failures(failures: Vec<Failure>) -> Self {
        Judged { failures, annotations: Vec::new() }
    }
}

/// Judges a request by a policy with one object of parameters (null for none).
pub(super) fn judge(policy: &Policy, asked: &Asked, namespace: &Value, params: &Value) -> Judged {
    let bindings = match bind(policy, asked, namespace, params) {
        Ok(bindings) => bindings,
        Err(error) => return Judged::of_failures(policy.failures(error.to_string())),
    };
    match is_meant(policy, &bindings) {
        Ok(true) => {}
        Ok(false) => return Judged::default(),
        Err(why) => return Judged::of_failures(policy.failures(why)),
    }
    let mut budget = Budget::new(PER_REQUEST);
    let mut judged = Judged::default();
    for (index, validation) in policy.validations.iter().enumerate() {
        let mut failures = one(policy, validation, &bindings, &mut budget);
        failures.iter_mut().for_each(|failure| failure.index = Some(index));
        judged.failures.extend(failures);
    }
    for annotation in &policy.annotations {
        match annotation.program.evaluate(&bindings, &mut budget) {
            Ok(Cel::String(text)) if !text.trim().is_empty() => {
                let mut value = text.trim().to_owned();
                value.truncate(value.floor_char_boundary(MAX_ANNOTATION));
                judged.annotations.push((annotation.key.clone(), value));
            }
            Ok(_) => {}
            Err(error) => {
                let why = failed(&annotation.source, &error);
                judged.failures.extend(policy.failures(why));
            }
        }
    }
    judged
}

pub(super) fn bind<'a>(
    policy: &'a Policy,
    asked: &'a Asked,
    namespace: &'a Value,
    params: &'a Value,
) -> Result<Bindings<'a>, EvalError> {
    Ok(Bindings::new()
        .with("object", Cel::untyped(&asked.object))
        .with("oldObject", Cel::untyped(&asked.old))
        .with("request", Cel::json(&asked.request, &REQUEST)?)
        .with("namespaceObject", Cel::json(namespace, &NAMESPACE)?)
        .with("params", Cel::untyped(params))
        .with("authorizer", Cel::Opaque(Opaque::Authorizer(asked.authorizer.clone())))
        .with("authorizer.requestResource", Cel::Opaque(Opaque::ResourceCheck(asked.resource.clone())))
        .with_variables(&policy.variables))
}

pub(super) fn failed(source: &str, error: &EvalError) -> String {
    format!("expression '{source}' resulted in error: {error}")
}

/// Whether all match conditions hold. One that does not settles it, whatever the others say.
pub(super) fn is_meant<'a>(policy: &'a Policy, bindings: &Bindings<'a>) -> Result<bool, String> {
    let mut budget = Budget::new(PER_MATCH_CONDITIONS);
    let mut errors = Vec::new();
    for condition in &policy.conditions {
        match truth(&condition.program, bindings, &mut budget) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) => errors.push(failed(&condition.source, &error)),
        }
    }
    match errors.as_slice() {
        [] => Ok(true),
        [one] => Err(one.clone()),
        many => Err(format!("[{}]", many.join(", "))),
    }
}

fn truth<'a>(program: &'a Program, bindings: &Bindings<'a>, budget: &mut Budget) -> Result<bool, EvalError> {
    match program.evaluate(bindings, budget)? {
        Cel::Bool(value) => Ok(value),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn one<'a>(
    policy: &'a Policy,
    validation: &'a Validation,
    bindings: &Bindings<'a>,
    budget: &mut Budget,
) -> Vec<Failure> {
    match truth(&validation.program, bindings, budget) {
        Ok(true) => Vec::new(),
        Ok(false) => {
            let message = message(validation, bindings, budget);
            vec![Failure { message, reason: validation.reason.clone(), index: None }]
        }
        Err(error) => policy.failures(failed(&validation.source, &error)),
    }
}

/// What the policy says about a validation that does not hold.
fn message<'a>(validation: &'a Validation, bindings: &Bindings<'a>, budget: &mut Budget) -> String {
    let made = validation.message_expression.as_ref().map(|program| program.evaluate(bindings, budget));
    if let Some(Ok(Cel::String(text))) = made {
        let text = text.trim();
        if !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n') {
            return text.to_owned();
        }
    }
    match validation.message.as_str() {
        "" => format!("failed expression: {}", validation.source.trim()),
        message => message.to_owned(),
    }
}
