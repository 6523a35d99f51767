//! What a controller wants done, as data: plans make it, tests read it, the executor carries it out.

use std::time::Duration;

use carrack_client::{Key, Note};
use kube::core::Status;
use serde_json::Value;
use thiserror::Error;

use crate::resource::Resource;

/// How a patch is to be read by the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 7386.
    Merge,
    /// Kubernetes' strategic merge: lists with a merge key are merged by it.
    Strategic,
}

/// What happens to the dependents of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// The garbage collector deletes them afterwards.
    Background,
    /// The object stays until they are gone.
    Foreground,
    /// They stay, without their reference.
    Orphan,
}

/// One request to the API.
#[derive(Clone, Debug, PartialEq)]
pub enum Verb {
    /// Create an object from this body.
    Create {
        /// The whole object.
        body: Value,
    },
    /// Patch the object or a subresource.
    Patch {
        /// How to read the body.
        kind: PatchKind,
        /// The patch.
        body: Value,
        /// `status`, or empty for the object itself.
        subresource: &'static str,
    },
    /// Write a subresource whole.
    Replace {
        /// The whole object.
        body: Value,
        /// Which subresource.
        subresource: &'static str,
    },
    /// Delete one object.
    Delete {
        /// Only if it still has this uid.
        uid: Option<String>,
        /// Only if it still has this resourceVersion.
        revision: Option<String>,
        /// Seconds given to end, the object's own when `None`.
        grace: Option<u32>,
        /// What happens to its dependents, the kind's default when `None`.
        propagation: Option<Propagation>,
    },
    /// Delete every object of a kind in a namespace.
    DeleteAll,
    /// Read the object past every cache: the step fails unless it has this uid and is not being deleted.
    Confirm {
        /// The uid it must have.
        uid: String,
    },
}

/// Which answers of the server are as good as success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tolerate {
    /// 404: what should change or go is gone.
    pub missing: bool,
    /// 409 AlreadyExists: what should be there is there.
    pub existing: bool,
    /// 403 because the namespace is being deleted: nothing more to do there.
    pub terminating: bool,
}

/// A request, and the Events that tell of its success or failure.
#[derive(Clone, Debug, PartialEq)]
pub struct Action {
    /// The kind.
    pub resource: Resource,
    /// The object; the name is empty for [`Verb::Create`] with `generateName` and for [`Verb::DeleteAll`].
    pub key: Key,
    /// What to do.
    pub verb: Verb,
    /// Answers taken as success.
    pub tolerate: Tolerate,
    /// Recorded when it worked; `{}` in the message becomes the object's name.
    pub on_success: Option<Note>,
    /// Recorded when it failed; `{}` in the message becomes the error.
    pub on_failure: Option<Note>,
}

impl Action {
    /// `verb` on the object `key` of `resource`.
    #[must_use]
    pub fn new(resource: Resource, key: Key, verb: Verb) -> Self {
        let tolerate = Tolerate::default();
        Self { resource, key, verb, tolerate, on_success: None, on_failure: None }
    }

    /// Creates `body` in `namespace`; a namespace that is being deleted is no failure.
    #[must_use]
    pub fn create(resource: Resource, namespace: &str, body: Value) -> Self {
        let name = body.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let mut action = Self::new(resource, Key::new(namespace, name), Verb::Create { body });
        action.tolerate.terminating = true;
        action
    }

    /// Patches the object by RFC 7386.
    #[must_use]
    pub fn merge(resource: Resource, key: Key, subresource: &'static str, body: Value) -> Self {
        let verb = Verb::Patch { kind: PatchKind::Merge, body, subresource };
        Self::new(resource, key, verb)
    }

    /// Patches the object by Kubernetes' strategic merge.
    #[must_use]
    pub fn strategic(resource: Resource, key: Key, subresource: &'static str, body: Value) -> Self {
        let verb = Verb::Patch { kind: PatchKind::Strategic, body, subresource };
        Self::new(resource, key, verb)
    }

    /// Deletes the object if it still has `uid`; one that is gone is no failure.
    #[must_use]
    pub fn delete(resource: Resource, key: Key, uid: Option<String>) -> Self {
        let verb = Verb::Delete { uid, revision: None, grace: None, propagation: None };
        let mut action = Self::new(resource, key, verb);
        action.tolerate.missing = true;
        action
    }

    /// Takes a missing object as success.
    #[must_use]
    pub fn missing_ok(mut self) -> Self {
        self.tolerate.missing = true;
        self
    }

    /// Takes an existing object as success.
    #[must_use]
    pub fn existing_ok(mut self) -> Self {
        self.tolerate.existing = true;
        self
    }

    /// Records `note` on success.
    #[must_use]
    pub fn tells(mut self, note: Note) -> Self {
        self.on_success = Some(note);
        self
    }

    /// Records `note` on failure.
    #[must_use]
    pub fn tells_failure(mut self, note: Note) -> Self {
        self.on_failure = Some(note);
        self
    }
}

/// Actions that belong together; the first step that fails ends the plan.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// All at once; all are tried.
    All(Vec<Action>),
    /// One, then two, then four …: the first failing batch ends the step, so that what cannot work is not
    /// tried five hundred times.
    SlowStart(Vec<Action>),
    /// An Event on its own.
    Tell(Note),
}

/// What a plan says about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Why something was or was not done, for the log.
    pub notes: Vec<String>,
    /// Look at the same object again after this time, although nothing may have changed.
    pub again: Option<Duration>,
}

/// The outcome of planning: what to do, and why.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What to do, in order.
    pub steps: Vec<Step>,
    /// Why, and when to look again.
    pub report: Report,
}

impl Plan {
    /// Nothing to do.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds one action as a step of its own.
    pub fn push(&mut self, action: Action) {
        self.steps.push(Step::All(vec![action]));
    }

    /// Adds actions to be done at once, if there are any.
    pub fn push_all(&mut self, actions: Vec<Action>) {
        if !actions.is_empty() {
            self.steps.push(Step::All(actions));
        }
    }

    /// Adds an Event.
    pub fn tell(&mut self, note: Note) {
        self.steps.push(Step::Tell(note));
    }

    /// Says why.
    pub fn note(&mut self, text: impl Into<String>) {
        self.report.notes.push(text.into());
    }

    /// Asks to look again after `delay`, or sooner when that was asked already.
    pub fn again_after(&mut self, delay: Duration) {
        self.report.again = Some(self.report.again.map_or(delay, |before| before.min(delay)));
    }

    /// Every action of every step, in order.
    pub fn actions(&self) -> impl Iterator<Item = &Action> {
        self.steps.iter().flat_map(|step| match step {
            Step::All(actions) | Step::SlowStart(actions) => actions.as_slice(),
            Step::Tell(_) => &[],
        })
    }
}

/// Something written that the caches have to show before the same object is planned again.
#[derive(Clone, Debug, PartialEq)]
pub enum Written {
    /// The object has this revision.
    Revision {
        /// Its kind.
        resource: Resource,
        /// The revision the server answered.
        revision: u64,
        /// Lists that the cache had begun when the answer came.
        lists: u64,
    },
    /// The object is gone or going.
    Deleted {
        /// Its kind.
        resource: Resource,
        /// Its name.
        key: Key,
        /// The uid that must no longer be seen alive.
        uid: String,
    },
}

/// Why an action did not work.
#[derive(Debug, Error)]
pub enum ActionError {
    /// The server refused it.
    #[error("{}", .0.message)]
    Refused(Box<Status>),
    /// The request could not be made or its answer not read.
    #[error("{0}")]
    Transport(#[source] kube::Error),
    /// The request could not be built.
    #[error("request for {path} could not be built: {source}")]
    Request {
        /// Its path.
        path: String,
        /// What is wrong.
        source: http::Error,
    },
    /// A [`Verb::Confirm`] found another object, or one that is being deleted.
    #[error("{what} {key} is no longer the object it was, or is being deleted")]
    Changed {
        /// The kind.
        what: String,
        /// The name.
        key: Key,
    },
}

impl ActionError {
    /// Whether the server answered with this code and, unless empty, this reason.
    #[must_use]
    pub fn is(&self, code: u16, reason: &str) -> bool {
        matches!(self, Self::Refused(s) if s.code == code && (reason.is_empty() || s.reason == reason))
    }
}

/// Which action failed, and how.
#[derive(Debug, Error)]
#[error("{action} {what} {key}: {error}")]
pub struct Failure {
    /// `create`, `patch`, `delete` …
    pub action: &'static str,
    /// The kind.
    pub what: String,
    /// The object.
    pub key: Key,
    /// How it failed.
    #[source]
    pub error: ActionError,
}

/// What became of a plan.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What the caches must show before the next plan.
    pub written: Vec<Written>,
    /// The first failure.
    pub failure: Option<Failure>,
}
