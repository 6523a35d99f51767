//! One task per pod: keeps what the node has of it in step with what the API says. Everything that happens reaches it
//! as a [`Message`]; after each it asks [`plan`](crate::plan) what to do, does it, and reports the status.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use carrack_network::PodAddress;
use carrack_supervisor::{Event, Sandbox};
use carrack_volumes::{Sources, Volume};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::disk::Records;
use crate::ephemeral::ephemeral_containers;
use crate::objects::Following;
use crate::plan::{Action, Ending, Plan, View, grace_of, plan};
use crate::probes::Finding;
use crate::pull::Pulled;
use crate::resize::{Progress, allocate};
use crate::shared::Shared;
use crate::state::{Containers, Waiting, all_containers};
use crate::status::{Facts, PASSING, pod_status};
use crate::writer::{PodKey, Report};

/// How many messages may wait for one pod. Senders wait when it is full.
const INBOX: usize = 256;
/// How long a step that failed is left alone before it is tried again.
const RETRY: SignedDuration = SignedDuration::from_secs(2);

/// What may happen to a pod.
#[derive(Debug)]
pub(crate) enum Message {
    /// The API's pod has changed.
    Update(Arc<Pod>),
    /// The API knows the pod no more.
    Gone(Option<Arc<Pod>>),
    /// The supervisor tells something.
    Supervisor(Event),
    /// A probe of a run of a container tells something.
    Probe {
        /// The container's name.
        container: String,
        /// The id of its run.
        id: String,
        /// What was found.
        finding: Finding,
    },
    /// An attempt to get an image has ended.
    Pulled {
        /// The container it was for.
        container: String,
        /// How it went.
        result: Pulled,
    },
    /// The preStop hook of a run of a container is done.
    HookDone {
        /// The container's name.
        container: String,
        /// The id of its run.
        id: String,
    },
    /// A container has to end: its postStart hook failed.
    Condemn {
        /// The container's name.
        container: String,
        /// The id of its run.
        id: String,
        /// Why.
        message: String,
    },
}

/// What others can see of a pod on this node without asking its worker.
#[derive(Clone, Default)]
pub(crate) struct Snapshot {
    /// The pod with the status last computed.
    pub pod: Option<Arc<Pod>>,
    /// Its containers.
    pub containers: Arc<Containers>,
    /// Its supervisor, while there is one.
    pub sandbox: Option<Sandbox>,
}

/// A running worker, for the manager.
pub(crate) struct Handle {
    /// Takes messages.
    pub inbox: mpsc::Sender<Message>,
    /// Shows the pod.
    pub snapshot: watch::Receiver<Snapshot>,
    /// Ends when everything of the pod is gone from the node and the API.
    pub task: JoinHandle<()>,
}

/// Starts a worker for a pod, which takes over what an earlier one may have left.
pub(crate) fn spawn(shared: Arc<Shared>, pod: Arc<Pod>, records: Records) -> Handle {
    let (inbox, messages) = mpsc::channel(INBOX);
    // What is on disk can be asked for at once: logs of what ended need no network and no supervisor.
    let known =
        Snapshot { pod: Some(pod.clone()), containers: Arc::new(records.containers()), sandbox: None };
    let (snapshots, snapshot) = watch::channel(known);
    let worker = Worker::new(shared, pod, records, inbox.clone(), snapshots);
    let task = tokio::spawn(worker.run(messages));
    Handle { inbox, snapshot, task }
}

/// The state of one pod's worker. Its steps are spread over the modules `sandbox`, `containers` and `hooks`.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pod: Arc<Pod>,
    pub(crate) key: PodKey,
    pub(crate) about: ObjectReference,
    pub(crate) records: Records,
    pub(crate) me: mpsc::Sender<Message>,
    pub(crate) containers: Containers,
    pub(crate) sandbox: Option<Sandbox>,
    pub(crate) address: Option<PodAddress>,
    pub(crate) volumes: Option<BTreeMap<String, Volume>>,
    pub(crate) sources: Sources,
    pub(crate) probes: HashMap<String, JoinHandle<()>>,
    pub(crate) feed: Option<JoinHandle<()>>,
    pub(crate) retry_at: Option<Timestamp>,
    pub(crate) failed: Option<Waiting>,
    /// How far a change of its resources has come.
    pub(crate) resize: Progress,
    /// When to try a change that failed or did not fit again.
    pub(crate) resize_at: Option<Timestamp>,
    /// The objects that its volumes and environment are made of.
    pub(crate) following: Following,
    /// When its tokens have to be asked for again.
    pub(crate) refresh_at: Option<Timestamp>,
    /// Something that its volumes are made of has changed.
    stale: bool,
    ending: Option<Ending>,
    first_seen: Timestamp,
    removed: bool,
    reports: watch::Sender<Report>,
    writer: JoinHandle<()>,
    snapshots: watch::Sender<Snapshot>,
    saved: Containers,
}

impl Worker {
    fn new(
        shared: Arc<Shared>,
        pod: Arc<Pod>,
        records: Records,
        me: mpsc::Sender<Message>,
        snapshots: watch::Sender<Snapshot>,
    ) -> Self {
        let key = PodKey {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
        };
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(key.namespace.clone()),
            name: Some(key.name.clone()),
            uid: Some(key.uid.clone()),
            ..ObjectReference::default()
        };
        let (reports, report) = watch::channel(Report::default());
        let writer = tokio::spawn(crate::writer::run(shared.client.clone(), key.clone(), report));
        let mut containers = records.containers();
        // What no agent has seen before was found a place by the scheduler as it is.
        allocate(&pod, &mut containers, false);
        Self {
            shared,
            pod,
            key,
            about,
            records,
            me,
            saved: containers.clone(),
            containers,
            sandbox: None,
            address: None,
            volumes: None,
            sources: Sources::default(),
            probes: HashMap::new(),
            feed: None,
            retry_at: None,
            failed: None,
            resize: Progress::default(),
            resize_at: None,
            following: Following::default(),
            refresh_at: None,
            stale: false,
            ending: None,
            first_seen: Timestamp::now(),
            removed: false,
            reports,
            writer,
            snapshots,
        }
    }

    async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        self.keep_pod();
        self.follow_deletion();
        self.hold_room();
        self.take_over().await;
        while !self.removed {
            let plan = self.step().await;
            self.save();
            self.report();
            if self.removed {
                break;
            }
            if plan.actions.is_empty() {
                self.wait(&mut messages, plan.wake).await;
            }
            while let Ok(message) = messages.try_recv() {
                self.take(message).await;
            }
        }
        for (_, probe) in self.probes.drain() {
            probe.abort();
        }
        if let Some(feed) = self.feed.take() {
            feed.abort();
        }
        // The worker is done when the API has been told.
        let _ = self.writer.await;
    }

    async fn step(&mut self) -> Plan {
        let now = Timestamp::now();
        let mut plan = plan(&self.view(), now);
        for action in &plan.actions {
            tracing::debug!(pod = %self.key.name, ?action, "next");
            self.perform(action).await;
        }
        if plan.actions.is_empty() && self.ending.is_none() && self.sandbox.is_some() {
            self.keep_volumes(now, &mut plan).await;
            self.keep_size(now, &mut plan);
        }
        plan
    }

    /// Brings the volumes up to date when something that they are made of has changed, or a token grows old.
    async fn keep_volumes(&mut self, now: Timestamp, plan: &mut Plan) {
        let due = self.refresh_at.is_some_and(|at| at <= now);
        if std::mem::take(&mut self.stale) || due {
            match self.volumes {
                Some(_) => self.refresh_volumes().await,
                // What they failed for may be there now.
                None => self.retry_at = None,
            }
            // The plan is made anew with what has changed.
            plan.wake = Some(now);
        } else if self.volumes.is_some()
            && let Some(at) = self.refresh_at
        {
            plan.wake = Some(plan.wake.map_or(at, |wake| wake.min(at)));
        }
    }

    fn view(&self) -> View<'_> {
        View {
            pod: &self.pod,
            ending: self.ending,
            sandbox: self.sandbox.is_some(),
            volumes: self.volumes.is_some(),
            retry_at: self.retry_at,
            containers: &self.containers,
        }
    }

    async fn perform(&mut self, action: &Action) {
        match action {
            Action::CreateSandbox => self.create_sandbox().await,
            Action::SetUpVolumes => self.set_up_volumes().await,
            Action::Pull(name) => self.pull(name),
            Action::Start(name) => self.start_container(name).await,
            Action::RunHook(name, deadline) => self.run_pre_stop(name, *deadline),
            Action::Terminate(name, kill_at) => self.terminate(name, *kill_at).await,
            Action::Kill(name) => self.kill(name).await,
            Action::ReleaseSandbox => self.release_sandbox().await,
            Action::Remove => self.removed = self.remove().await,
        }
    }

    async fn wait(&mut self, messages: &mut mpsc::Receiver<Message>, wake: Option<Timestamp>) {
        let pause =
            wake.map(|at| Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default());
        let alarm = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = messages.recv() => if let Some(message) = message { self.take(message).await },
            () = self.following.changed() => self.stale = true,
            () = alarm => {}
        }
    }

    async fn take(&mut self, message: Message) {
        match message {
            Message::Update(pod) => {
                // What downward volumes show.
                self.stale |= pod.metadata.labels != self.pod.metadata.labels
                    || pod.metadata.annotations != self.pod.metadata.annotations;
                if pod.metadata.generation != self.pod.metadata.generation {
                    // What is wanted now may fit where what was wanted did not.
                    self.resize_at = None;
                }
                // What the environment of a new ephemeral container is made of.
                self.stale |= ephemeral_containers(&pod).len() != ephemeral_containers(&self.pod).len();
                self.pod = pod;
                self.keep_pod();
                self.follow_deletion();
            }
            Message::Gone(last) => {
                if let Some(last) = last {
                    self.pod = last;
                }
                let grace = grace_of(&self.pod, self.pod.metadata.deletion_grace_period_seconds);
                self.end_by(Timestamp::now() + grace);
            }
            Message::Supervisor(event) => self.supervisor_said(event).await,
            Message::Probe { container, id, finding } => self.probe_found(&container, &id, finding),
            Message::Pulled { container, result } => self.pulled(&container, result),
            Message::HookDone { container, id } => self.hook_done(&container, &id),
            Message::Condemn { container, id, message } => self.condemn(&container, &id, message),
        }
    }

    fn follow_deletion(&mut self) {
        if let Some(at) = &self.pod.metadata.deletion_timestamp {
            self.end_by(at.0);
        }
    }

    /// A deadline can come nearer, never move away.
    fn end_by(&mut self, deadline: Timestamp) {
        let deadline = self.ending.map_or(deadline, |old| old.deadline.min(deadline));
        self.ending = Some(Ending { deadline });
    }

    /// Puts the next attempt at a failed step off.
    pub(crate) fn retry_later(&mut self) {
        self.retry_at = Some(Timestamp::now() + RETRY);
    }

    /// Says why no container can start yet, in the status of each that has not.
    pub(crate) fn hold_up(&mut self, reason: &str, message: &str) {
        for container in all_containers(&self.pod) {
            let state = self.containers.entry(container.name.clone()).or_default();
            if !state.is_running() {
                state.waiting = Some(Waiting { reason: reason.to_owned(), message: message.to_owned() });
            }
        }
    }

    fn keep_pod(&self) {
        if let Err(error) = self.records.put_pod(&self.pod) {
            tracing::warn!(pod = %self.key.name, %error, "the pod's record was not written");
        }
    }

    /// Writes the containers' state where it has changed. A disk that is full must not stop the pod: it is said and
    /// tried again at the next change.
    pub(crate) fn save(&mut self) {
        let same = |a: &Containers, b: &Containers| serde_json::to_vec(a).ok() == serde_json::to_vec(b).ok();
        if self.removed || same(&self.saved, &self.containers) {
            return;
        }
        match self.records.put_containers(&self.containers) {
            Ok(()) => self.saved = self.containers.clone(),
            Err(error) => {
                tracing::warn!(pod = %self.key.name, %error, "the containers' record was not written")
            }
        }
    }

    fn report(&mut self) {
        let running = self.containers.values().any(|c| c.is_running());
        let facts = Facts {
            pod_ip: self.pod_ip(),
            host_ip: self.shared.options.node_ip.to_string(),
            start_time: Some(self.first_seen),
            sandbox: self.sandbox.is_some(),
            failed: self.failed.clone(),
            resize: self.resize.clone(),
            ended: self.ending.is_some() && !running,
        };
        let status = pod_status(&self.pod, &self.containers, &facts, Timestamp::now());
        let mut pod = Pod::clone(&self.pod);
        pod.status = Some(self.merged(&status));
        self.pod = Arc::new(pod);
        self.snapshots.send_replace(Snapshot {
            pod: Some(self.pod.clone()),
            containers: Arc::new(self.containers.clone()),
            sandbox: self.sandbox.clone(),
        });
        let report = Report { status: Some(status), removed: self.removed };
        self.reports.send_if_modified(|current| {
            let changed = *current != report;
            if changed {
                *current = report;
            }
            changed
        });
    }

    /// The new status with the conditions that others own.
    fn merged(
        &self,
        status: &k8s_openapi::api::core::v1::PodStatus,
    ) -> k8s_openapi::api::core::v1::PodStatus {
        let mut merged = status.clone();
        let mut own: Vec<_> = merged.conditions.iter().flatten().map(|c| c.type_.clone()).collect();
        own.extend(PASSING.map(str::to_owned));
        let old = self.pod.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
        let others = old.into_iter().filter(|c| !own.contains(&c.type_));
        merged.conditions.get_or_insert_default().extend(others);
        merged
    }
}
