//! How many pods the controllers of a budget's pods want, as their scale says.

use std::collections::BTreeSet;
use std::sync::Arc;

use carrack_client::Key;
use http::Request;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Client;
use serde::Deserialize;

use crate::cache::{Caches, Pod};
use crate::discovery;
use crate::owner::controller_of;
use crate::resource::{REPLICATION_CONTROLLER, Resource, STATEFUL_SET};

/// What the controllers of some pods want.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scales {
    /// Pods wanted by all of them together.
    pub wanted: i32,
    /// Pods that no controller looks after.
    pub unmanaged: Vec<String>,
}

/// A Scale, whose uid is that of the controller.
#[derive(Deserialize)]
struct Scale {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: ScaleSpec,
}

#[derive(Default, Deserialize)]
struct ScaleSpec {
    #[serde(default)]
    replicas: i32,
}

/// An object of any kind.
#[derive(Deserialize)]
struct Anything {}

/// The scales of the pods' controllers, each counted once; why not where one cannot be told.
pub(super) async fn of(caches: &Caches, client: &Client, pods: &[Arc<Pod>]) -> Result<Scales, String> {
    let mut scales = Scales::default();
    let (mut owners, mut counted) = (BTreeSet::new(), BTreeSet::new());
    for pod in pods {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let Some(owner) = controller_of(&pod.metadata) else {
            scales.unmanaged.push(name.to_owned());
            continue;
        };
        if !owners.insert(owner.uid.clone()) {
            continue;
        }
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let found = match cached(caches, namespace, owner) {
            Some(found) => found,
            None => {
                let replicas = asked(client, namespace, owner).await?;
                let replicas = replicas.ok_or_else(|| format!("found no controllers for pod {name:?}"))?;
                (owner.uid.clone(), replicas)
            }
        };
        // Several sets may be of one deployment.
        if counted.insert(found.0) {
            scales.wanted = scales.wanted.saturating_add(found.1);
        }
    }
    Ok(scales)
}

/// Uid and scale of the set that owns a pod, or of the deployment above it, where the caches have them.
fn cached(caches: &Caches, namespace: &str, owner: &OwnerReference) -> Option<(String, i32)> {
    if owner.kind != "ReplicaSet" || !owner.api_version.starts_with("apps/") {
        return None;
    }
    let set = caches.replica_sets.get(&Key::new(namespace, owner.name.as_str()))?;
    if set.metadata.uid.as_deref() != Some(&owner.uid) {
        return None;
    }
    let above = controller_of(&set.metadata)
        .filter(|above| above.kind == "Deployment" && above.api_version.starts_with("apps/"));
    let Some(above) = above else { return Some((owner.uid.clone(), super::wanted(&set))) };
    let deployment = caches.deployments.get(&Key::new(namespace, above.name.as_str()))?;
    if deployment.metadata.uid.as_deref() != Some(&above.uid) {
        return None;
    }
    Some((above.uid.clone(), super::replicas(&deployment)))
}

/// The scale of any other controller; `None` when it is not there any more.
async fn asked(client: &Client, namespace: &str, owner: &OwnerReference) -> Result<Option<i32>, String> {
    let resource = resource_of(client, owner).await?;
    let key = Key::new(namespace, owner.name.as_str());
    match read::<Scale>(client, &resource.object(&key, "scale")).await? {
        Some(scale) if scale.metadata.uid.as_ref() == Some(&owner.uid) => Ok(Some(scale.spec.replicas)),
        Some(_) => Ok(None),
        // Either the controller is gone, or its kind has no scale.
        None if read::<Anything>(client, &resource.object(&key, "")).await?.is_none() => Ok(None),
        None => Err(format!("{} does not implement the scale subresource", resource.full_name())),
    }
}

async fn resource_of(client: &Client, owner: &OwnerReference) -> Result<Resource, String> {
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    let is_it = |resource: &Resource| resource.group == group && resource.kind == owner.kind;
    if let Some(known) = [REPLICATION_CONTROLLER, STATEFUL_SET].into_iter().find(is_it) {
        return Ok(known);
    }
    let found = discovery::deletable(client).await.map_err(|error| error.to_string())?;
    let mut served = found.kinds.into_iter().map(|kind| kind.resource).filter(|r| r.namespaced);
    served.find(is_it).ok_or_else(|| format!("no matches for kind {:?} in group {group:?}", owner.kind))
}

/// What the API answers at this path; `None` for 404.
async fn read<T: serde::de::DeserializeOwned>(client: &Client, path: &str) -> Result<Option<T>, String> {
    let request = Request::get(path).body(Vec::new()).map_err(|error| error.to_string())?;
    match client.request(request).await {
        Ok(found) => Ok(Some(found)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}
