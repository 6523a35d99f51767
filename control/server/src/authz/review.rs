//! Answers access reviews: who am I, what may I do, may somebody do something, whose token is this.
//!
//! These kinds are not stored: a client creates one and gets it back with a status.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::decide::decision;
use crate::authn::text;
use crate::{
    ApiError, Attributes, Authenticator, Authorizer, Cause, Decision, Requirement, RuleList, Selectors,
    UserInfo,
};

/// The group of the reviews of permissions.
const AUTHORIZATION: &str = "authorization.k8s.io";
/// The group of the reviews of identity.
const AUTHENTICATION: &str = "authentication.k8s.io";

/// Answers reviews with what these say.
#[derive(Clone)]
pub struct Reviewer {
    /// Judge permissions, in order.
    pub authorizers: Vec<Arc<dyn Authorizer>>,
    /// Judges tokens.
    pub authenticator: Arc<dyn Authenticator>,
}

impl Reviewer {
    /// Completes `review`, which `user` sent (to `namespace`, for the one kind that is namespaced). `resource` is
    /// the plural name in the request's path; `None` when it is no review.
    pub async fn answer(
        &self,
        resource: &str,
        user: &UserInfo,
        namespace: &str,
        review: Value,
    ) -> Option<Result<Value, ApiError>> {
        Some(match resource {
            "selfsubjectreviews" => Ok(with_status(review, json!({"userInfo": user_info(user)}))),
            "selfsubjectaccessreviews" => self.self_access(user, review).await,
            "subjectaccessreviews" => self.subject_access(review).await,
            "localsubjectaccessreviews" => self.local_access(namespace, review).await,
            "selfsubjectrulesreviews" => self.self_rules(user, review).await,
            "tokenreviews" => self.token(review).await,
            _ => return None,
        })
    }

    async fn self_access(&self, user: &UserInfo, review: Value) -> Result<Value, ApiError> {
        let question = question("SelfSubjectAccessReview", &review, user.clone())?;
        Ok(with_status(review, self.status(&question).await))
    }

    async fn subject_access(&self, review: Value) -> Result<Value, ApiError> {
        let question = question("SubjectAccessReview", &review, subject("SubjectAccessReview", &review)?)?;
        Ok(with_status(review, self.status(&question).await))
    }

    async fn local_access(&self, namespace: &str, review: Value) -> Result<Value, ApiError> {
        const KIND: &str = "LocalSubjectAccessReview";
        let question = question(KIND, &review, subject(KIND, &review)?)?;
        if !question.is_resource() {
            return Err(invalid(KIND, "spec.nonResourceAttributes", "disallowed on this kind of request"));
        }
        if question.namespace != namespace {
            return Err(invalid(KIND, "spec.resourceAttributes.namespace", "must match metadata.namespace"));
        }
        Ok(with_status(review, self.status(&question).await))
    }

    async fn self_rules(&self, user: &UserInfo, review: Value) -> Result<Value, ApiError> {
        let namespace = text(&review, "/spec/namespace").to_owned();
        if namespace.is_empty() {
            return Err(ApiError::bad_request("no namespace on request"));
        }
        let mut all = RuleList::default();
        for authorizer in &self.authorizers {
            authorizer.catch_up().await;
            let rules = authorizer.rules(user, &namespace);
            all.resource_rules.extend(rules.resource_rules);
            all.non_resource_rules.extend(rules.non_resource_rules);
            all.incomplete |= rules.incomplete;
        }
        let status = json!({
            "resourceRules": all.resource_rules,
            "nonResourceRules": all.non_resource_rules,
            "incomplete": all.incomplete,
        });
        Ok(with_status(review, status))
    }

    async fn token(&self, review: Value) -> Result<Value, ApiError> {
        let token = text(&review, "/spec/token");
        if token.is_empty() {
            return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
        }
        let audiences: Vec<String> = match review.pointer("/spec/audiences") {
            None | Some(Value::Null) => Vec::new(),
            Some(audiences) => serde_json::from_value(audiences.clone())
                .map_err(|error| ApiError::bad_request(format!("spec.audiences: {error}")))?,
        };
        let status = match self.authenticator.review_token(token, &audiences).await {
            Ok((user, audiences)) => {
                json!({"authenticated": true, "user": user_info(&user), "audiences": audiences})
            }
            Err(error) if error.code == 401 => {
                json!({"authenticated": false, "user": {}, "error": error.message})
            }
            Err(error) => return Err(error),
        };
        Ok(with_status(review, status))
    }

    async fn status(&self, question: &Attributes) -> Value {
        let (mut status, reason) = match decision(&self.authorizers, question).await {
            Decision::Allow => (json!({"allowed": true}), String::new()),
            Decision::Deny(reason) => (json!({"allowed": false, "denied": true}), reason),
            Decision::NoOpinion(reason) => (json!({"allowed": false}), reason),
            Decision::Ask => (json!({"allowed": false}), String::new()),
        };
        if !reason.is_empty() {
            status["reason"] = json!(reason);
        }
        status
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

/// The request that a review asks about, made by `user`.
fn question(kind: &str, review: &Value, user: UserInfo) -> Result<Attributes, ApiError> {
    let read = |field: &str| {
        let value = review.pointer(&format!("/spec/{field}")).filter(|value| !value.is_null());
        value.cloned()
    };
    match (read("resourceAttributes"), read("nonResourceAttributes")) {
        (Some(value), None) => {
            let asked: ResourceAttributes = parse("spec.resourceAttributes", value)?;
            Ok(Attributes {
                user,
                verb: asked.verb,
                api_group: asked.group,
                version: asked.version,
                // A review of "any resource" must not turn into one of a path.
                resource: if asked.resource.is_empty() { "*".into() } else { asked.resource },
                subresource: asked.subresource,
                name: asked.name,
                namespace: asked.namespace,
                path: String::new(),
                selectors: Selectors {
                    fields: requirements(kind, "fieldSelector", asked.field_selector)?,
                    labels: requirements(kind, "labelSelector", asked.label_selector)?,
                },
            })
        }
        (None, Some(value)) => {
            let asked: PathAttributes = parse("spec.nonResourceAttributes", value)?;
            Ok(Attributes { user, verb: asked.verb, path: asked.path, ..Attributes::default() })
        }
        _ => Err(invalid(
            kind,
            "spec.resourceAttributes",
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
    }
}

/// The requirements of a selector in a review: given one by one, or as text. Text that cannot be read limits nothing.
fn requirements(
    kind: &str,
    field: &str,
    selector: Option<SelectorAttributes>,
) -> Result<Vec<Requirement>, ApiError> {
    let Some(selector) = selector else { return Ok(Vec::new()) };
    let path = |rest: &str| format!("spec.resourceAttributes.{field}{rest}");
    if !selector.raw_selector.is_empty() && !selector.requirements.is_empty() {
        return Err(invalid(
            kind,
            &path(".rawSelector"),
            "may not specified at the same time as requirements",
        ));
    }
    if selector.requirements.is_empty() {
        let raw = &selector.raw_selector;
        return Ok(match field {
            "fieldSelector" => Selectors::parse(raw, "").fields,
            _ => Selectors::parse("", raw).labels,
        });
    }
    for (index, requirement) in selector.requirements.iter().enumerate() {
        let wrong =
            |rest: &str, why: &str| Err(invalid(kind, &path(&format!(".requirements[{index}].{rest}")), why));
        if requirement.key.is_empty() {
            return wrong("key", "Required value: must be specified");
        }
        match (requirement.operator.as_str(), requirement.values.is_empty()) {
            ("In" | "NotIn", true) => {
                return wrong(
                    "values",
                    "Required value: must be specified when `operator` is 'In' or 'NotIn'",
                );
            }
            ("Exists" | "DoesNotExist", false) => {
                let why = "Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                return wrong("values", why);
            }
            // An operator that is not known limits nothing.
            _ => {}
        }
    }
    let known = |requirement: &Requirement| {
        matches!(requirement.operator.as_str(), "In" | "NotIn" | "Exists" | "DoesNotExist")
    };
    Ok(selector.requirements.into_iter().filter(known).collect())
}

/// The user that a SubjectAccessReview names.
fn subject(kind: &str, review: &Value) -> Result<UserInfo, ApiError> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Spec {
        user: Option<String>,
        groups: Option<Vec<String>>,
        uid: Option<String>,
        extra: Option<BTreeMap<String, Vec<String>>>,
    }
    let spec: Spec = parse("spec", review.get("spec").cloned().unwrap_or_else(|| json!({})))?;
    let user = UserInfo {
        name: spec.user.unwrap_or_default(),
        groups: spec.groups.unwrap_or_default(),
        uid: spec.uid.unwrap_or_default(),
        extra: spec.extra.unwrap_or_default(),
    };
    if user.name.is_empty() && user.groups.is_empty() {
        return Err(invalid(kind, "spec.user", "at least one of user or group must be specified"));
    }
    Ok(user)
}

/// A user as reviews show it.
fn user_info(user: &UserInfo) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

fn with_status(mut review: Value, status: Value) -> Value {
    review["status"] = status;
    review
}

fn parse<T: serde::de::DeserializeOwned>(field: &str, value: Value) -> Result<T, ApiError> {
    serde_json::from_value(value).map_err(|error| ApiError::bad_request(format!("{field}: {error}")))
}

fn invalid(kind: &str, field: &str, message: &str) -> ApiError {
    let cause = Cause { reason: "FieldValueInvalid".into(), message: message.into(), field: field.into() };
    let group = if kind == "TokenReview" { AUTHENTICATION } else { AUTHORIZATION };
    ApiError::invalid(group, kind, "", vec![cause])
}
