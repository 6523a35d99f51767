//! Keeps one worker for each pod that is bound to this node, and takes over what an earlier agent left.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use parking_lot::Mutex;

use crate::disk::{self, Records};
use crate::leftovers;
use crate::shared::Shared;
use crate::worker::{self, Handle, Message, Snapshot};

/// The pods of this node, by uid.
#[derive(Clone, Default)]
pub(crate) struct Pods {
    workers: Arc<Mutex<HashMap<String, Arc<Handle>>>>,
}

impl Pods {
    /// All pods.
    pub(crate) fn list(&self) -> Vec<Snapshot> {
        self.workers.lock().values().map(|handle| handle.snapshot.borrow().clone()).collect()
    }

    /// The pod of a name. Of two, one of which is ending, it is the other.
    pub(crate) fn find(&self, namespace: &str, name: &str, uid: Option<&str>) -> Option<Snapshot> {
        let named = |snapshot: &Snapshot| {
            snapshot.pod.as_ref().is_some_and(|pod| {
                let meta = &pod.metadata;
                meta.namespace.as_deref() == Some(namespace)
                    && meta.name.as_deref() == Some(name)
                    && uid.is_none_or(|uid| meta.uid.as_deref() == Some(uid))
            })
        };
        let ending = |s: &Snapshot| s.pod.as_ref().is_some_and(|p| p.metadata.deletion_timestamp.is_some());
        self.list().into_iter().filter(named).min_by_key(ending)
    }

    /// A view of one pod that changes with it.
    pub(crate) fn follow(&self, uid: &str) -> Option<tokio::sync::watch::Receiver<Snapshot>> {
        self.workers.lock().get(uid).map(|handle| handle.snapshot.clone())
    }

    fn handle(&self, uid: &str) -> Option<Arc<Handle>> {
        self.workers.lock().get(uid).cloned()
    }

    /// The ids of the images that pods which are not over run or are about to run.
    pub(crate) fn images_in_use(&self) -> HashSet<String> {
        let over = |s: &Snapshot| {
            let phase = s.pod.as_ref().and_then(|p| p.status.as_ref()).and_then(|s| s.phase.as_deref());
            s.sandbox.is_none() && matches!(phase, Some("Succeeded" | "Failed"))
        };
        let alive = self.list().into_iter().filter(|snapshot| !over(snapshot));
        let images = |s: Snapshot| {
            let ids = s.containers.values().filter_map(|c| c.image.as_ref()).map(|image| image.id.clone());
            ids.collect::<Vec<_>>()
        };
        alive.flat_map(images).collect()
    }

    /// The uids of all pods.
    pub(crate) fn uids(&self) -> HashSet<String> {
        self.workers.lock().keys().cloned().collect()
    }
}

/// Starts workers for the pods on disk; clears away what is left of pods that can not be told.
pub(crate) fn take_over(shared: &Arc<Shared>, pods: &Pods) -> std::io::Result<()> {
    let mut known = HashSet::new();
    for (uid, pod) in disk::known_pods(&shared.options.place.kubelet_dir().join("pods"))? {
        match pod {
            Some(pod) if pod.metadata.uid.as_deref() == Some(&uid) => {
                known.insert(uid);
                start(shared, pods, Arc::new(pod));
            }
            _ => tracing::warn!(uid, "a pod's directory has no readable record and is removed"),
        }
    }
    if let Err(error) = shared.volumes.retain(&known) {
        tracing::warn!(error = crate::errors::chain(&error), "volumes of unknown pods were not removed");
    }
    for dir in leftovers::unknown_logs(&shared.options.place.data_dir.join("logs/pods"), &known)? {
        if let Err(error) = carrack_files::remove_tree(&dir) {
            tracing::warn!(path = %dir.display(), %error, "logs of an unknown pod were not removed");
        }
    }
    Ok(())
}

fn start(shared: &Arc<Shared>, pods: &Pods, pod: Arc<Pod>) {
    let Some(uid) = pod.metadata.uid.clone() else { return };
    let records = match Records::open(&shared.options.place.pod_dir(&uid)) {
        Ok(records) => records,
        Err(error) => {
            // Without a record a restart would not find it again: rather not run it.
            tracing::error!(uid, %error, "a pod's directory can not be made; the pod is not started");
            return;
        }
    };
    let handle = Arc::new(worker::spawn(Arc::clone(shared), pod, records));
    pods.workers.lock().insert(uid, handle);
}

/// Follows the pods bound to this node until the future is dropped.
pub(crate) async fn run(shared: Arc<Shared>, pods: Pods) {
    let api: Api<Pod> = Api::all(shared.client.clone());
    let config = watcher::Config::default().fields(&format!("spec.nodeName={}", shared.options.node_name));
    let mut events = watcher(api, config).default_backoff().boxed();
    let mut listed = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(pod)) => {
                listed.extend(pod.metadata.uid.clone());
                apply(&shared, &pods, pod).await;
            }
            Ok(Event::InitDone) => {
                for uid in pods.uids().difference(&listed) {
                    gone(&pods, uid, None).await;
                }
            }
            Ok(Event::Apply(pod)) => apply(&shared, &pods, pod).await,
            Ok(Event::Delete(pod)) => {
                if let Some(uid) = pod.metadata.uid.clone() {
                    gone(&pods, &uid, Some(Arc::new(pod))).await;
                }
            }
            Err(error) => tracing::debug!(%error, "the watch on pods broke; taking it up again"),
        }
        sweep(&pods);
    }
}

async fn apply(shared: &Arc<Shared>, pods: &Pods, pod: Pod) {
    let Some(uid) = pod.metadata.uid.clone() else { return };
    let pod = Arc::new(pod);
    match pods.handle(&uid) {
        Some(handle) if !handle.task.is_finished() => {
            // A worker that has just ended wants no news.
            let _ = handle.inbox.send(Message::Update(pod)).await;
        }
        _ => start(shared, pods, pod),
    }
}

async fn gone(pods: &Pods, uid: &str, last: Option<Arc<Pod>>) {
    if let Some(handle) = pods.handle(uid) {
        let _ = handle.inbox.send(Message::Gone(last)).await;
    }
}

/// Forgets the workers that are done.
fn sweep(pods: &Pods) {
    pods.workers.lock().retain(|_, handle| !handle.task.is_finished());
}
