//! `matchConditions`: expressions in CEL that say which requests a webhook wants to be asked about.
//!
//! They see `object`, `oldObject`, `request` and `authorizer`. Source: `apiserver/pkg/admission/plugin/webhook/matchconditions`.

use carrack_api::status::{self, FieldError, FieldPath};
use carrack_cel::{
    Bindings, Budget, DYN, Environment, Opaque, PER_MATCH_CONDITIONS, Program, Query, Type, Value as Cel,
};
use serde_json::Value;

use super::super::matching::GROUP;
use super::super::policy::request::{REQUEST, request_type, with_authorizer};
use crate::authn::text;
use crate::{AdmissionRequest, ApiError, Operation};

/// The conditions of one webhook.
#[derive(Default)]
pub(super) struct Conditions(Vec<(String, Program)>);

fn environment() -> Environment {
    with_authorizer(
        Environment::new().with("object", DYN).with("oldObject", DYN).with("request", request_type()),
    )
}

/// The program of an expression, or what is wrong with it.
fn compile(expression: &str) -> Result<Program, String> {
    let program = Program::compile(expression, &environment()).map_err(|why| why.to_string())?;
    match program.result_type() {
        Type::Bool => Ok(program),
        other if other.is_dyn() => Ok(program),
        _ => Err("must evaluate to bool".to_owned()),
    }
}

fn listed(webhook: &Value) -> &[Value] {
    webhook.get("matchConditions").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

impl Conditions {
    /// Those of an entry of `webhooks`.
    pub(super) fn read(webhook: &Value) -> Result<Self, String> {
        let programs = listed(webhook).iter().map(|condition| {
            let expression = text(condition, "/expression");
            Ok((expression.to_owned(), compile(expression)?))
        });
        programs.collect::<Result<_, String>>().map(Conditions)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all hold. One that does not hold counts for more than others that fail. The questions are those of
    /// `authorizer` and `authorizer.requestResource`; what they want to know may have to be asked, see `questions`.
    pub(super) fn hold(
        &self,
        object: &Value,
        old: &Value,
        request: &Value,
        [authorizer, resource]: &[Query; 2],
    ) -> Result<bool, String> {
        let bindings = Bindings::new()
            .with("object", Cel::untyped(object))
            .with("oldObject", Cel::untyped(old))
            .with("request", Cel::json(request, &REQUEST).map_err(|why| why.to_string())?)
            .with("authorizer", Cel::Opaque(Opaque::Authorizer(authorizer.clone())))
            .with("authorizer.requestResource", Cel::Opaque(Opaque::ResourceCheck(resource.clone())));
        let mut budget = Budget::new(PER_MATCH_CONDITIONS);
        let mut failed = Vec::new();
        for (expression, program) in &self.0 {
            match program.evaluate(&bindings, &mut budget) {
                Ok(Cel::Bool(true)) => {}
                Ok(Cel::Bool(false)) => return Ok(false),
                Ok(_) => failed.push(format!("expression '{expression}' must evaluate to bool")),
                Err(why) => failed.push(format!("expression '{expression}' resulted in error: {why}")),
            }
        }
        match failed.as_slice() {
            [] => Ok(true),
            [one] => Err(one.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        }
    }
}

/// Refuses a webhook configuration whose conditions cannot be compiled: 422.
pub(super) fn check(request: &AdmissionRequest<'_>, object: Option<&Value>) -> Result<(), ApiError> {
    const KINDS: [&str; 2] = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];
    let written = matches!(request.operation, Operation::Create | Operation::Update);
    let Some(object) = object.filter(|_| written && KINDS.contains(&request.kind)) else { return Ok(()) };
    let webhooks = object.get("webhooks").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut errors = Vec::new();
    for (place, webhook) in webhooks.iter().enumerate() {
        let path = FieldPath::root("webhooks").index(place).child("matchConditions");
        for (index, condition) in listed(webhook).iter().enumerate() {
            let expression = text(condition, "/expression");
            if let Err(why) = compile(expression) {
                let at = path.index(index).child("expression");
                errors.push(FieldError::invalid(&at, expression, why));
            }
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(status::invalid(GROUP, request.kind, carrack_api::meta::name(object), &errors).into())
}
