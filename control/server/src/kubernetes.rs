//! The `kubernetes` service, under which pods find the API servers, and its endpoints: all servers that live.
//!
//! Every server brings them up to date after each change. Two that do it at once may overwrite each other's with an older
//! list, but whoever wrote the older one has yet to hear of the change, and does it again.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Weak;
use std::time::Duration;

use carrack_api::resources;
use carrack_store::{KeyRange, Store, Watch};
use futures::{FutureExt, StreamExt, stream};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::listed::{self, SERVERS};
use crate::server::{ApiServer, Inner};
use crate::start::{StartError, replaced};

/// Wait before the service is put right: changes come in groups, and whoever insists on another form meets this at most
/// once in a while.
const SETTLE: Duration = Duration::from_millis(200);
/// Wait before what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

impl ApiServer {
    /// The service under which pods find the API servers, and its endpoints.
    pub(crate) async fn ensure_kubernetes(&self) -> Result<(), StartError> {
        let port = self.inner.config.secure_port;
        let service = json!({
            "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
            "spec": {
                "type": "ClusterIP",
                "clusterIP": self.inner.service_range.first().to_string(),
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
            },
        });
        let ports = service["spec"]["ports"].clone();
        self.ensure("/api/v1/namespaces/default/services", service, |found| {
            replaced(found, "/spec/ports/0/targetPort", &ports[0]["targetPort"])
        })
        .await?;
        let addresses = self.addresses().await?;
        let ports = json!([{"name": "https", "port": port, "protocol": "TCP"}]);
        self.ensure_endpoints(&addresses, &ports).await?;
        self.ensure_slice(&addresses, &ports).await
    }

    /// The addresses of all servers with this one's port, of its family. A server that has yet to enter itself counts.
    async fn addresses(&self) -> Result<BTreeSet<IpAddr>, StartError> {
        let config = &self.inner.config;
        let all = listed::all(self.store()).await.map_err(|error| StartError::Refused {
            what: "the endpoints of the kubernetes service".to_owned(),
            message: error.message.clone(),
        })?;
        let fits = |address: &IpAddr| address.is_ipv4() == config.advertise_address.is_ipv4();
        let known = all.into_iter().filter(|server| server.port == config.secure_port);
        let mut addresses: BTreeSet<IpAddr> = known.map(|server| server.address).filter(fits).collect();
        if addresses.is_empty() {
            addresses.insert(config.advertise_address);
        }
        Ok(addresses)
    }

    async fn ensure_endpoints(&self, addresses: &BTreeSet<IpAddr>, ports: &Value) -> Result<(), StartError> {
        let addresses: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        let subsets = json!([{"addresses": addresses, "ports": ports}]);
        let labels = json!({"endpointslice.kubernetes.io/skip-mirror": "true"});
        let endpoints = json!({"metadata": {"name": "kubernetes", "labels": labels}, "subsets": subsets});
        self.ensure("/api/v1/namespaces/default/endpoints", endpoints, |found| {
            replaced(found, "/subsets", &subsets)
        })
        .await
    }

    async fn ensure_slice(&self, addresses: &BTreeSet<IpAddr>, ports: &Value) -> Result<(), StartError> {
        let endpoint = |ip: &IpAddr| json!({"addresses": [ip], "conditions": {"ready": true}});
        let endpoints: Value = addresses.iter().map(endpoint).collect();
        let slice = json!({
            "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": if self.inner.config.advertise_address.is_ipv4() { "IPv4" } else { "IPv6" },
            "endpoints": endpoints,
            "ports": ports,
        });
        self.ensure("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", slice, |found| {
            let with_endpoints = replaced(found, "/endpoints", &endpoints);
            let with_ports = replaced(with_endpoints.as_ref().unwrap_or(found), "/ports", ports);
            with_ports.or(with_endpoints)
        })
        .await
    }
}

/// Brings the service and its endpoints up to date when servers come and go, and puts them back when somebody deletes or
/// changes them, until the server ends: pods depend on them.
pub(crate) async fn keep(server: Weak<Inner>, store: Store, end: CancellationToken) {
    let kept = |row: &&carrack_api::Resource| {
        row.is_storage_version() && matches!(row.plural, "services" | "endpoints" | "endpointslices")
    };
    let own = resources().iter().filter(kept).map(|row| KeyRange::key(row.key("default", "kubernetes")));
    let ranges: Vec<KeyRange> = own.chain([KeyRange::prefix(SERVERS)]).collect();
    loop {
        let mut changes = stream::SelectAll::new();
        for range in &ranges {
            match store.watch(Watch::of(range.clone())) {
                Ok(watcher) => changes.push(Box::pin(stream::unfold(watcher, |mut watcher| async {
                    Some((watcher.next().await?, watcher))
                }))),
                Err(error) => return tracing::warn!(%error, "cannot watch the kubernetes service"),
            }
        }
        // What happened before the watches began is found by looking.
        loop {
            let Some(inner) = server.upgrade() else { return };
            let brought = (ApiServer { inner }).ensure_kubernetes().await;
            if let Err(error) = &brought {
                tracing::warn!(%error, "cannot put the kubernetes service right; trying again");
            }
            let change = tokio::select! {
                () = end.cancelled() => return,
                change = changes.next() => change,
                () = tokio::time::sleep(RETRY), if brought.is_err() => continue,
            };
            match change {
                Some(Ok(_)) => {}
                // Missed something, or the store has ended.
                Some(Err(_)) => break,
                None => return,
            }
            tokio::time::sleep(SETTLE).await;
            while changes.next().now_or_never().flatten().is_some_and(|change| change.is_ok()) {}
        }
        tokio::time::sleep(RETRY).await;
    }
}
