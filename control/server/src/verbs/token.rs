//! `serviceaccounts/token`: a short-lived token for a ServiceAccount, bound to an object if asked for.

use carrack_api::schema::bodies;
use carrack_api::{find, meta, status};
use serde_json::Value;

use crate::call::{Answer, Body, Call};
use crate::object::Stored;
use crate::options::{WriteOptions, Writing};
use crate::{ApiError, Operation};

const TOKEN_REQUEST: (&str, &str) = ("authentication.k8s.io/v1", "TokenRequest");

/// What a token can be bound to: the kind, and the resource that holds it.
const BINDABLE: &[(&str, &str)] = &[("Pod", "pods"), ("Secret", "secrets"), ("Node", "nodes")];

/// Issues a token as the TokenRequest in the body asks.
pub(super) async fn create(call: &Call, body: Body) -> Result<Answer, ApiError> {
    let options = WriteOptions::parse(&call.query, Writing::Create)?;
    let mut request = call.decode_as(&body, &bodies::TOKEN_REQUEST, TOKEN_REQUEST, &options)?;
    meta::check_name(&request, call.name())?;
    meta::check_namespace(&request, call.namespace())?;
    let found = call.registry().get(&call.resource, call.namespace(), call.name()).await?;
    let account = Stored::from(&*found.ok_or_else(|| call.not_found())?).object()?;
    let admission = call.admission(Operation::Create, TOKEN_REQUEST.1, None, options.dry_run);
    call.mutate(&admission, &mut request).await?;
    call.judge(&admission, Some(&request)).await?;
    let bound = bound(call, &request).await?;
    let mut issued = call.server.config.tokens.issue(&account, request, bound.as_ref()).await?;
    meta::set(&mut issued, "name", call.name());
    meta::set(&mut issued, "namespace", call.namespace());
    Ok(Answer::Other(201, issued))
}

/// The object that the token is to be bound to; 404 when it does not exist.
async fn bound(call: &Call, request: &Value) -> Result<Option<Value>, ApiError> {
    let Some(reference) = request.pointer("/spec/boundObjectRef").filter(|r| !r.is_null()) else {
        return Ok(None);
    };
    let text = |field: &str| reference.get(field).and_then(Value::as_str).unwrap_or_default();
    let plural = BINDABLE
        .iter()
        .find(|(kind, _)| *kind == text("kind") && matches!(text("apiVersion"), "" | "v1"))
        .map(|(_, plural)| *plural)
        .ok_or_else(|| {
            ApiError::bad_request(format!(
                "cannot bind token for serviceaccount to object of type {}, Kind={}",
                text("apiVersion"),
                text("kind")
            ))
        })?;
    let resource =
        find("", "v1", plural).ok_or_else(|| ApiError::internal(format!("the table has no {plural}")))?;
    let found = call.registry().get(resource, call.namespace(), text("name")).await?;
    let object = Stored::from(&*found.ok_or_else(|| status::not_found(resource, text("name")))?).object()?;
    let uid = meta::uid(&object);
    if !text("uid").is_empty() && text("uid") != uid {
        let why = format!(
            "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
            text("uid")
        );
        return Err(ApiError::conflict(resource.group, resource.kind, text("name"), &why));
    }
    Ok(Some(object))
}
