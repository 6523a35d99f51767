//! Custom resources between the form that they are stored in and the one that is asked for.
//!
//! What is stored is in the storage version of its time. Who reads gets it completed by the schema of that version and
//! converted: by changing `apiVersion`, or by the webhook of the definition (`spec.conversion`). A page of a list is
//! one question to the webhook (several when it is large), an event of a watch is one, and each object is asked about
//! once for each version while it is in memory ([`slot`]). Behind this module the bytes of a custom resource are like
//! those of a built-in kind: in the form of the row that is asked for.

mod forms;
mod review;
mod slot;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use carrack_api::custom::{Custom, Webhook, is_in};
use carrack_api::select::View;
use carrack_api::{Resource, ResourceRef, codec, meta};
use carrack_store::{Event, EventKind, KeyValue, Revision};
use futures::FutureExt;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::ApiError;
use crate::admission::webhook::unexpected;
use crate::object::{Stored, parse, to_served, view};
use crate::outbound::{Outbound, Target};
use review::Version;

pub(crate) use forms::Forms;
pub(crate) use slot::Ready;
use slot::{Asked, Slot, State};

/// How long a webhook has for its answer; upstream's figure.
const LIMIT: Duration = Duration::from_secs(30);
/// Most objects, and about how many bytes of them, in one question: answers are bounded, too.
const MOST_OBJECTS: usize = 500;
const MOST_BYTES: usize = 1 << 20;
/// Questions of one list that are open at once.
const AT_ONCE: usize = 4;

/// An object in the store as readers of a row see it.
#[derive(Clone)]
pub(crate) struct Found {
    kv: Arc<KeyValue>,
    /// Its form; `None` for built-in kinds, whose stored bytes tell.
    ready: Option<Arc<Ready>>,
}

impl Found {
    /// The canonical bytes, without resourceVersion.
    pub(crate) fn value(&self) -> &Bytes {
        self.ready.as_ref().map_or(&self.kv.value, |ready| &ready.value)
    }

    /// The revision of the last change.
    pub(crate) fn revision(&self) -> Revision {
        self.kv.mod_revision
    }

    /// The key in the store.
    pub(crate) fn key(&self) -> &Bytes {
        &self.kv.key
    }

    /// The same with its revision, for whoever makes a value of it.
    pub(crate) fn stored(&self) -> Stored {
        Stored { value: self.value().clone(), revision: self.revision() }
    }

    /// What selectors of the row look at.
    pub(crate) fn view(&self, row: &Resource) -> Arc<View> {
        self.ready.as_ref().map_or_else(|| view(row, &self.kv), |ready| ready.view(row))
    }
}

/// A change as a watcher of a row sees it.
pub(crate) struct Change {
    pub(crate) event: Event,
    /// The object behind the change; `None` when it is gone.
    pub(crate) now: Option<Found>,
    /// The object before it, as far as it is known and somebody looks at it.
    pub(crate) before: Option<Found>,
}

impl Change {
    /// A change of a built-in kind, which needs nobody to be asked. Those who watch `everything` see what was there before
    /// only at its end.
    pub(crate) fn of_built_in(event: Event, everything: bool) -> Change {
        let found = |kv: &Arc<KeyValue>| Found { kv: kv.clone(), ready: None };
        let gone = event.kind == EventKind::Delete;
        let now = (!gone).then(|| found(&event.kv));
        let before = event.prev.as_ref().filter(|_| gone || !everything).map(found);
        Change { event, now, before }
    }
}

/// Brings custom resources into the form that is asked for, and back.
#[derive(Clone)]
pub(crate) struct Converter {
    outbound: Outbound,
    /// Ends questions that are open.
    end: CancellationToken,
}

/// Objects for one question.
#[derive(Default)]
struct Batch {
    objects: Vec<Value>,
    stored: Vec<Bytes>,
    places: Vec<(usize, Arc<Slot>)>,
    bytes: usize,
}

/// An object that is waited for: its place in the list, where it is noted, and where in which answer it is.
struct Awaited {
    index: usize,
    slot: Arc<Slot>,
    asked: Asked,
    at: usize,
}

impl Converter {
    pub(crate) fn new(outbound: Outbound, end: CancellationToken) -> Self {
        Converter { outbound, end }
    }

    /// Stored objects as readers of `row` see them, in the same order.
    pub(crate) async fn found(
        &self,
        row: &ResourceRef,
        kvs: Vec<Arc<KeyValue>>,
    ) -> Result<Vec<Found>, ApiError> {
        let Some(custom) = row.custom() else {
            return Ok(kvs.into_iter().map(|kv| Found { kv, ready: None }).collect());
        };
        let ready = self.ready(row, custom, &kvs).await?;
        Ok(kvs.into_iter().zip(ready).map(|(kv, ready)| Found { kv, ready: Some(ready) }).collect())
    }

    /// One stored object as readers of `row` see it.
    pub(crate) async fn one(&self, row: &ResourceRef, kv: &Arc<KeyValue>) -> Result<Found, ApiError> {
        let ready = match row.custom() {
            Some(custom) => self.ready(row, custom, std::slice::from_ref(kv)).await?.pop(),
            None => None,
        };
        Ok(Found { kv: kv.clone(), ready })
    }

    /// A change as watchers of `row` see it. Those who watch `everything` see what was there before only at its end.
    pub(crate) async fn change(
        &self,
        row: &ResourceRef,
        event: Event,
        everything: bool,
    ) -> Result<Change, ApiError> {
        let gone = event.kind == EventKind::Delete;
        let now = if gone { None } else { Some(self.one(row, &event.kv).await?) };
        let before = match &event.prev {
            Some(prev) if gone || !everything => Some(self.one(row, prev).await?),
            _ => None,
        };
        Ok(Change { event, now, before })
    }

    /// What was just written, as readers of `row` see it.
    pub(crate) async fn written(
        &self,
        row: &ResourceRef,
        value: Bytes,
        revision: Revision,
    ) -> Result<Stored, ApiError> {
        let Some(custom) = row.custom() else { return Ok(Stored { value, revision }) };
        // What was written in the version of the row went through its rules.
        if custom.storage().api_version == row.api_version {
            return Ok(Stored { value, revision });
        }
        let kv = KeyValue::new(Bytes::new(), value, revision, revision, 1, 0);
        Ok(self.one(row, &Arc::new(kv)).await?.stored())
    }

    /// The bytes that are stored for an object in the form that writes work on: the stored one of built-in kinds, that
    /// of the row of custom resources.
    pub(crate) async fn encode(&self, row: &ResourceRef, object: &Value) -> Result<Bytes, ApiError> {
        let stored = match row.custom() {
            Some(custom) if custom.storage().api_version != row.api_version => {
                Some(self.convert(custom, object, custom.storage().api_version).await?)
            }
            _ => None,
        };
        codec::encode_storage(stored.as_ref().unwrap_or(object)).map_err(ApiError::internal)
    }

    /// An object in the form that writes work on, as readers of `row` see it, which is of the same resource.
    pub(crate) async fn shown(&self, row: &Resource, object: &Value) -> Result<Value, ApiError> {
        if let Some(custom) = row.custom() {
            return self.convert(custom, object, row.api_version).await;
        }
        let mut shown = object.clone();
        to_served(row, &mut shown);
        Ok(shown)
    }

    /// An object of a custom resource in the form of another of its versions, which need not be served.
    pub(crate) async fn convert(
        &self,
        custom: &Custom,
        object: &Value,
        api_version: &str,
    ) -> Result<Value, ApiError> {
        let mut object = object.clone();
        let webhook = match custom.webhook() {
            // Nothing is what it is in every version.
            Some(webhook) if !is_in(&object, api_version) && object.get("kind").is_some() => webhook,
            _ => {
                custom.rename(&mut object, api_version);
                return Ok(object);
            }
        };
        let revision = meta::resource_version(&object).to_owned();
        if let Some(metadata) = meta::metadata_mut(&mut object) {
            metadata.remove("resourceVersion");
        }
        let converted = self.ask(webhook, api_version, std::slice::from_ref(&object)).await;
        let mut converted = converted.map_err(refused)?.pop().unwrap_or_default();
        custom.arrived(&mut converted);
        if !revision.is_empty() {
            meta::set(&mut converted, "resourceVersion", revision);
        }
        Ok(converted)
    }

    /// The forms of stored objects, in the same order.
    async fn ready(
        &self,
        row: &ResourceRef,
        custom: &Custom,
        kvs: &[Arc<KeyValue>],
    ) -> Result<Vec<Arc<Ready>>, ApiError> {
        let identity = custom.identity();
        let mut ready: Vec<Option<Arc<Ready>>> = vec![None; kvs.len()];
        let mut awaited: Vec<Awaited> = Vec::new();
        let mut open: VecDeque<Asked> = VecDeque::new();
        let mut batch = Batch::default();
        for (index, kv) in kvs.iter().enumerate() {
            // The first look at an object takes a while.
            tokio::task::consume_budget().await;
            let slot = kv.decoded(|_| Slot::default());
            match slot.get(identity) {
                Some(State::Ready(known)) => ready[index] = Some(known),
                Some(State::Asked(asked, at)) => awaited.push(Awaited { index, slot, asked, at }),
                None => match completed(row, custom, &kv.value)? {
                    Step::Done(made) => {
                        slot.put(identity, State::Ready(made.clone()));
                        ready[index] = Some(made);
                    }
                    Step::Ask(object) => {
                        batch.add(index, slot, object, &kv.value);
                        if batch.is_full() {
                            self.start(row, std::mem::take(&mut batch), &mut open, &mut awaited).await;
                        }
                    }
                },
            }
        }
        self.start(row, batch, &mut open, &mut awaited).await;
        for Awaited { index, slot, asked, at } in awaited {
            let made = asked.await.map_err(refused)?.get(at).cloned();
            if let Some(made) = &made {
                slot.put(identity, State::Ready(made.clone()));
            }
            ready[index] = made;
        }
        let all: Option<Vec<_>> = ready.into_iter().collect();
        all.ok_or_else(|| ApiError::internal("an object was lost on its way to another version"))
    }

    /// Asks about a batch, in a task of its own: who waits may go away, others may wait, too.
    async fn start(
        &self,
        row: &ResourceRef,
        batch: Batch,
        open: &mut VecDeque<Asked>,
        awaited: &mut Vec<Awaited>,
    ) {
        let Some(custom) = row.custom().cloned().filter(|_| !batch.objects.is_empty()) else { return };
        if open.len() >= AT_ONCE
            && let Some(first) = open.pop_front()
        {
            // Its failure is told to those who wait for it.
            drop(first.await);
        }
        let Batch { objects, stored, places, .. } = batch;
        let (converter, to) = (self.clone(), row.api_version);
        let identity = custom.identity();
        let work = async move {
            let webhook = custom.webhook().ok_or("the definition names no webhook")?;
            let converted = converter.ask(webhook, to, &objects).await?;
            let made = converted.into_iter().zip(stored).map(|(mut object, stored)| {
                custom.arrived(&mut object);
                Ready::new(&object, &stored).map_err(|error| error.message.clone())
            });
            made.collect::<Result<Arc<[_]>, String>>()
        };
        let asked: Asked = work.boxed().shared();
        for (at, (index, slot)) in places.into_iter().enumerate() {
            slot.put(identity, State::Asked(asked.clone(), at));
            awaited.push(Awaited { index, slot, asked: asked.clone(), at });
        }
        open.push_back(asked.clone());
        tokio::spawn(asked.map(drop));
    }

    /// Asks a webhook for `objects` in the form of `desired`. An error is the whole message.
    async fn ask(&self, webhook: &Webhook, desired: &str, objects: &[Value]) -> Result<Vec<Value>, String> {
        let who = objects.first().map(review::subject).unwrap_or_default();
        let failed = |why: String| format!("conversion webhook for {who} failed: {why}");
        let version = Version::choose(&webhook.reviews)?;
        let target = Target::of_client_config(&webhook.client).map_err(|why| failed(why.to_string()))?;
        let url = target.url();
        let uid = uuid::Uuid::new_v4().to_string();
        let question = review::question(version, &uid, desired, objects);
        let body = serde_json::to_vec(&question).map_err(|why| failed(why.to_string()))?;
        let answer = tokio::select! {
            () = self.end.cancelled() => return Err(failed("the API server is shutting down".to_owned())),
            answer = self.outbound.post(&target, &url, body, LIMIT) => answer,
        };
        let answer = answer.map_err(|why| failed(why.to_string()))?;
        if !answer.status.is_success() {
            return Err(failed(unexpected(answer.status.as_u16(), &answer.body)));
        }
        let answer = serde_json::from_slice(&answer.body).map_err(|why| failed(why.to_string()))?;
        review::converted(version, &uid, desired, objects, answer)
    }
}

impl Batch {
    fn add(&mut self, index: usize, slot: Arc<Slot>, object: Value, stored: &Bytes) {
        self.objects.push(object);
        self.stored.push(stored.clone());
        self.places.push((index, slot));
        self.bytes += stored.len();
    }

    fn is_full(&self) -> bool {
        self.objects.len() >= MOST_OBJECTS || self.bytes >= MOST_BYTES
    }
}

/// What is to be done about a stored object.
enum Step {
    Done(Arc<Ready>),
    /// A webhook converts it.
    Ask(Value),
}

/// Completes a stored object, and converts it where no webhook is needed.
fn completed(row: &Resource, custom: &Custom, stored: &Bytes) -> Result<Step, ApiError> {
    let mut object = parse(stored)?;
    custom.complete(&mut object);
    if custom.webhook().is_some() && !is_in(&object, row.api_version) {
        return Ok(Step::Ask(object));
    }
    custom.rename(&mut object, row.api_version);
    Ok(Step::Done(Ready::new(&object, stored)?))
}

/// 500 with the message alone, as upstream has it.
fn refused(message: String) -> ApiError {
    ApiError::new(500, "", message)
}
