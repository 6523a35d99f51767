//! Carries plans out through the API: the one place where controllers write.

use std::sync::Arc;
use std::time::Duration;

use carrack_client::{Note, Recorder};
use futures::StreamExt;
use http::{Method, Request};
use kube::Client;
use kube::core::Status;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cache::Caches;
use crate::plan::{
    Action, ActionError, Failure, Outcome, PatchKind, Plan, Propagation, Step, Tolerate, Verb, Written,
};

/// Requests of one step under way at once.
const AT_ONCE: usize = 32;
/// Waits before an action that the server was too busy for is tried again; then it fails and its key backs off.
const BUSY: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(500)];
/// The longest that a server's Retry-After is followed within one action.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Applies the plans of every controller.
pub(crate) struct Executor {
    client: Client,
    recorder: Recorder,
    caches: Arc<Caches>,
}

/// The parts of an answer that matter here, whether it is an object or a Status.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: AnswerMeta,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct AnswerMeta {
    name: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    deletion_timestamp: Option<String>,
}

impl Executor {
    /// An executor that writes through `client` and tells through `recorder`.
    #[must_use]
    pub(crate) fn new(client: Client, recorder: Recorder, caches: Arc<Caches>) -> Self {
        Self { client, recorder, caches }
    }

    /// Does the steps of `plan` in order until one fails.
    pub(crate) async fn apply(&self, plan: Plan) -> Outcome {
        let mut outcome = Outcome::default();
        for step in plan.steps {
            match step {
                Step::Tell(note) => self.recorder.record(note),
                Step::All(actions) => self.batch(actions, &mut outcome).await,
                Step::SlowStart(actions) => self.slow_start(actions, &mut outcome).await,
            }
            if outcome.failure.is_some() {
                break;
            }
        }
        outcome
    }

    async fn slow_start(&self, mut actions: Vec<Action>, outcome: &mut Outcome) {
        let mut size = 1;
        while !actions.is_empty() && outcome.failure.is_none() {
            let rest = actions.split_off(size.min(actions.len()));
            self.batch(actions, outcome).await;
            actions = rest;
            size *= 2;
        }
    }

    async fn batch(&self, actions: Vec<Action>, outcome: &mut Outcome) {
        let mut results =
            futures::stream::iter(actions.into_iter().map(|a| self.act(a))).buffer_unordered(AT_ONCE);
        while let Some(result) = results.next().await {
            match result {
                Ok(written) => outcome.written.extend(written),
                Err(failure) => {
                    outcome.failure.get_or_insert(failure);
                }
            }
        }
    }

    /// One action, its Event included.
    async fn act(&self, action: Action) -> Result<Option<Written>, Failure> {
        match self.attempt(&action).await {
            Ok(answer) => {
                let name = answer.metadata.name.as_deref().unwrap_or(&action.key.name);
                self.tell(action.on_success.as_ref(), name);
                Ok(self.written(&action, &answer))
            }
            Err(error) if tolerated(&error, action.tolerate) => Ok(None),
            Err(error) => {
                self.tell(action.on_failure.as_ref(), &error.to_string());
                let what = action.resource.full_name();
                Err(Failure { action: verb_name(&action.verb), what, key: action.key, error })
            }
        }
    }

    fn tell(&self, note: Option<&Note>, insert: &str) {
        if let Some(note) = note {
            let message = note.message.replace("{}", insert);
            self.recorder.record(Note { message, ..note.clone() });
        }
    }

    async fn attempt(&self, action: &Action) -> Result<Answer, ActionError> {
        let mut waits = BUSY.into_iter();
        loop {
            let request = build(action)?;
            let error = match self.client.request::<Answer>(request).await {
                Ok(answer) => return confirm(action, answer),
                Err(kube::Error::Api(status)) => ActionError::Refused(status),
                Err(error) => return Err(ActionError::Transport(error)),
            };
            // Only answers that say "not done, come back" are safe to repeat for every verb.
            let ActionError::Refused(status) = &error else { return Err(error) };
            let (true, Some(wait)) = (matches!(status.code, 429 | 503), waits.next()) else {
                return Err(error);
            };
            tokio::time::sleep(asked_wait(status).max(wait).min(LONGEST_WAIT)).await;
        }
    }

    fn written(&self, action: &Action, answer: &Answer) -> Option<Written> {
        let resource = action.resource.clone();
        match &action.verb {
            Verb::Confirm { .. } | Verb::DeleteAll => None,
            Verb::Delete { uid, .. } => {
                let uid = uid.clone().or_else(|| answer.metadata.uid.clone())?;
                Some(Written::Deleted { resource, key: action.key.clone(), uid })
            }
            Verb::Create { .. } | Verb::Patch { .. } | Verb::Replace { .. } => {
                if answer.kind == "Status" {
                    return None;
                }
                let revision = answer.metadata.resource_version.as_ref()?.parse().ok()?;
                let lists = self.caches.lists_begun(&resource);
                Some(Written::Revision { resource, revision, lists })
            }
        }
    }
}

fn asked_wait(status: &Status) -> Duration {
    let seconds = status.details.as_ref().map_or(0, |d| d.retry_after_seconds);
    Duration::from_secs(u64::from(seconds))
}

fn confirm(action: &Action, answer: Answer) -> Result<Answer, ActionError> {
    let Verb::Confirm { uid } = &action.verb else { return Ok(answer) };
    let meta = &answer.metadata;
    if meta.uid.as_ref() == Some(uid) && meta.deletion_timestamp.is_none() {
        return Ok(answer);
    }
    let what = action.resource.full_name();
    Err(ActionError::Changed { what, key: action.key.clone() })
}

fn tolerated(error: &ActionError, tolerate: Tolerate) -> bool {
    let ActionError::Refused(status) = error else { return false };
    match (status.code, status.reason.as_str()) {
        (404, _) => tolerate.missing,
        (409, "AlreadyExists") => tolerate.existing,
        (403, _) => tolerate.terminating && namespace_terminating(status),
        _ => false,
    }
}

/// Whether the server refused because the namespace is going away.
fn namespace_terminating(status: &Status) -> bool {
    let causes = status.details.as_ref().map_or(&[][..], |d| &d.causes);
    causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
}

const fn verb_name(verb: &Verb) -> &'static str {
    match verb {
        Verb::Create { .. } => "create",
        Verb::Patch { .. } => "patch",
        Verb::Replace { .. } => "update",
        Verb::Delete { .. } => "delete",
        Verb::DeleteAll => "delete all",
        Verb::Confirm { .. } => "confirm",
    }
}

/// The HTTP request of an action.
fn build(action: &Action) -> Result<Request<Vec<u8>>, ActionError> {
    let Action { resource, key, verb, .. } = action;
    let (method, path, kind, body) = match verb {
        Verb::Create { body } => {
            (Method::POST, resource.collection(&key.namespace), "application/json", Some(body.clone()))
        }
        Verb::Patch { kind, body, subresource } => {
            let media = match kind {
                PatchKind::Merge => "application/merge-patch+json",
                PatchKind::Strategic => "application/strategic-merge-patch+json",
            };
            (Method::PATCH, resource.object(key, subresource), media, Some(body.clone()))
        }
        Verb::Replace { body, subresource } => {
            (Method::PUT, resource.object(key, subresource), "application/json", Some(body.clone()))
        }
        Verb::Delete { uid, revision, grace, propagation } => {
            let options = delete_options(uid.as_deref(), revision.as_deref(), *grace, *propagation);
            (Method::DELETE, resource.object(key, ""), "application/json", Some(options))
        }
        Verb::DeleteAll => {
            let options = delete_options(None, None, None, Some(Propagation::Background));
            (Method::DELETE, resource.collection(&key.namespace), "application/json", Some(options))
        }
        Verb::Confirm { .. } => (Method::GET, resource.object(key, ""), "", None),
    };
    let mut request = Request::builder().method(method).uri(&path);
    if body.is_some() {
        request = request.header(http::header::CONTENT_TYPE, kind);
    }
    let bytes = body.map(|b| b.to_string().into_bytes()).unwrap_or_default();
    request.body(bytes).map_err(|source| ActionError::Request { path, source })
}

fn delete_options(
    uid: Option<&str>,
    revision: Option<&str>,
    grace: Option<u32>,
    propagation: Option<Propagation>,
) -> Value {
    let mut options = json!({ "apiVersion": "v1", "kind": "DeleteOptions" });
    let mut conditions = serde_json::Map::new();
    if let Some(uid) = uid {
        conditions.insert("uid".into(), uid.into());
    }
    if let Some(revision) = revision {
        conditions.insert("resourceVersion".into(), revision.into());
    }
    if !conditions.is_empty() {
        options["preconditions"] = Value::Object(conditions);
    }
    if let Some(seconds) = grace {
        options["gracePeriodSeconds"] = seconds.into();
    }
    if let Some(policy) = propagation {
        options["propagationPolicy"] = propagation_name(policy).into();
    }
    options
}

const fn propagation_name(policy: Propagation) -> &'static str {
    match policy {
        Propagation::Background => "Background",
        Propagation::Foreground => "Foreground",
        Propagation::Orphan => "Orphan",
    }
}

#[cfg(test)]
mod tests {
    use carrack_client::Key;

    use super::*;
    use crate::resource::POD;

    #[test]
    fn a_deletion_carries_its_preconditions() {
        let mut action = Action::delete(POD, Key::new("a", "b"), Some("u1".into()));
        if let Verb::Delete { grace, propagation, .. } = &mut action.verb {
            *grace = Some(0);
            *propagation = Some(Propagation::Foreground);
        }
        let request = build(&action).unwrap();
        assert_eq!(request.method(), Method::DELETE);
        assert_eq!(request.uri().path(), "/api/v1/namespaces/a/pods/b");
        let body: Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(body["preconditions"]["uid"], "u1");
        assert_eq!(body["gracePeriodSeconds"], 0);
        assert_eq!(body["propagationPolicy"], "Foreground");
    }

    #[test]
    fn only_a_terminating_namespace_excuses_a_refusal() {
        let refused = |reason: &str| {
            let status = json!({
                "status": "Failure", "code": 403, "reason": "Forbidden", "message": "no",
                "details": { "causes": [{ "reason": reason }] },
            });
            ActionError::Refused(serde_json::from_value(status).unwrap())
        };
        let tolerate = Tolerate { terminating: true, ..Tolerate::default() };
        assert!(tolerated(&refused("NamespaceTerminating"), tolerate));
        assert!(!tolerated(&refused("Quota"), tolerate));
        assert!(!tolerated(&refused("NamespaceTerminating"), Tolerate::default()));
    }
}
