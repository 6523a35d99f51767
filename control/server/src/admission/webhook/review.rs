//! AdmissionReviews (`admission.k8s.io/v1`, and `v1beta1` for webhooks that know no other): what is asked, and what
//! an answer has to be. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use carrack_api::GroupVersionKind;
use serde_json::{Map, Value, json};

use super::super::matching::{Form, operation_name};
use super::hook::Version;
use crate::authn::text;
use crate::{Operation, UserInfo};

/// All that a review says.
pub(super) struct Question<'a> {
    pub(super) uid: &'a str,
    /// What the webhook is shown.
    pub(super) kind: GroupVersionKind,
    pub(super) form: &'a Form,
    /// What was asked for.
    pub(super) request_kind: GroupVersionKind,
    pub(super) request_form: &'a Form,
    pub(super) subresource: &'a str,
    pub(super) name: &'a str,
    pub(super) namespace: &'a str,
    pub(super) operation: Operation,
    pub(super) user: &'a UserInfo,
    pub(super) object: Value,
    pub(super) old: Value,
    pub(super) dry_run: bool,
    pub(super) options: Value,
}

impl Version {
    fn api_version(self) -> &'static str {
        match self {
            Version::V1 => "admission.k8s.io/v1",
            Version::V1Beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

/// The review that is sent.
pub(super) fn question(version: Version, asked: Question<'_>) -> Value {
    json!({"kind": "AdmissionReview", "apiVersion": version.api_version(), "request": request(asked)})
}

/// The request of a review.
pub(super) fn request(asked: Question<'_>) -> Value {
    let kind =
        |kind: GroupVersionKind| json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
    let resource =
        |form: &Form| json!({"group": form.group, "version": form.version, "resource": form.resource});
    let mut request = json!({
        "uid": asked.uid,
        "kind": kind(asked.kind),
        "resource": resource(asked.form),
        "requestKind": kind(asked.request_kind),
        "requestResource": resource(asked.request_form),
        "operation": operation_name(asked.operation),
        "userInfo": user(asked.user),
        "object": asked.object,
        "oldObject": asked.old,
        "dryRun": asked.dry_run,
        "options": asked.options,
    });
    for (field, value) in [
        ("subResource", asked.subresource),
        ("requestSubResource", asked.subresource),
        ("name", asked.name),
        ("namespace", asked.namespace),
    ] {
        if !value.is_empty() {
            request[field] = value.into();
        }
    }
    request
}

fn user(user: &UserInfo) -> Value {
    let mut out = Map::new();
    out.insert("username".into(), user.name.as_str().into());
    if !user.uid.is_empty() {
        out.insert("uid".into(), user.uid.as_str().into());
    }
    if !user.groups.is_empty() {
        out.insert("groups".into(), user.groups.clone().into());
    }
    if !user.extra.is_empty() {
        out.insert("extra".into(), json!(user.extra));
    }
    out.into()
}

/// What a webhook answered.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Verdict {
    pub(super) allowed: bool,
    /// `response.status`.
    pub(super) status: Option<Value>,
    /// A JSON patch, empty when nothing is to change.
    pub(super) patch: Vec<u8>,
    pub(super) patch_type: String,
    pub(super) warnings: Vec<String>,
    pub(super) annotations: Vec<(String, String)>,
}

/// Checks an answer to the review `uid`; an error says what is wrong with it, in upstream's words.
pub(super) fn verdict(
    version: Version,
    uid: &str,
    mutating: bool,
    answer: &Value,
) -> Result<Verdict, String> {
    let response = answer.get("response").filter(|response| response.is_object());
    let response = response.ok_or("webhook response was absent")?;
    if version == Version::V1 {
        check_identity(uid, answer, response)?;
    }
    let patch_type = response.get("patchType").and_then(Value::as_str);
    let patch = match response.get("patch") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => {
            STANDARD.decode(text).map_err(|why| format!("response.patch is not base64: {why}"))?
        }
        Some(_) => return Err("response.patch is not a string".to_owned()),
    };
    match (version, mutating, patch.is_empty(), patch_type) {
        (Version::V1, true, false, None) => {
            return Err("webhook returned response.patch but not response.patchType".to_owned());
        }
        (Version::V1, true, true, Some(_)) => {
            return Err("webhook returned response.patchType but not response.patch".to_owned());
        }
        (Version::V1, true, false, Some("")) => {
            return Err("webhook returned invalid response.patchType of \"\"".to_owned());
        }
        (Version::V1, false, false, _) => {
            return Err("validating webhook may not return response.patch".to_owned());
        }
        (Version::V1, false, true, Some(_)) => {
            return Err("validating webhook may not return response.patchType".to_owned());
        }
        _ => {}
    }
    // The older version has patches of one type alone, and says so or not.
    let patch_type = if version == Version::V1 { patch_type.unwrap_or_default() } else { "JSONPatch" };
    let strings = |field: &str| response.get(field).and_then(Value::as_array).into_iter().flatten();
    let annotations = response.get("auditAnnotations").and_then(Value::as_object).into_iter().flatten();
    Ok(Verdict {
        allowed: response.get("allowed").and_then(Value::as_bool).unwrap_or(false),
        status: response.get("status").filter(|status| status.is_object()).cloned(),
        patch,
        patch_type: patch_type.to_owned(),
        warnings: strings("warnings").filter_map(Value::as_str).map(str::to_owned).collect(),
        annotations: annotations
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect(),
    })
}

fn check_identity(uid: &str, answer: &Value, response: &Value) -> Result<(), String> {
    let answered = text(response, "/uid");
    if answered != uid {
        return Err(format!("expected response.uid={uid:?}, got {answered:?}"));
    }
    let (version, kind) = (text(answer, "/apiVersion"), text(answer, "/kind"));
    if (version, kind) != (Version::V1.api_version(), "AdmissionReview") {
        let expected = "admission.k8s.io/v1, Kind=AdmissionReview";
        return Err(format!("expected webhook response of {expected}, got {version}, Kind={kind}"));
    }
    Ok(())
}
