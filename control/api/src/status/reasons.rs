//! One function for each reason a request is refused (or, once, fulfilled) with a Status.

use std::fmt;

use serde_json::json;

use super::{Cause, FieldError, FieldPath, GroupResource, Status};
use crate::resource::{Resource, qualified};

/// 200: the answer to a deletion that is done. `uid` may be empty.
pub fn success<'a>(resource: impl Into<GroupResource<'a>>, name: &str, uid: &str) -> Status {
    let mut status = Status::new(200, "", "").about(resource.into(), name);
    status.details.get_or_insert_default().uid = uid.to_owned();
    status
}

/// 404: no such object.
pub fn not_found<'a>(resource: impl Into<GroupResource<'a>>, name: &str) -> Status {
    let resource = resource.into();
    Status::new(404, "NotFound", format!("{} \"{name}\" not found", resource.qualified()))
        .about(resource, name)
}

/// 404: no such path. Upstream says the same for unknown resources and unknown subresources.
pub fn no_such_path() -> Status {
    Status::new(404, "NotFound", "the server could not find the requested resource").caused_by(Vec::new())
}

/// 409: the name is taken.
pub fn already_exists<'a>(resource: impl Into<GroupResource<'a>>, name: &str) -> Status {
    let resource = resource.into();
    Status::new(409, "AlreadyExists", format!("{} \"{name}\" already exists", resource.qualified()))
        .about(resource, name)
}

/// 409: `generateName` gave a taken name each time it was tried.
pub fn generate_name_conflict<'a>(resource: impl Into<GroupResource<'a>>, name: &str) -> Status {
    let resource = resource.into();
    let message = format!(
        "{} \"{name}\" already exists, the server was not able to generate a unique name for the object",
        resource.qualified()
    );
    Status::new(409, "AlreadyExists", message).about(resource, name).retry_after(1)
}

/// What people read when the object changed under their hands.
pub const OPTIMISTIC_LOCK: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// 409: the object is not in the state that the request assumed. Use [`OPTIMISTIC_LOCK`] for a stale
/// `resourceVersion`.
pub fn conflict<'a>(resource: impl Into<GroupResource<'a>>, name: &str, why: &str) -> Status {
    let resource = resource.into();
    let message = format!("Operation cannot be fulfilled on {} \"{name}\": {why}", resource.qualified());
    Status::new(409, "Conflict", message).about(resource, name)
}

/// 409: an update is of another object than the one that is stored under `key`. `wanted` came with the request, `found` is
/// stored, or empty where nothing is.
pub fn uid_mismatch(resource: &Resource, name: &str, key: &str, wanted: &str, found: &str) -> Status {
    conflict(resource, name, &storage_uid_mismatch(key, wanted, found))
}

/// What upstream's storage says of a uid that is not the stored one.
pub fn storage_uid_mismatch(key: &str, wanted: &str, found: &str) -> String {
    format!(
        "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}"
    )
}

/// 409: a precondition of a deletion does not hold; `what` is `UID` or `ResourceVersion`. Upstream names the kind here, and
/// has other words for kinds that look at preconditions themselves.
pub fn deletion_precondition(
    resource: &Resource,
    name: &str,
    what: &str,
    wanted: &str,
    found: &str,
) -> Status {
    if matches!(resource.plural, "namespaces" | "customresourcedefinitions") {
        let why =
            format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}");
        return conflict(resource, name, &why);
    }
    let might = if what == "UID" { "deleted and then recreated" } else { "modified" };
    let why = format!(
        "the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). The object might have been {might}"
    );
    conflict((resource.group, resource.kind), name, &why)
}

/// 422: the object breaks a rule. `kind` is the kind, not the resource.
pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Status {
    let mut message = format!("{} \"{name}\" is invalid", qualified(kind, group));
    let mut said: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        let text = error.to_string();
        if !said.contains(&text) {
            said.push(text);
        }
    }
    match said.as_slice() {
        [] => {}
        [one] => message += &format!(": {one}"),
        many => message += &format!(": [{}]", many.join(", ")),
    }
    Status::new(422, "Invalid", message)
        .about(GroupResource { group, resource: kind }, name)
        .caused_by(errors.iter().map(FieldError::to_cause).collect())
}

/// 422 for an object of `resource`.
pub fn invalid_object(resource: &Resource, name: &str, errors: &[FieldError]) -> Status {
    invalid(resource.group, resource.kind, name, errors)
}

/// 400: the request cannot be understood.
pub fn bad_request(message: impl Into<String>) -> Status {
    Status::new(400, "BadRequest", message)
}

/// 400: the body is not an object of `resource`; `why` comes from the decoder.
pub fn cannot_be_handled(resource: &Resource, why: &str) -> Status {
    bad_request(format!(
        "{kind} in version {version:?} cannot be handled as a {kind}: {why}",
        kind = resource.kind,
        version = resource.version
    ))
}

/// Who asks for what, for the message of a denial.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes<'a> {
    /// User name.
    pub user: &'a str,
    /// Verb in RBAC's words.
    pub verb: &'a str,
    /// API group, empty for core.
    pub group: &'a str,
    /// Plural resource.
    pub resource: &'a str,
    /// Subresource, empty if none.
    pub subresource: &'a str,
    /// Namespace, empty for cluster scope.
    pub namespace: &'a str,
    /// Object name, empty for collections.
    pub name: &'a str,
}

/// 403: authorization says no. `reason` is what the authorizer adds, possibly nothing.
pub fn forbidden(attributes: &Attributes<'_>, reason: &str) -> Status {
    let Attributes { user, verb, group, resource, subresource, namespace, name } = *attributes;
    let path = if subresource.is_empty() { resource.to_owned() } else { format!("{resource}/{subresource}") };
    let scope = if namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace \"{namespace}\"")
    };
    let mut why =
        format!("User \"{user}\" cannot {verb} resource \"{path}\" in API group \"{group}\" {scope}");
    if !reason.is_empty() {
        why += &format!(": {reason}");
    }
    forbidden_because(GroupResource { group, resource }, name, &why)
}

/// 403: a request that names no resource (such as `/healthz`).
pub fn forbidden_path(user: &str, verb: &str, path: &str) -> Status {
    let message = format!("forbidden: User \"{user}\" cannot {verb} path \"{path}\"");
    Status::new(403, "Forbidden", message).caused_by(Vec::new())
}

/// 403 for another reason than authorization: admission, quota and the like.
pub fn forbidden_because<'a>(resource: impl Into<GroupResource<'a>>, name: &str, why: &str) -> Status {
    let resource = resource.into();
    let subject = if name.is_empty() {
        format!("{} is forbidden", resource.qualified())
    } else {
        format!("{} \"{name}\" is forbidden", resource.qualified())
    };
    Status::new(403, "Forbidden", format!("{subject}: {why}")).about(resource, name)
}

/// 401: nobody knows who asks.
pub fn unauthorized() -> Status {
    Status::new(401, "Unauthorized", "Unauthorized")
}

/// 410: a revision or continue token is too old.
pub fn expired(message: impl Into<String>) -> Status {
    Status::new(410, "Expired", message)
}

/// 410 for a watch that starts at a compacted revision.
pub fn too_old_resource_version(asked: u64, oldest: u64) -> Status {
    expired(format!("too old resource version: {asked} ({oldest})"))
}

/// 410 for a continue token whose revision is compacted; the fresh token reads on at the newest revision.
pub fn expired_continue(fresh: String) -> Status {
    let mut status = expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
         results. Continuing with the provided token results in an inconsistent list - objects that were created, \
         modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    status.continue_token = Some(fresh);
    status
}

/// 410: what was there is gone for good.
pub fn gone(message: impl Into<String>) -> Status {
    Status::new(410, "Gone", message)
}

/// 504: the state asked for has not been reached yet; clients may try again soon.
pub fn too_large_resource_version(asked: u64, current: u64) -> Status {
    let message = format!("Too large resource version: {asked}, current: {current}");
    let cause = Cause {
        reason: "ResourceVersionTooLarge".into(),
        message: "Too large resource version".into(),
        field: String::new(),
    };
    Status::new(504, "Timeout", format!("Timeout: {message}")).caused_by(vec![cause]).retry_after(1)
}

/// 405: the resource exists and does not answer that verb.
pub fn method_not_allowed<'a>(resource: impl Into<GroupResource<'a>>, verb: &str) -> Status {
    let resource = resource.into();
    let message = format!("{verb} is not supported on resources of kind \"{}\"", resource.qualified());
    Status::new(405, "MethodNotAllowed", message).about(resource, "")
}

/// 406: none of the wanted media types can be made.
pub fn not_acceptable(accepted: &[&str]) -> Status {
    let message = format!("only the following media types are accepted: {}", accepted.join(", "));
    Status::new(406, "NotAcceptable", message)
}

/// 415: the body's media type is not understood here.
pub fn unsupported_media_type(accepted: &[&str]) -> Status {
    let message = format!(
        "the body of the request was in an unknown format - accepted media types include: {}",
        accepted.join(", ")
    );
    Status::new(415, "UnsupportedMediaType", message)
}

/// 413: the body is larger than `limit` bytes.
pub fn too_large(limit: usize) -> Status {
    Status::new(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {limit}"))
}

/// 429: try again after `seconds`.
pub fn too_many_requests(message: impl Into<String>, seconds: u32) -> Status {
    Status::new(429, "TooManyRequests", message).retry_after(seconds)
}

/// 504: the request ran out of time.
pub fn timeout(message: &str, retry_after: u32) -> Status {
    Status::new(504, "Timeout", format!("Timeout: {message}")).retry_after(retry_after)
}

/// 500: a fault of the server.
pub fn internal(why: impl fmt::Display) -> Status {
    let cause = Cause { reason: String::new(), message: why.to_string(), field: String::new() };
    Status::new(500, "InternalError", format!("Internal error occurred: {why}")).caused_by(vec![cause])
}

/// 503: this server cannot answer now.
pub fn unavailable(why: impl Into<String>) -> Status {
    Status::new(503, "ServiceUnavailable", why)
}

/// 501: asked for something that is not built.
pub fn not_implemented(what: &str) -> Status {
    Status::new(501, "NotImplemented", format!("{what} is not implemented by this server"))
}

/// 422 for a patch that does not give a valid object: `patch` is the patch's text. Upstream names no object here.
pub fn invalid_patch(patch: &str, why: &str) -> Status {
    let error = FieldError::invalid(&FieldPath::root("patch"), json!(patch), why);
    invalid("", "", "", &[error])
}

/// 413 for another reason than the size of the body.
pub fn request_too_large(why: &str) -> Status {
    Status::new(413, "RequestEntityTooLarge", format!("Request entity too large: {why}"))
}

/// 422 without an object: a JSON patch that does not apply. Upstream does not tell which part of it.
pub fn unprocessable() -> Status {
    Status::new(422, "Invalid", "the server rejected our request due to an error in our request")
        .caused_by(Vec::new())
}
