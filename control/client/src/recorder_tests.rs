//! The recorder: repeats are counted, one object cannot flood the store, and nobody ever waits.

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tower::service_fn;

use super::*;

/// Remembers what was written; when forgetful, it no longer has any event that is patched.
#[derive(Clone, Default)]
struct Events {
    written: Arc<Mutex<Vec<(Method, Value)>>>,
    forgetful: bool,
}

impl Events {
    fn client(&self) -> Client {
        let state = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let state = state.clone();
            async move {
                let method = request.method().clone();
                let bytes = request.into_body().collect_bytes().await.unwrap();
                let body: Value = serde_json::from_slice(&bytes).unwrap();
                let lost = state.forgetful && method == Method::PATCH;
                state.written.lock().push((method, body));
                let event = json!({ "metadata": {}, "involvedObject": {} });
                let missing =
                    json!({ "kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound" });
                let answer = if lost { missing } else { event };
                let mut response = Response::new(Body::from(answer.to_string().into_bytes()));
                if lost {
                    *response.status_mut() = StatusCode::NOT_FOUND;
                }
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        Client::new(service, "default")
    }

    /// Method and count of everything written for `notes`.
    async fn after(&self, notes: Vec<Note>) -> Vec<(Method, i64)> {
        let (recorder, writer) = Recorder::new(self.client(), "test");
        notes.into_iter().for_each(|note| recorder.record(note));
        drop(recorder);
        writer.await;
        let written = self.written.lock();
        written.iter().map(|(method, body)| (method.clone(), body["count"].as_i64().unwrap())).collect()
    }
}

fn note(name: &str, message: &str) -> Note {
    let about = ObjectReference {
        kind: Some("Pod".into()),
        namespace: Some("ns".into()),
        name: Some(name.into()),
        ..ObjectReference::default()
    };
    Note { about, kind: NoteKind::Warning, reason: "Failed", message: message.into() }
}

#[tokio::test]
async fn a_repeat_is_counted_on_the_first_one() {
    let events = Events::default();
    let written = events.after(vec![note("a", "x"), note("a", "x"), note("a", "y"), note("a", "x")]).await;
    let expected = [(Method::POST, 1), (Method::PATCH, 2), (Method::POST, 1), (Method::PATCH, 3)];
    assert_eq!(written, expected);
    let first = &events.written.lock()[0].1;
    assert_eq!(first["involvedObject"]["name"], "a");
    assert_eq!(first["metadata"]["namespace"], "ns");
    assert_eq!(first["source"]["component"], "test");
}

#[tokio::test]
async fn an_event_that_ran_out_is_written_anew() {
    let events = Events { forgetful: true, ..Events::default() };
    let written = events.after(vec![note("a", "x"), note("a", "x")]).await;
    assert_eq!(written, [(Method::POST, 1), (Method::PATCH, 2), (Method::POST, 1)]);
}

#[tokio::test(start_paused = true)]
async fn one_object_has_a_budget_and_others_theirs() {
    let events = Events::default();
    let mut notes: Vec<_> = (0..40).map(|n| note("noisy", &n.to_string())).collect();
    notes.push(note("quiet", "x"));
    assert_eq!(events.after(notes).await.len(), 26);
}

#[tokio::test]
async fn a_full_queue_drops_and_does_not_wait() {
    let events = Events::default();
    let notes = (0..QUEUE + 100).map(|n| note(&n.to_string(), "x")).collect();
    assert_eq!(events.after(notes).await.len(), QUEUE);
}
