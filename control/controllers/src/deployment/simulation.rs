//! Rollouts against a model of the API server and of the replica sets' pods, with random events: the plan must keep
//! within surge and unavailable at every step, come to an end, and then rest.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, ReplicaSet, ReplicaSetStatus, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Snapshot, conditions, numbers, plan, revision, settle};
use crate::cache::Pod;
use crate::owner::controller_of;
use crate::plan::{Plan, Verb};
use crate::resource::{DEPLOYMENT, REPLICA_SET};
use crate::testing::{self, PodBuilder, apply_merge};

/// A model of one deployment, its replica sets and how many of their pods there are.
#[derive(Clone)]
pub(super) struct World {
    pub(super) deployment: Deployment,
    pub(super) sets: Vec<ReplicaSet>,
    pub(super) now: Timestamp,
    revision: u64,
    pub(super) events: Vec<String>,
}

pub(super) fn template(image: &str) -> PodTemplateSpec {
    let container = Container { name: "c".into(), image: Some(image.into()), ..Container::default() };
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(testing::labels(&[("app", "web")])),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec { containers: vec![container], ..PodSpec::default() }),
    }
}

impl World {
    pub(super) fn new(replicas: i32, surge: IntOrString, unavailable: IntOrString) -> Self {
        let rolling = RollingUpdateDeployment { max_surge: Some(surge), max_unavailable: Some(unavailable) };
        let spec = DeploymentSpec {
            replicas: Some(replicas),
            selector: LabelSelector {
                match_labels: Some(testing::labels(&[("app", "web")])),
                ..LabelSelector::default()
            },
            template: template("v1"),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(rolling),
            }),
            progress_deadline_seconds: Some(600),
            revision_history_limit: Some(2),
            ..DeploymentSpec::default()
        };
        let deployment =
            Deployment { metadata: testing::meta("web"), spec: Some(spec), ..Deployment::default() };
        Self { deployment, sets: Vec::new(), now: testing::now(), revision: 1, events: Vec::new() }
    }

    pub(super) fn change(&mut self, change: impl FnOnce(&mut DeploymentSpec)) {
        change(self.deployment.spec.as_mut().unwrap());
        *self.deployment.metadata.generation.as_mut().unwrap() += 1;
    }

    pub(super) fn set_image(&mut self, image: &str) {
        self.change(|spec| spec.template = template(image));
    }

    fn snapshot(&self) -> Snapshot {
        let pods = self.sets.iter().flat_map(|set| {
            let uid = set.metadata.uid.clone().unwrap();
            let count = set.status.as_ref().map_or(0, |s| s.replicas);
            (0..count).map(move |_| Arc::new(PodBuilder::new("p").running().owned_by(&uid).0) as Arc<Pod>)
        });
        Snapshot {
            deployment: Arc::new(self.deployment.clone()),
            sets: self.sets.iter().cloned().map(Arc::new).collect(),
            pods: if numbers::recreates(&self.deployment) { pods.collect() } else { Vec::new() },
        }
    }

    /// One round of the controller. Returns the actions that were not the status.
    pub(super) fn round(&mut self) -> Plan {
        self.now += SignedDuration::from_secs(1);
        let snapshot = self.snapshot();
        let plan = plan(&snapshot, self.now);
        let settling = settle(&snapshot, None, self.now);
        self.apply(&plan);
        self.apply(&settling);
        plan
    }

    fn apply(&mut self, plan: &Plan) {
        for action in plan.actions() {
            self.revision += 1;
            if let Some(note) = &action.on_success {
                self.events.push(note.message.clone());
            }
            match &action.verb {
                Verb::Create { body } => self.create(body),
                Verb::Patch { body, .. } if action.resource == DEPLOYMENT => {
                    self.deployment = patched(&self.deployment, body, self.revision);
                }
                Verb::Patch { body, .. } => {
                    assert_eq!(action.resource, REPLICA_SET);
                    let set = self.named(&action.key.name);
                    let current = &self.sets[set];
                    assert_eq!(body["metadata"]["resourceVersion"], json!(current.metadata.resource_version));
                    let mut new = patched(current, body, self.revision);
                    if body.get("spec").is_some() {
                        *new.metadata.generation.as_mut().unwrap() += 1;
                    }
                    self.sets[set] = new;
                }
                Verb::Delete { uid, .. } => {
                    let set = self.named(&action.key.name);
                    assert_eq!(*uid, self.sets[set].metadata.uid);
                    self.sets.remove(set);
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    fn create(&mut self, body: &Value) {
        let mut set: ReplicaSet = serde_json::from_value(body.clone()).unwrap();
        assert!(self.sets.iter().all(|s| s.metadata.name != set.metadata.name), "name taken");
        assert_eq!(controller_of(&set.metadata).map(|o| o.name.as_str()), Some("web"));
        set.metadata.uid = Some(format!("uid-{}", self.revision));
        set.metadata.resource_version = Some(self.revision.to_string());
        set.metadata.generation = Some(1);
        set.metadata.creation_timestamp = Some(Time(self.now));
        self.sets.push(set);
    }

    fn named(&self, name: &str) -> usize {
        self.sets.iter().position(|s| s.metadata.name.as_deref() == Some(name)).unwrap()
    }

    /// The replica set controller and the nodes go on: set number `index` gets its pods, `ready` of them available.
    pub(super) fn run_pods(&mut self, index: usize, ready: i32) {
        self.revision += 1;
        let revision = self.revision.to_string();
        if self.sets.is_empty() {
            return;
        }
        let index = index % self.sets.len();
        let set = &mut self.sets[index];
        let replicas = set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
        let ready = ready.clamp(0, replicas);
        set.status = Some(ReplicaSetStatus {
            replicas,
            ready_replicas: Some(ready),
            available_replicas: Some(ready),
            observed_generation: set.metadata.generation,
            ..ReplicaSetStatus::default()
        });
        set.metadata.resource_version = Some(revision);
    }

    pub(super) fn all_pods_ready(&mut self) {
        for index in 0..self.sets.len() {
            self.run_pods(index, i32::MAX);
        }
    }

    /// Rounds with healthy pods until nothing is written any more; panics if that never comes.
    pub(super) fn settle_down(&mut self) {
        for _ in 0..200 {
            let before = self.revision;
            let plan = self.round();
            self.all_pods_ready_if_changed();
            if plan.steps.is_empty() && self.revision == before {
                return;
            }
        }
        panic!("does not come to rest: {:#?}", self.sizes());
    }

    fn all_pods_ready_if_changed(&mut self) {
        for index in 0..self.sets.len() {
            let set = &self.sets[index];
            let wanted = set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
            let have = set
                .status
                .as_ref()
                .map_or((-1, None), |s| (s.available_replicas.unwrap_or(0), s.observed_generation));
            if have != (wanted, set.metadata.generation) {
                self.run_pods(index, i32::MAX);
            }
        }
    }

    /// Wanted and available pods of every set, the oldest first.
    pub(super) fn sizes(&self) -> Vec<(i32, i32)> {
        let size = |set: &ReplicaSet| set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
        let available =
            |set: &ReplicaSet| set.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0);
        self.sets.iter().map(|set| (size(set), available(set))).collect()
    }

    fn total(&self) -> i32 {
        self.sizes().iter().map(|(size, _)| size).sum()
    }

    /// Available pods that stay if every set goes to its wanted size, unavailable pods first.
    fn serving(&self) -> i32 {
        self.sizes().iter().map(|(size, available)| size.min(available)).sum()
    }

    pub(super) fn reason(&self) -> Option<String> {
        let status = self.deployment.status.as_ref()?;
        conditions::get(status, conditions::PROGRESSING)?.reason.clone()
    }

    pub(super) fn revisions(&self) -> Vec<i64> {
        self.sets.iter().map(|s| revision::of(s.metadata.annotations.as_ref())).collect()
    }
}

fn patched<T: serde::Serialize + serde::de::DeserializeOwned>(object: &T, body: &Value, revision: u64) -> T {
    let mut value = json!(object);
    apply_merge(&mut value, body);
    value["metadata"]["resourceVersion"] = revision.to_string().into();
    serde_json::from_value(value).unwrap()
}

#[derive(Clone, Debug)]
enum Happening {
    Round,
    Pods(usize, i32),
    Image(u8),
    Scale(i32),
    Pause(bool),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => Just(Happening::Round),
        6 => (0..5_usize, 0..12_i32).prop_map(|(set, ready)| Happening::Pods(set, ready)),
        1 => (1..5_u8).prop_map(Happening::Image),
        1 => (0..12_i32).prop_map(Happening::Scale),
        1 => any::<bool>().prop_map(Happening::Pause),
    ]
}

fn amount() -> impl Strategy<Value = IntOrString> {
    prop_oneof![
        (0..4_i32).prop_map(IntOrString::Int),
        (0..=100_i32).prop_map(|percent| IntOrString::String(format!("{percent}%"))),
    ]
}

/// One round, held against the limits of a rolling update.
fn checked_round(world: &mut World) -> Result<(), TestCaseError> {
    let (total, serving) = (world.total(), world.serving());
    let wanted = numbers::replicas(&world.deployment);
    let (surge, _) = numbers::fenceposts(&world.deployment);
    let needed = wanted - numbers::max_unavailable(&world.deployment);
    let was_scaling = world.sets.iter().any(|set| {
        let size = set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
        let of = revision::number(set.metadata.annotations.as_ref(), revision::DESIRED);
        size > 0 && of != Some(wanted)
    });
    world.round();
    prop_assert!(
        world.total() <= total.max(wanted + surge),
        "{} pods wanted in all, {} allowed",
        world.total(),
        wanted + surge
    );
    if !was_scaling && !numbers::paused(&world.deployment) {
        prop_assert!(
            world.serving() >= serving.min(needed),
            "{} available pods left of {serving}, {needed} needed",
            world.serving()
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_rolling_update_keeps_its_limits_and_comes_to_an_end(
        replicas in 0..12_i32,
        surge in amount(),
        unavailable in amount(),
        happenings in prop::collection::vec(happening(), 0..60),
    ) {
        let mut world = World::new(replicas, surge, unavailable);
        for happening in happenings {
            match happening {
                Happening::Round => checked_round(&mut world)?,
                Happening::Pods(set, ready) => world.run_pods(set, ready),
                Happening::Image(n) => world.set_image(&format!("v{n}")),
                Happening::Scale(to) => world.change(|spec| spec.replicas = Some(to)),
                Happening::Pause(paused) => world.change(|spec| spec.paused = Some(paused)),
            }
        }
        world.change(|spec| spec.paused = Some(false));
        world.settle_down();
        let wanted = numbers::replicas(&world.deployment);
        let status = world.deployment.status.clone().unwrap_or_default();
        prop_assert_eq!(status.updated_replicas.unwrap_or(0), wanted);
        prop_assert_eq!(status.replicas.unwrap_or(0), wanted);
        prop_assert_eq!(status.available_replicas.unwrap_or(0), wanted);
        prop_assert_eq!(status.observed_generation, world.deployment.metadata.generation);
        prop_assert_eq!(world.reason(), Some(conditions::COMPLETE.to_owned()));
        prop_assert!(world.sets.len() <= 3, "history kept: {:?}", world.sizes());
        prop_assert_eq!(world.sets.iter().filter(|s| s.spec.as_ref().unwrap().replicas != Some(0)).count(), usize::from(wanted > 0));
    }
}
