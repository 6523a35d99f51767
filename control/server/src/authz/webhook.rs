//! The webhook authorizer: asks another server by SubjectAccessReview, and remembers what it said.
//!
//! Requests, answers and what follows from them are upstream's (`authorization.k8s.io/v1`).

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::conditions::Conditions;
use crate::audit;
use crate::authn::text;
use crate::outbound::{CallError, Remote};
use crate::ttl::TtlCache;
use crate::{Attributes, Authorizer, Decision, Requirement, RuleList, UserInfo};

/// Answers remembered; upstream's figure.
const REMEMBERED: usize = 8192;
/// A request with more than this in it is not remembered; upstream's figure.
const MOST_REMEMBERED_BYTES: usize = 10_000;
/// How often a request that failed in passing is made at most, and how long to wait before the second time.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(200);

/// What to do when there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailurePolicy {
    /// The next authorizer decides.
    NoOpinion,
    /// Refuse.
    Deny,
}

/// How a webhook is asked.
#[derive(Clone, Debug)]
pub struct WebhookOptions {
    /// What it is called in the configuration, for messages.
    pub name: String,
    /// `v1` or `v1beta1` of SubjectAccessReview.
    pub version: String,
    /// How long a yes is remembered.
    pub authorized_ttl: Duration,
    /// How long anything else is remembered.
    pub unauthorized_ttl: Duration,
    /// What to do when there is no answer, or a condition cannot be evaluated.
    pub failure_policy: FailurePolicy,
    /// Which requests it is asked about; all where there are none.
    pub conditions: Arc<Conditions>,
}

/// Asks a webhook.
pub struct Webhook {
    target: Remote,
    options: WebhookOptions,
    known: TtlCache<[u8; 32], Decision>,
}

impl Webhook {
    /// Asks `target`.
    pub fn new(target: Remote, options: WebhookOptions) -> Self {
        Self { target, options, known: TtlCache::new(REMEMBERED) }
    }

    async fn review(&self, review: &Value) -> Result<Decision, CallError> {
        let mut attempt = 1;
        loop {
            match self.target.post(review).await {
                Ok(answer) => return Ok(decision(&answer)),
                Err(error) if attempt < ATTEMPTS && error.is_passing() => {
                    tokio::time::sleep(PAUSE * attempt).await;
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn failed(&self, error: &CallError) -> Decision {
        tracing::warn!(webhook = self.options.name, %error, "the authorization webhook did not answer");
        self.without_answer()
    }

    fn without_answer(&self) -> Decision {
        match self.options.failure_policy {
            FailurePolicy::NoOpinion => Decision::NoOpinion(String::new()),
            FailurePolicy::Deny => Decision::Deny(String::new()),
        }
    }
}

#[async_trait::async_trait]
impl Authorizer for Webhook {
    fn authorize(&self, request: &Attributes) -> Decision {
        match self.options.conditions.hold(request) {
            Ok(true) => key(&spec(request)).and_then(|key| self.known.get(&key)).unwrap_or(Decision::Ask),
            Ok(false) => Decision::NoOpinion(String::new()),
            Err(error) => {
                let webhook = &self.options.name;
                tracing::warn!(webhook, error, "a condition of the authorization webhook failed");
                self.without_answer()
            }
        }
    }

    async fn ask(&self, request: &Attributes) -> Decision {
        let spec = spec(request);
        let key = key(&spec);
        let review = json!({
            "apiVersion": format!("authorization.k8s.io/{}", self.options.version),
            "kind": "SubjectAccessReview",
            "metadata": {},
            "spec": named_for(&self.options.version, spec),
        });
        match self.review(&review).await {
            Ok(decision) => {
                let ttl = match decision {
                    Decision::Allow => self.options.authorized_ttl,
                    _ => self.options.unauthorized_ttl,
                };
                if let Some(key) = key {
                    self.known.put(key, decision.clone(), ttl);
                }
                decision
            }
            Err(error) => self.failed(&error),
        }
    }

    fn rules(&self, _: &UserInfo, _: &str) -> RuleList {
        // A webhook judges requests; it lists no rules.
        RuleList { incomplete: true, ..RuleList::default() }
    }
}

/// What an answer means.
pub(crate) fn decision(answer: &Value) -> Decision {
    let flag = |name: &str| answer.pointer(&format!("/status/{name}")).and_then(Value::as_bool) == Some(true);
    let reason = text(answer, "/status/reason").to_owned();
    match (flag("allowed"), flag("denied")) {
        (true, true) => {
            Decision::Deny("webhook subject access review returned both allow and deny response".into())
        }
        (true, false) => {
            audit::explain(|| reason);
            Decision::Allow
        }
        (false, true) => Decision::Deny(reason),
        (false, false) => Decision::NoOpinion(reason),
    }
}

/// The `spec` of the review.
pub(crate) fn spec(request: &Attributes) -> Value {
    let user = &request.user;
    let mut spec = Map::new();
    add(&mut spec, "user", json!(user.name));
    add(&mut spec, "uid", json!(user.uid));
    add(&mut spec, "groups", json!(user.groups));
    add(&mut spec, "extra", json!(user.extra));
    let mut what = Map::new();
    add(&mut what, "verb", json!(request.verb));
    if request.is_resource() {
        add(&mut what, "namespace", json!(request.namespace));
        add(&mut what, "group", json!(request.api_group));
        add(&mut what, "version", json!(request.version));
        add(&mut what, "resource", json!(request.resource));
        add(&mut what, "subresource", json!(request.subresource));
        add(&mut what, "name", json!(request.name));
        let requirements = |list: &[Requirement]| match list {
            [] => json!({}),
            list => json!({ "requirements": list }),
        };
        add(&mut what, "fieldSelector", requirements(&request.selectors.fields));
        add(&mut what, "labelSelector", requirements(&request.selectors.labels));
        spec.insert("resourceAttributes".into(), Value::Object(what));
    } else {
        add(&mut what, "path", json!(request.path));
        spec.insert("nonResourceAttributes".into(), Value::Object(what));
    }
    Value::Object(spec)
}

/// Adds a field unless it says nothing.
fn add(map: &mut Map<String, Value>, field: &str, value: Value) {
    let is_empty = match &value {
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    if !is_empty {
        map.insert(field.to_owned(), value);
    }
}

/// The older version calls the groups `group`.
fn named_for(version: &str, mut spec: Value) -> Value {
    if version == "v1beta1"
        && let Some(fields) = spec.as_object_mut()
        && let Some(groups) = fields.remove("groups")
    {
        fields.insert("group".into(), groups);
    }
    spec
}

/// Under what the answer to a review is remembered; nothing when the request is too large.
fn key(spec: &Value) -> Option<[u8; 32]> {
    let text = spec.to_string();
    (text.len() <= MOST_REMEMBERED_BYTES).then(|| Sha256::digest(text.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::super::tests::request;
    use super::*;
    use crate::Selectors;

    #[test]
    fn a_review_says_all_that_is_known() {
        let mut user = UserInfo::new("jane", ["dev"]);
        user.extra.insert("scope".into(), vec!["a".into()]);
        let mut asked = request(&user, "list apps/deployments @web");
        asked.version = "v1".into();
        asked.selectors = Selectors::parse("metadata.name!=x", "app in (a,b),!old");
        assert_eq!(
            spec(&asked),
            json!({
                "user": "jane", "groups": ["dev", "system:authenticated"], "extra": {"scope": ["a"]},
                "resourceAttributes": {
                    "verb": "list", "namespace": "web", "group": "apps", "version": "v1", "resource": "deployments",
                    "fieldSelector": {"requirements": [
                        {"key": "metadata.name", "operator": "NotIn", "values": ["x"]}]},
                    "labelSelector": {"requirements": [
                        {"key": "app", "operator": "In", "values": ["a", "b"]},
                        {"key": "old", "operator": "DoesNotExist"}]},
                },
            })
        );
        let path = spec(&request(&UserInfo::new("jane", []), "get /metrics"));
        assert_eq!(path["nonResourceAttributes"], json!({"verb": "get", "path": "/metrics"}));
        assert!(named_for("v1beta1", path)["group"].is_array());
    }

    #[test]
    fn an_answer_is_a_decision() {
        let said = |status: Value| decision(&json!({ "status": status }));
        assert_eq!(said(json!({"allowed": true})), Decision::Allow);
        assert_eq!(
            said(json!({"allowed": false, "denied": true, "reason": "no"})),
            Decision::Deny("no".into())
        );
        assert_eq!(said(json!({"allowed": false, "reason": "who?"})), Decision::NoOpinion("who?".into()));
        assert!(matches!(said(json!({"allowed": true, "denied": true})), Decision::Deny(_)));
        assert_eq!(decision(&json!("rubbish")), Decision::NoOpinion(String::new()));
    }
}
