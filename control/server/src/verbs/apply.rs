//! `patch` with a configuration: server-side apply, which creates what is not there.

use carrack_api::apply;
use carrack_api::codec::{self, DecodeError, Decoded, Media, StrictProblem};
use carrack_api::meta;
use carrack_api::schema::bodies;
use carrack_api::status;
use serde_json::{Map, Value, json};

use super::scale;
use crate::call::{Answer, Body, Call};
use crate::conversion::Forms;
use crate::object::{as_served, to_storage};
use crate::options::{WriteOptions, Writing};
use crate::rewrite::{Part, Rewritten, rewrite};
use crate::{ApiError, tracking};

/// How often it is tried again because the object came or went meanwhile.
const ATTEMPTS: usize = 16;

/// Applies the configuration in the body to the object that the request names, or to a part of it.
pub(super) async fn apply(call: &Call, body: Body, part: Part) -> Result<Answer, ApiError> {
    let options = options(call)?;
    let identity = (call.resource.api_version, call.resource.kind);
    let config = decode(call, &body, identity, &options, |body, media| {
        codec::decode_config(body, media, &call.resource)
    })?;
    check(call, &config)?;
    for _ in 0..ATTEMPTS {
        if let Some(result) = change(call, part, &config, &options).await? {
            return Ok(result.into_answer(call));
        }
        if part != Part::Object {
            return Err(call.not_found());
        }
        match create(call, &config, &options).await {
            Err(error) if error.reason == "AlreadyExists" => {}
            other => return other,
        }
    }
    Err(status::conflict(&call.resource, call.name(), status::OPTIMISTIC_LOCK).into())
}

/// Applies a Scale: a configuration of the replicas alone.
pub(super) async fn apply_scale(call: &Call, body: Body) -> Result<Answer, ApiError> {
    let options = options(call)?;
    let wanted = decode(call, &body, scale::SCALE, &options, |body, media| {
        codec::decode_type(body, media, &bodies::SCALE)
    })?;
    check(call, &wanted)?;
    // Who may scale does not get to label, own or hold the object.
    let of = |name: &&str| Some(((*name).to_owned(), wanted.get("metadata")?.get(*name)?.clone()));
    let metadata: Map<String, Value> =
        ["name", "namespace", "uid", "resourceVersion"].iter().filter_map(of).collect();
    let mut config = json!({ "metadata": metadata });
    if let Some(replicas) = wanted.pointer("/spec/replicas") {
        scale::set_replicas(&call.resource, &mut config, replicas.clone());
    }
    let result = change(call, Part::Object, &config, &options).await?;
    let object = result.ok_or_else(|| call.not_found())?.into_object()?;
    Ok(Answer::Other(200, scale::scale_of(&call.resource, &object)?))
}

/// The options; a manager has to be named.
fn options(call: &Call) -> Result<WriteOptions, ApiError> {
    WriteOptions::parse(&call.query, Writing::Apply)
}

/// The configuration: YAML, which JSON is a part of. Fields that the kind does not have cannot be owned.
fn decode(
    call: &Call,
    body: &Body,
    (api_version, kind): (&str, &str),
    options: &WriteOptions,
    read: impl Fn(&[u8], Media) -> Result<Decoded, DecodeError>,
) -> Result<Value, ApiError> {
    // Most clients send JSON, whose reader is many times faster.
    let media = if body.trim_ascii_start().starts_with(b"{") { Media::Json } else { Media::Yaml };
    let decoded = match read(body, media) {
        Err(codec::DecodeError::Syntax(_)) if media == Media::Json => read(body, Media::Yaml),
        other => other,
    };
    let decoded = decoded.map_err(|why| match why {
        codec::DecodeError::TooLarge => ApiError::too_large(codec::MAX_BODY),
        codec::DecodeError::Syntax(why) => ApiError::bad_request(format!("error decoding YAML: {why}")),
        other => match codec::decode(body, media) {
            // What is of another kind cannot be of this kind's type.
            Ok(any) => check_kind(&any.value, (api_version, kind))
                .err()
                .unwrap_or_else(|| untyped(call, (api_version, kind), &other.to_string())),
            Err(_) => untyped(call, (api_version, kind), &other.to_string()),
        },
    })?;
    check_kind(&decoded.value, (api_version, kind))?;
    let unknown = decoded.strict.iter().find_map(|problem| match problem {
        StrictProblem::UnknownField(path) => Some(path),
        _ => None,
    });
    if let Some(path) = unknown {
        return Err(untyped(call, (api_version, kind), &format!(".{path}: field not declared in schema")));
    }
    call.settle_strict(decoded, options.field_validation)
}

/// A configuration says what it is of.
fn check_kind(config: &Value, (api_version, kind): (&str, &str)) -> Result<(), ApiError> {
    let text = |field: &str| config.get(field).and_then(Value::as_str).unwrap_or_default();
    let (found_version, found) = (text("apiVersion"), text("kind"));
    if (found_version, found) == (api_version, kind) {
        return Ok(());
    }
    let slash = if found_version.contains('/') { "" } else { "/" };
    Err(ApiError::bad_request(format!("invalid object type: {slash}{found_version}, Kind={found}")))
}

/// The refusal of a configuration that is not of the kind's type, in upstream's words; upstream's code is 500, which says that
/// the server is at fault.
fn untyped(call: &Call, (api_version, kind): (&str, &str), why: &str) -> ApiError {
    let place = format!("{}/{}", call.namespace(), call.name());
    let message = format!("failed to create typed patch object ({place}; {api_version}, Kind={kind}): {why}");
    ApiError::bad_request(message)
}

/// The configuration is one of the object that the path names.
fn check(call: &Call, config: &Value) -> Result<(), ApiError> {
    meta::check_name(config, call.name())?;
    if !call.namespace().is_empty() {
        meta::check_namespace(config, call.namespace())?;
    }
    Ok(())
}

/// Applies the configuration to the object that is there; `None` when there is none.
async fn change(
    call: &Call,
    part: Part,
    config: &Value,
    options: &WriteOptions,
) -> Result<Option<Rewritten>, ApiError> {
    let forms = Forms::default();
    loop {
        let change = |old: &Value| applied(call, old, config, &forms);
        let result = rewrite(call, call.name(), part, options.dry_run, change).await;
        // What could not be told without a webhook is asked for, and told then.
        if result.is_ok() || !forms.fill(call).await? {
            return result;
        }
    }
}

/// The present object (in the form that writes work on) with the configuration applied. Fails when `forms` lack
/// something.
fn applied(call: &Call, old: &Value, config: &Value, forms: &Forms) -> Result<Value, ApiError> {
    let served = as_served(&call.resource, old);
    let force = call.query.flag("force");
    let new = apply::apply(&tracking::write(call, forms), Some(&*served), config, force);
    if forms.lacks() {
        return Err(ApiError::internal("the object is not known in the versions of its managers"));
    }
    let mut new = new.map_err(apply::ApplyError::into_status)?;
    to_storage(&call.resource, &mut new);
    Ok(new)
}

/// Creates the object, which has to be allowed on its own.
async fn create(call: &Call, config: &Value, options: &WriteOptions) -> Result<Answer, ApiError> {
    super::create::refuse_while_terminating(call)?;
    super::create::authorize(call).await?;
    let uid = meta::uid(config);
    if !uid.is_empty() {
        let why = format!(
            "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        );
        return Err(status::conflict(&call.resource, call.name(), &why).into());
    }
    if !meta::resource_version(config).is_empty() {
        return Err(call.not_found());
    }
    let forms = Forms::default();
    let mut object = apply::apply(&tracking::write(call, &forms), None, config, true)
        .map_err(apply::ApplyError::into_status)?;
    meta::set(&mut object, "name", call.name());
    super::create::from_object(call, object, options).await
}
