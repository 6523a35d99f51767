//! `create`: a new object, under its own name or a generated one.

use bytes::Bytes;
use carrack_api::schema::always::complete_stored;
use carrack_api::{meta, status};
use jiff::Timestamp;
use serde_json::Value;

use crate::admission::policy::typecheck;
use crate::authz::decide;
use crate::call::{Answer, Body, Call};
use crate::definitions::rules;
use crate::object::{to_served, to_storage};
use crate::options::{WriteOptions, Writing};
use crate::registry::{Beside, Swap};
use crate::service::Origin;
use crate::{ApiError, Operation, namespaces, quota, side, tracking};

/// How often a generated name is tried; upstream's figure.
const NAME_ATTEMPTS: usize = 8;
/// How often a creation is tried again because something beside the object changed (its namespace, an address).
const ATTEMPTS: usize = 64;

/// Creates the object in the body.
pub(super) async fn create(call: &Call, body: Body) -> Result<Answer, ApiError> {
    let options = WriteOptions::parse(&call.query, Writing::Create)?;
    let object = call.decode(&body, &options)?;
    check(call, &object)?;
    from_object(call, object, &options).await
}

/// 403 unless the user of a call with another verb may create the object that the call names.
pub(super) async fn authorize(call: &Call) -> Result<(), ApiError> {
    let mut attributes = call.attributes.clone();
    "create".clone_into(&mut attributes.verb);
    match call.origin {
        Origin::Server => Ok(()),
        Origin::Network | Origin::Process => decide(&call.server.config.authorizers, &attributes).await,
    }
}

/// Refuses what a new object may not bring along.
fn check(call: &Call, object: &Value) -> Result<(), ApiError> {
    refuse_while_terminating(call)?;
    if !call.namespace().is_empty() {
        meta::check_namespace(object, call.namespace())?;
    }
    // Upstream takes "0" for unset.
    if !matches!(meta::resource_version(object), "" | "0") {
        return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
    }
    Ok(())
}

/// 405 while the definition of the resource is being deleted: its objects go first, so that none may come.
pub(super) fn refuse_while_terminating(call: &Call) -> Result<(), ApiError> {
    if call.server.kinds.now().is_terminating(&call.resource) {
        let mut refusal = status::method_not_allowed(&call.resource, "create");
        refusal.message = "create not allowed while custom resource definition is terminating".to_owned();
        return Err(refusal.into());
    }
    Ok(())
}

/// Creates `object` (in the served form, decoded and checked against the path).
pub(super) async fn from_object(
    call: &Call,
    object: Value,
    options: &WriteOptions,
) -> Result<Answer, ApiError> {
    let Some(base) = meta::wants_generated_name(&object).map(str::to_owned) else {
        return attempt(call, object, options).await;
    };
    let mut last = None;
    for _ in 0..NAME_ATTEMPTS {
        let mut named = object.clone();
        let name = meta::generate_name(&base, rand::random());
        meta::set(&mut named, "name", name.as_str());
        match attempt(call, named, options).await {
            Err(error) if error.reason == "AlreadyExists" => last = Some(name),
            other => return other,
        }
    }
    Err(status::generate_name_conflict(&call.resource, &last.unwrap_or_default()).into())
}

/// Creates `object`, whose name is set.
async fn attempt(call: &Call, object: Value, options: &WriteOptions) -> Result<Answer, ApiError> {
    let mut new = object;
    let uid = uuid::Uuid::new_v4().to_string();
    let now = Timestamp::now();
    meta::stamp_new(&mut new, call.resource.scope, call.namespace(), &uid, now);
    to_storage(&call.resource, &mut new);
    call.strategy().default(&mut new);
    call.strategy().prepare_create(&mut new);
    complete_stored(&call.resource, &mut new);
    call.dedup_owners(&mut new, false);
    tracking::track(call, None, &mut new).await?;
    let admission = call.admission(Operation::Create, call.resource.kind, None, options.dry_run);
    if call.mutate(&admission, &mut new).await? {
        call.dedup_owners(&mut new, true);
        if !call.namespace().is_empty() {
            meta::check_namespace(&new, call.namespace())?;
        }
        meta::stamp_new(&mut new, call.resource.scope, call.namespace(), &uid, now);
        call.strategy().default(&mut new);
        // What follows from the rest of the object, such as a pod's quality of service.
        call.strategy().prepare_create(&mut new);
        complete_stored(&call.resource, &mut new);
    }
    typecheck::note(call, &admission, &mut new);
    let name = meta::name(&new).to_owned();
    // Allocation comes before validation, as upstream has it, and is tried anew with what it chooses by itself.
    let mut judged = None;
    let completed_aside = side::completes(call);
    for _ in 0..ATTEMPTS {
        let guard = namespaces::guard(call.registry(), &call.resource, call.namespace(), &name).await?;
        // What is tried anew starts from what it was.
        let mut object = if completed_aside { new.clone() } else { std::mem::take(&mut new) };
        let mut beside = match side::prepare(call, None, Some(&mut object), options.dry_run).await {
            Ok(beside) => beside,
            // What the object wants may be taken by the very object of that name, which is the better answer.
            Err(error) => {
                let known = call.registry().get(&call.resource, call.namespace(), &name).await?;
                return Err(if known.is_some() {
                    status::already_exists(&call.resource, &name).into()
                } else {
                    error
                });
            }
        };
        let (mut errors, warnings) = call.strategy().review(&object, None);
        rules::judge(call, &object, None, &mut errors).await?;
        if !errors.is_empty() {
            return Err(status::invalid_object(&call.resource, &name, &errors).into());
        }
        call.warnings.add(warnings);
        // Who was asked about this very object is not asked again.
        let value: Bytes = call.encode(&object).await?;
        if judged.as_ref() != Some(&value) {
            call.judge(&admission, Some(&object)).await?;
            judged = Some(value.clone());
        }
        beside = beside.with(quota::charge(call, None, Some(&object), false).await?);
        beside.compare.extend(guard);
        if let Some(answer) = store(call, &object, value, &name, beside, options.dry_run).await? {
            return Ok(answer);
        }
        if !completed_aside {
            new = object;
        }
    }
    Err(status::conflict(&call.resource, &name, "what the object depends on kept changing; please try again")
        .into())
}

/// Stores the object; `None` when something beside it was not as assumed.
async fn store(
    call: &Call,
    object: &Value,
    value: Bytes,
    name: &str,
    beside: Beside,
    dry_run: bool,
) -> Result<Option<Answer>, ApiError> {
    let exists = || ApiError::from(status::already_exists(&call.resource, name));
    let key = call.resource.key(call.namespace(), name);
    if dry_run {
        if call.registry().get_key(key).await?.is_some() {
            return Err(exists());
        }
        let mut object = object.clone();
        to_served(&call.resource, &mut object);
        return Ok(Some(Answer::Object(201, object)));
    }
    match call.put(&key, 0, value.clone(), beside).await? {
        Swap::Done(revision) => Ok(Some(Answer::Stored(201, call.written(value, revision).await?))),
        Swap::Lost(Some(_)) => Err(exists()),
        Swap::Lost(None) => Ok(None),
    }
}
