//! Kubernetes' library of authorization: who may do what.

use std::sync::Arc;

use super::{Cost, Row, T, made, text};
use crate::error::EvalError;
use crate::opaque::{Check, Opaque, OpaqueKind, Query};
use crate::value::Value;

const AUTHORIZER: T = T::Op(OpaqueKind::Authorizer);
const PATH: T = T::Op(OpaqueKind::PathCheck);
const GROUP: T = T::Op(OpaqueKind::GroupCheck);
const RESOURCE: T = T::Op(OpaqueKind::ResourceCheck);
const DECISION: T = T::Op(OpaqueKind::Decision);
/// Two questions are all that one expression may ask.
const CHECK: Cost = Cost::Fixed(350_000);

macro_rules! refine {
    ($name:literal, $field:ident) => {
        Row::member($name, &[RESOURCE, T::Str], RESOURCE, |_, args| {
            refine(args, Opaque::ResourceCheck, |check, text| check.$field = text)
        })
    };
}

pub(super) const ROWS: &[Row] = &[
    Row::member("path", &[AUTHORIZER, T::Str], PATH, |_, args| {
        if text(args, 1)?.is_empty() {
            return Err(EvalError::other("path must not be empty"));
        }
        refine(args, Opaque::PathCheck, |check, text| check.path = Some(text))
    }),
    Row::member("serviceAccount", &[AUTHORIZER, T::Str, T::Str], AUTHORIZER, |_, args| {
        let name = text(args, 2)?.to_string();
        let valid = carrack_api::names::dns1123_label(text(args, 1)?).is_empty()
            && carrack_api::names::dns1123_subdomain(&name).is_empty();
        if !valid {
            return Err(EvalError::other("Invalid service account"));
        }
        refine(args, Opaque::Authorizer, |check, namespace| check.service_account = Some((namespace, name)))
    }),
    Row::member("group", &[AUTHORIZER, T::Str], GROUP, |_, args| {
        refine(args, Opaque::GroupCheck, |check, text| check.group = text)
    }),
    Row::member("resource", &[GROUP, T::Str], RESOURCE, |_, args| {
        refine(args, Opaque::ResourceCheck, |check, text| check.resource = text)
    }),
    refine!("subresource", subresource),
    refine!("namespace", namespace),
    refine!("name", name),
    refine!("fieldSelector", field_selector).costs(Cost::Selector),
    refine!("labelSelector", label_selector).costs(Cost::Selector),
    Row::member("check", &[PATH, T::Str], DECISION, |_, args| check(args)).costs(CHECK),
    Row::member("check", &[RESOURCE, T::Str], DECISION, |_, args| check(args)).costs(CHECK),
    Row::member("allowed", &[DECISION], T::Bool, |_, args| Ok(Value::Bool(verdict(args)?.allowed))),
    Row::member("reason", &[DECISION], T::Str, |meter, args| made(meter, verdict(args)?.reason.clone())),
    Row::member("errored", &[DECISION], T::Bool, |_, args| Ok(Value::Bool(verdict(args)?.error.is_some()))),
    Row::member("error", &[DECISION], T::Str, |meter, args| {
        made(meter, verdict(args)?.error.clone().unwrap_or_default())
    }),
];

fn query<'v>(args: &'v [Value<'_>]) -> Result<&'v Query, EvalError> {
    match args.first() {
        Some(Value::Opaque(
            Opaque::Authorizer(query)
            | Opaque::PathCheck(query)
            | Opaque::GroupCheck(query)
            | Opaque::ResourceCheck(query),
        )) => Ok(query),
        _ => Err(EvalError::NoSuchOverload),
    }
}

/// The question with one more part.
fn refine<'a>(
    args: &[Value<'a>],
    make: fn(Query) -> Opaque,
    set: impl FnOnce(&mut Check, String),
) -> Result<Value<'a>, EvalError> {
    let query = query(args)?;
    let mut check = query.check.as_ref().clone();
    set(&mut check, text(args, 1)?.to_string());
    Ok(Value::Opaque(make(Query { authorizer: Arc::clone(&query.authorizer), check: Arc::new(check) })))
}

fn check<'a>(args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let query = query(args)?;
    let check = Check { verb: text(args, 1)?.to_string(), ..query.check.as_ref().clone() };
    Ok(Value::Opaque(Opaque::Decision(Arc::new(query.authorizer.authorize(&check)))))
}

fn verdict<'v>(args: &'v [Value<'_>]) -> Result<&'v crate::opaque::Verdict, EvalError> {
    match args.first() {
        Some(Value::Opaque(Opaque::Decision(verdict))) => Ok(verdict),
        _ => Err(EvalError::NoSuchOverload),
    }
}
