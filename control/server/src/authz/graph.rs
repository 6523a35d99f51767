//! What each node's pods refer to: the graph that the Node authorizer judges by. No I/O: fed with objects, asked for edges.
//!
//! The edges are upstream's: a pod on a node leads to its Secrets, ConfigMaps, PersistentVolumeClaims, ResourceClaims and
//! its ServiceAccount; a PersistentVolume that is bound to such a claim is reached through it, and so are the volume's
//! Secrets; a VolumeAttachment belongs to the node that it names. Mirror pods, which nodes make themselves, lead nowhere.

use std::collections::{HashMap, HashSet};

use carrack_api::codec::Parts;
use serde_json::Value;

use crate::admission::is_mirror;
use crate::authn::text;

/// What a pod may refer to in its own namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Secret,
    ConfigMap,
    Claim,
    ResourceClaim,
    ServiceAccount,
}

/// Namespace and name.
type Name = (String, String);

/// Where in a pod the names of what it refers to are. `*` stands for each element of a list.
const POD_REFERENCES: &[(Kind, &[&str])] = &[
    (Kind::ServiceAccount, &["spec", "serviceAccountName"]),
    (Kind::Secret, &["spec", "imagePullSecrets", "*", "name"]),
    (Kind::Secret, &["spec", "volumes", "*", "secret", "secretName"]),
    (Kind::Secret, &["spec", "volumes", "*", "projected", "sources", "*", "secret", "name"]),
    (Kind::Secret, &["spec", "volumes", "*", "csi", "nodePublishSecretRef", "name"]),
    (Kind::Secret, &["spec", "volumes", "*", "flexVolume", "secretRef", "name"]),
    (Kind::Secret, &["spec", "volumes", "*", "rbd", "secretRef", "name"]),
    (Kind::Secret, &["spec", "volumes", "*", "cephfs", "secretRef", "name"]),
    (Kind::Secret, &["spec", "volumes", "*", "iscsi", "secretRef", "name"]),
    (Kind::ConfigMap, &["spec", "volumes", "*", "configMap", "name"]),
    (Kind::ConfigMap, &["spec", "volumes", "*", "projected", "sources", "*", "configMap", "name"]),
    (Kind::Claim, &["spec", "volumes", "*", "persistentVolumeClaim", "claimName"]),
    (Kind::ResourceClaim, &["spec", "resourceClaims", "*", "resourceClaimName"]),
    (Kind::ResourceClaim, &["status", "resourceClaimStatuses", "*", "resourceClaimName"]),
    (Kind::ResourceClaim, &["status", "extendedResourceClaimStatus", "resourceClaimName"]),
];
const CONTAINERS: &[&str] = &["containers", "initContainers", "ephemeralContainers"];
const CONTAINER_REFERENCES: &[(Kind, &[&str])] = &[
    (Kind::Secret, &["*", "env", "*", "valueFrom", "secretKeyRef", "name"]),
    (Kind::Secret, &["*", "envFrom", "*", "secretRef", "name"]),
    (Kind::ConfigMap, &["*", "env", "*", "valueFrom", "configMapKeyRef", "name"]),
    (Kind::ConfigMap, &["*", "envFrom", "*", "configMapRef", "name"]),
];
/// The fields of a PersistentVolume's source that name a Secret.
const VOLUME_SECRETS: &[&str] = &[
    "secretRef",
    "controllerPublishSecretRef",
    "nodePublishSecretRef",
    "nodeStageSecretRef",
    "controllerExpandSecretRef",
    "nodeExpandSecretRef",
];

/// What [`Graph::put_pod`] looks at of a pod.
pub(super) fn parts_of_pods() -> Parts {
    let whole: [&[&str]; 2] = [&["metadata", "annotations"], &["spec", "nodeName"]];
    let of_pods = POD_REFERENCES.iter().map(|(_, path)| path.to_vec());
    let of_containers = CONTAINERS
        .iter()
        .flat_map(|field| CONTAINER_REFERENCES.iter().map(|(_, path)| [&["spec", *field], *path].concat()));
    Parts::at(whole.iter().map(|path| path.to_vec()).chain(of_pods).chain(of_containers))
}

/// A pod on a node.
#[derive(Debug)]
struct Pod {
    node: String,
    references: HashSet<(Kind, String)>,
}

/// A PersistentVolume that is bound.
#[derive(Debug)]
struct Volume {
    claim: Name,
    secrets: Vec<Name>,
}

/// The graph.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pods: HashMap<Name, Pod>,
    /// The pods on each node.
    on: HashMap<String, HashSet<Name>>,
    volumes: HashMap<String, Volume>,
    attachments: HashMap<String, String>,
}

impl Graph {
    /// Takes in a pod; one without a node is not in the graph.
    pub(super) fn put_pod(&mut self, namespace: &str, name: &str, pod: &Value) {
        self.remove_pod(namespace, name);
        let node = text(pod, "/spec/nodeName").to_owned();
        if node.is_empty() {
            return;
        }
        let id = (namespace.to_owned(), name.to_owned());
        self.on.entry(node.clone()).or_default().insert(id.clone());
        // A node must never make a pod that opens other objects to it. NodeRestriction refuses such pods as well.
        let references = if is_mirror(pod) { HashSet::new() } else { references(pod, name) };
        self.pods.insert(id, Pod { node, references });
    }

    /// Forgets a pod.
    pub(super) fn remove_pod(&mut self, namespace: &str, name: &str) {
        let id = (namespace.to_owned(), name.to_owned());
        let Some(pod) = self.pods.remove(&id) else { return };
        if let Some(pods) = self.on.get_mut(&pod.node) {
            pods.remove(&id);
            if pods.is_empty() {
                self.on.remove(&pod.node);
            }
        }
    }

    /// Takes in a PersistentVolume; one without a claim is not in the graph.
    pub(super) fn put_volume(&mut self, name: &str, volume: &Value) {
        self.volumes.remove(name);
        let at = |field: &str| text(volume, &format!("/spec/claimRef/{field}")).to_owned();
        let claim = (at("namespace"), at("name"));
        if !claim.1.is_empty() {
            let secrets = volume_secrets(volume, &claim.0);
            self.volumes.insert(name.to_owned(), Volume { claim, secrets });
        }
    }

    /// Forgets a PersistentVolume.
    pub(super) fn remove_volume(&mut self, name: &str) {
        self.volumes.remove(name);
    }

    /// Takes in a VolumeAttachment.
    pub(super) fn put_attachment(&mut self, name: &str, attachment: &Value) {
        self.attachments.insert(name.to_owned(), text(attachment, "/spec/nodeName").to_owned());
    }

    /// Forgets a VolumeAttachment.
    pub(super) fn remove_attachment(&mut self, name: &str) {
        self.attachments.remove(name);
    }

    /// Whether the pod is on the node.
    pub(super) fn has_pod(&self, node: &str, namespace: &str, name: &str) -> bool {
        let id = (namespace.to_owned(), name.to_owned());
        self.pods.get(&id).is_some_and(|pod| pod.node == node)
    }

    /// Whether a pod on the node leads to the object, for Secrets also by way of a volume.
    pub(super) fn leads_to(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        if self.refers(node, kind, namespace, name) {
            return true;
        }
        kind == Kind::Secret
            && self.volumes.values().any(|volume| {
                volume.secrets.iter().any(|(ns, secret)| ns == namespace && secret == name)
                    && self.refers(node, Kind::Claim, &volume.claim.0, &volume.claim.1)
            })
    }

    /// Whether a pod on the node has a claim that the PersistentVolume is bound to.
    pub(super) fn has_volume(&self, node: &str, name: &str) -> bool {
        let claim = self.volumes.get(name).map(|volume| &volume.claim);
        claim.is_some_and(|(namespace, name)| self.refers(node, Kind::Claim, namespace, name))
    }

    /// Whether the VolumeAttachment is the node's.
    pub(super) fn has_attachment(&self, node: &str, name: &str) -> bool {
        self.attachments.get(name).is_some_and(|of| of == node)
    }

    fn refers(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        let reference = (kind, name.to_owned());
        self.on.get(node).into_iter().flatten().any(|id| {
            id.0 == namespace && self.pods.get(id).is_some_and(|pod| pod.references.contains(&reference))
        })
    }
}

/// The kinds of what a pod refers to.
pub(crate) fn referred(pod: &Value) -> HashSet<Kind> {
    references(pod, "").into_iter().map(|(kind, _)| kind).collect()
}

/// What a pod called `pod_name` refers to.
fn references(pod: &Value, pod_name: &str) -> HashSet<(Kind, String)> {
    let mut found = HashSet::new();
    for (kind, path) in POD_REFERENCES {
        collect(pod, path, &mut |name| {
            found.insert((*kind, name.to_owned()));
        });
    }
    for field in CONTAINERS {
        for (kind, path) in CONTAINER_REFERENCES {
            collect(&pod["spec"][*field], path, &mut |name| {
                found.insert((*kind, name.to_owned()));
            });
        }
    }
    // The claim of a volume that lives as long as its pod is called after both.
    for volume in pod["spec"]["volumes"].as_array().into_iter().flatten() {
        if let (Some(name), Some(_)) = (volume["name"].as_str(), volume.get("ephemeral")) {
            found.insert((Kind::Claim, format!("{pod_name}-{name}")));
        }
    }
    found
}

/// Hands on each text at the end of `path`.
fn collect(value: &Value, path: &[&str], found: &mut dyn FnMut(&str)) {
    match path.split_first() {
        None => value.as_str().filter(|name| !name.is_empty()).into_iter().for_each(found),
        Some((&"*", rest)) => {
            value.as_array().into_iter().flatten().for_each(|element| collect(element, rest, found));
        }
        Some((field, rest)) => {
            value.get(field).into_iter().for_each(|value| collect(value, rest, found));
        }
    }
}

/// The Secrets that the source of a PersistentVolume names; without a namespace they are in the claim's.
fn volume_secrets(volume: &Value, claim_namespace: &str) -> Vec<Name> {
    let sources = volume["spec"].as_object().into_iter().flat_map(|spec| spec.values());
    let named = sources.flat_map(|source| VOLUME_SECRETS.iter().filter_map(|field| source.get(field)));
    let secret = |reference: &Value| {
        let namespace = reference["namespace"].as_str().unwrap_or(claim_namespace);
        Some((namespace.to_owned(), reference["name"].as_str()?.to_owned()))
    };
    named.filter_map(secret).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_leads_to_what_it_names() {
        let mut graph = Graph::default();
        let pod = json!({ "spec": {
            "nodeName": "n1", "serviceAccountName": "runner",
            "imagePullSecrets": [{ "name": "registry" }],
            "volumes": [
                { "name": "a", "secret": { "secretName": "s" } },
                { "name": "b", "projected": { "sources": [{ "configMap": { "name": "c" } }] } },
                { "name": "d", "persistentVolumeClaim": { "claimName": "claim" } },
                { "name": "scratch", "ephemeral": {} },
            ],
            "containers": [{ "env": [{ "valueFrom": { "secretKeyRef": { "name": "env" } } }] }],
            "initContainers": [{ "envFrom": [{ "configMapRef": { "name": "all" } }] }],
        } });
        graph.put_pod("web", "p", &pod);
        let leads = [
            (Kind::ServiceAccount, "runner"),
            (Kind::Secret, "registry"),
            (Kind::Secret, "s"),
            (Kind::Secret, "env"),
            (Kind::ConfigMap, "c"),
            (Kind::ConfigMap, "all"),
            (Kind::Claim, "claim"),
            (Kind::Claim, "p-scratch"),
        ];
        for (kind, name) in leads {
            assert!(graph.leads_to("n1", kind, "web", name), "{kind:?} {name}");
            assert!(!graph.leads_to("n1", kind, "other", name), "{kind:?} {name} of another namespace");
            assert!(!graph.leads_to("n2", kind, "web", name), "{kind:?} {name} for another node");
        }
        assert!(!graph.leads_to("n1", Kind::ConfigMap, "web", "s"), "a Secret is no ConfigMap");
        graph.remove_pod("web", "p");
        assert!(leads.iter().all(|(kind, name)| !graph.leads_to("n1", *kind, "web", name)));
        assert!(graph.on.is_empty() && graph.pods.is_empty());
        let mut mirror = pod;
        mirror["metadata"] = json!({ "annotations": { "kubernetes.io/config.mirror": "x" } });
        graph.put_pod("web", "p", &mirror);
        assert!(graph.has_pod("n1", "web", "p"));
        assert!(leads.iter().all(|(kind, name)| !graph.leads_to("n1", *kind, "web", name)), "a mirror pod");
    }

    #[test]
    fn a_claim_leads_to_its_volume_and_the_volumes_secrets() {
        let mut graph = Graph::default();
        let volume = json!({ "spec": {
            "claimRef": { "namespace": "web", "name": "claim" },
            "csi": { "nodeStageSecretRef": { "namespace": "storage", "name": "stage" } },
        } });
        graph.put_volume("pv", &volume);
        assert!(!graph.has_volume("n1", "pv"));
        let pod = json!({ "spec": { "nodeName": "n1",
            "volumes": [{ "persistentVolumeClaim": { "claimName": "claim" } }] } });
        graph.put_pod("web", "p", &pod);
        assert!(graph.has_volume("n1", "pv") && graph.leads_to("n1", Kind::Secret, "storage", "stage"));
        graph.remove_volume("pv");
        assert!(!graph.has_volume("n1", "pv") && !graph.leads_to("n1", Kind::Secret, "storage", "stage"));
    }
}
