//! The two ways in: real TLS with tokens, and `kube::Client` in the same process.
// Helpers outside the test functions: one that fails ends its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Cluster, MAPS, map};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A server on a port of its own, and what a client needs to trust it.
struct Front {
    address: std::net::SocketAddr,
    roots: rustls::RootCertStore,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

async fn front(cluster: &Cluster) -> Front {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let (api, token) = (cluster.api.clone(), shutdown.clone());
    let serving = tokio::spawn(async move { api.serve(listener, Arc::new(tls), token).await });
    Front { address, roots, shutdown, serving }
}

type Https = Client<
    hyper_rustls::HttpsConnector<hyper_util::client::legacy::connect::HttpConnector>,
    Full<bytes::Bytes>,
>;

impl Front {
    fn client(&self, http2: bool) -> Https {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        let connector = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(config).https_only();
        let connector =
            if http2 { connector.enable_http2().build() } else { connector.enable_http1().build() };
        Client::builder(TokioExecutor::new()).http2_only(http2).build(connector)
    }

    /// A client that makes a connection for each request.
    fn client_without_pool(&self) -> Https {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_only()
            .enable_http1()
            .build();
        Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector)
    }

    fn request(&self, path: &str, token: Option<&str>) -> Request<Full<bytes::Bytes>> {
        let uri = format!("https://localhost:{}{path}", self.address.port());
        let mut request = Request::builder().uri(uri);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.body(Full::default()).unwrap()
    }
}

#[tokio::test]
async fn tls_with_both_versions_of_http() {
    let cluster = Cluster::start().await;
    let front = front(&cluster).await;
    for http2 in [false, true] {
        let client = front.client(http2);
        let answer =
            client.request(front.request("/api/v1/namespaces/default", Some("letmein"))).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(text.starts_with(b"{\"apiVersion\":\"v1\",\"kind\":\"Namespace\""));
        let unknown = client.request(front.request("/api", None)).await.unwrap();
        assert_eq!(unknown.status(), StatusCode::UNAUTHORIZED);
        let forged = client.request(front.request("/api", Some("forged"))).await.unwrap();
        assert_eq!(forged.status(), StatusCode::UNAUTHORIZED);
        let health = client.request(front.request("/livez", None)).await.unwrap();
        assert_eq!(health.status(), StatusCode::OK);
    }
    front.shutdown.cancel();
    front.serving.await.unwrap();
}

#[tokio::test]
async fn a_shutdown_ends_watches_and_returns() {
    let cluster = Cluster::start().await;
    let front = front(&cluster).await;
    let client = front.client(true);
    let watch = client.request(front.request(&format!("{MAPS}?watch=1"), Some("letmein"))).await.unwrap();
    cluster.client().post(MAPS, &map("a", "1")).await.expect(201);
    let mut body = watch.into_body();
    let frame = body.frame().await.unwrap().unwrap();
    assert!(frame.data_ref().unwrap().starts_with(b"{\"type\":\"ADDED\""));
    front.shutdown.cancel();
    let rest = body.collect().await.expect("the watch ends cleanly").to_bytes();
    assert!(rest.is_empty(), "{rest:?}");
    drop(client);
    tokio::time::timeout(Duration::from_secs(30), front.serving).await.expect("still serving").unwrap();
    assert!(tokio::net::TcpStream::connect(front.address).await.is_err());
}

#[tokio::test]
async fn who_connected_before_a_shutdown_may_still_ask() {
    let cluster = Cluster::start().await;
    let front = front(&cluster).await;
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(front.roots.clone())
            .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(front.address).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    front.shutdown.cancel();
    while tokio::net::TcpStream::connect(front.address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut request = front.request("/livez", None);
    request.headers_mut().insert("host", "localhost".parse().unwrap());
    assert_eq!(sender.send_request(request).await.unwrap().status(), StatusCode::OK);
    connection.await.unwrap().expect("closed after its answer");
    tokio::time::timeout(Duration::from_secs(30), front.serving).await.expect("still serving").unwrap();
}

/// Requests until nobody listens any more: how many were answered, and what else happened to one.
async fn knock(client: Https, front: Arc<Front>) -> (u32, Vec<String>) {
    let (mut answered, mut wrong) = (0, Vec::new());
    loop {
        match client.request(front.request("/api/v1/namespaces/default", Some("letmein"))).await {
            Ok(answer) => match answer.into_body().collect().await {
                Ok(body) => match serde_json::from_slice::<serde_json::Value>(&body.to_bytes()) {
                    Ok(_) => answered += 1,
                    Err(error) => wrong.push(error.to_string()),
                },
                Err(error) => wrong.push(format!("{error:?}")),
            },
            Err(error) if error.is_connect() => return (answered, wrong),
            // The server said beforehand that it takes no more of this connection; what it says so of it never looked at
            // (RFC 9113, 6.8). Go's client asks again by itself, this one leaves it to its caller.
            Err(error) if format!("{error:?}").contains("GoAway(b\"\", NO_ERROR, Remote)") => {}
            Err(error) => wrong.push(format!("{error:?}")),
        }
        if wrong.len() > 10 {
            return (answered, wrong);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_drops_no_request() {
    let cluster = Cluster::start().await;
    let front = Arc::new(front(&cluster).await);
    let mut clients: Vec<_> = (0..4).map(|_| front.client(true)).collect();
    clients.extend((0..4).map(|_| front.client_without_pool()));
    let knocking: Vec<_> = clients.into_iter().map(|c| tokio::spawn(knock(c, front.clone()))).collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(cluster.client().get("/readyz").await.code, 200);
    front.shutdown.cancel();
    for _ in 0..100 {
        if cluster.client().get("/readyz").await.code != 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(cluster.client().get("/readyz/shutdown").await.code, 500);
    for task in knocking {
        let (answered, wrong) = tokio::time::timeout(Duration::from_secs(30), task).await.unwrap().unwrap();
        assert!(wrong.is_empty(), "{answered} were answered, then: {wrong:?}");
        assert!(answered > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_pods_leaves_others_their_turn() {
    let cluster = Cluster::start().await;
    let front = Arc::new(front(&cluster).await);
    let burst: Vec<_> = (0..1000)
        .map(|n| {
            let front = front.clone();
            (n, front)
        })
        .collect();
    let clients: Vec<Https> = (0..4).map(|_| front.client(true)).collect();
    let began = std::time::Instant::now();
    let creating: Vec<_> = burst
        .into_iter()
        .map(|(n, front)| {
            let client = clients[n % clients.len()].clone();
            tokio::spawn(async move {
                let mut request = front.request(common::PODS, Some("letmein"));
                *request.method_mut() = http::Method::POST;
                request.headers_mut().insert("content-type", "application/json".parse().unwrap());
                *request.body_mut() = Full::from(common::pod(&format!("p{n}")).to_string());
                client.request(request).await.unwrap().status().as_u16()
            })
        })
        .collect();
    let quiet = front.client(true);
    let mut took = Vec::new();
    for _ in 0..30 {
        let asked = std::time::Instant::now();
        let answer = quiet.request(front.request(MAPS, Some("metoo"))).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        took.push(asked.elapsed());
    }
    let mut counts = std::collections::BTreeMap::new();
    for task in creating {
        *counts.entry(task.await.unwrap()).or_insert(0) += 1;
    }
    let burst = began.elapsed();
    assert!(counts.keys().all(|code| matches!(code, 201 | 429)), "{counts:?}");
    assert!(counts[&201] >= 340, "{counts:?}");
    took.sort();
    // Behind a thousand pods the other one would wait for all of them.
    let median = took[took.len() / 2];
    assert!(median < burst / 5 || median < Duration::from_millis(100), "{took:?} of {burst:?}: {counts:?}");
}

#[tokio::test]
async fn slow_bodies_and_large_ones_are_refused() {
    let cluster = Cluster::start().await;
    let client = cluster.client();
    let late = client.stall(http::Method::POST, &format!("{MAPS}?timeout=100ms")).await;
    assert_eq!(late, 504);
    let large = client.send(http::Method::POST, MAPS, vec![b' '; 3 * 1024 * 1024 + 1]).await;
    assert_eq!(large.code, 413);
    assert_eq!(large.json()["message"], "Request entity too large: limit is 3145728");
}

#[tokio::test]
async fn kube_client_in_the_process() {
    let cluster = Cluster::start().await;
    let user = carrack_server::UserInfo::new("tester", []);
    let client = kube::Client::new(cluster.api.as_user(user), "default");
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let made: ConfigMap = serde_json::from_value(map("a", "1")).unwrap();
    let created = maps.create(&PostParams::default(), &made).await.unwrap();
    let listed = maps.list(&ListParams::default()).await.unwrap();
    assert_eq!(listed.items, std::slice::from_ref(&created));
    let version = listed.metadata.resource_version.unwrap();
    let stream = maps.watch(&WatchParams::default(), &version).await.unwrap();
    let mut stream = std::pin::pin!(stream);
    let patch = serde_json::json!({"data": {"k": "2"}});
    maps.patch("a", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    let event = futures::StreamExt::next(&mut stream).await.unwrap().unwrap();
    assert!(matches!(&event, WatchEvent::Modified(m) if m.data.as_ref().unwrap()["k"] == "2"), "{event:?}");
    let missing = maps.get("none").await.unwrap_err();
    assert!(matches!(&missing, kube::Error::Api(status) if status.code == 404), "{missing}");
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(client.apiserver_version().await.unwrap().git_version, "v1.35.0+carrack");
}
