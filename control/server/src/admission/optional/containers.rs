//! AlwaysPullImages, ExtendedResourceToleration and LimitPodHardAntiAffinityTopology: what containers and affinities of
//! pods say.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::{display_name, field_list, is_pod, list, spec};
use crate::authn::text;
use crate::{Admission, AdmissionRequest, ApiError, Draft, Operation};

const WRITTEN: &[Operation] = &[Operation::Create, Operation::Update];
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];
const ALWAYS: &str = "Always";

/// AlwaysPullImages: whoever runs an image has to be allowed to pull it, also where it lies on the node already.
pub(crate) struct AlwaysPullImages;

/// The images of a pod, with the list that each is in.
fn images(pod: &Value) -> BTreeSet<(&'static str, &str)> {
    let of = |field: &'static str| {
        pod["spec"][field].as_array().into_iter().flatten().map(move |c| (field, text(c, "/image")))
    };
    let volumes = list(pod, "/spec/volumes").map(|volume| ("volumes", text(volume, "/image/reference")));
    CONTAINERS.into_iter().flat_map(of).chain(volumes).collect()
}

/// Whether the pod brings images that it did not have.
fn brings_images(request: &AdmissionRequest<'_>, pod: &Value) -> bool {
    is_pod(request, WRITTEN) && request.old.is_none_or(|old| !images(pod).is_subset(&images(old)))
}

#[async_trait::async_trait]
impl Admission for AlwaysPullImages {
    async fn mutate(&self, request: &AdmissionRequest<'_>, pod: &mut Draft<'_>) -> Result<(), ApiError> {
        if !brings_images(request, pod) {
            return Ok(());
        }
        for field in CONTAINERS {
            let Some(Value::Array(containers)) = spec(pod).get_mut(field) else { continue };
            for container in containers.iter_mut().filter_map(Value::as_object_mut) {
                container.insert("imagePullPolicy".into(), json!(ALWAYS));
            }
        }
        let Some(Value::Array(volumes)) = spec(pod).get_mut("volumes") else { return Ok(()) };
        for image in volumes.iter_mut().filter_map(|volume| volume.get_mut("image")?.as_object_mut()) {
            image.insert("pullPolicy".into(), json!(ALWAYS));
        }
        Ok(())
    }

    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        pod: Option<&Value>,
    ) -> Result<Vec<String>, ApiError> {
        let Some(pod) = pod.filter(|pod| brings_images(request, pod)) else { return Ok(Vec::new()) };
        for field in CONTAINERS {
            let containers = pod["spec"][field].as_array().into_iter().flatten().enumerate();
            for (index, policy) in containers.map(|(index, c)| (index, text(c, "/imagePullPolicy"))) {
                if policy != ALWAYS {
                    let why = format!(
                        "spec.{field}[{index}].imagePullPolicy: Unsupported value: {policy:?}: supported values: \
                         {ALWAYS:?}"
                    );
                    return Err(ApiError::forbidden("", "pods", display_name(request, Some(pod)), &why));
                }
            }
        }
        Ok(Vec::new())
    }
}

/// ExtendedResourceToleration: who asks for devices may go where only such pods may.
pub(crate) struct ExtendedResourceToleration;

/// Whether a resource is neither Kubernetes' own nor a name for quotas.
fn is_extended(resource: &str) -> bool {
    resource.contains('/') && !resource.contains("kubernetes.io/") && !resource.starts_with("requests.")
}

#[async_trait::async_trait]
impl Admission for ExtendedResourceToleration {
    async fn mutate(&self, request: &AdmissionRequest<'_>, pod: &mut Draft<'_>) -> Result<(), ApiError> {
        if !is_pod(request, WRITTEN) {
            return Ok(());
        }
        let containers = list(pod, "/spec/containers").chain(list(pod, "/spec/initContainers"));
        let requests = containers.filter_map(|c| c.pointer("/resources/requests")?.as_object());
        let names: BTreeSet<String> =
            requests.flat_map(|all| all.keys()).filter(|name| is_extended(name)).cloned().collect();
        for name in names {
            let wanted = json!({"key": name, "operator": "Exists", "effect": "NoSchedule"});
            let is_it = |own: &Value| {
                ["key", "operator", "effect", "value"].iter().all(|field| {
                    let says = |of: &Value| of.get(*field).and_then(Value::as_str).unwrap_or("").to_owned();
                    says(own) == says(&wanted)
                })
            };
            let all = field_list(spec(pod), "tolerations");
            match all.iter_mut().find(|own| is_it(own)) {
                Some(own) => *own = wanted,
                None => all.push(wanted),
            }
        }
        Ok(())
    }
}

/// LimitPodHardAntiAffinityTopology: nobody keeps all others out of a zone.
pub(crate) struct LimitPodHardAntiAffinityTopology;

#[async_trait::async_trait]
impl Admission for LimitPodHardAntiAffinityTopology {
    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        pod: Option<&Value>,
    ) -> Result<Vec<String>, ApiError> {
        const TERMS: &str = "/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution";
        const KEY: &str = "kubernetes.io/hostname";
        let Some(pod) = pod.filter(|_| is_pod(request, WRITTEN)) else { return Ok(Vec::new()) };
        let other = list(pod, TERMS).map(|term| text(term, "/topologyKey")).find(|key| *key != KEY);
        let Some(other) = other else { return Ok(Vec::new()) };
        let why = format!(
            "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {other} but only key {KEY} is allowed"
        );
        Err(ApiError::forbidden("", "pods", display_name(request, Some(pod)), &why))
    }
}
