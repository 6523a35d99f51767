//! Garbage collection: objects whose owners are gone go too; owners that wait for their dependents (foreground) go
//! last; dependents of an owner that leaves them behind (orphan) lose their reference.
//!
//! A graph of all objects is kept from the metadata of every kind. What it suggests is checked against the API
//! before anything is deleted, and every deletion carries the uid and revision that were checked.

mod graph;
mod monitor;
mod plan;

#[cfg(test)]
mod tests;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use carrack_client::Key;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Client;
use kube::api::Api;
use kube::core::{DynamicObject, PartialObjectMeta};
use parking_lot::Mutex;

use crate::driver::{Controller, LookError};
use crate::namespace::describe;
use crate::plan::Plan;
use crate::queue::Queue;
use crate::resource::Resource;

pub use graph::{Dependent, Graph};
pub use monitor::Monitors;
pub use plan::plan;

/// Owners known to be gone that are remembered, so that a thousand dependents ask once.
const ABSENT: usize = 1024;

/// News of an object's metadata.
pub enum MetaNews<'a> {
    /// It is there, in this state.
    Seen(&'a ObjectMeta),
    /// It is gone.
    Gone(&'a ObjectMeta),
}

/// Who wants to hear of the metadata of all objects. Must not block.
pub trait MetaSink: Send + Sync {
    /// An object of `resource` came, changed or went.
    fn news(&self, resource: &Resource, news: MetaNews<'_>);
    /// Every object of `resource` has been told.
    fn synced(&self, resource: &Resource);
}

/// How an owner named by an object stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerState {
    /// It is there.
    Solid,
    /// It is gone.
    Absent,
    /// It is being deleted and waits for this object to go.
    Waiting,
}

/// What the plan for one object is made from.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Its kind.
    pub resource: Resource,
    /// Its metadata as the API has it.
    pub meta: ObjectMeta,
    /// Its owners.
    pub owners: Vec<(OwnerReference, OwnerState)>,
    /// The objects that name it as an owner.
    pub dependents: Vec<Dependent>,
}

/// The controller; its keys are uids.
pub struct Garbage {
    graph: Arc<Graph>,
    queue: Arc<Queue>,
    client: Client,
    absent: Mutex<AbsentOwners>,
}

#[derive(Default)]
struct AbsentOwners {
    known: HashSet<String>,
    order: VecDeque<String>,
}

impl AbsentOwners {
    fn insert(&mut self, uid: &str) {
        if self.known.insert(uid.to_owned()) {
            self.order.push_back(uid.to_owned());
        }
        if self.order.len() > ABSENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

impl Garbage {
    /// A collector that follows `graph`, whose news go to `queue`.
    #[must_use]
    pub fn new(graph: Arc<Graph>, queue: Arc<Queue>, client: Client) -> Self {
        Self { graph, queue, client, absent: Mutex::default() }
    }

    /// The object's metadata as the API has it now; `None` when the name is free or another object's.
    async fn live(&self, resource: &Resource, key: &Key, uid: &str) -> Result<Option<ObjectMeta>, LookError> {
        let described = describe(resource);
        let client = self.client.clone();
        let api: Api<PartialObjectMeta<DynamicObject>> = if resource.namespaced {
            Api::namespaced_with(client, &key.namespace, &described)
        } else {
            Api::all_with(client, &described)
        };
        match api.get_metadata_opt(&key.name).await {
            Ok(found) => Ok(found.map(|o| o.metadata).filter(|m| m.uid.as_deref() == Some(uid))),
            Err(source) => {
                let what = format!("{} {key}", resource.full_name());
                Err(LookError::Read { what, source: Box::new(source) })
            }
        }
    }

    async fn owner_state(&self, meta: &ObjectMeta, owner: &OwnerReference) -> Result<OwnerState, LookError> {
        if let Some(waits) = self.graph.waits_for_dependents(&owner.uid) {
            let blocks = owner.block_owner_deletion == Some(true);
            return Ok(if waits && blocks { OwnerState::Waiting } else { OwnerState::Solid });
        }
        if self.absent.lock().known.contains(&owner.uid) {
            return Ok(OwnerState::Absent);
        }
        let Some(resource) = self.graph.kind(&owner.api_version, &owner.kind) else {
            self.graph.ask_for_kinds();
            return Err(LookError::NotYet("an owner is of a kind that the API does not serve"));
        };
        let namespace = meta.namespace.clone().unwrap_or_default();
        if resource.namespaced && namespace.is_empty() {
            return Err(LookError::NotYet("a cluster-scoped object cannot be owned by one in a namespace"));
        }
        let namespace = if resource.namespaced { namespace } else { String::new() };
        match self.live(&resource, &Key::new(namespace, owner.name.clone()), &owner.uid).await? {
            Some(_) => Ok(OwnerState::Solid),
            None => {
                self.absent.lock().insert(&owner.uid);
                Ok(OwnerState::Absent)
            }
        }
    }
}

impl Controller for Garbage {
    type Snapshot = Snapshot;
    const NAME: &'static str = "garbage-collector";
    const WORKERS: usize = 20;

    async fn snapshot(&self, key: &Key) -> Result<Option<Snapshot>, LookError> {
        let uid = &key.name;
        let Some((resource, name)) = self.graph.identity(uid) else { return Ok(None) };
        let Some(meta) = self.live(&resource, &name, uid).await? else {
            // The watch will say so too; its dependents need not wait for that.
            self.graph.gone(uid).into_iter().for_each(|uid| self.queue.add(Key::cluster(uid)));
            return Ok(None);
        };
        let mut owners = Vec::new();
        for owner in meta.owner_references.iter().flatten() {
            owners.push((owner.clone(), self.owner_state(&meta, owner).await?));
        }
        let dependents = self.graph.dependents(uid);
        if plan::waits_for_dependents(&meta) {
            if !self.graph.complete() {
                return Err(LookError::NotYet("not every kind has been listed yet"));
            }
            let staying = dependents.iter().filter(|d| !d.deleting);
            staying.for_each(|d| self.queue.add(Key::cluster(d.uid.clone())));
        }
        Ok(Some(Snapshot { resource, meta, owners, dependents }))
    }

    fn plan(&self, snapshot: &Snapshot, _now: Timestamp) -> Plan {
        plan(snapshot)
    }
}
