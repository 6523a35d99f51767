//! What every cluster has: made or brought up to date at start, and the care of the store's history.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use carrack_api::resources;
use carrack_store::{KeyRange, Revision, Store, Watch};
use futures::{StreamExt, stream};
use http::{Method, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::authz::bootstrap::{self, Step};
use crate::server::{ApiServer, Inner};
use crate::service::{Origin, handle};
use crate::{ApiError, UserInfo, aggregation, care, definitions, flow, full};

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
/// Wait before the `kubernetes` service is put back.
const PUT_BACK_AFTER: Duration = Duration::from_millis(500);
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
        let followed =
            definitions::start(&self.inner, self.store().clone(), self.inner.shutdown.clone()).await;
        followed.map_err(|error| StartError::Refused {
            what: "custom resources".to_owned(),
            message: error.message.clone(),
        })?;
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
        tokio::spawn(keep_kubernetes(Arc::downgrade(&self.inner), self.store().clone(), end));
        Ok(())
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
        let (code, stored) = self.request(Method::GET, &path, None).await;
        if code == 404 {
            return self.ensure(&collection, wanted, |_| None).await;
        }
        accept(&path, code, &stored)?;
        match bootstrap::reconcile(&stored, &wanted) {
            Step::Keep => Ok(()),
            Step::Update(updated) => {
                let (code, answer) = self.request(Method::PUT, &path, Some(&updated)).await;
                accept(&path, code, &answer)
            }
            Step::Replace => {
                let (code, answer) = self.request(Method::DELETE, &path, None).await;
                accept(&path, code, &answer)?;
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

    /// The service under which pods find this server, and its endpoints.
    async fn ensure_kubernetes(&self) -> Result<(), StartError> {
        let config = &self.inner.config;
        let service = json!({
            "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
            "spec": {
                "type": "ClusterIP",
                "clusterIP": self.inner.service_range.first().to_string(),
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": config.secure_port}],
            },
        });
        let ports = service["spec"]["ports"].clone();
        self.ensure("/api/v1/namespaces/default/services", service, |found| {
            replaced(found, "/spec/ports/0/targetPort", &ports[0]["targetPort"])
        })
        .await?;
        let address = config.advertise_address.to_string();
        let subsets = json!([{
            "addresses": [{"ip": address}],
            "ports": [{"name": "https", "port": config.secure_port, "protocol": "TCP"}],
        }]);
        let labels = json!({"endpointslice.kubernetes.io/skip-mirror": "true"});
        let endpoints = json!({"metadata": {"name": "kubernetes", "labels": labels}, "subsets": subsets});
        self.ensure("/api/v1/namespaces/default/endpoints", endpoints, |found| {
            replaced(found, "/subsets", &subsets)
        })
        .await?;
        let endpoints = json!([{"addresses": [address], "conditions": {"ready": true}}]);
        let slice_ports = json!([{"name": "https", "port": config.secure_port, "protocol": "TCP"}]);
        let slice = json!({
            "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": if config.advertise_address.is_ipv4() { "IPv4" } else { "IPv6" },
            "endpoints": endpoints,
            "ports": slice_ports,
        });
        self.ensure("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", slice, |found| {
            let with_endpoints = replaced(found, "/endpoints", &endpoints);
            let with_ports = replaced(with_endpoints.as_ref().unwrap_or(found), "/ports", &slice_ports);
            with_ports.or(with_endpoints)
        })
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
        let (code, answer) = self.request(Method::POST, collection, Some(&object)).await;
        let path =
            format!("{collection}/{}", encode(object["metadata"]["name"].as_str().unwrap_or_default()));
        if code != 409 || answer["reason"] != "AlreadyExists" {
            return accept(&path, code, &answer);
        }
        let (code, stored) = self.request(Method::GET, &path, None).await;
        accept(&path, code, &stored)?;
        let Some(amended) = amend(&stored) else { return Ok(()) };
        let (code, answer) = self.request(Method::PUT, &path, Some(&amended)).await;
        accept(&path, code, &answer)
    }

    /// Stores `object`, which has the resourceVersion that it was read with. Somebody else's change in between is no
    /// failure: it brings its own news.
    pub(crate) async fn replace(&self, path: &str, object: &Value) -> Result<(), StartError> {
        let (code, answer) = self.request(Method::PUT, path, Some(object)).await;
        if matches!(code, 404 | 409) { Ok(()) } else { accept(path, code, &answer) }
    }

    /// Deletes exactly the object that was read; see [`Self::replace`].
    pub(crate) async fn remove(&self, path: &str, object: &Value) -> Result<(), StartError> {
        let read = &object["metadata"];
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "preconditions": {"uid": read["uid"], "resourceVersion": read["resourceVersion"]},
        });
        let (code, answer) = self.request(Method::DELETE, path, Some(&options)).await;
        if matches!(code, 404 | 409) { Ok(()) } else { accept(path, code, &answer) }
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

/// A name as a path segment: those of roles have colons, which the parser of URLs takes for a scheme.
pub(crate) fn encode(name: &str) -> String {
    name.replace('%', "%25").replace(':', "%3A").replace('/', "%2F")
}

/// The row of a resource in its stored version.
pub(crate) fn row(group: &str, plural: &str) -> Option<&'static carrack_api::Resource> {
    resources().iter().find(|row| row.group == group && row.plural == plural && row.is_storage_version())
}

/// The object with another value at a pointer; `None` when it has that value.
fn replaced(object: &Value, pointer: &str, value: &Value) -> Option<Value> {
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

/// Puts the `kubernetes` service and its endpoints back when somebody deletes or changes them, until the server
/// ends: pods depend on them.
async fn keep_kubernetes(server: Weak<Inner>, store: Store, end: CancellationToken) {
    let kept = |row: &&carrack_api::Resource| {
        row.is_storage_version() && matches!(row.plural, "services" | "endpoints" | "endpointslices")
    };
    let mut changes = stream::SelectAll::new();
    for row in resources().iter().filter(kept) {
        match store.watch(Watch::of(KeyRange::key(row.key("default", "kubernetes")))) {
            Ok(watcher) => changes.push(Box::pin(stream::unfold(watcher, |mut watcher| async {
                Some((watcher.next().await?, watcher))
            }))),
            Err(error) => tracing::warn!(%error, "cannot watch the kubernetes service"),
        }
    }
    loop {
        let change = tokio::select! {
            () = end.cancelled() => return,
            change = changes.next() => change,
        };
        if change.is_none() {
            return;
        }
        // Whoever insists meets this at most once in a while.
        tokio::time::sleep(PUT_BACK_AFTER).await;
        let Some(inner) = server.upgrade() else { return };
        if let Err(error) = (ApiServer { inner }).ensure_kubernetes().await {
            tracing::warn!(%error, "cannot put the kubernetes service back");
        }
    }
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
