//! Many stored objects at once: those whose form is known, those that need no webhook, and those that a webhook is asked
//! about together.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use carrack_api::custom::{Custom, is_in};
use carrack_api::{Resource, ResourceRef};
use carrack_store::KeyValue;
use futures::FutureExt;
use serde_json::Value;

use super::slot::{Asked, Ready, Slot, State};
use super::{Converter, refused};
use crate::ApiError;
use crate::object::parse;

/// Most objects, and about how many bytes of them, in one question: answers are bounded, too.
const MOST_OBJECTS: usize = 500;
const MOST_BYTES: usize = 1 << 20;
/// Questions of one list that are open at once.
const AT_ONCE: usize = 4;

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
    /// The forms of stored objects, in the same order.
    pub(super) async fn ready(
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
