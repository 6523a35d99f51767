//! Every namespace has the cluster's CA certificate in the ConfigMap `kube-root-ca.crt`; one that was deleted comes
//! back, one that was changed is put right.

use std::sync::Arc;

use carrack_client::Key;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use serde_json::json;

use crate::accounts::open;
use crate::cache::{Caches, Feeds};
use crate::driver::{Controller, LookError};
use crate::plan::{Action, Plan};
use crate::queue::Queue;
use crate::resource::CONFIG_MAP as CONFIG_MAPS;

/// The name of the ConfigMap.
pub const CONFIG_MAP: &str = "kube-root-ca.crt";
/// The entry that holds the certificate.
const ENTRY: &str = "ca.crt";
const DESCRIPTION: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the \
     internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes \
     clusters.",
);

/// What the plan for one namespace is made from.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The namespace.
    pub namespace: Arc<Namespace>,
    /// The ConfigMap as it is.
    pub current: Option<Arc<ConfigMap>>,
    /// The certificate, PEM.
    pub certificate: Arc<str>,
}

/// The controller; its keys are namespaces.
pub struct RootCa {
    caches: Arc<Caches>,
    certificate: Arc<str>,
}

impl RootCa {
    /// A controller that publishes `certificate` (PEM).
    #[must_use]
    pub fn new(caches: Arc<Caches>, certificate: &str) -> Self {
        Self { caches, certificate: certificate.into() }
    }

    /// Feeds `queue` with namespaces.
    pub fn hook(feeds: &mut Feeds, queue: &Arc<Queue>) {
        let own = Arc::clone(queue);
        feeds.namespaces.push(Box::new(move |change| {
            if let Some(namespace) = &change.new {
                own.add(Key::of(&namespace.metadata));
            }
        }));
        let own = Arc::clone(queue);
        feeds.root_cas.push(Box::new(move |change| {
            if let Some(map) = change.latest() {
                own.add(Key::cluster(map.metadata.namespace.clone().unwrap_or_default()));
            }
        }));
    }
}

/// Creates or corrects the ConfigMap.
#[must_use]
pub fn plan(snapshot: &Snapshot) -> Plan {
    let mut plan = Plan::none();
    if !open(&snapshot.namespace) {
        return plan;
    }
    let namespace = snapshot.namespace.metadata.name.as_deref().unwrap_or_default();
    let wanted = json!({ ENTRY: &*snapshot.certificate });
    let annotations = json!({ DESCRIPTION.0: DESCRIPTION.1 });
    let Some(current) = &snapshot.current else {
        let body = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": CONFIG_MAP, "namespace": namespace, "annotations": annotations },
            "data": wanted,
        });
        plan.push(Action::create(CONFIG_MAPS, namespace, body).existing_ok());
        return plan;
    };
    let data = json!(current.data.clone().unwrap_or_default());
    let described = current.metadata.annotations.as_ref().and_then(|a| a.get(DESCRIPTION.0));
    let binary = current.binary_data.as_ref().is_some_and(|b| !b.is_empty());
    if data != wanted || described.map(String::as_str) != Some(DESCRIPTION.1) || binary {
        let mut body = json!({
            "metadata": { "uid": current.metadata.uid, "annotations": annotations },
            "data": crate::diff::merge(&data, &wanted).unwrap_or_else(|| json!({})),
        });
        if binary {
            body["binaryData"] = serde_json::Value::Null;
        }
        plan.push(Action::merge(CONFIG_MAPS, Key::new(namespace, CONFIG_MAP), "", body).missing_ok());
    }
    plan
}

impl Controller for RootCa {
    type Snapshot = Snapshot;
    const NAME: &'static str = "root-ca";

    async fn snapshot(&self, key: &Key) -> Result<Option<Snapshot>, LookError> {
        let Some(namespace) = self.caches.namespaces.get(key) else { return Ok(None) };
        let current = self.caches.root_cas.get(&Key::new(key.name.clone(), CONFIG_MAP));
        Ok(Some(Snapshot { namespace, current, certificate: Arc::clone(&self.certificate) }))
    }

    fn plan(&self, snapshot: &Snapshot, _now: Timestamp) -> Plan {
        plan(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Verb;
    use crate::testing;

    fn snapshot(data: Option<&[(&str, &str)]>) -> Snapshot {
        let annotations = testing::labels(&[(DESCRIPTION.0, DESCRIPTION.1)]);
        let current = data.map(|data| ConfigMap {
            metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                annotations: Some(annotations),
                ..testing::meta(CONFIG_MAP)
            },
            data: Some(testing::labels(data)),
            ..ConfigMap::default()
        });
        let namespace = Namespace { metadata: testing::meta("a"), ..Namespace::default() };
        Snapshot { namespace: Arc::new(namespace), current: current.map(Arc::new), certificate: "PEM".into() }
    }

    #[test]
    fn it_is_made_left_alone_when_right_and_corrected_when_wrong() {
        let made = plan(&snapshot(None));
        assert!(matches!(made.actions().next().unwrap().verb, Verb::Create { .. }));
        assert_eq!(plan(&snapshot(Some(&[(ENTRY, "PEM")]))), Plan::none());
        let corrected = plan(&snapshot(Some(&[(ENTRY, "forged"), ("more", "x")])));
        let Verb::Patch { body, .. } = &corrected.actions().next().unwrap().verb else { panic!() };
        assert_eq!(body["data"], json!({ ENTRY: "PEM", "more": null }));
    }
}
