//! RuntimeClass: what a pod's class of runtime costs on top, and where it can run.

use std::sync::Arc;

use carrack_api::footprint;
use serde_json::{Value, json};

use super::{display_name, field_list, is_pod, list, spec};
use crate::authn::{Objects, text};
use crate::{Admission, AdmissionRequest, ApiError, Draft, Operation};

/// The plugin.
pub struct RuntimeClass {
    objects: Arc<dyn Objects>,
}

impl RuntimeClass {
    /// Looks classes up in `objects`.
    pub fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects }
    }

    /// The class that the pod names, if it names one; a refusal when there is none of that name.
    async fn class(&self, pod: &Value) -> Result<Result<Option<Arc<Value>>, String>, ApiError> {
        let name = text(pod, "/spec/runtimeClassName");
        if name.is_empty() {
            return Ok(Ok(None));
        }
        let class = self.objects.get("node.k8s.io", "runtimeclasses", "", name).await?;
        Ok(class.map(Some).ok_or_else(|| format!("pod rejected: RuntimeClass {name:?} not found")))
    }
}

#[async_trait::async_trait]
impl Admission for RuntimeClass {
    async fn mutate(&self, request: &AdmissionRequest<'_>, pod: &mut Draft<'_>) -> Result<(), ApiError> {
        if !is_pod(request, &[Operation::Create]) {
            return Ok(());
        }
        let done = match self.class(pod).await? {
            Ok(Some(class)) => set_overhead(&class, pod).and_then(|()| set_scheduling(&class, pod)),
            Ok(None) => Ok(()),
            Err(why) => Err(why),
        };
        done.map_err(|why| ApiError::forbidden("", "pods", display_name(request, Some(pod)), &why))
    }

    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        pod: Option<&Value>,
    ) -> Result<Vec<String>, ApiError> {
        let Some(pod) = pod.filter(|_| is_pod(request, &[Operation::Create])) else { return Ok(Vec::new()) };
        let class = self.class(pod).await?;
        let why = match class {
            Ok(class) => match class.as_deref().and_then(overhead) {
                Some(overhead) => check_overhead(overhead, pod),
                None if pod.pointer("/spec/overhead").is_some_and(Value::is_object) => {
                    Err("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
                        .into())
                }
                None => Ok(()),
            },
            Err(why) => Err(why),
        };
        why.map_err(|why: String| ApiError::forbidden("", "pods", display_name(request, Some(pod)), &why))?;
        Ok(Vec::new())
    }
}

/// The overhead that a class defines.
fn overhead(class: &Value) -> Option<&Value> {
    class.get("overhead").filter(|overhead| overhead.is_object())
}

fn check_overhead(overhead: &Value, pod: &Value) -> Result<(), String> {
    let Some(own) = pod.pointer("/spec/overhead").filter(|own| own.is_object()) else { return Ok(()) };
    if footprint::amounts(Some(own)) == footprint::amounts(overhead.get("podFixed")) {
        return Ok(());
    }
    Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".into())
}

fn set_overhead(class: &Value, pod: &mut Value) -> Result<(), String> {
    let Some(overhead) = overhead(class) else { return Ok(()) };
    check_overhead(overhead, pod)?;
    let fixed = overhead.get("podFixed").cloned().unwrap_or_else(|| json!({}));
    spec(pod).insert("overhead".into(), fixed);
    Ok(())
}

/// Adds the class's node selector and tolerations to the pod's.
fn set_scheduling(class: &Value, pod: &mut Value) -> Result<(), String> {
    let wanted = class.pointer("/scheduling/nodeSelector").and_then(Value::as_object);
    if let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) {
        let fields = spec(pod);
        let mut selector = fields.get("nodeSelector").and_then(Value::as_object).cloned().unwrap_or_default();
        for (key, value) in wanted {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            match selector.get(key) {
                Some(own) if own != value => {
                    return Err(format!(
                        "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                        text(value),
                        text(own)
                    ));
                }
                _ => selector.insert(key.clone(), value.clone()),
            };
        }
        fields.insert("nodeSelector".into(), Value::Object(selector));
    }
    for toleration in list(class, "/scheduling/tolerations") {
        if !list(pod, "/spec/tolerations").any(|own| own == toleration) {
            field_list(spec(pod), "tolerations").push(toleration.clone());
        }
    }
    Ok(())
}
