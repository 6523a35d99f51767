//! Reads the questions of access reviews, and refuses those that are none, by upstream's rules and words.

use std::collections::BTreeMap;

use carrack_api::select::{FieldSelector, LabelSelector};
use carrack_api::status::{self, FieldError, FieldPath};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{ApiError, Attributes, Requirement, Selectors, UserInfo};

const GROUP: &str = "authorization.k8s.io";
/// What the server itself writes into the metadata of a review.
const OWN_METADATA: &[&str] = &["managedFields", "creationTimestamp"];

/// A question, and what of it could not be read and therefore limits nothing.
pub(super) struct Asked {
    /// The request that is asked about.
    pub(super) question: Attributes,
    /// In the words of a review's `evaluationError`.
    pub(super) unread: Vec<String>,
}

/// What `user` may do.
pub(super) fn by_oneself(review: &Value, user: &UserInfo) -> Result<Asked, ApiError> {
    read("SelfSubjectAccessReview", review, user.clone(), |review, errors| {
        check_question(review, errors);
        check_metadata(review, &[], "must be empty", errors);
    })
}

/// What the user may do whom the review names.
pub(super) fn about_somebody(review: &Value) -> Result<Asked, ApiError> {
    read("SubjectAccessReview", review, subject(review)?, |review, errors| {
        check_question(review, errors);
        check_subject(review, errors);
        check_metadata(review, &[], "must be empty", errors);
    })
}

/// What he may do in a namespace.
pub(super) fn about_somebody_in(namespace: &str, review: &Value) -> Result<Asked, ApiError> {
    read("LocalSubjectAccessReview", review, subject(review)?, |review, errors| {
        check_question(review, errors);
        check_subject(review, errors);
        check_metadata(review, &["namespace"], "must be empty except for namespace", errors);
        if let Some(asked) = field(review, "resourceAttributes") {
            let said = asked.get("namespace").and_then(Value::as_str).unwrap_or_default();
            if said != namespace {
                let path = spec().child("resourceAttributes").child("namespace");
                errors.push(FieldError::invalid(&path, said, "must match metadata.namespace"));
            }
        }
        if let Some(path) = field(review, "nonResourceAttributes") {
            let why = "disallowed on this kind of request";
            errors.push(FieldError::invalid(&spec().child("nonResourceAttributes"), path.clone(), why));
        }
    })
}

/// The question in a review that `check` has nothing against.
fn read(
    kind: &str,
    review: &Value,
    user: UserInfo,
    check: impl Fn(&Value, &mut Vec<FieldError>),
) -> Result<Asked, ApiError> {
    let mut errors = Vec::new();
    check(review, &mut errors);
    if !errors.is_empty() {
        return Err(status::invalid(GROUP, kind, "", &errors).into());
    }
    if let Some(value) = field(review, "nonResourceAttributes") {
        let asked: PathAttributes = parse("spec.nonResourceAttributes", value)?;
        let question = Attributes { user, verb: asked.verb, path: asked.path, ..Attributes::default() };
        return Ok(Asked { question, unread: Vec::new() });
    }
    let value = field(review, "resourceAttributes").cloned().unwrap_or_default();
    let asked: ResourceAttributes = parse("spec.resourceAttributes", &value)?;
    let mut unread = Vec::new();
    let selectors = Selectors {
        fields: requirements("fieldSelector", asked.field_selector, &mut unread),
        labels: requirements("labelSelector", asked.label_selector, &mut unread),
    };
    let any = |text: String| if text.is_empty() { "*".to_owned() } else { text };
    let question = Attributes {
        user,
        verb: asked.verb,
        api_group: asked.group,
        version: any(asked.version),
        // A review of "any resource" must not turn into one of a path.
        resource: any(asked.resource),
        subresource: asked.subresource,
        name: asked.name,
        namespace: asked.namespace,
        path: String::new(),
        selectors,
    };
    Ok(Asked { question, unread })
}

fn spec() -> FieldPath {
    FieldPath::root("spec")
}

/// A field of the review's spec that says something.
fn field<'a>(review: &'a Value, name: &str) -> Option<&'a Value> {
    review.get("spec")?.get(name).filter(|value| !value.is_null())
}

/// A question is about a resource or about a path.
fn check_question(review: &Value, errors: &mut Vec<FieldError>) {
    let path = spec().child("resourceAttributes");
    match (field(review, "resourceAttributes"), field(review, "nonResourceAttributes")) {
        (Some(_), Some(value)) => {
            let why = "cannot be specified in combination with resourceAttributes";
            errors.push(FieldError::invalid(&spec().child("nonResourceAttributes"), value.clone(), why));
        }
        (None, None) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.push(FieldError::invalid(&path, "null", why));
        }
        _ => {}
    }
    let Some(asked) = field(review, "resourceAttributes") else { return };
    for selector in ["fieldSelector", "labelSelector"] {
        if let Some(value) = asked.get(selector).filter(|value| value.is_object()) {
            check_selector(value, &path.child(selector), errors);
        }
    }
}

fn check_selector(selector: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let list = selector.get("requirements").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let raw = selector.get("rawSelector").and_then(Value::as_str).unwrap_or_default();
    if !raw.is_empty() && !list.is_empty() {
        let why = "may not specified at the same time as requirements";
        errors.push(FieldError::invalid(&path.child("rawSelector"), raw, why));
    }
    if raw.is_empty() && list.is_empty() {
        let why = format!("when {path} is specified, requirements or rawSelector is required");
        errors.push(FieldError::required(&path.child("requirements"), why));
    }
    for (index, requirement) in list.iter().enumerate() {
        let at = path.child("requirements").index(index);
        let text = |name: &str| requirement.get(name).and_then(Value::as_str).unwrap_or_default();
        let values = requirement.get("values").and_then(Value::as_array).is_some_and(|all| !all.is_empty());
        if text("key").is_empty() {
            errors.push(FieldError::required(&at.child("key"), "must be specified"));
        }
        match (text("operator"), values) {
            ("In" | "NotIn", false) => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(FieldError::required(&at.child("values"), why));
            }
            ("Exists" | "DoesNotExist", true) => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(FieldError::forbidden(&at.child("values"), why));
            }
            // An operator that is not known limits nothing.
            _ => {}
        }
    }
}

fn check_subject(review: &Value, errors: &mut Vec<FieldError>) {
    let user = field(review, "user").and_then(Value::as_str).unwrap_or_default();
    let has_groups = field(review, "groups").and_then(Value::as_array).is_some_and(|all| !all.is_empty());
    if user.is_empty() && !has_groups {
        let why = "at least one of user or group must be specified";
        errors.push(FieldError::invalid(&spec().child("user"), user, why));
    }
}

/// Who names a review expects that it is kept.
fn check_metadata(review: &Value, except: &[&str], why: &str, errors: &mut Vec<FieldError>) {
    let said = |value: &Value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    };
    let Some(metadata) = review.get("metadata").filter(|metadata| metadata.is_object()) else { return };
    let fields = metadata.as_object().into_iter().flatten();
    let mut more = fields.filter(|(name, value)| {
        said(value) && !OWN_METADATA.contains(&name.as_str()) && !except.contains(&name.as_str())
    });
    if more.next().is_some() {
        errors.push(FieldError::invalid(&FieldPath::root("metadata"), metadata.clone(), why));
    }
}

/// `spec.resourceAttributes`.
#[derive(Deserialize, Default)]
#[serde(default)]
struct ResourceAttributes {
    group: String,
    version: String,
    resource: String,
    subresource: String,
    name: String,
    namespace: String,
    verb: String,
    #[serde(rename = "fieldSelector")]
    field_selector: Option<SelectorAttributes>,
    #[serde(rename = "labelSelector")]
    label_selector: Option<SelectorAttributes>,
}

/// `fieldSelector` and `labelSelector`.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct SelectorAttributes {
    raw_selector: String,
    requirements: Vec<Requirement>,
}

/// `spec.nonResourceAttributes`.
#[derive(Deserialize, Default)]
#[serde(default)]
struct PathAttributes {
    path: String,
    verb: String,
}

/// The requirements of a selector in a review: given one by one, or as text. What cannot be read limits nothing, and is
/// told of.
fn requirements(
    field: &str,
    selector: Option<SelectorAttributes>,
    unread: &mut Vec<String>,
) -> Vec<Requirement> {
    let Some(selector) = selector else { return Vec::new() };
    let is_field = field == "fieldSelector";
    let (known, is_whole) = if selector.requirements.is_empty() {
        let raw = &selector.raw_selector;
        let parsed = Selectors::parse(if is_field { raw } else { "" }, if is_field { "" } else { raw });
        let is_read =
            if is_field { FieldSelector::parse(raw).is_ok() } else { LabelSelector::parse(raw).is_ok() };
        (if is_field { parsed.fields } else { parsed.labels }, is_read)
    } else {
        let all = selector.requirements.len();
        let mut known = selector.requirements;
        known.retain(|requirement| match requirement.operator.as_str() {
            "In" | "NotIn" => !is_field || requirement.values.len() == 1,
            "Exists" | "DoesNotExist" => !is_field,
            _ => false,
        });
        let is_whole = known.len() == all;
        (known, is_whole)
    };
    if !is_whole {
        let how = if known.is_empty() { "ignored" } else { "partially ignored" };
        unread.push(format!("spec.resourceAttributes.{field} {how} due to parse error"));
    }
    known
}

/// The user that a review names.
fn subject(review: &Value) -> Result<UserInfo, ApiError> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Spec {
        user: Option<String>,
        groups: Option<Vec<String>>,
        uid: Option<String>,
        extra: Option<BTreeMap<String, Vec<String>>>,
    }
    let none = json!({});
    let spec: Spec = parse("spec", review.get("spec").unwrap_or(&none))?;
    Ok(UserInfo {
        name: spec.user.unwrap_or_default(),
        groups: spec.groups.unwrap_or_default(),
        uid: spec.uid.unwrap_or_default(),
        extra: spec.extra.unwrap_or_default(),
    })
}

fn parse<T: serde::de::DeserializeOwned>(field: &str, value: &Value) -> Result<T, ApiError> {
    T::deserialize(value).map_err(|error| ApiError::bad_request(format!("{field}: {error}")))
}
