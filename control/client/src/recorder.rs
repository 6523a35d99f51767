//! Writes Events (core/v1) without ever making the caller wait: a bounded queue, one writer task, repeats counted on
//! the Event that exists already, and a limit for each object so that a hot loop cannot fill the store.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::Key;

/// Events that may wait for the writer; further ones are counted and dropped.
const QUEUE: usize = 1024;
/// Distinct recent Events remembered so that repeats are counted on them.
const REMEMBERED: usize = 4096;
/// Events about one object: this many at once …
const BURST: f64 = 25.0;
/// … and then one each five minutes (the figures of client-go's spam filter).
const REFILL: Duration = Duration::from_secs(300);

/// Whether an Event tells of the usual or of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoteKind {
    /// `Normal`.
    Normal,
    /// `Warning`.
    Warning,
}

impl NoteKind {
    /// The word in the Event's `type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// What one Event says.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    /// The object that it is about.
    pub about: ObjectReference,
    /// Normal or Warning.
    pub kind: NoteKind,
    /// The reason, one CamelCase word.
    pub reason: &'static str,
    /// The sentence for people.
    pub message: String,
}

impl Note {
    /// An Event of `kind` about `object`.
    pub fn new<K: Resource<DynamicType = ()>>(
        object: &K,
        kind: NoteKind,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        let mut about = object.object_ref(&());
        about.resource_version = object.meta().resource_version.clone();
        Self { about, kind, reason, message: message.into() }
    }
}

/// The caller's side: cheap to clone, never waits.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<(Note, Timestamp)>,
    dropped: Arc<AtomicU64>,
}

impl Recorder {
    /// A recorder for `component` and the task that writes; the task ends when every recorder is gone and the queue
    /// is empty.
    pub fn new(client: Client, component: &'static str) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, notes) = mpsc::channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            client,
            component,
            dropped: Arc::clone(&dropped),
            recent: HashMap::new(),
            budgets: HashMap::new(),
            serial: 0,
        };
        (Self { queue, dropped }, writer.run(notes))
    }

    /// Hands an Event to the writer, or drops it when too many wait.
    pub fn record(&self, note: Note) {
        if self.queue.try_send((note, Timestamp::now())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What makes two Events the same but for their number.
type Same = (String, NoteKind, &'static str, String);

struct Recent {
    key: Key,
    count: i32,
}

struct Budget {
    left: f64,
    at: Instant,
}

struct Writer {
    client: Client,
    component: &'static str,
    dropped: Arc<AtomicU64>,
    recent: HashMap<Same, Recent>,
    budgets: HashMap<String, Budget>,
    serial: u32,
}

impl Writer {
    async fn run(mut self, mut notes: mpsc::Receiver<(Note, Timestamp)>) {
        while let Some((note, at)) = notes.recv().await {
            let dropped = self.dropped.swap(0, Ordering::Relaxed);
            if dropped > 0 {
                tracing::warn!(component = self.component, dropped, "events dropped, too many at once");
            }
            if self.within_budget(&note) {
                self.write(note, at).await;
            }
        }
    }

    async fn write(&mut self, note: Note, at: Timestamp) {
        let same = (identity(&note.about), note.kind, note.reason, note.message.clone());
        if let Some(recent) = self.recent.get_mut(&same) {
            recent.count += 1;
            let (key, count) = (recent.key.clone(), recent.count);
            if self.repeat(&key, count, at).await {
                return;
            }
            self.recent.remove(&same);
        }
        if let Some(key) = self.create(note, at).await {
            if self.recent.len() >= REMEMBERED {
                self.recent.clear();
            }
            self.recent.insert(same, Recent { key, count: 1 });
        }
    }

    /// Counts one more on an Event; false when it is no longer there.
    async fn repeat(&self, key: &Key, count: i32, at: Timestamp) -> bool {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &key.namespace);
        let patch = serde_json::json!({ "count": count, "lastTimestamp": Time(at) });
        match api.patch(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(_) => true,
            Err(kube::Error::Api(status)) if status.code == 404 => false,
            Err(error) => {
                tracing::debug!(%error, event = %key, "event not counted");
                true
            }
        }
    }

    async fn create(&mut self, note: Note, at: Timestamp) -> Option<Key> {
        let event = self.event(note, at);
        let key = Key::of(&event.metadata);
        let api: Api<Event> = Api::namespaced(self.client.clone(), &key.namespace);
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => Some(key),
            Err(error) => {
                // A namespace that is being deleted takes no Events: usual, and nothing is lost.
                tracing::debug!(%error, event = %key, "event not written");
                None
            }
        }
    }

    fn event(&mut self, note: Note, at: Timestamp) -> Event {
        self.serial = self.serial.wrapping_add(1);
        let about = note.about;
        let namespace = about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let subject = about.name.as_deref().unwrap_or("unknown");
        let name = format!("{subject}.{:x}{:04x}", at.as_nanosecond(), self.serial & 0xffff);
        Event {
            metadata: ObjectMeta { name: Some(name), namespace: Some(namespace), ..ObjectMeta::default() },
            involved_object: about,
            reason: Some(note.reason.to_owned()),
            message: Some(note.message),
            type_: Some(note.kind.as_str().to_owned()),
            source: Some(EventSource { component: Some(self.component.to_owned()), host: None }),
            reporting_component: Some(self.component.to_owned()),
            reporting_instance: Some(String::new()),
            first_timestamp: Some(Time(at)),
            last_timestamp: Some(Time(at)),
            count: Some(1),
            ..Event::default()
        }
    }

    fn within_budget(&mut self, note: &Note) -> bool {
        if self.budgets.len() >= REMEMBERED {
            self.budgets.clear();
        }
        let now = Instant::now();
        let fresh = Budget { left: BURST, at: now };
        let budget = self.budgets.entry(identity(&note.about)).or_insert(fresh);
        let refill = now.duration_since(budget.at).as_secs_f64() / REFILL.as_secs_f64();
        budget.left = (budget.left + refill).min(BURST);
        budget.at = now;
        if budget.left < 1.0 {
            return false;
        }
        budget.left -= 1.0;
        true
    }
}

fn identity(about: &ObjectReference) -> String {
    let part = |field: &Option<String>| field.clone().unwrap_or_default();
    format!("{}/{}/{}/{}", part(&about.kind), part(&about.namespace), part(&about.name), part(&about.uid))
}

#[cfg(test)]
#[path = "recorder_tests.rs"]
mod tests;
