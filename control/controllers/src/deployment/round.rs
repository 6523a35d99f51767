//! One round of planning: the replica sets as the plan would have them, and the writes that make them so.
//!
//! The steps of a rollout change sizes and annotations here; each set that ends up different is written once.

use std::sync::Arc;

use carrack_client::{Key, Note, NoteKind};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::{Snapshot, conditions, hash, numbers, revision};
use crate::diff;
use crate::owner::{self, Claim};
use crate::plan::{Action, Plan};
use crate::resource::{DEPLOYMENT, REPLICA_SET};
use crate::select;

/// A replica set as it is and as the plan would have it.
pub(super) struct Set {
    /// As it is; for one that is to be created, as it will be.
    pub(super) object: Arc<ReplicaSet>,
    /// Wanted replicas.
    pub(super) replicas: i32,
    /// Wanted annotations.
    annotations: Option<revision::Annotations>,
    /// Wanted minReadySeconds.
    min_ready: Option<i32>,
    /// Whether it is to be created.
    fresh: bool,
    /// Whether it is to be deleted.
    pub(super) dropped: bool,
}

/// Which of [`Round::sets`].
pub(super) type Index = usize;

/// The state of planning.
pub(super) struct Round<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) snapshot: &'a Snapshot,
    pub(super) now: Timestamp,
    /// Its replica sets, the oldest first.
    pub(super) sets: Vec<Set>,
    /// The set of the current template, if there is one.
    pub(super) new: Option<Index>,
    /// The status to write, its conditions and collision count changed on the way.
    pub(super) status: DeploymentStatus,
    /// The revision annotation that the deployment has to have.
    revision: Option<i64>,
    pub(super) plan: Plan,
}

impl Set {
    fn of(object: &Arc<ReplicaSet>) -> Self {
        Self {
            replicas: object.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1),
            annotations: object.metadata.annotations.clone(),
            min_ready: object.spec.as_ref().and_then(|s| s.min_ready_seconds),
            object: Arc::clone(object),
            fresh: false,
            dropped: false,
        }
    }

    /// The size it has now, apart from what is planned.
    fn size(&self) -> i32 {
        if self.fresh { 0 } else { self.object.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1) }
    }

    pub(super) fn name(&self) -> &str {
        self.object.metadata.name.as_deref().unwrap_or_default()
    }

    /// Pods that it reports available, less those that it was told to delete and still reports.
    pub(super) fn available(&self) -> i32 {
        let reported = self.object.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0);
        reported.min(self.size())
    }

    /// Pods that it reports.
    pub(super) fn actual(&self) -> i32 {
        self.object.status.as_ref().map_or(0, |s| s.replicas)
    }

    /// A number that an annotation of the wanted state holds.
    pub(super) fn annotated(&self, name: &str) -> Option<i32> {
        revision::number(self.annotations.as_ref(), name)
    }

    pub(super) fn revision(&self) -> i64 {
        revision::of(self.annotations.as_ref())
    }
}

impl<'a> Round<'a> {
    /// Sorts out which sets belong to the deployment; adopts and releases.
    pub(super) fn begin(snapshot: &'a Snapshot, now: Timestamp) -> Self {
        let deployment = &*snapshot.deployment;
        let mut round = Self {
            deployment,
            snapshot,
            now,
            sets: Vec::new(),
            new: None,
            status: deployment.status.clone().unwrap_or_default(),
            revision: None,
            plan: Plan::none(),
        };
        round.claim_sets();
        round.sets.sort_by(|a, b| revision::older_first(&a.object, &b.object));
        let current = revision::current(deployment, round.sets.iter().map(|s| &*s.object));
        let uid = current.and_then(|set| set.metadata.uid.clone());
        round.new = round.sets.iter().position(|s| uid.is_some() && s.object.metadata.uid == uid);
        round
    }

    fn claim_sets(&mut self) {
        let Some(spec) = &self.deployment.spec else { return };
        let owner_meta = &self.deployment.metadata;
        let (mut adopt, mut release) = (Vec::new(), Vec::new());
        for set in &self.snapshot.sets {
            let matches = select::matches(&spec.selector, set.metadata.labels.as_ref());
            match owner::claim(owner_meta, &set.metadata, matches) {
                Claim::Ours => self.sets.push(Set::of(set)),
                Claim::Adopt => {
                    let reference = owner::controller_ref(&DEPLOYMENT, owner_meta);
                    adopt.push(owner::adopt(reference, REPLICA_SET, &set.metadata));
                    self.sets.push(Set::of(set));
                }
                Claim::Release => {
                    let uid = owner_meta.uid.as_deref().unwrap_or_default();
                    release.push(owner::release(uid, REPLICA_SET, &set.metadata));
                }
                Claim::Other => {}
            }
        }
        if !adopt.is_empty() {
            self.plan.push(owner::confirm(DEPLOYMENT, owner_meta));
            self.plan.push_all(adopt);
        }
        self.plan.push_all(release);
    }

    /// The sets of other templates, the oldest first.
    pub(super) fn old(&self) -> Vec<Index> {
        (0..self.sets.len()).filter(|i| Some(*i) != self.new).collect()
    }

    /// Sets that want at least one pod, the oldest first.
    pub(super) fn active(&self) -> Vec<Index> {
        (0..self.sets.len()).filter(|i| self.sets[*i].replicas > 0).collect()
    }

    /// The pods that all sets want.
    pub(super) fn total(&self) -> i32 {
        self.sets.iter().map(|s| s.replicas).sum()
    }

    /// Gives the current set its revision and the deployment's annotations.
    pub(super) fn number_current(&mut self) {
        let Some(index) = self.new else { return };
        let newest = self.newest_revision();
        let set = &mut self.sets[index];
        let annotations = revision::annotations(self.deployment, set.annotations.as_ref(), newest);
        if set.annotations.as_ref().is_some_and(|a| *a != annotations) || set.annotations.is_none() {
            set.annotations = Some(annotations);
        }
        set.min_ready = self.deployment.spec.as_ref().and_then(|s| s.min_ready_seconds);
        self.revision = Some(set.revision());
        if numbers::deadline(self.deployment).is_some() {
            let message = format!("Found new replica set \"{}\"", self.sets[index].name());
            conditions::found_new(&mut self.status, message, self.now);
        }
    }

    /// The revision that the current template gets: one more than the newest of the old sets.
    fn newest_revision(&self) -> i64 {
        self.old().into_iter().map(|i| self.sets[i].revision()).max().unwrap_or(0) + 1
    }

    /// Adds the set of the current template. `Err` when its name belongs to another template: then the collision
    /// count has grown and the next round finds another name.
    pub(super) fn create_current(&mut self) -> Result<(), ()> {
        let set = self.fresh_set();
        let name = set.name().to_owned();
        let taken = self.snapshot.sets.iter().any(|s| s.metadata.name.as_deref() == Some(&name));
        if taken {
            let count = self.status.collision_count.unwrap_or(0) + 1;
            self.status.collision_count = Some(count);
            self.plan.note(format!("the name {name} is taken by another template, collision {count}"));
            return Err(());
        }
        self.revision = Some(set.revision());
        self.sets.push(set);
        self.new = Some(self.sets.len() - 1);
        Ok(())
    }

    fn fresh_set(&self) -> Set {
        let deployment = self.deployment;
        let spec = deployment.spec.clone().unwrap_or_default();
        let mut template = spec.template;
        let hash = hash::of(&template, self.status.collision_count);
        let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(hash::LABEL.into(), hash.clone());
        let labels = labels.clone();
        let mut selector = spec.selector;
        selector.match_labels.get_or_insert_default().insert(hash::LABEL.into(), hash.clone());
        let annotations = revision::annotations(deployment, None, self.newest_revision());
        let name = deployment.metadata.name.as_deref().unwrap_or_default();
        let object = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(format!("{name}-{hash}")),
                namespace: deployment.metadata.namespace.clone(),
                labels: Some(labels),
                owner_references: Some(vec![owner::controller_ref(&DEPLOYMENT, &deployment.metadata)]),
                ..ObjectMeta::default()
            },
            spec: Some(ReplicaSetSpec {
                replicas: Some(0),
                min_ready_seconds: spec.min_ready_seconds,
                selector,
                template: Some(template),
            }),
            status: None,
        };
        let mut set = Set::of(&Arc::new(object));
        set.annotations = Some(annotations);
        set.fresh = true;
        set
    }

    /// Sets the size of a set and the annotations that remember what it was a share of.
    pub(super) fn resize(&mut self, index: Index, replicas: i32) {
        let wanted = numbers::replicas(self.deployment);
        let most = wanted + numbers::max_surge(self.deployment);
        let set = &mut self.sets[index];
        set.replicas = replicas;
        let annotations = set.annotations.get_or_insert_default();
        annotations.insert(revision::DESIRED.into(), wanted.to_string());
        annotations.insert(revision::MAX.into(), most.to_string());
    }

    /// Whether the plan changes the size of a set.
    pub(super) fn changed(&self) -> bool {
        self.sets.iter().any(|s| s.fresh || s.size() != s.replicas)
    }

    /// Turns what was decided into writes: sets, then the deployment's revision, then its status.
    pub(super) fn finish(mut self) -> Plan {
        let mut actions: Vec<Action> = Vec::new();
        for set in &self.sets {
            if set.fresh {
                actions.push(self.creation(set));
            } else if set.dropped {
                let uid = set.object.metadata.uid.clone();
                actions.push(Action::delete(REPLICA_SET, Key::of(&set.object.metadata), uid));
            } else {
                actions.extend(self.change(set));
            }
        }
        self.plan.push_all(actions);
        self.write_revision();
        self.plan
    }

    fn write_revision(&mut self) {
        let meta = &self.deployment.metadata;
        let Some(revision) = self.revision.filter(|r| *r != revision::of(meta.annotations.as_ref())) else {
            return;
        };
        let annotations = json!({ revision::REVISION: revision.to_string() });
        // Only the uid is compared: the annotation is this controller's alone, and the status may be written at the
        // same time.
        let body = json!({ "metadata": { "uid": meta.uid, "annotations": annotations } });
        // Through the status: a changed annotation would count as a new generation of the deployment.
        self.plan.push(Action::merge(DEPLOYMENT, Key::of(meta), "status", body).missing_ok());
    }

    fn creation(&self, set: &Set) -> Action {
        let mut object = (*set.object).clone();
        object.metadata.annotations.clone_from(&set.annotations);
        if let Some(spec) = &mut object.spec {
            spec.replicas = Some(set.replicas);
        }
        // A replica set is plain data and always serializes.
        let body = json!(object);
        let namespace = self.deployment.metadata.namespace.as_deref().unwrap_or_default();
        let action = Action::create(REPLICA_SET, namespace, body);
        let failed = "Failed to create new replica set: {}";
        let action = action.tells_failure(self.note(NoteKind::Warning, "ReplicaSetCreateError", failed));
        match self.scaled(set) {
            Some(note) => action.tells(note),
            None => action,
        }
    }

    fn change(&self, set: &Set) -> Option<Action> {
        let current = &set.object;
        let mut wanted = (**current).clone();
        wanted.metadata.annotations.clone_from(&set.annotations);
        if let Some(spec) = &mut wanted.spec {
            spec.replicas = Some(set.replicas);
            // Absent and 0 are the same.
            if spec.min_ready_seconds.unwrap_or(0) != set.min_ready.unwrap_or(0) {
                spec.min_ready_seconds = Some(set.min_ready.unwrap_or(0));
            }
        }
        let patch = diff::guarded(&current.metadata, &**current, &wanted)?;
        let action = Action::merge(REPLICA_SET, Key::of(&current.metadata), "", patch);
        Some(match self.scaled(set) {
            Some(note) => action.tells(note),
            None => action,
        })
    }

    /// The Event that tells of a changed size.
    fn scaled(&self, set: &Set) -> Option<Note> {
        let (from, to) = (set.size(), set.replicas);
        let direction = match to.cmp(&from) {
            std::cmp::Ordering::Greater => "up",
            std::cmp::Ordering::Less => "down",
            std::cmp::Ordering::Equal => return None,
        };
        let message = format!("Scaled {direction} replica set {} from {from} to {to}", set.name());
        Some(self.note(NoteKind::Normal, "ScalingReplicaSet", &message))
    }

    pub(super) fn note(&self, kind: NoteKind, reason: &'static str, message: &str) -> Note {
        Note::new(self.deployment, kind, reason, message)
    }
}
