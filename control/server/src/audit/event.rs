//! What is known of one request, and the events that are made of it: `Event` of audit.k8s.io/v1.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::policy::{Level, Stage, Verdict};
use crate::authn::notes::Notes;
use crate::router::RequestInfo;
use crate::{ApiError, UserInfo};

/// Most annotations of a request, and most bytes of one.
const MOST_ANNOTATIONS: usize = 64;
const LONGEST_ANNOTATION: usize = 4096;
/// Upstream's bound.
const LONGEST_AGENT: usize = 1024;

/// A request whose policy says that it is told of.
pub(crate) struct Trail {
    pub(super) verdict: Verdict,
    pub(super) id: String,
    pub(super) uri: String,
    pub(super) user: UserInfo,
    pub(super) sources: Vec<String>,
    pub(super) agent: String,
    pub(super) info: RequestInfo,
    pub(super) received: Timestamp,
    pub(super) learned: Mutex<Learned>,
}

/// What becomes known while the request is answered.
#[derive(Default)]
pub(super) struct Learned {
    annotations: BTreeMap<String, String>,
    /// Why the last authorizer that was asked said what it said.
    reason: Option<String>,
    impersonated: Option<UserInfo>,
    /// What the object that was sent says of itself.
    sent: Head,
    request: Option<Value>,
    response: Option<Value>,
}

impl Trail {
    pub(super) fn annotate(&self, key: &str, value: &str) {
        let mut learned = self.learned.lock();
        if learned.annotations.len() < MOST_ANNOTATIONS && !learned.annotations.contains_key(key) {
            let value: String = value.chars().take(LONGEST_ANNOTATION).collect();
            learned.annotations.insert(key.to_owned(), value);
        }
    }

    /// Adds what was learned of the credentials.
    pub(crate) fn note(&self, learned: &Notes) {
        for (key, value) in &learned.annotations {
            self.annotate(key, value);
        }
    }

    pub(super) fn set_reason(&self, reason: String) {
        self.learned.lock().reason = Some(reason);
    }

    /// Notes how the request was judged.
    pub(crate) fn decided(&self, result: &Result<(), ApiError>) {
        let reason = self.learned.lock().reason.take().unwrap_or_default();
        match result {
            Ok(()) => {
                self.annotate("authorization.k8s.io/decision", "allow");
                self.annotate("authorization.k8s.io/reason", &reason);
            }
            Err(_) => {
                self.annotate("authorization.k8s.io/decision", "forbid");
                self.annotate("authorization.k8s.io/reason", &reason);
            }
        }
    }

    pub(crate) fn impersonates(&self, user: &UserInfo) {
        if *user != self.user {
            self.learned.lock().impersonated = Some(user.clone());
        }
    }

    /// Whether what is sent is told.
    pub(crate) fn wants_request(&self) -> bool {
        self.verdict.level >= Level::Request
    }

    /// Whether what is answered is told.
    pub(crate) fn wants_response(&self) -> bool {
        self.verdict.level >= Level::RequestResponse
    }

    /// Notes what was sent: the object, or the patch, as JSON or YAML.
    pub(crate) fn sent(&self, body: &Bytes) {
        // A patch says nothing of an object, and options of a deletion are none.
        let is_object = matches!(self.info.verb, "create" | "update");
        if body.is_empty() || !(self.wants_request() || is_object) {
            return;
        }
        if is_object && let Some(Sent { metadata }) = parse(body) {
            self.learned.lock().sent = metadata;
        }
        if self.wants_request()
            && let Some(mut value) = parse(body)
        {
            self.strip(&mut value);
            self.learned.lock().request = Some(value);
        }
    }

    /// Notes what is answered.
    pub(crate) fn answered(&self, mut value: Value) {
        self.strip(&mut value);
        self.learned.lock().response = Some(value);
    }

    fn strip(&self, value: &mut Value) {
        if !self.verdict.omit_managed_fields {
            return;
        }
        let drop_fields = |object: &mut Value| {
            if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.remove("managedFields");
            }
        };
        drop_fields(value);
        value.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten().for_each(drop_fields);
    }

    /// The event of a stage; `None` when the policy leaves it out. `ended` is how the request ended, if it has: the
    /// HTTP status, and the error if it is one.
    pub(super) fn event(&self, stage: Stage, ended: Option<(u16, Option<&ApiError>)>) -> Option<Value> {
        if self.verdict.omit_stages.contains(&stage) {
            return None;
        }
        let learned = self.learned.lock();
        let now = if stage == Stage::RequestReceived { self.received } else { Timestamp::now() };
        let mut event = Map::new();
        let mut put = |key: &str, value: Value| {
            event.insert(key.to_owned(), value);
        };
        put("kind", "Event".into());
        put("apiVersion", "audit.k8s.io/v1".into());
        put("level", self.verdict.level.name().into());
        put("auditID", self.id.as_str().into());
        put("stage", stage.name().into());
        put("requestURI", self.uri.as_str().into());
        put("verb", self.info.verb.into());
        put("user", user(&self.user));
        if let Some(other) = &learned.impersonated {
            put("impersonatedUser", user(other));
        }
        put("sourceIPs", json!(self.sources));
        if !self.agent.is_empty() {
            put("userAgent", self.agent.chars().take(LONGEST_AGENT).collect::<String>().into());
        }
        if self.info.is_resource() {
            put("objectRef", self.object_ref(&learned));
        }
        if let Some((code, error)) = ended {
            put("responseStatus", response_status(code, error));
        }
        if let Some(sent) = &learned.request {
            put("requestObject", sent.clone());
        }
        if let Some(answer) = &learned.response
            && matches!(stage, Stage::ResponseComplete)
        {
            put("responseObject", answer.clone());
        }
        put("requestReceivedTimestamp", time(self.received));
        put("stageTimestamp", time(now));
        if !learned.annotations.is_empty() {
            put("annotations", json!(learned.annotations));
        }
        Some(event.into())
    }

    fn object_ref(&self, learned: &Learned) -> Value {
        let mut reference = Map::new();
        let info = &self.info;
        let Head { namespace, name, uid, resource_version } = &learned.sent;
        let text = |said: &'_ Option<String>| said.clone().unwrap_or_default();
        let or = |path: &str, said| if path.is_empty() { text(said) } else { path.to_owned() };
        for (key, value) in [
            ("resource", info.resource.clone()),
            ("namespace", or(&info.namespace, namespace)),
            ("name", or(&info.name, name)),
            ("uid", text(uid)),
            ("apiGroup", info.group.clone()),
            ("apiVersion", info.version.clone()),
            ("resourceVersion", text(resource_version)),
            ("subresource", info.subresource.clone()),
        ] {
            if !value.is_empty() {
                reference.insert(key.to_owned(), value.into());
            }
        }
        reference.into()
    }
}

/// An object, as far as an event refers to it.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Sent {
    metadata: Head,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Head {
    namespace: Option<String>,
    name: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    serde_json::from_slice(body).ok().or_else(|| {
        let text = std::str::from_utf8(body).ok()?;
        serde_saphyr::from_str(text).ok()
    })
}

fn time(time: Timestamp) -> Value {
    time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string().into()
}

fn user(user: &UserInfo) -> Value {
    let mut out = Map::new();
    out.insert("username".into(), user.name.as_str().into());
    if !user.uid.is_empty() {
        out.insert("uid".into(), user.uid.as_str().into());
    }
    out.insert("groups".into(), json!(user.groups));
    if !user.extra.is_empty() {
        out.insert("extra".into(), json!(user.extra));
    }
    out.into()
}

/// The status without what only clients need.
fn response_status(code: u16, error: Option<&ApiError>) -> Value {
    match error {
        None => json!({"metadata": {}, "code": code}),
        Some(error) => {
            let mut status = error.to_value();
            if let Some(fields) = status.as_object_mut() {
                fields.remove("kind");
                fields.remove("apiVersion");
            }
            status
        }
    }
}
