//! Claims and volumes that are in use stay: their finalizers go only when nobody needs them any more.

use std::sync::Arc;

use carrack_client::Key;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, ListParams};
use serde_json::json;

use crate::cache::{BY_CLAIM, Caches, Feeds, Pod};
use crate::diff;
use crate::driver::{Controller, LookError};
use crate::plan::{Action, Plan};
use crate::queue::Queue;
use crate::resource::{PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM, Resource};

/// Holds claims.
pub const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
/// Holds volumes.
pub const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";

/// What becomes of a finalizer: it comes to objects that live, goes from those that are to go and that nobody uses.
fn plan_finalizer(resource: Resource, meta: &ObjectMeta, finalizer: &str, in_use: bool) -> Plan {
    let mut plan = Plan::none();
    let mut finalizers = meta.finalizers.clone().unwrap_or_default();
    let held = finalizers.iter().any(|own| own == finalizer);
    match (meta.deletion_timestamp.is_some(), held) {
        (true, true) if in_use => {
            plan.note("in use, stays");
            return plan;
        }
        (true, true) => finalizers.retain(|own| own != finalizer),
        (false, false) => finalizers.push(finalizer.to_owned()),
        _ => return plan,
    }
    let mut metadata = diff::guard(meta);
    metadata["finalizers"] = json!(finalizers);
    let body = json!({ "metadata": metadata });
    plan.push(Action::merge(resource, Key::of(meta), "", body).missing_ok());
    plan
}

/// Whether a pod uses the claim: it was given to a node and has a volume of the claim.
#[must_use]
pub fn uses(pod: &Pod, claim: &str) -> bool {
    pod.spec.node().is_some() && claims_of(pod).any(|used| used == claim)
}

/// The claims whose volumes a pod has. Those made for it alone count until it has ended.
pub(crate) fn claims_of(pod: &Pod) -> impl Iterator<Item = String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    pod.spec.volumes.iter().filter_map(move |volume| {
        match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(source), _) => Some(source.claim_name.clone()),
            (None, Some(_)) if !pod.ended() => Some(format!("{name}-{}", volume.name)),
            _ => None,
        }
    })
}

/// What the plan for one claim is made from.
#[derive(Clone, Debug)]
pub struct ClaimSnapshot {
    /// The claim.
    pub claim: Arc<PersistentVolumeClaim>,
    /// Whether a pod uses it.
    pub in_use: bool,
}

/// Protects claims; its keys are claims.
pub struct ClaimProtection {
    caches: Arc<Caches>,
    client: Client,
}

impl ClaimProtection {
    /// A controller that asks for pods through `client` before it lets a claim go.
    #[must_use]
    pub fn new(caches: Arc<Caches>, client: Client) -> Self {
        Self { caches, client }
    }

    /// Feeds `queue` with claims, and with those of pods that changed.
    pub fn hook(caches: &Arc<Caches>, feeds: &mut Feeds, queue: &Arc<Queue>) {
        let own = Arc::clone(queue);
        feeds.claims.push(Box::new(move |change| {
            if let Some(claim) = &change.new {
                own.add(Key::of(&claim.metadata));
            }
        }));
        let (own, known) = (Arc::clone(queue), Arc::clone(caches));
        feeds.pods.push(Box::new(move |change| {
            let Some(pod) = &change.old else { return };
            let over = change.new.as_ref().is_none_or(|new| new.ended());
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            for claim in claims_of(pod).filter(|_| over) {
                let key = Key::new(namespace, claim);
                let going = known.claims.get(&key).is_some_and(|c| c.metadata.deletion_timestamp.is_some());
                if going {
                    own.add(key);
                }
            }
        }));
    }

    /// Whether the API has a pod that uses the claim. The cache may not know of one that was just made.
    async fn used_by_any(&self, namespace: &str, claim: &str) -> Result<bool, LookError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let pods = api.list(&ListParams::default()).await;
        let pods = pods.map_err(|source| LookError::Read {
            what: format!("pods in {namespace}"),
            source: Box::new(source),
        })?;
        Ok(pods.items.iter().any(|pod| uses(pod, claim)))
    }
}

impl Controller for ClaimProtection {
    type Snapshot = ClaimSnapshot;
    const NAME: &'static str = "persistentvolumeclaim-protection";

    async fn snapshot(&self, key: &Key) -> Result<Option<ClaimSnapshot>, LookError> {
        let Some(claim) = self.caches.claims.get(key) else { return Ok(None) };
        let held = claim.metadata.finalizers.iter().flatten().any(|own| own == CLAIM_FINALIZER);
        let mut in_use = false;
        if claim.metadata.deletion_timestamp.is_some() && held {
            let cached = self.caches.pods.indexed(BY_CLAIM, &format!("{}/{}", key.namespace, key.name));
            in_use = cached.iter().any(|pod| uses(pod, &key.name))
                || self.used_by_any(&key.namespace, &key.name).await?;
        }
        Ok(Some(ClaimSnapshot { claim, in_use }))
    }

    fn plan(&self, snapshot: &ClaimSnapshot, _now: Timestamp) -> Plan {
        let meta = &snapshot.claim.metadata;
        plan_finalizer(PERSISTENT_VOLUME_CLAIM, meta, CLAIM_FINALIZER, snapshot.in_use)
    }
}

/// Protects volumes; its keys are volumes.
pub struct VolumeProtection {
    caches: Arc<Caches>,
}

impl VolumeProtection {
    /// A controller that reads `caches`.
    #[must_use]
    pub fn new(caches: Arc<Caches>) -> Self {
        Self { caches }
    }

    /// Feeds `queue` with volumes.
    pub fn hook(feeds: &mut Feeds, queue: &Arc<Queue>) {
        let own = Arc::clone(queue);
        feeds.volumes.push(Box::new(move |change| {
            if let Some(volume) = &change.new {
                own.add(Key::of(&volume.metadata));
            }
        }));
    }
}

impl Controller for VolumeProtection {
    type Snapshot = Arc<PersistentVolume>;
    const NAME: &'static str = "persistentvolume-protection";

    async fn snapshot(&self, key: &Key) -> Result<Option<Self::Snapshot>, LookError> {
        Ok(self.caches.volumes.get(key))
    }

    fn plan(&self, volume: &Self::Snapshot, _now: Timestamp) -> Plan {
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        plan_finalizer(PERSISTENT_VOLUME, &volume.metadata, VOLUME_FINALIZER, phase == Some("Bound"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Verb;
    use crate::testing;

    fn finalizers(deleting: bool, held: &[&str], in_use: bool) -> Option<Vec<String>> {
        let meta = ObjectMeta {
            finalizers: Some(held.iter().map(|f| (*f).to_owned()).collect()),
            deletion_timestamp: deleting.then(|| testing::ago(0)),
            ..testing::meta("d")
        };
        let plan = plan_finalizer(PERSISTENT_VOLUME_CLAIM, &meta, CLAIM_FINALIZER, in_use);
        let Verb::Patch { body, .. } = &plan.actions().next()?.verb else { panic!("{plan:?}") };
        assert_eq!(body["metadata"]["resourceVersion"], "1");
        Some(serde_json::from_value(body["metadata"]["finalizers"].clone()).unwrap())
    }

    #[test]
    fn finalizers_come_to_the_living_and_go_when_nobody_uses_it() {
        let own = CLAIM_FINALIZER;
        for (deleting, held, in_use, expected) in [
            (false, &[][..], false, Some(vec![own])),
            (false, &["x"][..], true, Some(vec!["x", own])),
            (false, &[own][..], true, None),
            (true, &[own, "x"][..], false, Some(vec!["x"])),
            (true, &[own][..], true, None),
            (true, &["x"][..], false, None),
        ] {
            let expected = expected.map(|all| all.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(finalizers(deleting, held, in_use), expected, "{deleting} {held:?} {in_use}");
        }
    }

    #[test]
    fn only_pods_on_nodes_use_claims() {
        let pod = |node: Option<&str>, phase: &str| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": "p", "namespace": "ns"},
                "spec": {"nodeName": node, "volumes": [
                    {"name": "a", "persistentVolumeClaim": {"claimName": "data"}},
                    {"name": "b", "ephemeral": {}},
                    {"name": "c", "emptyDir": {}},
                ]},
                "status": {"phase": phase},
            }))
            .unwrap()
        };
        for (node, phase, claim, expected) in [
            (Some("n"), "Running", "data", true),
            (None, "Pending", "data", false),
            (Some("n"), "Succeeded", "data", true),
            (Some("n"), "Running", "p-b", true),
            (Some("n"), "Succeeded", "p-b", false),
            (Some("n"), "Running", "p-c", false),
        ] {
            assert_eq!(uses(&pod(node, phase), claim), expected, "{node:?} {phase} {claim}");
        }
    }
}
