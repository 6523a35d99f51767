//! ImagePolicyWebhook: asks a webhook whether a pod's images may run (`imagepolicy.k8s.io/v1alpha1` ImageReview).
//!
//! Configuration, questions, answers and what follows from them are upstream's. Off unless it is enabled.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{display_name, list};
use crate::authn::text;
use crate::outbound::{CallError, Remote};
use crate::ttl::TtlCache;
use crate::{Admission, AdmissionRequest, ApiError, Operation, audit};

/// Answers remembered; upstream's figure.
const REMEMBERED: usize = 1024;
/// What begins the keys of what the audit log is told.
const AUDIT: &str = "imagepolicywebhook.image-policy.k8s.io/";
/// The part of a pod's annotations that the webhook sees.
const ANNOTATIONS: &str = ".image-policy.k8s.io/";
/// How often a question that failed in passing is asked at most, and how long one attempt may take.
const ATTEMPTS: u32 = 5;
const LIMIT: Duration = Duration::from_secs(30);

/// The configuration, with its times read.
#[derive(Clone, Debug, PartialEq)]
pub struct ImagePolicy {
    kubeconfig: PathBuf,
    allow_ttl: Duration,
    deny_ttl: Duration,
    backoff: Duration,
    default_allow: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    image_policy: Entry,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    kube_config_file: PathBuf,
    #[serde(default, rename = "allowTTL")]
    allow_ttl: i64,
    #[serde(default, rename = "denyTTL")]
    deny_ttl: i64,
    #[serde(default)]
    retry_backoff: i64,
    #[serde(default)]
    default_allow: bool,
}

/// A time of the configuration: its unit, what it may be above and up to, and what 0 stands for, in milliseconds.
struct Time {
    unit: u64,
    above: u64,
    most: u64,
    default: u64,
}

const ALLOW: Time = Time { unit: 1000, above: 1000, most: 1_800_000, default: 300_000 };
const DENY: Time = Time { default: 30_000, ..ALLOW };
const BACKOFF: Time = Time { unit: 1, above: 0, most: 300_000, default: 500 };

impl Time {
    /// -1 turns it off, 0 is the default.
    fn read(&self, field: &str, value: i64) -> Result<Duration, String> {
        let millis = match value {
            -1 => 0,
            0 => self.default,
            value => {
                let millis = u64::try_from(value).ok().and_then(|value| value.checked_mul(self.unit));
                millis.filter(|millis| *millis > self.above && *millis <= self.most).ok_or_else(|| {
                    let (above, most) = (Duration::from_millis(self.above), Duration::from_millis(self.most));
                    format!("imagePolicy.{field}: valid value is between {above:?} and {most:?}, got {value}")
                })?
            }
        };
        Ok(Duration::from_millis(millis))
    }
}

impl ImagePolicy {
    /// Reads the configuration; a kubeconfig is looked for from `dir`. The error says what is wrong.
    pub fn read(config: &Value, dir: &Path) -> Result<Self, String> {
        let File { image_policy: entry } =
            serde_json::from_value(config.clone()).map_err(|why| why.to_string())?;
        Ok(ImagePolicy {
            kubeconfig: dir.join(entry.kube_config_file),
            allow_ttl: ALLOW.read("allowTTL", entry.allow_ttl)?,
            deny_ttl: DENY.read("denyTTL", entry.deny_ttl)?,
            backoff: BACKOFF.read("retryBackoff", entry.retry_backoff)?,
            default_allow: entry.default_allow,
        })
    }
}

/// What the webhook said of a pod.
#[derive(Clone, Debug, PartialEq)]
struct Review {
    allowed: bool,
    reason: String,
    /// For the audit log.
    annotations: Vec<(String, String)>,
}

/// The plugin.
pub struct ImagePolicyWebhook {
    remote: Remote,
    policy: ImagePolicy,
    known: TtlCache<[u8; 32], Review>,
}

impl ImagePolicyWebhook {
    /// Asks whom the kubeconfig of the configuration names; the error says what is wrong with it.
    pub fn new(policy: ImagePolicy) -> Result<Self, String> {
        let remote = Remote::open(&policy.kubeconfig, LIMIT).map_err(|why| why.to_string())?;
        Ok(Self { remote, policy, known: TtlCache::new(REMEMBERED) })
    }

    /// What is known or answered of `spec`.
    async fn review(&self, spec: &Value) -> Result<Review, CallError> {
        let key: [u8; 32] = Sha256::digest(spec.to_string()).into();
        if let Some(known) = self.known.get(&key) {
            return Ok(known);
        }
        let question = json!({
            "apiVersion": "imagepolicy.k8s.io/v1alpha1", "kind": "ImageReview",
            "metadata": {"creationTimestamp": null}, "spec": spec, "status": {"allowed": false},
        });
        let review = read(&self.ask(&question).await?);
        let ttl = if review.allowed { self.policy.allow_ttl } else { self.policy.deny_ttl };
        self.known.put(key, review.clone(), ttl);
        Ok(review)
    }

    async fn ask(&self, question: &Value) -> Result<Value, CallError> {
        let (mut attempt, mut pause) = (1, self.policy.backoff);
        loop {
            match self.remote.post(question).await {
                Err(error) if attempt < ATTEMPTS && error.is_passing() => {
                    tokio::time::sleep(pause).await;
                    attempt += 1;
                    pause = pause * 3 / 2;
                }
                answer => return answer,
            }
        }
    }
}

/// The answer's status. One without says no.
fn read(answer: &Value) -> Review {
    let annotations = answer.pointer("/status/auditAnnotations").and_then(Value::as_object);
    Review {
        allowed: answer.pointer("/status/allowed") == Some(&Value::Bool(true)),
        reason: text(answer, "/status/reason").to_owned(),
        annotations: annotations
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect(),
    }
}

/// The spec of the question about a pod; `None` when the request brings no images.
fn spec(request: &AdmissionRequest<'_>, pod: &Value) -> Option<Value> {
    let what = request.attributes;
    let written = matches!(request.operation, Operation::Create | Operation::Update);
    if !written || !what.api_group.is_empty() || what.resource != "pods" {
        return None;
    }
    let places: &[&str] = match what.subresource.as_str() {
        "" => &["/spec/containers", "/spec/initContainers"],
        "ephemeralcontainers" => &["/spec/ephemeralContainers"],
        _ => return None,
    };
    let containers: Vec<Value> = places
        .iter()
        .flat_map(|place| list(pod, place))
        .map(|container| json!({"image": text(container, "/image")}))
        .collect();
    let annotations = pod.pointer("/metadata/annotations").and_then(Value::as_object).into_iter().flatten();
    let annotations: Map<String, Value> = annotations
        .filter(|(key, _)| key.contains(ANNOTATIONS))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut spec = json!({"containers": containers, "namespace": what.namespace});
    if !annotations.is_empty() {
        spec["annotations"] = Value::Object(annotations);
    }
    Some(spec)
}

#[async_trait::async_trait]
impl Admission for ImagePolicyWebhook {
    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        pod: Option<&Value>,
    ) -> Result<Vec<String>, ApiError> {
        let Some(spec) = pod.and_then(|pod| spec(request, pod)) else { return Ok(Vec::new()) };
        let refuse = |why: &str| Err(ApiError::forbidden("", "pods", display_name(request, pod), why));
        let review = match self.review(&spec).await {
            Ok(review) => review,
            Err(error) if self.policy.default_allow => {
                tracing::warn!(%error, "the image policy webhook did not answer; its pods are let in");
                audit::annotate(&format!("{AUDIT}failed-open"), "true");
                return Ok(Vec::new());
            }
            Err(error) => return refuse(&error.to_string()),
        };
        for (key, value) in &review.annotations {
            audit::annotate(&format!("{AUDIT}{key}"), value);
        }
        match (review.allowed, review.reason.as_str()) {
            (true, _) => Ok(Vec::new()),
            (false, "") => refuse("one or more images rejected by webhook backend"),
            (false, why) => refuse(&format!("image policy webhook backend denied one or more images: {why}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_bounds_and_defaults() {
        let read = |entry: Value| ImagePolicy::read(&json!({"imagePolicy": entry}), Path::new("/etc"));
        let usual = read(json!({"kubeConfigFile": "hook", "defaultAllow": true})).unwrap();
        let expected = ImagePolicy {
            kubeconfig: "/etc/hook".into(),
            allow_ttl: Duration::from_secs(300),
            deny_ttl: Duration::from_secs(30),
            backoff: Duration::from_millis(500),
            default_allow: true,
        };
        assert_eq!(usual, expected);
        let own = json!({"kubeConfigFile": "/hook", "allowTTL": 50, "denyTTL": -1, "retryBackoff": 1});
        let own = read(own).unwrap();
        assert_eq!((own.allow_ttl, own.deny_ttl), (Duration::from_secs(50), Duration::ZERO));
        assert_eq!((own.backoff, own.kubeconfig), (Duration::from_millis(1), "/hook".into()));
        for (entry, why) in [
            (
                json!({"kubeConfigFile": "x", "allowTTL": 1}),
                "allowTTL: valid value is between 1s and 1800s, got 1",
            ),
            (json!({"kubeConfigFile": "x", "denyTTL": -2}), "denyTTL: valid value is between"),
            (json!({"kubeConfigFile": "x", "retryBackoff": 300_001}), "retryBackoff: valid value is between"),
            (json!({}), "missing field `kubeConfigFile`"),
            (json!({"kubeConfigFile": "x", "ttl": 1}), "unknown field `ttl`"),
        ] {
            let found = read(entry).unwrap_err();
            assert!(found.contains(why), "{found}");
        }
    }
}
