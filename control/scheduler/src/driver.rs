//! The hands of the scheduler: reads pods and nodes from their watches, lets the core decide, binds and reports.

use std::sync::Arc;
use std::time::Instant;

use carrack_client::{Informer, Note, NoteKind, Recorder, Store};
use futures::FutureExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::watcher;
use serde_json::json;
use tokio::task::JoinSet;

use crate::bind::{BindError, BindPlugin, BindTask, bind};
use crate::core::{Core, Task};
use crate::pod::PodInfo;
use crate::view::{Node, Pod};

/// Bindings and reports under way at once.
const AT_ONCE: usize = 256;
/// News taken over before the next decisions, so that neither starves the other.
const NEWS: usize = 512;
/// Decisions made before looking at news again.
const DECISIONS: usize = 32;

/// What became of a task.
enum Done {
    Bound { uid: String, node: Arc<str>, result: Result<(), BindError> },
    Reported,
}

/// The scheduler with its hands.
pub(crate) struct Driver {
    client: Client,
    core: Core,
    recorder: Recorder,
    binders: Arc<Vec<Box<dyn BindPlugin>>>,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    tasks: JoinSet<Done>,
}

impl Driver {
    pub(crate) fn new(
        client: Client,
        core: Core,
        recorder: Recorder,
        binders: Vec<Box<dyn BindPlugin>>,
    ) -> Self {
        let config = watcher::Config::default;
        let nodes = Informer::new(Api::all(client.clone()), config(), Arc::new(Store::new(vec![])));
        let pods = Informer::new(Api::all(client.clone()), config(), Arc::new(Store::new(vec![])));
        Self {
            client,
            core,
            recorder,
            binders: Arc::new(binders),
            nodes: nodes.trimmed_by(trim_node),
            pods: pods.trimmed_by(Pod::trim),
            tasks: JoinSet::new(),
        }
    }

    /// Fills the caches without deciding anything. Never ends; may be dropped at any time.
    pub(crate) async fn watch(&mut self) {
        loop {
            self.wait_for_news().await;
        }
    }

    /// Schedules for ever; may be dropped at any time, which also ends bindings under way.
    pub(crate) async fn run(&mut self) {
        loop {
            self.take_news();
            self.core.tick(Instant::now());
            let caught_up = self.nodes.store().is_synced() && self.pods.store().is_synced();
            if caught_up {
                self.decide();
            }
            if caught_up && self.core.has_work() && self.tasks.len() < AT_ONCE {
                // Let bindings go out before the next decisions.
                tokio::task::yield_now().await;
            } else {
                self.wait_for_news().await;
            }
        }
    }

    /// Takes over what has arrived, without waiting.
    fn take_news(&mut self) {
        for _ in 0..NEWS {
            let Some(changes) = self.nodes.next().now_or_never() else { break };
            let now = Instant::now();
            changes.iter().for_each(|change| self.core.node_changed(change, now));
        }
        for _ in 0..NEWS {
            let Some(changes) = self.pods.next().now_or_never() else { break };
            let now = Instant::now();
            changes.iter().for_each(|change| self.core.pod_changed(change, now));
        }
        while let Some(done) = self.tasks.try_join_next() {
            self.done(done);
        }
    }

    async fn wait_for_news(&mut self) {
        let timer = self.core.next_tick().map(tokio::time::Instant::from_std);
        let timer = async move {
            match timer {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changes = self.nodes.next() => {
                let now = Instant::now();
                changes.iter().for_each(|change| self.core.node_changed(change, now));
            }
            changes = self.pods.next() => {
                let now = Instant::now();
                changes.iter().for_each(|change| self.core.pod_changed(change, now));
            }
            Some(done) = self.tasks.join_next() => self.done(done),
            () = timer => self.core.tick(Instant::now()),
        }
    }

    fn decide(&mut self) {
        for _ in 0..DECISIONS {
            if self.tasks.len() >= AT_ONCE {
                return;
            }
            match self.core.next(Instant::now()) {
                Some(Task::Bind { uid, node }) => self.bind(uid, node),
                Some(Task::Report { uid, message }) => self.report(&uid, message),
                None => return,
            }
        }
    }

    fn bind(&mut self, uid: String, node: Arc<str>) {
        let Some(pod) = self.core.pod(&uid).cloned() else { return };
        let (binders, recorder) = (Arc::clone(&self.binders), self.recorder.clone());
        self.tasks.spawn(async move {
            let task = BindTask { pod, node };
            // A plugin that panics must not take the pod with it.
            let attempt = std::panic::AssertUnwindSafe(bind(&binders, &task)).catch_unwind().await;
            let result = attempt.unwrap_or_else(|_| Err(BindError::Panicked(task.pod.key.to_string())));
            if result.is_ok() {
                let message = format!("Successfully assigned {} to {}", task.pod.key, task.node);
                recorder.record(note(&task.pod, NoteKind::Normal, "Scheduled", message));
            }
            Done::Bound { uid, node: task.node, result }
        });
    }

    /// Tells by an Event and by the condition PodScheduled why a pod got no node, unless it says so already.
    fn report(&mut self, uid: &str, message: String) {
        let Some(pod) = self.core.pod(uid).cloned() else { return };
        tracing::debug!(pod = %pod.key, %message, "not scheduled");
        self.recorder.record(note(&pod, NoteKind::Warning, "FailedScheduling", message.clone()));
        let stored = self.pods.store().get(&pod.key);
        let had = stored.iter().flat_map(|p| &p.status.conditions).find(|c| c.type_ == "PodScheduled");
        let Some(condition) = unschedulable(had, message) else { return };
        let body = json!({ "metadata": { "uid": uid }, "status": { "conditions": [condition] } });
        let api: Api<k8s_openapi::api::core::v1::Pod> =
            Api::namespaced(self.client.clone(), &pod.key.namespace);
        self.tasks.spawn(async move {
            let (params, patch) = (PatchParams::default(), Patch::Strategic(&body));
            if let Err(error) = api.patch_status(&pod.key.name, &params, &patch).await {
                tracing::debug!(pod = %pod.key, %error, "condition not written; the next failure tries again");
            }
            Done::Reported
        });
    }

    fn done(&mut self, done: Result<Done, tokio::task::JoinError>) {
        match done {
            Ok(Done::Bound { result: Ok(()), .. } | Done::Reported) => {}
            Ok(Done::Bound { uid, node, result: Err(error) }) => {
                tracing::debug!(%error, "not bound, trying again");
                self.core.not_bound(&uid, &node, error.pod_is_gone(), Instant::now());
            }
            Err(error) => tracing::error!(%error, "a report ended early"),
        }
    }
}

/// The condition for a pod without a node; `None` when it has it already.
fn unschedulable(had: Option<&PodCondition>, message: String) -> Option<PodCondition> {
    let same = had.filter(|c| c.status == "False");
    if same
        .is_some_and(|c| c.reason.as_deref() == Some("Unschedulable") && c.message.as_ref() == Some(&message))
    {
        return None;
    }
    Some(PodCondition {
        type_: "PodScheduled".into(),
        status: "False".into(),
        reason: Some("Unschedulable".into()),
        message: Some(message),
        last_transition_time: same.map_or(Some(Time(Timestamp::now())), |c| c.last_transition_time.clone()),
        ..PodCondition::default()
    })
}

fn note(pod: &PodInfo, kind: NoteKind, reason: &'static str, message: String) -> Note {
    let about = ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        namespace: Some(pod.key.namespace.clone()),
        name: Some(pod.key.name.clone()),
        uid: Some(pod.uid.clone()),
        resource_version: pod.revision.clone(),
        field_path: None,
    };
    Note { about, kind, reason, message }
}

fn trim_node(node: &mut Node) {
    node.metadata.managed_fields = None;
    node.metadata.annotations = None;
}
