//! PodNodeSelector: the pods of a namespace go where its annotation says.

use std::collections::BTreeMap;
use std::sync::Arc;

use carrack_api::meta;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{display_name, is_pod, spec};
use crate::authn::Objects;
use crate::{Admission, AdmissionRequest, ApiError, Draft, Operation};

const ANNOTATION: &str = "scheduler.alpha.kubernetes.io/node-selector";
/// The key in the configuration that holds the selector of namespaces without an annotation.
const DEFAULT: &str = "clusterDefaultNodeSelector";

/// The configuration: selectors by namespace, and one for all that have none.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeSelectors {
    #[serde(default, rename = "podNodeSelectorPluginConfig")]
    by_namespace: BTreeMap<String, String>,
}

type Labels = BTreeMap<String, String>;

impl NodeSelectors {
    /// Reads the configuration; the error says what is wrong.
    pub(crate) fn read(config: &Value) -> Result<Self, String> {
        let read: Self = serde_json::from_value(config.clone()).map_err(|why| why.to_string())?;
        for selector in read.by_namespace.values() {
            labels(selector)?;
        }
        Ok(read)
    }

    fn of(&self, key: &str) -> Result<Labels, String> {
        self.by_namespace.get(key).map_or(Ok(Labels::new()), |selector| labels(selector))
    }
}

/// `a=b,c=d` as labels.
fn labels(selector: &str) -> Result<Labels, String> {
    let terms = selector.split(',').map(str::trim).filter(|term| !term.is_empty());
    terms
        .map(|term| {
            let (key, value) =
                term.split_once('=').ok_or_else(|| format!("invalid selector: {selector:?}"))?;
            Ok((key.trim().to_owned(), value.trim_start_matches('=').trim().to_owned()))
        })
        .collect()
}

/// The plugin.
pub(crate) struct PodNodeSelector {
    objects: Arc<dyn Objects>,
    config: NodeSelectors,
}

impl PodNodeSelector {
    /// Looks namespaces up in `objects`.
    pub(crate) fn new(objects: Arc<dyn Objects>, config: NodeSelectors) -> Self {
        Self { objects, config }
    }

    /// The selector of the namespace.
    async fn selector(&self, namespace: &str) -> Result<Labels, ApiError> {
        let found = self.objects.get("", "namespaces", "", namespace).await?;
        let found = found.ok_or_else(|| ApiError::not_found("", "namespaces", namespace))?;
        let read = match meta::annotation(&found, ANNOTATION) {
            Some(selector) => labels(selector),
            None => self.config.of(DEFAULT),
        };
        read.map_err(|why| ApiError::forbidden("", "namespaces", namespace, &why))
    }
}

/// What the pod itself says.
fn own(pod: &Value) -> Labels {
    let own = pod.pointer("/spec/nodeSelector").and_then(Value::as_object).into_iter().flatten();
    own.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn conflict(one: &Labels, other: &Labels) -> bool {
    one.iter().any(|(key, value)| other.get(key).is_some_and(|known| known != value))
}

#[async_trait::async_trait]
impl Admission for PodNodeSelector {
    async fn mutate(&self, request: &AdmissionRequest<'_>, pod: &mut Draft<'_>) -> Result<(), ApiError> {
        if !is_pod(request, &[Operation::Create]) {
            return Ok(());
        }
        let mut merged = self.selector(&request.attributes.namespace).await?;
        let own = own(pod);
        if conflict(&merged, &own) {
            let why = "pod node label selector conflicts with its namespace node label selector";
            return Err(ApiError::forbidden("", "pods", display_name(request, Some(pod)), why));
        }
        merged.extend(own);
        if !merged.is_empty() {
            spec(pod).insert("nodeSelector".into(), json!(merged));
        }
        Ok(())
    }

    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        pod: Option<&Value>,
    ) -> Result<Vec<String>, ApiError> {
        let Some(pod) = pod.filter(|_| is_pod(request, &[Operation::Create])) else { return Ok(Vec::new()) };
        let namespace = &request.attributes.namespace;
        let refuse = |why: &str| Err(ApiError::forbidden("", "pods", display_name(request, Some(pod)), why));
        let own = own(pod);
        if conflict(&self.selector(namespace).await?, &own) {
            return refuse("pod node label selector conflicts with its namespace node label selector");
        }
        let allowed = self.config.of(namespace).unwrap_or_default();
        if !allowed.is_empty() && own.iter().any(|(key, value)| allowed.get(key) != Some(value)) {
            return refuse("pod node label selector labels conflict with its namespace whitelist");
        }
        Ok(Vec::new())
    }
}
