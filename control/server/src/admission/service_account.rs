//! ServiceAccount: every pod runs as one, and finds its credentials where clients look for them.

use std::sync::Arc;

use rand::Rng;
use serde_json::{Value, json};

use super::{display_name, field_list, is_pod, list, mountable_secrets, spec};
use crate::authn::{Objects, text};
use crate::authz::{Referred, referred};
use crate::{Admission, AdmissionRequest, ApiError, Draft, Operation};

/// The account of pods that name none.
const DEFAULT_ACCOUNT: &str = "default";
/// Where client libraries look for credentials.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// Seconds a token is asked for. One hour and seven seconds is upstream's mark of an injected token.
const TOKEN_SECONDS: i64 = 3607;
/// 0644: the credentials are the pod's own.
const VOLUME_MODE: i64 = 0o644;
/// Carried by the API object of a pod that a node runs from a file.
pub(super) const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
/// Characters of generated names: no vowels, nor anything that looks like one, so that no words come out.
const NAME_CHARACTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The plugin.
pub struct ServiceAccount {
    objects: Arc<dyn Objects>,
}

impl ServiceAccount {
    /// Looks accounts up in `objects`.
    pub fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects }
    }

    async fn account(&self, namespace: &str, name: &str) -> Result<Result<Arc<Value>, String>, ApiError> {
        let account = self.objects.get("", "serviceaccounts", namespace, name).await?;
        Ok(account.ok_or_else(|| {
            format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found")
        }))
    }
}

#[async_trait::async_trait]
impl Admission for ServiceAccount {
    async fn mutate(&self, request: &AdmissionRequest<'_>, pod: &mut Draft<'_>) -> Result<(), ApiError> {
        if !is_pod(request, &[Operation::Create]) || is_mirror(pod) {
            return Ok(());
        }
        let mut name = text(pod, "/spec/serviceAccountName").to_owned();
        if name.is_empty() {
            name = DEFAULT_ACCOUNT.into();
        }
        let fields = spec(pod);
        fields.insert("serviceAccountName".into(), json!(name));
        // The field's old name; clients still read it.
        fields.insert("serviceAccount".into(), json!(name));

        let namespace = request.attributes.namespace.as_str();
        let account = self.account(namespace, &name).await?;
        let account =
            account.map_err(|why| ApiError::forbidden("", "pods", display_name(request, Some(pod)), &why))?;
        if automounts(pod, &account) {
            mount_credentials(pod);
        }
        if list(pod, "/spec/imagePullSecrets").next().is_none() {
            let secrets: Vec<Value> = list(&account, "/imagePullSecrets").cloned().collect();
            if !secrets.is_empty() {
                spec(pod).insert("imagePullSecrets".into(), json!(secrets));
            }
        }
        Ok(())
    }

    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        pod: Option<&Value>,
    ) -> Result<Vec<String>, ApiError> {
        let what = request.attributes;
        let debugged = request.operation == Operation::Update
            && what.api_group.is_empty()
            && (what.resource.as_str(), what.subresource.as_str()) == ("pods", "ephemeralcontainers");
        let Some(pod) = pod.filter(|_| is_pod(request, &[Operation::Create]) || debugged) else {
            return Ok(Vec::new());
        };
        let refuse = |why: &str| Err(ApiError::forbidden("", "pods", display_name(request, Some(pod)), why));
        if !is_mirror(pod) {
            let account = self.account(&what.namespace, text(pod, "/spec/serviceAccountName")).await?;
            // The account of a pod that runs already may be gone.
            return match account {
                Ok(account) => mountable_secrets::check(&account, pod)
                    .map_or_else(|why| refuse(&why), |()| Ok(Vec::new())),
                Err(_) if debugged => Ok(Vec::new()),
                Err(why) => refuse(&why),
            };
        }
        // A mirror pod stands for one that runs already, without any of what the API could give it.
        if !text(pod, "/spec/serviceAccountName").is_empty() {
            return refuse("a mirror pod may not reference service accounts");
        }
        if referred(pod).contains(&Referred::Secret) {
            return refuse("a mirror pod may not reference secrets");
        }
        if list(pod, "/spec/volumes").any(has_token) {
            return refuse("a mirror pod may not use ServiceAccountToken volume projections");
        }
        Ok(Vec::new())
    }
}

/// Whether the pod stands for one that a node runs from a file.
pub(crate) fn is_mirror(pod: &Value) -> bool {
    let annotations = pod.pointer("/metadata/annotations").and_then(Value::as_object);
    annotations.is_some_and(|all| all.contains_key(MIRROR_ANNOTATION))
}

/// The pod's word counts first, then the account's; by default yes.
fn automounts(pod: &Value, account: &Value) -> bool {
    let says = |object: &Value, pointer| object.pointer(pointer).and_then(Value::as_bool);
    says(pod, "/spec/automountServiceAccountToken")
        .or_else(|| says(account, "/automountServiceAccountToken"))
        .unwrap_or(true)
}

/// Gives every container that does not mount something there the credentials, from one volume.
fn mount_credentials(pod: &mut Value) {
    let known = list(pod, "/spec/volumes").find(|volume| is_credentials(volume));
    let name = known.map_or_else(new_volume_name, |volume| text(volume, "/name").to_owned());
    let exists = known.is_some();
    let mut needed = false;
    for containers in ["initContainers", "containers"] {
        let Some(Value::Array(containers)) = spec(pod).get_mut(containers) else { continue };
        for container in containers.iter_mut().filter_map(Value::as_object_mut) {
            let mounts = field_list(container, "volumeMounts");
            if mounts.iter().any(|mount| text(mount, "/mountPath").trim_end_matches('/') == MOUNT_PATH) {
                continue;
            }
            mounts.push(json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH}));
            needed = true;
        }
    }
    if needed && !exists {
        field_list(spec(pod), "volumes").push(credentials_volume(&name));
    }
}

/// Whether a volume that the pod brings along is such a volume: a template made from a running pod has one.
fn is_credentials(volume: &Value) -> bool {
    text(volume, "/name").starts_with(VOLUME_PREFIX) && has_token(volume)
}

fn has_token(volume: &Value) -> bool {
    list(volume, "/projected/sources").any(|source| source.get("serviceAccountToken").is_some())
}

fn credentials_volume(name: &str) -> Value {
    let namespace =
        json!({"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}});
    json!({
        "name": name,
        "projected": {
            "defaultMode": VOLUME_MODE,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [namespace]}},
            ],
        },
    })
}

fn new_volume_name() -> String {
    let mut random = rand::rng();
    let suffix = (0..5).map(|_| char::from(NAME_CHARACTERS[random.random_range(0..NAME_CHARACTERS.len())]));
    VOLUME_PREFIX.chars().chain(suffix).collect()
}
