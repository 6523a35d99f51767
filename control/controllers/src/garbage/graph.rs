//! Who owns whom, from the metadata of all objects.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use carrack_client::Key;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::plan::{leaves_dependents, waits_for_dependents};
use super::{MetaNews, MetaSink};
use crate::discovery::Kind;
use crate::queue::Queue;
use crate::resource::Resource;

/// An object that names another as its owner.
#[derive(Clone, Debug, PartialEq)]
pub struct Dependent {
    /// Its kind.
    pub resource: Resource,
    /// Its name.
    pub key: Key,
    /// Its uid.
    pub uid: String,
    /// Its revision when last seen.
    pub revision: Option<String>,
    /// All its owners.
    pub owners: Vec<OwnerReference>,
    /// Whether the owner must wait for it.
    pub blocks: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether it is being deleted and waits for dependents of its own.
    pub waits: bool,
}

struct Object {
    resource: Arc<Resource>,
    key: Key,
    revision: Option<String>,
    owners: Vec<OwnerReference>,
    deleting: bool,
    waits: bool,
    leaves: bool,
}

#[derive(Default)]
struct State {
    objects: HashMap<String, Object>,
    /// Dependents by the uid of their owner, whether that is known or not.
    dependents: HashMap<String, HashSet<String>>,
    resources: HashSet<Arc<Resource>>,
    kinds: Vec<Kind>,
    /// Kinds that are to be watched and have not been listed yet; `None` before the kinds are known.
    unlisted: Option<HashSet<Resource>>,
    /// Kinds that were listed, also before it was known that they matter.
    listed: HashSet<Resource>,
}

/// The graph. News go in by [`MetaSink`], uids to examine come out into the queue.
pub struct Graph {
    state: Mutex<State>,
    queue: Arc<Queue>,
    complete: watch::Sender<bool>,
    /// Told when the kinds should be looked up again.
    pub(super) kinds_wanted: Notify,
}

impl Graph {
    /// An empty graph that puts uids to examine into `queue`.
    #[must_use]
    pub fn new(queue: Arc<Queue>) -> Self {
        Self {
            state: Mutex::default(),
            queue,
            complete: watch::Sender::new(false),
            kinds_wanted: Notify::new(),
        }
    }

    /// Waits until every kind has been listed.
    pub async fn wait_complete(&self) {
        // The sender lives in `self`, so that waiting cannot fail.
        let _ = self.complete.subscribe().wait_for(|complete| *complete).await;
    }

    /// Whether every kind has been listed.
    #[must_use]
    pub fn complete(&self) -> bool {
        *self.complete.borrow()
    }

    /// Says which kinds there are, and which of them are watched.
    pub(super) fn set_kinds(&self, kinds: Vec<Kind>, watched: HashSet<Resource>) {
        let mut state = self.state.lock();
        state.kinds = kinds;
        let unlisted = watched.difference(&state.listed).cloned().collect();
        state.unlisted = Some(unlisted);
        self.tell_complete(&state);
    }

    fn tell_complete(&self, state: &State) {
        let complete = state.unlisted.as_ref().is_some_and(HashSet::is_empty);
        self.complete.send_if_modified(|before| std::mem::replace(before, complete) != complete);
    }

    /// The resource of a kind in an owner reference. Any version of the group will do: a uid is the same in all.
    pub(super) fn kind(&self, api_version: &str, kind: &str) -> Option<Resource> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let state = self.state.lock();
        let found = state.kinds.iter().find(|k| k.resource.group == group && k.resource.kind == kind);
        found.map(|k| k.resource.clone())
    }

    /// Asks for the kinds to be looked up again.
    pub(super) fn ask_for_kinds(&self) {
        self.kinds_wanted.notify_one();
    }

    /// Kind and name of the object with this uid.
    #[must_use]
    pub fn identity(&self, uid: &str) -> Option<(Resource, Key)> {
        let state = self.state.lock();
        state.objects.get(uid).map(|o| ((*o.resource).clone(), o.key.clone()))
    }

    /// Whether the object with this uid waits for its dependents; `None` when it is not known.
    pub(super) fn waits_for_dependents(&self, uid: &str) -> Option<bool> {
        self.state.lock().objects.get(uid).map(|o| o.waits)
    }

    /// The objects that name `uid` as an owner.
    #[must_use]
    pub fn dependents(&self, uid: &str) -> Vec<Dependent> {
        let state = self.state.lock();
        let uids = state.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|dependent| state.objects.get(dependent).map(|o| o.as_dependent(dependent, uid)))
            .collect()
    }

    /// Forgets an object and returns the uids that its end concerns.
    #[must_use]
    pub fn gone(&self, uid: &str) -> Vec<String> {
        self.state.lock().gone(uid)
    }

    /// Takes over that `seen` are all the objects of `resource`.
    pub(super) fn relisted(&self, resource: &Resource, seen: &HashSet<String>) {
        let concerned: Vec<String> = {
            let mut state = self.state.lock();
            let of_kind =
                state.objects.iter().filter(|(uid, o)| *o.resource == *resource && !seen.contains(*uid));
            let lost: Vec<String> = of_kind.map(|(uid, _)| uid.clone()).collect();
            lost.iter().flat_map(|uid| state.gone(uid)).collect()
        };
        self.examine(concerned);
    }

    /// Forgets all objects of a kind that is no longer served.
    pub(super) fn forget_kind(&self, resource: &Resource) {
        self.state.lock().listed.remove(resource);
        self.relisted(resource, &HashSet::new());
    }

    fn examine(&self, uids: Vec<String>) {
        for uid in uids {
            self.queue.add(Key::cluster(uid));
        }
    }
}

impl MetaSink for Graph {
    fn news(&self, resource: &Resource, news: MetaNews<'_>) {
        let concerned = match news {
            MetaNews::Seen(meta) => self.state.lock().seen(resource, meta),
            MetaNews::Gone(meta) => self.gone(meta.uid.as_deref().unwrap_or_default()),
        };
        self.examine(concerned);
    }

    fn synced(&self, resource: &Resource) {
        let mut state = self.state.lock();
        state.listed.insert(resource.clone());
        if let Some(unlisted) = &mut state.unlisted {
            unlisted.remove(resource);
        }
        self.tell_complete(&state);
    }
}

impl Object {
    fn as_dependent(&self, uid: &str, owner: &str) -> Dependent {
        let blocks = self.owners.iter().any(|o| o.uid == owner && o.block_owner_deletion == Some(true));
        Dependent {
            resource: (*self.resource).clone(),
            key: self.key.clone(),
            uid: uid.to_owned(),
            revision: self.revision.clone(),
            owners: self.owners.clone(),
            blocks,
            deleting: self.deleting,
            waits: self.waits,
        }
    }
}

impl State {
    fn seen(&mut self, resource: &Resource, meta: &ObjectMeta) -> Vec<String> {
        let Some(uid) = &meta.uid else { return Vec::new() };
        let object = Object {
            resource: self.shared(resource),
            key: Key::of(meta),
            revision: meta.resource_version.clone(),
            owners: meta.owner_references.clone().unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            waits: waits_for_dependents(meta),
            leaves: leaves_dependents(meta),
        };
        let mut concerned = Vec::new();
        let before = self.objects.get(uid);
        let new_owners = before.is_none_or(|b| b.owners != object.owners);
        let starts_waiting = object.waits && !before.is_some_and(|b| b.waits);
        let starts_leaving = object.leaves && !before.is_some_and(|b| b.leaves);
        if new_owners {
            let old: Vec<String> =
                before.into_iter().flat_map(|b| &b.owners).map(|o| o.uid.clone()).collect();
            for owner in &old {
                self.unlink(owner, uid);
                // An owner that waits for this object may wait no longer.
                if self.objects.get(owner).is_some_and(|o| o.waits) {
                    concerned.push(owner.clone());
                }
            }
            for owner in &object.owners {
                self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
                let known = self.objects.get(&owner.uid);
                // The owner is gone, not yet seen, or on its way out: look closer.
                if known.is_none_or(|o| o.waits) && !object.deleting {
                    concerned.push(uid.clone());
                }
            }
        }
        if starts_waiting || starts_leaving {
            concerned.push(uid.clone());
        }
        if starts_waiting {
            concerned.extend(self.dependents.get(uid).into_iter().flatten().cloned());
        }
        self.objects.insert(uid.clone(), object);
        concerned
    }

    fn gone(&mut self, uid: &str) -> Vec<String> {
        let Some(object) = self.objects.remove(uid) else { return Vec::new() };
        let mut concerned: Vec<String> = self.dependents.get(uid).into_iter().flatten().cloned().collect();
        for owner in &object.owners {
            self.unlink(&owner.uid, uid);
            if self.objects.get(&owner.uid).is_some_and(|o| o.waits) {
                concerned.push(owner.uid.clone());
            }
        }
        concerned
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    fn shared(&mut self, resource: &Resource) -> Arc<Resource> {
        if let Some(known) = self.resources.get(resource) {
            return Arc::clone(known);
        }
        let new = Arc::new(resource.clone());
        self.resources.insert(Arc::clone(&new));
        new
    }
}
