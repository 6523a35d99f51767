//! Tells what happens to pods and the node as Events. Sending never holds up the work: the queue is bounded, and what
//! does not fit is dropped and counted in the log.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;

/// How many events may wait. A node that has more to tell than this is in trouble that its log tells better.
const QUEUE: usize = 1024;

/// Sends events of the agent.
#[derive(Clone)]
pub(crate) struct Events {
    queue: mpsc::Sender<(ObjectReference, Event)>,
}

impl Events {
    /// Starts the sender; it ends when the last clone is dropped.
    pub(crate) fn start(client: kube::Client, node: &str) -> Self {
        let (queue, mut waiting) = mpsc::channel::<(ObjectReference, Event)>(QUEUE);
        let reporter = Reporter { controller: "kubelet".to_owned(), instance: Some(node.to_owned()) };
        let recorder = Recorder::new(client, reporter);
        tokio::spawn(async move {
            while let Some((about, event)) = waiting.recv().await {
                if let Err(error) = recorder.publish(&event, &about).await {
                    tracing::debug!(%error, reason = event.reason, "an event was not taken by the API server");
                }
            }
        });
        Self { queue }
    }

    /// Something went as it should.
    pub(crate) fn normal(&self, about: &ObjectReference, reason: &str, note: impl Into<String>) {
        self.send(about, EventType::Normal, reason, note.into());
    }

    /// Something went wrong.
    pub(crate) fn warning(&self, about: &ObjectReference, reason: &str, note: impl Into<String>) {
        self.send(about, EventType::Warning, reason, note.into());
    }

    fn send(&self, about: &ObjectReference, type_: EventType, reason: &str, note: String) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note),
            action: reason.to_owned(),
            secondary: None,
        };
        if self.queue.try_send((about.clone(), event)).is_err() {
            tracing::warn!(reason, "too many events wait; one was dropped");
        }
    }
}
