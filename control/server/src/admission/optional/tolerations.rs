//! PodTolerationRestriction: the tolerations that the pods of a namespace get, and those that they may have.

use std::sync::Arc;

use carrack_api::meta;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::{display_name, is_pod, spec};
use crate::authn::{Objects, text};
use crate::{Admission, AdmissionRequest, ApiError, Draft, Operation};

const DEFAULTS: &str = "scheduler.alpha.kubernetes.io/defaultTolerations";
const WHITELIST: &str = "scheduler.alpha.kubernetes.io/tolerationsWhitelist";
const WRITTEN: &[Operation] = &[Operation::Create, Operation::Update];
const FORM: (&str, &str) = ("podtolerationrestriction.admission.k8s.io/v1alpha1", "Configuration");

/// A toleration of a taint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Toleration {
    #[serde(skip_serializing_if = "String::is_empty")]
    key: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    operator: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    value: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    effect: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    toleration_seconds: Option<i64>,
}

impl Toleration {
    /// Whether it tolerates all that `other` does.
    fn covers(&self, other: &Toleration) -> bool {
        if self == other {
            return true;
        }
        let exists = self.operator == "Exists";
        let any_key = self.key.is_empty() && exists;
        if (other.key != self.key && !any_key) || (other.effect != self.effect && !self.effect.is_empty()) {
            return false;
        }
        if self.effect == "NoExecute"
            && let Some(most) = self.toleration_seconds
            && other.toleration_seconds.is_none_or(|seconds| seconds > most)
        {
            return false;
        }
        exists || (self.is_equal() && other.is_equal() && other.value == self.value)
    }

    fn is_equal(&self) -> bool {
        matches!(self.operator.as_str(), "" | "Equal")
    }
}

/// All of both, without those that others of them cover.
fn merged(first: &[Toleration], second: &[Toleration]) -> Vec<Toleration> {
    let all: Vec<&Toleration> = first.iter().chain(second).collect();
    let mut kept: Vec<Toleration> = Vec::new();
    for (index, one) in all.iter().enumerate() {
        let later = &all[index + 1..];
        let covered = kept.iter().any(|known| known.covers(one))
            || later.iter().any(|other| other != one && other.covers(one));
        if !covered {
            kept.push((*one).clone());
        }
    }
    kept
}

/// The configuration: what counts for namespaces that say nothing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TolerationLists {
    #[serde(default, rename = "apiVersion")]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    default: Vec<Toleration>,
    #[serde(default)]
    whitelist: Vec<Toleration>,
}

impl TolerationLists {
    /// Reads the configuration; the error says what is wrong.
    pub(crate) fn read(config: &Value) -> Result<Self, String> {
        let read: Self = serde_json::from_value(config.clone()).map_err(|why| why.to_string())?;
        super::check_form(FORM, (&read.api_version, &read.kind))?;
        Ok(read)
    }
}

/// The plugin.
pub(crate) struct PodTolerationRestriction {
    objects: Arc<dyn Objects>,
    config: TolerationLists,
}

impl PodTolerationRestriction {
    /// Looks namespaces up in `objects`.
    pub(crate) fn new(objects: Arc<dyn Objects>, config: TolerationLists) -> Self {
        Self { objects, config }
    }

    /// The list in an annotation of the namespace; `None` when it has none.
    async fn of(&self, namespace: &str, annotation: &str) -> Result<Option<Vec<Toleration>>, ApiError> {
        let found = self.objects.get("", "namespaces", "", namespace).await?;
        let found = found.ok_or_else(|| ApiError::not_found("", "namespaces", namespace))?;
        let Some(said) = meta::annotation(&found, annotation) else { return Ok(None) };
        if said.is_empty() {
            return Ok(Some(Vec::new()));
        }
        serde_json::from_str(said).map(Some).map_err(|why| {
            ApiError::forbidden("", "namespaces", namespace, &format!("annotation {annotation}: {why}"))
        })
    }
}

fn own(pod: &Value) -> Vec<Toleration> {
    let own = pod.pointer("/spec/tolerations").cloned().unwrap_or_default();
    serde_json::from_value(own).unwrap_or_default()
}

#[async_trait::async_trait]
impl Admission for PodTolerationRestriction {
    async fn mutate(&self, request: &AdmissionRequest<'_>, pod: &mut Draft<'_>) -> Result<(), ApiError> {
        if !is_pod(request, WRITTEN) {
            return Ok(());
        }
        let mut all = own(pod);
        if request.operation == Operation::Create {
            let given = self.of(&request.attributes.namespace, DEFAULTS).await?;
            all = merged(given.as_ref().unwrap_or(&self.config.default), &all);
        }
        if text(pod, "/status/qosClass") != "BestEffort" {
            let pressed = Toleration {
                key: "node.kubernetes.io/memory-pressure".into(),
                operator: "Exists".into(),
                effect: "NoSchedule".into(),
                ..Toleration::default()
            };
            all = merged(&all, &[pressed]);
        }
        if !all.is_empty() {
            spec(pod).insert("tolerations".into(), json!(all));
        }
        Ok(())
    }

    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        pod: Option<&Value>,
    ) -> Result<Vec<String>, ApiError> {
        let Some(pod) = pod.filter(|_| is_pod(request, WRITTEN)) else { return Ok(Vec::new()) };
        let given = self.of(&request.attributes.namespace, WHITELIST).await?;
        let (allowed, whose) = match &given {
            Some(allowed) => (allowed, "namespace"),
            None => (&self.config.whitelist, "cluster"),
        };
        let is_allowed = |one: &Toleration| allowed.iter().any(|allowed| allowed.covers(one));
        if allowed.is_empty() || own(pod).iter().all(is_allowed) {
            return Ok(Vec::new());
        }
        let why = format!(
            "pod tolerations (possibly merged with namespace default tolerations) conflict with its {whose} whitelist"
        );
        Err(ApiError::forbidden("", "pods", display_name(request, Some(pod)), &why))
    }
}
