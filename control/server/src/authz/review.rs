//! Answers access reviews: who am I, what may I do, may somebody do something, whose token is this.
//!
//! These kinds are not stored: a client creates one and gets it back with a status.

use std::sync::Arc;

use carrack_api::meta;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::asked::{self, Asked};
use super::decide::decision;
use crate::audit::explained;
use crate::authn::text;
use crate::{ApiError, Authenticator, Authorizer, Decision, RuleList, UserInfo};

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
            "selfsubjectreviews" => Ok(self_review(review, user)),
            "selfsubjectaccessreviews" => self.self_access(user, review).await,
            "subjectaccessreviews" => self.subject_access(review).await,
            "localsubjectaccessreviews" => self.local_access(namespace, review).await,
            "selfsubjectrulesreviews" => self.self_rules(user, review).await,
            "tokenreviews" => self.token(review).await,
            _ => return None,
        })
    }

    async fn self_access(&self, user: &UserInfo, review: Value) -> Result<Value, ApiError> {
        let asked = asked::by_oneself(&review, user)?;
        Ok(with_status(review, self.status(&asked).await))
    }

    async fn subject_access(&self, review: Value) -> Result<Value, ApiError> {
        let asked = asked::about_somebody(&review)?;
        Ok(with_status(review, self.status(&asked).await))
    }

    async fn local_access(&self, namespace: &str, review: Value) -> Result<Value, ApiError> {
        let asked = asked::about_somebody_in(namespace, &review)?;
        Ok(with_status(review, self.status(&asked).await))
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

    /// The verdict, its reason, and what of the question could not be read.
    async fn status(&self, asked: &Asked) -> Value {
        let (decided, why) = explained(async { decision(&self.authorizers, &asked.question).await }).await;
        let (mut status, reason) = match decided {
            Decision::Allow => (json!({"allowed": true}), why),
            Decision::Deny(reason) => (json!({"allowed": false, "denied": true}), reason),
            Decision::NoOpinion(reason) => (json!({"allowed": false}), reason),
            Decision::Ask => (json!({"allowed": false}), String::new()),
        };
        for (field, text) in [("reason", reason), ("evaluationError", asked.unread.join("; "))] {
            if !text.is_empty() {
                status[field] = json!(text);
            }
        }
        status
    }
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

/// Who asks. Of the metadata that came nothing is given back; when it was asked is.
fn self_review(mut review: Value, user: &UserInfo) -> Value {
    review["metadata"] = json!({"creationTimestamp": meta::format_time(Timestamp::now())});
    with_status(review, json!({"userInfo": user_info(user)}))
}

fn with_status(mut review: Value, status: Value) -> Value {
    review["status"] = status;
    review
}
