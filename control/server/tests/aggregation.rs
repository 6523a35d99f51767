//! Aggregated API servers, against a real HTTPS server that wants the front proxy's certificate.
// Helpers outside the test functions: one that fails ends its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/tls.rs"]
mod tls;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use carrack_server::pki::{Pki, PkiOptions};
use common::{Client, Cluster};
use http::HeaderMap;
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};
use tls::{TlsServer, reply};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const REMOTE: &str = "/apis/metrics.example.org/v1beta1";

fn pki(dir: &std::path::Path) -> Pki {
    let options = PkiOptions {
        node_name: "n".into(),
        node_ips: Vec::new(),
        service_ip: "10.96.0.1".parse().unwrap(),
        cluster_domain: "cluster.local".into(),
        hostname: "n".into(),
        extra_sans: Vec::new(),
    };
    Pki::open_or_create(&dir.join("pki"), &options).unwrap()
}

struct Extended {
    cluster: Cluster,
    client: Client,
    server: TlsServer,
    seen: Arc<Mutex<Vec<(String, HeaderMap)>>>,
    _dir: tempfile::TempDir,
}

impl Extended {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let proxy = pki(dir.path()).front_proxy();
        let cluster = Cluster::with_front_proxy(Some(proxy.clone())).await;
        cluster.api.start().await.unwrap();
        let seen: Arc<Mutex<Vec<(String, HeaderMap)>>> = Arc::default();
        let notes = seen.clone();
        let server = TlsServer::start_for(&["ext.default.svc"], Some(&proxy.authority_pem), move |request| {
            let path = request.uri().path().to_owned();
            notes.lock().unwrap().push((path.clone(), request.headers().clone()));
            let query = request.uri().query().unwrap_or_default().to_owned();
            Box::pin(async move {
                match path.strip_prefix(REMOTE).unwrap_or(&path) {
                    "" => reply(200, json!({"kind": "APIResourceList", "groupVersion": "metrics.example.org/v1beta1",
                        "resources": [{"name": "nodes", "singularName": "node", "namespaced": false,
                            "kind": "NodeMetrics", "verbs": ["get", "list"]}]}).to_string()),
                    "/openapi/v2" => reply(200, json!({"swagger": "2.0",
                        "paths": {format!("{REMOTE}/nodes"): {"get": {"responses": {"200": {"description": "OK",
                            "schema": {"$ref": "#/definitions/org.example.NodeMetrics"}}}}}, "/apis/apps/v1/x": {}},
                        "definitions": {"org.example.NodeMetrics": {"type": "object"}, "unused": {}}}).to_string()),
                    "/openapi/v3" => reply(200, json!({"paths": {REMOTE.trim_start_matches('/'):
                        {"serverRelativeURL": format!("/openapi/v3{REMOTE}?hash=X")}}}).to_string()),
                    "/nodes" if query.contains("watch") => {
                        let event = |n: u32| Ok(http_body::Frame::data(bytes::Bytes::from(format!("{{\"type\": \"ADDED\", \"object\": {{\"metadata\": {{\"name\": \"n{n}\"}}}}}}\n"))));
                        let events = futures::stream::unfold(0, move |n| async move {
                            if n == 1 {
                                tokio::time::sleep(Duration::from_millis(300)).await;
                            }
                            (n < 2).then(|| (event(n), n + 1))
                        });
                        http::Response::new(StreamBody::new(events).boxed_unsync())
                    }
                    "/nodes" => reply(200, "{\"kind\": \"NodeMetricsList\"}"),
                    _ => reply(418, "{}"),
                }
            })
        })
        .await;
        let client = cluster.client();
        client
            .post(
                common::SERVICES,
                &json!({"metadata": {"name": "ext"},
            "spec": {"ports": [{"name": "h", "port": 443}]}}),
            )
            .await
            .expect(201);
        Extended { cluster, client, server, seen, _dir: dir }
    }

    /// Validation lets no loopback addresses in.
    async fn add_endpoint(&self) {
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "ext-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "ext"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": true}}],
            "ports": [{"name": "h", "port": self.server.address.port(), "protocol": "TCP"}],
        });
        let key = "/registry/endpointslices/default/ext-1".to_owned();
        let put = carrack_store::Op::put(key, slice.to_string());
        self.cluster.store.txn(carrack_store::Txn::of(vec![put])).await.unwrap();
    }

    async fn register(&self) {
        let service = json!({
            "metadata": {"name": "v1beta1.metrics.example.org"},
            "spec": {"group": "metrics.example.org", "version": "v1beta1", "groupPriorityMinimum": 100,
                "versionPriority": 100, "caBundle": self.server.ca_bundle,
                "service": {"namespace": "default", "name": "ext"}},
        });
        self.client.post(SERVICES, &service).await.expect(201);
    }

    /// Waits until the APIService is (un)available for this reason.
    async fn wait_for(&self, reason: &str) -> Value {
        let began = Instant::now();
        loop {
            let found = self.client.get(&format!("{SERVICES}/v1beta1.metrics.example.org")).await.expect(200);
            if found["status"]["conditions"][0]["reason"] == reason {
                return found;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "{found}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn local_apiservices_are_there_and_wrong_ones_are_refused() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let list = client.get(SERVICES).await.expect(200);
    let items = list["items"].as_array().unwrap();
    assert!(items.len() > 15, "{}", items.len());
    for item in items {
        assert_eq!(item["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "onstart");
        let condition = &item["status"]["conditions"][0];
        assert_eq!((&condition["status"], &condition["reason"]), (&json!("True"), &json!("Local")), "{item}");
    }
    let core = client.get(&format!("{SERVICES}/v1.")).await.expect(200);
    assert_eq!(
        (&core["spec"]["groupPriorityMinimum"], &core["spec"]["versionPriority"]),
        (&json!(18000), &json!(1))
    );
    let wrong = json!({"metadata": {"name": "x"}, "spec": {"group": "g.example", "version": "v1",
        "groupPriorityMinimum": 0, "versionPriority": 2000, "caBundle": "eA=="}});
    let refused = client.post(SERVICES, &wrong).await.expect(422);
    let message = refused["message"].as_str().unwrap();
    for part in [
        "must be `spec.version+\".\"+spec.group`: \"v1.g.example\"",
        "must be positive and less than 20000",
        "must be positive and less than 1000",
        "local APIServices may not have a caBundle",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn requests_reach_the_other_server_with_the_user_in_headers() {
    let extended = Extended::start().await;
    let client = &extended.client;
    assert_eq!(client.get(&format!("{REMOTE}/nodes")).await.code, 404, "nobody answers for it yet");
    extended.register().await;
    extended.wait_for("EndpointsNotFound").await;
    let answer = client.get(&format!("{REMOTE}/nodes")).await;
    assert_eq!((answer.code, answer.text().trim()), (503, "service unavailable"));
    extended.add_endpoint().await;
    let found = extended.wait_for("Passed").await;
    assert_eq!(found["status"]["conditions"][0]["message"], "all checks passed");
    tokio::time::sleep(Duration::from_millis(100)).await;

    let sly = client
        .with("x-remote-user", "root")
        .with("x-remote-group", "system:masters")
        .with("authorization", "Bearer secret")
        .with("x-custom", "kept");
    let list = sly.get(&format!("{REMOTE}/nodes?limit=5")).await.expect(200);
    assert_eq!(list["kind"], "NodeMetricsList");
    // The checks of the server itself come in between.
    let seen = std::mem::take(&mut *extended.seen.lock().unwrap());
    let (_, headers) = seen.into_iter().rfind(|(path, _)| *path == format!("{REMOTE}/nodes")).unwrap();
    let all =
        |name: &str| headers.get_all(name).iter().map(|v| v.to_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(
        (all("x-remote-user"), all("x-remote-group")),
        (vec!["tester".to_owned()], vec!["system:authenticated".to_owned()])
    );
    assert_eq!((all("authorization"), all("x-custom")), (Vec::new(), vec!["kept".to_owned()]));
    assert_eq!(extended.cluster.client_as("nobody").get(&format!("{REMOTE}/nodes")).await.code, 403);
    assert_eq!(client.get(&format!("{REMOTE}/strange")).await.code, 418, "answers come back as they are");

    let mut events = client.watch(&format!("{REMOTE}/nodes?watch=1")).await;
    assert_eq!(events.line().await, "ADDED n0");
    let first = Instant::now();
    assert_eq!((events.line().await, events.line().await), ("ADDED n1".into(), "END".into()));
    assert!(first.elapsed() > Duration::from_millis(50), "events are not kept back until the end");

    let store = &extended.cluster.store;
    let delete = carrack_store::Op::delete("/registry/endpointslices/default/ext-1".to_owned());
    store.txn(carrack_store::Txn::of(vec![delete])).await.unwrap();
    extended.wait_for("EndpointsNotFound").await;
}

#[tokio::test]
async fn discovery_tells_of_both() {
    let extended = Extended::start().await;
    let client = &extended.client;
    extended.add_endpoint().await;
    extended.register().await;
    extended.wait_for("Passed").await;
    let groups = client.get("/apis").await.expect(200);
    let groups = groups["groups"].as_array().unwrap();
    assert!(
        groups.iter().any(|g| g["name"] == "apps")
            && groups.iter().any(|g| g["name"] == "metrics.example.org")
    );
    let group = client.get("/apis/metrics.example.org").await.expect(200);
    assert_eq!(
        (&group["kind"], &group["preferredVersion"]["version"]),
        (&json!("APIGroup"), &json!("v1beta1"))
    );
    assert_eq!(client.get(REMOTE).await.expect(200)["resources"][0]["name"], "nodes");
    let aggregated =
        client.with("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    let list = aggregated.get("/apis").await.expect(200);
    let item = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|i| i["metadata"]["name"] == "metrics.example.org")
        .unwrap()
        .clone();
    assert_eq!(item["versions"][0]["resources"][0]["responseKind"]["kind"], "NodeMetrics");
    let index = client.get("/openapi/v3").await.expect(200);
    let url = format!("/openapi/v3{REMOTE}?hash=X");
    assert_eq!(index["paths"][REMOTE.trim_start_matches('/')]["serverRelativeURL"], url.as_str());
    assert_eq!(client.get(&url).await.code, 418, "asked of the other server");
    let whole = client.get("/openapi/v2").await;
    let document = whole.json();
    assert!(
        document["paths"].get(format!("{REMOTE}/nodes")).is_some()
            && document["paths"].get("/api/v1/pods").is_some()
    );
    assert!(document["paths"].get("/apis/apps/v1/x").is_none(), "it does not answer for that");
    assert_eq!(document["definitions"]["org.example.NodeMetrics"]["type"], "object");
    assert!(document["definitions"].get("unused").is_none());
    let tag = whole.headers["etag"].to_str().unwrap();
    assert_eq!(client.with("if-none-match", tag).get("/openapi/v2").await.code, 304);
    let protobuf = client.with("accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf");
    let protobuf = protobuf.get("/openapi/v2").await.bytes;
    let name = b"org.example.NodeMetrics";
    assert!(protobuf.windows(name.len()).any(|found| found == name), "in protobuf, too");
    let map = client
        .get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication")
        .await
        .expect(200);
    assert_eq!(map["data"]["requestheader-allowed-names"], "[\"front-proxy-client\"]");
    assert!(map["data"]["requestheader-client-ca-file"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
    client.delete(&format!("{SERVICES}/v1beta1.metrics.example.org")).await.expect(200);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(client.get("/apis/metrics.example.org").await.code, 404);
}
