//! `proxy` of pods, services and nodes, against a real HTTP server; and the parts of the control plane.
// Helpers outside the test functions: one that fails ends its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use carrack_server::{ResponseBody, full};
use carrack_store::{Op, Txn};
use common::{Client, Cluster, PODS, SERVICES, pod};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// An address of this host that is not on loopback, which no request is handed on to. Nothing is sent.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("198.51.100.1:9").expect("the host needs a route, of which its own address is told");
    socket.local_addr().unwrap().ip()
}

/// Answers as a page, a redirect, an echo of what came, or a stream that echoes.
async fn answer(mut request: Request<Incoming>) -> Response<ResponseBody> {
    let header = |name: &str| {
        request.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    };
    match request.uri().path() {
        "/page" => {
            let page = "<a href=\"/next\">next</a><a href=\"near\">near</a>";
            let response = Response::builder().header("content-type", "text/html; charset=utf-8");
            response.header("access-control-allow-origin", "*").body(full(page)).unwrap()
        }
        "/moved" => Response::builder().status(302).header("location", "/page?a=b").body(full("")).unwrap(),
        "/stream" => {
            assert_eq!((header("connection").as_str(), header("upgrade").as_str()), ("Upgrade", "echo"));
            tokio::spawn(async move {
                let mut stream = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
                let mut said = [0; 4];
                stream.read_exact(&mut said).await.unwrap();
                stream.write_all(&said.map(|byte| byte.to_ascii_uppercase())).await.unwrap();
            });
            let response = Response::builder().status(101).header("connection", "Upgrade");
            response.header("upgrade", "echo").body(full("")).unwrap()
        }
        "/no-stream" => Response::builder().status(403).body(full("not here")).unwrap(),
        _ => {
            let names =
                ["x-forwarded-uri", "x-forwarded-for", "cookie", "authorization", "x-remote-user", "host"];
            let headers: serde_json::Map<String, Value> =
                names.iter().map(|name| ((*name).to_owned(), header(name).into())).collect();
            let (method, uri) = (request.method().to_string(), request.uri().to_string());
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let body = String::from_utf8_lossy(&body);
            full_json(&json!({"method": method, "uri": uri, "body": body, "headers": headers}))
        }
    }
}

fn full_json(value: &Value) -> Response<ResponseBody> {
    Response::builder().header("content-type", "application/json").body(full(value.to_string())).unwrap()
}

/// A cluster with a pod that listens, and a Service in front of it.
struct Reached {
    cluster: Cluster,
    client: Client,
    address: SocketAddr,
}

impl Reached {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind((own_address(), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = hyper::service::service_fn(|request| async move {
                    Ok::<_, std::convert::Infallible>(answer(request).await)
                });
                tokio::spawn(async move {
                    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
                });
            }
        });
        let cluster = Cluster::start().await;
        let client = cluster.client();
        let reached = Reached { cluster, client, address };
        reached.pod("web").await;
        let service = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"name": "http", "port": 80}]}});
        reached.client.post(SERVICES, &service).await.expect(201);
        reached.slice("web", "Pod").await;
        reached
    }

    /// A pod that has the address.
    async fn pod(&self, name: &str) {
        let mut wanted = pod(name);
        wanted["spec"]["containers"][0]["ports"] = json!([{"containerPort": self.address.port()}]);
        self.client.post(PODS, &wanted).await.expect(201);
        let ip = self.address.ip().to_string();
        let status = json!({"status": {"podIP": ip, "podIPs": [{"ip": ip}]}});
        self.client.patch("merge", &format!("{PODS}/{name}/status"), &status).await.expect(200);
    }

    /// What the Service leads to.
    async fn slice(&self, name: &str, kind: &str) {
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
            "endpoints": [{"addresses": [self.address.ip()], "conditions": {"ready": true},
                "targetRef": {"kind": kind, "name": name, "namespace": "default"}}],
            "ports": [{"name": "http", "port": self.address.port(), "protocol": "TCP"}],
        });
        let put = Op::put("/registry/endpointslices/default/web-1".to_owned(), slice.to_string());
        self.cluster.store.txn(Txn::of(vec![put])).await.unwrap();
    }
}

#[tokio::test]
async fn requests_reach_pods_and_services_as_they_are() {
    let reached = Reached::start().await;
    let client =
        reached.client.with("cookie", "a=b").with("authorization", "Bearer x").with("x-remote-user", "root");
    let client = client
        .with("host", "localhost:8001")
        .with("x-forwarded-for", "192.0.2.9")
        .with("accept", "text/html");
    let port = reached.address.port();
    for id in [
        "services/web:80".to_owned(),
        "services/http:web:http".to_owned(),
        "pods/web".to_owned(),
        format!("pods/http:web:{port}"),
    ] {
        let base = format!("/api/v1/namespaces/default/{id}/proxy");
        for (method, body) in
            [("GET", ""), ("POST", "x"), ("PUT", "y"), ("PATCH", "z"), ("DELETE", ""), ("OPTIONS", "")]
        {
            let method: Method = method.parse().unwrap();
            let answer = client.send(method.clone(), &format!("{base}/a//b%2Fc/?q=%20"), body).await;
            let seen = answer.expect(200);
            assert_eq!((&seen["method"], &seen["body"]), (&json!(method.as_str()), &json!(body)), "{id}");
            assert_eq!(seen["uri"], "/a//b%2Fc/?q=%20");
            let headers = &seen["headers"];
            assert_eq!(headers["x-forwarded-uri"], format!("{base}/a//b%2Fc/"));
            assert_eq!(
                (&headers["cookie"], &headers["x-forwarded-for"]),
                (&json!("a=b"), &json!("192.0.2.9"))
            );
            assert_eq!((&headers["authorization"], &headers["x-remote-user"]), (&json!(""), &json!("")));
            assert_eq!(headers["host"], "localhost:8001");
        }
        assert_eq!(client.get(&format!("{base}/")).await.expect(200)["uri"], "/");
        let moved = client.get(&format!("{base}?a=b")).await;
        assert_eq!(
            (moved.code, moved.headers["location"].to_str().unwrap()),
            (301, &*format!("{base}/?a=b"))
        );
        let moved = client.get(&format!("{base}/moved")).await;
        assert_eq!(
            (moved.code, moved.headers["location"].to_str().unwrap()),
            (302, &*format!("{base}/page?a=b"))
        );
        let page = client.get(&format!("{base}/page")).await;
        assert_eq!(page.text(), format!("<a href=\"{base}/next\">next</a><a href=\"near\">near</a>"));
        assert!(page.headers.get("access-control-allow-origin").is_none());
        assert_eq!(page.headers["content-length"], page.bytes.len().to_string());
    }
    let stranger = reached.cluster.client_as("nobody");
    assert_eq!(stranger.get("/api/v1/namespaces/default/pods/web/proxy/").await.code, 403);
}

#[tokio::test]
async fn what_cannot_be_reached_is_told() {
    let reached = Reached::start().await;
    let services = "/api/v1/namespaces/default/services";
    let message = async |path: &str, code: u16| {
        let answer = reached.client.get(path).await.expect(code);
        answer["message"].as_str().unwrap().to_owned()
    };
    assert_eq!(message(&format!("{services}/none/proxy/"), 404).await, "services \"none\" not found");
    assert_eq!(
        message(&format!("{services}/web:81/proxy/"), 503).await,
        "no service port 81 found for service \"web\""
    );
    assert_eq!(
        message(&format!("{services}/a:b:c:d/proxy/"), 400).await,
        "invalid service request \"a:b:c:d\""
    );
    let closed = format!("{PODS}/web:1/proxy/");
    let refused = format!(
        "error trying to reach service: dial tcp {}:1: connect: connection refused",
        reached.address.ip()
    );
    assert_eq!(message(&closed, 503).await, refused);
    // Endpoints that are no pods of the namespace with that address would lead anywhere.
    let none = "no endpoints available for service \"web:80\"";
    for (name, kind) in [("web", "Node"), ("gone", "Pod")] {
        reached.slice(name, kind).await;
        assert_eq!(message(&format!("{services}/web:80/proxy/"), 503).await, none, "{kind} {name}");
    }
    let loopback = json!({"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}});
    let key = "/registry/pods/default/web".to_owned();
    let mut stored = reached.client.get(&format!("{PODS}/web")).await.expect(200);
    stored["status"] = loopback["status"].clone();
    reached.cluster.store.txn(Txn::of(vec![Op::put(key, stored.to_string())])).await.unwrap();
    assert_eq!(message(&format!("{PODS}/web/proxy/"), 400).await, "address not allowed");
}

#[tokio::test]
async fn nodes_answer_by_the_way_to_nodes() {
    let reached = Reached::start().await;
    let client = &reached.client;
    let node = json!({"metadata": {"name": "n"}, "status": {
        "addresses": [{"type": "InternalIP", "address": reached.address.ip()}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}}});
    client.post("/api/v1/nodes", &node).await.expect(201);
    for id in ["n", "n:10250", "https:n:10250"] {
        let answer = client.get(&format!("/api/v1/nodes/{id}/proxy/metrics?x=y")).await;
        assert_eq!(answer.text(), "GET /metrics?x=y on n", "{id}");
    }
    let other = format!("/api/v1/nodes/http:n:{}/proxy/x", reached.address.port());
    assert_eq!(client.get(&other).await.expect(200)["uri"], "/x");
    assert_eq!(client.get("/api/v1/nodes/n:web/proxy/").await.code, 400);
}

/// What a request for an upgrade is answered, over a connection that can be upgraded.
async fn upgrading(reached: &Reached, path: &str) -> Response<Incoming> {
    let user = reached.cluster.api.as_user(carrack_server::UserInfo::new("tester", []));
    let (near, far) = tokio::io::duplex(1 << 16);
    tokio::spawn(async move {
        let service = hyper_util::service::TowerToHyperService::new(user);
        let server = hyper::server::conn::http1::Builder::new();
        let _ = server.serve_connection(TokioIo::new(far), service).with_upgrades().await;
    });
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = Request::get(format!("/api/v1/namespaces/default/{path}"));
    let request = request.header("host", "x").header("connection", "upgrade").header("upgrade", "echo");
    sender.send_request(request.body(full("")).unwrap()).await.unwrap()
}

#[tokio::test]
async fn streams_pass_in_both_directions() {
    let reached = Reached::start().await;
    for id in ["pods/web", "services/web:80"] {
        let mut answer = upgrading(&reached, &format!("{id}/proxy/stream")).await;
        assert_eq!((answer.status().as_u16(), &answer.headers()["upgrade"]), (101, &"echo".parse().unwrap()));
        let mut stream = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
        stream.write_all(b"ping").await.unwrap();
        let mut heard = [0; 4];
        let read = stream.read_exact(&mut heard);
        tokio::time::timeout(Duration::from_secs(30), read).await.unwrap().unwrap();
        assert_eq!(&heard, b"PING");
    }
    let refused = upgrading(&reached, "pods/web/proxy/no-stream").await;
    assert_eq!(refused.status(), 403);
    assert_eq!(refused.into_body().collect().await.unwrap().to_bytes(), "not here");
    assert_eq!(upgrading(&reached, "pods/web/proxy/page").await.status(), 500, "it did not agree");
}

#[tokio::test]
async fn the_parts_of_the_control_plane_tell_how_they_are() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let path = "/api/v1/componentstatuses";
    let list = client.get(path).await;
    assert!(list.warnings()[0].contains("v1 ComponentStatus is deprecated in v1.19+"));
    let list = list.expect(200);
    let states = |list: &Value| {
        let items = list["items"].as_array().unwrap().iter();
        let one = |item: &Value| format!("{} {}", item["metadata"]["name"], item["conditions"][0]["status"]);
        items.map(one).collect::<Vec<_>>().join(" ").replace('"', "")
    };
    assert_eq!(
        (list["kind"].as_str().unwrap(), states(&list).as_str()),
        ("ComponentStatusList", "controller-manager False etcd-0 True scheduler False")
    );
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let lease = json!({"metadata": {"name": "carrack-scheduler"},
        "spec": {"holderIdentity": "me", "leaseDurationSeconds": 15, "renewTime": now, "acquireTime": now}});
    client.post("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases", &lease).await.expect(201);
    let scheduler = client.get(&format!("{path}/scheduler")).await.expect(200);
    assert_eq!(
        (&scheduler["conditions"][0]["status"], &scheduler["conditions"][0]["message"]),
        (&json!("True"), &json!("ok"))
    );
    let table = client.with("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json");
    let table = table.get(path).await.expect(200);
    assert_eq!(table["columnDefinitions"][1]["name"], "Status");
    assert_eq!(table["rows"][1]["cells"], json!(["etcd-0", "Healthy", "ok", ""]));
    assert_eq!(table["rows"][0]["cells"][1], "Unhealthy");
    let one = client.get(&format!("{path}?fieldSelector=metadata.name%3Detcd-0")).await.expect(200);
    assert_eq!(states(&one), "etcd-0 True");
    client.get(&format!("{path}/none")).await.expect(404);
    assert_eq!(client.delete(&format!("{path}/etcd-0")).await.code, 405);
}
