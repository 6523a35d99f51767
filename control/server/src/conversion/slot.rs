//! What is known of a stored custom resource in the forms that it was asked for. It is kept with the object in the
//! store's memory, shared by all readers and watchers, and gone with the object: pruning, defaulting and conversion cost
//! once for each object and version, and a webhook is asked once, however many wait for its answer.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use carrack_api::select::View;
use carrack_api::{Resource, codec};
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use serde_json::Value;

use crate::ApiError;

/// An object as readers of a row get it.
#[derive(Debug)]
pub(crate) struct Ready {
    /// The canonical bytes, without resourceVersion; those that are stored where they are the same.
    pub(crate) value: Bytes,
    view: OnceLock<Arc<View>>,
}

impl Ready {
    /// Of an object in the row's form; `stored` is what it was made of.
    pub(super) fn new(object: &Value, stored: &Bytes) -> Result<Arc<Self>, ApiError> {
        let value = codec::encode_storage(object).map_err(ApiError::internal)?;
        let value = if value == *stored { stored.clone() } else { value };
        Ok(Arc::new(Ready { value, view: OnceLock::new() }))
    }

    /// What selectors of the row look at.
    pub(crate) fn view(&self, row: &Resource) -> Arc<View> {
        let make = || Arc::new(View::of(row, &serde_json::from_slice(&self.value).unwrap_or_default()));
        Arc::clone(self.view.get_or_init(make))
    }
}

/// Objects that a webhook was asked for together, once its answer is there; an error is the whole message.
pub(super) type Asked = Shared<BoxFuture<'static, Result<Arc<[Arc<Ready>]>, String>>>;

/// How far an object is on its way into a form.
#[derive(Clone)]
pub(super) enum State {
    Ready(Arc<Ready>),
    /// It is in the answer that is waited for, at this place.
    Asked(Asked, usize),
}

/// The forms of one stored object, by [`carrack_api::custom::Custom::identity`].
#[derive(Default)]
pub(super) struct Slot(Mutex<Vec<((u64, usize), State)>>);

impl Slot {
    /// What is known of the form of a row; a failure is forgotten.
    pub(super) fn get(&self, row: (u64, usize)) -> Option<State> {
        let entries = self.0.lock();
        let (_, state) = entries.iter().find(|(known, _)| *known == row)?;
        match state {
            State::Asked(asked, at) => match asked.peek() {
                Some(Ok(all)) => all.get(*at).cloned().map(State::Ready),
                Some(Err(_)) => None,
                None => Some(state.clone()),
            },
            State::Ready(_) => Some(state.clone()),
        }
    }

    /// Notes the form of a row. What an older state of the definition made of the object goes; what is itself made of an
    /// older one is not kept.
    pub(super) fn put(&self, row: (u64, usize), state: State) {
        let mut entries = self.0.lock();
        if entries.iter().any(|((generation, _), _)| *generation > row.0) {
            return;
        }
        entries.retain(|(known, _)| known.0 == row.0 && *known != row);
        entries.push((row, state));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn ready(text: &'static str) -> Arc<Ready> {
        Arc::new(Ready { value: Bytes::from_static(text.as_bytes()), view: OnceLock::new() })
    }

    fn known(slot: &Slot, row: (u64, usize)) -> Option<Bytes> {
        match slot.get(row)? {
            State::Ready(ready) => Some(ready.value.clone()),
            State::Asked(..) => Some(Bytes::from_static(b"asked")),
        }
    }

    #[test]
    fn what_is_stored_as_it_is_read_takes_no_memory_of_its_own() {
        let object =
            serde_json::json!({"apiVersion": "a.io/v1", "kind": "Tab", "metadata": {"name": "a"}, "b": 1});
        let stored = codec::encode_storage(&object).unwrap();
        assert_eq!(Ready::new(&object, &stored).unwrap().value.as_ptr(), stored.as_ptr());
        let mut completed = object;
        completed["c"] = serde_json::json!("default");
        assert_ne!(Ready::new(&completed, &stored).unwrap().value, stored);
    }

    #[test]
    fn newer_definitions_replace_what_older_ones_made() {
        let slot = Slot::default();
        slot.put((1, 0), State::Ready(ready("a")));
        slot.put((1, 1), State::Ready(ready("b")));
        assert_eq!(known(&slot, (1, 0)).unwrap(), "a");
        assert_eq!(known(&slot, (1, 1)).unwrap(), "b");
        slot.put((2, 1), State::Ready(ready("c")));
        slot.put((1, 0), State::Ready(ready("late")));
        assert_eq!((known(&slot, (1, 0)), known(&slot, (2, 1)).unwrap()), (None, Bytes::from_static(b"c")));
    }

    #[test]
    fn an_answer_is_shared_and_a_failure_forgotten() {
        let slot = Slot::default();
        let (tell, told) = futures::channel::oneshot::channel();
        let asked: Asked = async move { told.await.unwrap() }.boxed().shared();
        slot.put((1, 0), State::Asked(asked.clone(), 1));
        assert_eq!(known(&slot, (1, 0)).unwrap(), "asked");
        tell.send(Ok([ready("a"), ready("b")].into())).unwrap();
        asked.now_or_never().unwrap().unwrap();
        assert_eq!(known(&slot, (1, 0)).unwrap(), "b");
        let failed: Asked = async { Err("no".to_owned()) }.boxed().shared();
        slot.put((1, 0), State::Asked(failed.clone(), 0));
        assert!(failed.now_or_never().unwrap().is_err());
        assert_eq!(known(&slot, (1, 0)), None);
    }
}
