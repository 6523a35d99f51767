//! What every cluster has: made or brought up to date at start, and the care of the store's history.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use carrack_api::resources;
use carrack_store::{LeaseId, Revision, Store};
use http::{Method, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::authz::bootstrap::{self, Step};
use crate::server::ApiServer;
use crate::service::{Origin, handle};
use crate::{ApiError, UserInfo, aggregation, care, definitions, flow, full, kubernetes, listed};

/// The namespaces of every cluster.
const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];
/// The priority classes of every cluster.
const PRIORITY_CLASSES: &[(&str, i64, &str)] = &[
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
];
/// How long a start insists where the store has no leader for a moment, and the pause between two tries.
const INSIST: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);
/// How long history is kept at least: so long a watch may be away and come back; upstream's figure. At most it
/// is kept twice as long.
const KEEP_HISTORY: Duration = Duration::from_secs(300);

/// Why the objects that every cluster has could not be made.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The server refused one of them.
    #[error("cannot make {what}: {message}")]
    Refused {
        /// The object, by its path.
        what: String,
        /// What the server said.
        message: String,
    },
}

impl ApiServer {
    /// Makes the namespaces, roles and services that every cluster has, where they are not there or not as they
    /// should be, and starts to drop history that nobody needs. To be called once, before or while serving.
    pub async fn start(&self) -> Result<(), StartError> {
        self.inner.interests.start(self.store());
        self.follow_definitions().await?;
        for name in NAMESPACES {
            self.ensure("/api/v1/namespaces", json!({"metadata": {"name": name}}), |_| None).await?;
        }
        for (_, wanted) in bootstrap::objects() {
            self.ensure_policy(wanted).await?;
        }
        for (name, value, description) in PRIORITY_CLASSES {
            let class = json!({"metadata": {"name": name}, "value": value, "description": description});
            self.ensure("/apis/scheduling.k8s.io/v1/priorityclasses", class, |_| None).await?;
        }
        for service in aggregation::register() {
            self.ensure("/apis/apiregistration.k8s.io/v1/apiservices", service, |_| None).await?;
        }
        self.ensure_authentication().await?;
        let lease = self.enter().await?;
        self.ensure_kubernetes().await?;
        self.ensure_service_range().await?;
        self.ensure_dns().await?;
        flow::start(self).await?;
        let end = self.inner.shutdown.clone();
        tokio::spawn(flow::care(Arc::downgrade(&self.inner), self.store().clone(), end.clone()));
        care::start(self);
        tokio::spawn(aggregation::keep_checked(Arc::downgrade(&self.inner), end.clone()));
        tokio::spawn(aggregation::keep_registered(Arc::downgrade(&self.inner), end.clone()));
        tokio::spawn(drop_history(self.store().clone(), end.clone()));
        tokio::spawn(listed::keep(Arc::downgrade(&self.inner), self.store().clone(), lease));
        tokio::spawn(kubernetes::keep(Arc::downgrade(&self.inner), self.store().clone(), end));
        Ok(())
    }

    /// Serves custom resources.
    async fn follow_definitions(&self) -> Result<(), StartError> {
        let began = Instant::now();
        loop {
            let end = self.inner.shutdown.clone();
            match definitions::start(&self.inner, self.store().clone(), end).await {
                Ok(()) => return Ok(()),
                Err(_) if began.elapsed() < INSIST => tokio::time::sleep(PAUSE).await,
                Err(error) => {
                    let what = "custom resources".to_owned();
                    return Err(StartError::Refused { what, message: error.message.clone() });
                }
            }
        }
    }

    /// Says that this server is there.
    async fn enter(&self) -> Result<LeaseId, StartError> {
        let began = Instant::now();
        loop {
            match listed::enter(&self.inner).await {
                Ok(lease) => return Ok(lease),
                Err(_) if began.elapsed() < INSIST => tokio::time::sleep(PAUSE).await,
                Err(error) => {
                    let what = "the entry of this server".to_owned();
                    return Err(StartError::Refused { what, message: error.to_string() });
                }
            }
        }
    }

    /// One object of the bootstrap policy.
    async fn ensure_policy(&self, wanted: Value) -> Result<(), StartError> {
        let kind = wanted["kind"].as_str().unwrap_or_default();
        let row = resources().iter().find(|r| r.kind == kind && r.group == crate::authz::GROUP);
        let within =
            wanted["metadata"]["namespace"].as_str().map(|namespace| format!("namespaces/{namespace}/"));
        let within = within.unwrap_or_default();
        let collection = row.map_or_else(String::new, |r| format!("{}/{within}{}", r.root_path(), r.plural));
        let path =
            format!("{collection}/{}", encode(wanted["metadata"]["name"].as_str().unwrap_or_default()));
        let (code, stored) = self.insist(Method::GET, &path, None).await;
        if code == 404 {
            return self.ensure(&collection, wanted, |_| None).await;
        }
        accept(&path, code, &stored)?;
        match bootstrap::reconcile(&stored, &wanted) {
            Step::Keep => Ok(()),
            Step::Update(updated) => {
                let (code, answer) = self.insist(Method::PUT, &path, Some(&updated)).await;
                accept_lost(&path, code, &answer)
            }
            Step::Replace => {
                let (code, answer) = self.insist(Method::DELETE, &path, None).await;
                accept_lost(&path, code, &answer)?;
                self.ensure(&collection, wanted, |_| None).await
            }
        }
    }

    /// What aggregated API servers read to know whom to believe.
    async fn ensure_authentication(&self) -> Result<(), StartError> {
        let Some(proxy) = self.inner.aggregation.front_proxy() else { return Ok(()) };
        let data = json!({
            "client-ca-file": proxy.client_ca_pem,
            "requestheader-client-ca-file": proxy.authority_pem,
            "requestheader-allowed-names": json!([proxy.name]).to_string(),
            "requestheader-username-headers": r#"["X-Remote-User"]"#,
            "requestheader-uid-headers": r#"["X-Remote-Uid"]"#,
            "requestheader-group-headers": r#"["X-Remote-Group"]"#,
            "requestheader-extra-headers-prefix": r#"["X-Remote-Extra-"]"#,
        });
        let map = json!({"metadata": {"name": "extension-apiserver-authentication"}, "data": data});
        self.ensure("/api/v1/namespaces/kube-system/configmaps", map, |found| replaced(found, "/data", &data))
            .await
    }

    /// The range that Services' addresses come from, as an object.
    async fn ensure_service_range(&self) -> Result<(), StartError> {
        let range = json!({
            "metadata": {"name": "kubernetes"},
            "spec": {"cidrs": [self.inner.config.service_cidr]},
        });
        self.ensure("/apis/networking.k8s.io/v1/servicecidrs", range, |_| None).await
    }

    /// The service of the cluster's DNS, which each node answers by itself: it has no endpoints.
    async fn ensure_dns(&self) -> Result<(), StartError> {
        let service = json!({
            "metadata": {
                "name": "kube-dns",
                // By the second, `kubectl cluster-info` tells of it.
                "labels": {
                    "k8s-app": "kube-dns",
                    "kubernetes.io/cluster-service": "true",
                    "kubernetes.io/name": "CoreDNS",
                },
            },
            "spec": {
                "type": "ClusterIP",
                "clusterIP": self.inner.config.dns_address.to_string(),
                "ports": [
                    {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                    {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
                ],
            },
        });
        self.ensure("/api/v1/namespaces/kube-system/services", service, |_| None).await
    }

    /// Creates an object, or brings the one that is there to what `amend` makes of it (`None`: it is fine).
    pub(crate) async fn ensure(
        &self,
        collection: &str,
        object: Value,
        amend: impl Fn(&Value) -> Option<Value>,
    ) -> Result<(), StartError> {
        let (code, answer) = self.insist(Method::POST, collection, Some(&object)).await;
        let path =
            format!("{collection}/{}", encode(object["metadata"]["name"].as_str().unwrap_or_default()));
        if code != 409 || answer["reason"] != "AlreadyExists" {
            return accept(&path, code, &answer);
        }
        let (code, stored) = self.insist(Method::GET, &path, None).await;
        accept(&path, code, &stored)?;
        let Some(amended) = amend(&stored) else { return Ok(()) };
        self.replace(&path, &amended).await
    }

    /// A request that has to be answered: while the store has no leader it is made again.
    async fn insist(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let began = Instant::now();
        loop {
            let (code, answer) = self.request(method.clone(), path, body).await;
            if !matches!(code, 500 | 503 | 504) || began.elapsed() > INSIST {
                return (code, answer);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Stores `object`, which has the resourceVersion that it was read with. Somebody else's change in between is no
    /// failure: it brings its own news.
    pub(crate) async fn replace(&self, path: &str, object: &Value) -> Result<(), StartError> {
        let (code, answer) = self.request(Method::PUT, path, Some(object)).await;
        accept_lost(path, code, &answer)
    }

    /// Deletes exactly the object that was read; see [`Self::replace`].
    pub(crate) async fn remove(&self, path: &str, object: &Value) -> Result<(), StartError> {
        let read = &object["metadata"];
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "preconditions": {"uid": read["uid"], "resourceVersion": read["resourceVersion"]},
        });
        let (code, answer) = self.request(Method::DELETE, path, Some(&options)).await;
        accept_lost(path, code, &answer)
    }

    /// A request of the server to itself.
    pub(crate) async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let text = body.map(Value::to_string).unwrap_or_default();
        let mut request = Request::new(full(text));
        *request.method_mut() = method;
        match path.parse() {
            Ok(uri) => *request.uri_mut() = uri,
            Err(error) => return failed(&error),
        }
        let user = UserInfo::new("system:apiserver", ["system:masters"]);
        let response = handle(self.inner.clone(), user, request, Origin::Server).await;
        let code = response.status().as_u16();
        let body: Bytes = match response.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return failed(&error),
        };
        (code, serde_json::from_slice(&body).unwrap_or_default())
    }
}

/// A request that did not come to an answer.
fn failed(error: &dyn std::fmt::Display) -> (u16, Value) {
    let error = ApiError::internal(error);
    (error.code, error.to_value())
}

/// Refuses an answer that is no success.
fn accept(what: &str, code: u16, answer: &Value) -> Result<(), StartError> {
    if code < 400 {
        return Ok(());
    }
    let message = answer["message"].as_str().unwrap_or("no message").to_owned();
    Err(StartError::Refused { what: what.to_owned(), message })
}

/// The same; also that somebody else, such as another server that starts, was quicker, is fine.
fn accept_lost(what: &str, code: u16, answer: &Value) -> Result<(), StartError> {
    if matches!(code, 404 | 409) { Ok(()) } else { accept(what, code, answer) }
}

/// A name as a path segment: those of roles have colons, which the parser of URLs takes for a scheme.
pub(crate) fn encode(name: &str) -> String {
    name.replace('%', "%25").replace(':', "%3A").replace('/', "%2F")
}

/// The row of a resource in its stored version.
pub(crate) fn row(group: &str, plural: &str) -> Option<&'static carrack_api::Resource> {
    resources().iter().find(|row| row.group == group && row.plural == plural && row.is_storage_version())
}

/// The object with another value at a pointer; `None` when it has that value.
pub(crate) fn replaced(object: &Value, pointer: &str, value: &Value) -> Option<Value> {
    if object.pointer(pointer) == Some(value) {
        return None;
    }
    let mut new = object.clone();
    match new.pointer_mut(pointer) {
        Some(place) => *place = value.clone(),
        None => {
            let field = pointer.trim_start_matches('/');
            new.as_object_mut()?.insert(field.to_owned(), value.clone());
        }
    }
    Some(new)
}

/// Drops history that is older than [`KEEP_HISTORY`], until the server ends.
async fn drop_history(store: Store, end: CancellationToken) {
    let mut before: Revision = store.revision();
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(KEEP_HISTORY) => {}
        }
        let now = store.revision();
        if before > store.compacted_revision()
            && let Err(error) = store.compact(before).await
        {
            tracing::warn!(%error, "cannot drop old history of the store");
        }
        before = now;
    }
}
