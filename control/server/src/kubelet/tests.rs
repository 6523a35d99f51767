//! Choosing containers and paths as tables; forwarding against a small node made here, over real TLS.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};

use super::*;
use crate::pki::Pki;
use crate::pki::tests::{directory, options};

fn pod() -> Value {
    json!({
        "metadata": {"namespace": "web", "name": "p"},
        "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]},
        "status": {"containerStatuses": [
            {"name": "a", "state": {"running": {}}},
            {"name": "b", "state": {"waiting": {"reason": "ImagePullBackOff"}}},
        ]},
    })
}

fn node(address: SocketAddr) -> Value {
    json!({
        "metadata": {"name": "node-a"},
        "status": {
            "addresses": [{"type": "Hostname", "address": "node-a"}, {"type": "InternalIP", "address": address.ip()}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": address.port()}},
        },
    })
}

#[test]
fn containers_are_chosen_with_upstreams_words() {
    let one = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "only"}], "initContainers": [{"name": "i"}]}});
    assert_eq!(container::choose(&one, None).unwrap(), "only");
    assert_eq!(container::choose(&one, Some("")).unwrap(), "only");
    assert_eq!(container::choose(&one, Some("i")).unwrap(), "i");
    let pod = pod();
    let error = |asked| container::choose(&pod, asked).unwrap_err();
    assert_eq!(
        error(None).message,
        "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
    );
    assert_eq!(error(Some("x")).message, "container x is not valid for pod p");
    assert_eq!(error(Some("x")).code, 400);
    let none = json!({"metadata": {"name": "p"}});
    assert_eq!(
        container::choose(&none, None).unwrap_err().message,
        "a container name must be specified for pod p"
    );

    let waiting = |name| container::waiting(&pod, name);
    assert_eq!(waiting("a"), None);
    assert_eq!(waiting("b").unwrap(), "container \"b\" in pod \"p\" is waiting to start: ImagePullBackOff");
    assert_eq!(waiting("i").unwrap(), "container \"i\" in pod \"p\" is waiting to start: ContainerCreating");
}

#[test]
fn queries_become_the_nodes_paths() {
    let target = |subresource: &str, query: &str| {
        Target::of(&pod(), subresource, &Query::parse(query).unwrap())
            .map(|target| target.path)
            .map_err(|error| (error.code, error.message.clone()))
    };
    let good = [
        ("log", "container=a", "/containerLogs/web/p/a"),
        (
            "log",
            "container=a&follow=true&tailLines=5&sinceSeconds=1&timestamps=1&previous=false&limitBytes=9&pretty=true",
            "/containerLogs/web/p/a?follow=true&timestamps=true&tailLines=5&sinceSeconds=1&limitBytes=9",
        ),
        (
            "log",
            "container=a&sinceTime=2026-01-02T03:04:05Z",
            "/containerLogs/web/p/a?sinceTime=2026-01-02T03%3A04%3A05Z",
        ),
        (
            "exec",
            "container=b&command=sh&command=-c&command=echo+%24A%26B%2Fc&stdin=true&stdout=true&tty=true",
            "/exec/web/p/b?command=sh&command=-c&command=echo%20%24A%26B%2Fc&input=1&output=1&tty=1",
        ),
        ("attach", "container=a&stdout=1&stderr=1&stdin=0", "/attach/web/p/a?output=1&error=1"),
        ("portforward", "ports=80&ports=443", "/portForward/web/p?port=80&port=443"),
        ("portforward", "", "/portForward/web/p"),
    ];
    for (subresource, query, path) in good {
        assert_eq!(target(subresource, query).as_deref(), Ok(path), "{subresource}?{query}");
    }
    let bad = [
        (
            "log",
            "container=a&tailLines=-1",
            422,
            "tailLines: Invalid value: -1: must be greater than or equal to 0",
        ),
        ("log", "container=a&limitBytes=0", 422, "limitBytes: Invalid value: 0: must be greater than 0"),
        ("log", "container=a&sinceSeconds=5&sinceTime=2026-01-02T03:04:05Z", 422, "at most one of"),
        ("log", "container=a&sinceTime=yesterday", 400, "is not an RFC 3339 time"),
        ("log", "container=a&tailLines=x", 400, "parsing \"x\": invalid syntax"),
        ("log", "container=a&stream=Both", 422, "Unsupported value: \"Both\""),
        ("log", "", 400, "a container name must be specified"),
        ("exec", "container=a&stdout=1", 400, "at least one command"),
        ("exec", "container=a&command=ls&tty=1", 400, "at least 1 of stdin, stdout, stderr"),
        ("attach", "container=a", 400, "at least 1 of stdin, stdout, stderr"),
        ("exec", "container=..%2F..&command=x&stdout=1", 400, "is not valid for pod p"),
    ];
    for (subresource, query, code, words) in bad {
        let (found, message) = target(subresource, query).unwrap_err();
        assert!(found == code && message.contains(words), "{subresource}?{query}: {found} {message}");
    }
}

#[test]
fn nodes_are_found_by_their_internal_address() {
    let endpoint = |status: Value| Endpoint::of(&json!({"metadata": {"name": "n"}, "status": status}));
    let both = json!([{"type": "ExternalIP", "address": "203.0.113.1"}, {"type": "InternalIP", "address": "192.0.2.1"}]);
    assert_eq!(endpoint(json!({"addresses": both})).unwrap().authority(), "192.0.2.1:10250");
    let six = json!([{"type": "InternalIP", "address": "fd00::1"}]);
    let port = json!({"kubeletEndpoint": {"Port": 7}});
    assert_eq!(
        endpoint(json!({"addresses": six, "daemonEndpoints": port})).unwrap().authority(),
        "[fd00::1]:7"
    );
    for odd in
        [json!({}), json!({"addresses": [{"type": "InternalIP", "address": "me"}]}), json!({"addresses": 3})]
    {
        assert!(endpoint(odd).unwrap_err().message.contains("has no InternalIP"));
    }
}

/// What the node of these tests is asked, as it sees it.
struct Seen {
    method: Method,
    path: String,
    headers: HeaderMap,
    client_certificates: usize,
}

struct Node {
    address: SocketAddr,
    seen: mpsc::Receiver<Seen>,
    /// Lets a followed log go on.
    go_on: Arc<Notify>,
    /// What a stream said at its end.
    ended: mpsc::Receiver<Vec<u8>>,
}

/// A body that sends what comes through a channel.
struct Chunks(mpsc::Receiver<&'static str>);

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(context)
            .map(|chunk| chunk.map(|chunk| Ok(Frame::data(Bytes::from_static(chunk.as_bytes())))))
    }
}

type NodeBody = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

fn text_body(text: &str) -> NodeBody {
    http_body_util::Full::new(Bytes::from(text.to_owned())).boxed_unsync()
}

/// Answers as its path says: `/containerLogs/web/p/<container>` per container, upgrades with an echo.
async fn answer(
    request: Request<Incoming>,
    go_on: Arc<Notify>,
    ended: mpsc::Sender<Vec<u8>>,
) -> Response<NodeBody> {
    let path = request.uri().path().to_owned();
    if path.starts_with("/exec") || path.starts_with("/portForward") {
        let mut response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header("connection", "Upgrade")
            .header("upgrade", "SPDY/3.1")
            .header("x-stream-protocol-version", "v4.channel.k8s.io");
        if let Some(protocol) = request.headers().get("sec-websocket-protocol") {
            response = response.header("sec-websocket-protocol", protocol);
        }
        tokio::spawn(echo(request, ended));
        return response.body(text_body("")).unwrap();
    }
    let (code, body) = match path.as_str() {
        "/containerLogs/web/p/a" => {
            let (send, receive) = mpsc::channel(1);
            tokio::spawn(async move {
                send.send("one\n").await.unwrap();
                go_on.notified().await;
                send.send("two\n").await.unwrap();
            });
            (200, Chunks(receive).boxed_unsync())
        }
        "/containerLogs/web/p/b" => (404, text_body("container \"b\" not found")),
        "/containerLogs/web/p/i" => {
            (400, text_body("previous terminated container \"i\" in pod \"p\" not found\n"))
        }
        "/metrics" => (200, text_body("up 1\n")),
        "/attach/web/p/a" => (404, text_body("container not found (\"a\")")),
        _ => (500, text_body("the disk is on fire")),
    };
    Response::builder().status(code).header("content-type", "text/plain").body(body).unwrap()
}

/// Sends back what comes, in capitals; at the end tells what came, and for `bye` ends by itself.
async fn echo(request: Request<Incoming>, ended: mpsc::Sender<Vec<u8>>) {
    let mut stream = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
    let mut all = Vec::new();
    let mut buffer = [0; 100];
    loop {
        let count = stream.read(&mut buffer).await.unwrap_or(0);
        if count == 0 {
            break;
        }
        all.extend_from_slice(&buffer[..count]);
        stream.write_all(&buffer[..count].to_ascii_uppercase()).await.unwrap();
        stream.flush().await.unwrap();
        if all.ends_with(b"bye") {
            stream.shutdown().await.unwrap();
            break;
        }
    }
    ended.send(all).await.unwrap();
}

/// Serves on loopback with the node's certificate of `pki`, asking clients for theirs.
async fn serve(pki: &Pki) -> Node {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (saw, seen) = mpsc::channel(16);
    let (end, ended) = mpsc::channel(16);
    let go_on = Arc::new(Notify::new());
    let wait = Arc::clone(&go_on);
    // The front's configuration checks client certificates as a node's does.
    let material = pki.node_serving_tls();
    let tls = crate::pki::tests::serving(pki, &material);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (tls, saw, end, wait) = (Arc::clone(&tls), saw.clone(), end.clone(), Arc::clone(&wait));
            tokio::spawn(async move {
                let Ok(stream) = tokio_rustls::TlsAcceptor::from(tls).accept(tcp).await else { return };
                let certificates = stream.get_ref().1.peer_certificates().map_or(0, <[_]>::len);
                let service = service_fn(move |request: Request<Incoming>| {
                    let (saw, end, wait) = (saw.clone(), end.clone(), Arc::clone(&wait));
                    async move {
                        let seen = Seen {
                            method: request.method().clone(),
                            path: request.uri().to_string(),
                            headers: request.headers().clone(),
                            client_certificates: certificates,
                        };
                        saw.send(seen).await.unwrap();
                        Ok::<_, Infallible>(answer(request, wait, end).await)
                    }
                });
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
            });
        }
    });
    Node { address, seen, go_on, ended }
}

struct Fixture {
    pki: Pki,
    client: NodeClient,
    node: Node,
    _keep: tempfile::TempDir,
}

async fn fixture() -> Fixture {
    let (keep, dir) = directory();
    let pki = Pki::open_or_create(&dir, &options()).unwrap();
    let node = serve(&pki).await;
    let client = NodeClient::new(pki.kubelet_client_tls().unwrap());
    Fixture { pki, client, node, _keep: keep }
}

impl Fixture {
    fn request(&self, subresource: &str, query: &str) -> NodeRequest {
        let mut request = Request::new(crate::empty());
        *request.uri_mut() = format!("/api/v1/namespaces/web/pods/p/{subresource}?{query}").parse().unwrap();
        NodeRequest { pod: pod(), node: node(self.node.address), subresource: subresource.into(), request }
    }

    async fn log(&self, container: &str) -> Result<Response<ResponseBody>, ApiError> {
        self.client.forward(self.request("log", &format!("container={container}&follow=true"))).await
    }

    /// A client's connection to a server that forwards everything as `subresource`.
    async fn front(
        &self,
        subresource: &'static str,
        query: &'static str,
    ) -> hyper::client::conn::http1::SendRequest<RequestBody> {
        let (near, far) = tokio::io::duplex(1 << 16);
        let (client, address) = (self.client.clone(), self.node.address);
        let service = service_fn(move |request: Request<Incoming>| {
            let client = client.clone();
            async move {
                let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
                *request.uri_mut() = format!("/x?{query}").parse().unwrap();
                let request =
                    NodeRequest { pod: pod(), node: node(address), subresource: subresource.into(), request };
                Ok::<_, Infallible>(client.forward(request).await.unwrap_or_else(|error| {
                    let mut response = Response::new(crate::full(error.message.clone()));
                    *response.status_mut() = StatusCode::from_u16(error.code).unwrap();
                    response
                }))
            }
        });
        tokio::spawn(async move {
            let http = hyper::server::conn::http1::Builder::new();
            let _ = http.serve_connection(TokioIo::new(far), service).with_upgrades().await;
        });
        connect_to(near).await
    }
}

async fn connect_to(stream: DuplexStream) -> hyper::client::conn::http1::SendRequest<RequestBody> {
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    sender
}

fn upgrade_request(method: Method) -> Request<RequestBody> {
    Request::builder()
        .method(method)
        .uri("/")
        .header("connection", "keep-alive, Upgrade, X-Private")
        .header("upgrade", "SPDY/3.1")
        .header("x-private", "1")
        .header("authorization", "Bearer secret")
        .header("cookie", "secret")
        .header("impersonate-user", "root")
        .header("x-remote-user", "root")
        .header("x-stream-protocol-version", "v4.channel.k8s.io")
        .header("sec-websocket-protocol", "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.c2VjcmV0")
        .body(crate::empty())
        .unwrap()
}

async fn text(response: Response<ResponseBody>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// Tests that hang have failed.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("it takes too long")
}

#[tokio::test]
async fn logs_flow_chunk_by_chunk_over_tls_with_our_certificate() {
    let mut fixture = fixture().await;
    let response = soon(fixture.log("a")).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/plain");
    let mut body = response.into_body();
    let mut chunk = async || body.frame().await.map(|frame| frame.unwrap().into_data().unwrap());
    assert_eq!(soon(chunk()).await.unwrap(), "one\n");
    let early = tokio::time::timeout(Duration::from_millis(50), chunk()).await;
    assert!(early.is_err(), "the log goes on only when the container does: {early:?}");
    fixture.node.go_on.notify_one();
    assert_eq!(soon(chunk()).await.unwrap(), "two\n");
    assert_eq!(soon(chunk()).await, None);

    let seen = fixture.node.seen.recv().await.unwrap();
    assert_eq!((seen.method, seen.path.as_str()), (Method::GET, "/containerLogs/web/p/a?follow=true"));
    assert_eq!(seen.client_certificates, 1);
    assert_eq!(seen.headers["host"], fixture.node.address.to_string());
}

#[tokio::test]
async fn a_nodes_complaints_become_upstreams_errors() {
    let fixture = fixture().await;
    let failure = async |container: &str| {
        let error = soon(fixture.log(container)).await.unwrap_err();
        (error.code, error.message.clone())
    };
    let waiting = "container \"b\" in pod \"p\" is waiting to start: ImagePullBackOff";
    assert_eq!(failure("b").await, (400, waiting.into()));
    assert_eq!(
        failure("i").await,
        (400, "previous terminated container \"i\" in pod \"p\" not found".into())
    );
    assert_eq!(failure("x").await, (400, "container x is not valid for pod p".into()));

    let mut request = fixture.request("log", "");
    request.pod =
        json!({"metadata": {"namespace": "web", "name": "q"}, "spec": {"containers": [{"name": "a"}]}});
    let error = soon(fixture.client.forward(request)).await.unwrap_err();
    assert_eq!((error.code, error.message.as_str()), (500, "Internal error occurred: the disk is on fire"));
}

#[tokio::test]
async fn streams_are_joined_in_both_directions_and_end_with_the_client() {
    let mut fixture = fixture().await;
    for method in [Method::GET, Method::POST] {
        let mut front = fixture.front("exec", "container=a&command=cat&stdin=1&stdout=1").await;
        let mut response = soon(front.send_request(upgrade_request(method.clone()))).await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(response.headers()["upgrade"], "SPDY/3.1");
        assert_eq!(response.headers()["x-stream-protocol-version"], "v4.channel.k8s.io");
        assert_eq!(response.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
        let mut stream = TokioIo::new(soon(hyper::upgrade::on(&mut response)).await.unwrap());
        for text in ["hello", " world"] {
            stream.write_all(text.as_bytes()).await.unwrap();
            let mut back = vec![0; text.len()];
            soon(stream.read_exact(&mut back)).await.unwrap();
            assert_eq!(back, text.to_ascii_uppercase().into_bytes());
        }
        stream.shutdown().await.unwrap();
        assert_eq!(soon(fixture.node.ended.recv()).await.unwrap(), b"hello world", "the node sees the end");
        assert_eq!(soon(stream.read(&mut [0])).await.unwrap(), 0, "and so does the client");

        let seen = fixture.node.seen.recv().await.unwrap();
        assert_eq!((seen.method, seen.path.as_str()), (method, "/exec/web/p/a?command=cat&input=1&output=1"));
        for secret in ["authorization", "cookie", "impersonate-user", "x-remote-user", "x-private"] {
            assert!(!seen.headers.contains_key(secret), "{secret}");
        }
        assert_eq!(seen.headers["x-stream-protocol-version"], "v4.channel.k8s.io");
        assert_eq!(seen.headers["sec-websocket-protocol"], "v5.channel.k8s.io");
    }
}

#[tokio::test]
async fn streams_end_with_the_node_and_when_the_client_vanishes() {
    let mut fixture = fixture().await;
    let mut front = fixture.front("portforward", "ports=80").await;
    let mut response = soon(front.send_request(upgrade_request(Method::GET))).await.unwrap();
    let mut stream = TokioIo::new(soon(hyper::upgrade::on(&mut response)).await.unwrap());
    stream.write_all(b"bye").await.unwrap();
    let mut rest = Vec::new();
    soon(stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"BYE");
    assert_eq!(soon(fixture.node.ended.recv()).await.unwrap(), b"bye");

    let mut front = fixture.front("portforward", "ports=80").await;
    let mut response = soon(front.send_request(upgrade_request(Method::GET))).await.unwrap();
    let stream = soon(hyper::upgrade::on(&mut response)).await.unwrap();
    drop((stream, response, front));
    assert_eq!(soon(fixture.node.ended.recv()).await.unwrap(), b"");
}

#[tokio::test]
async fn large_streams_arrive_whole() {
    let fixture = fixture().await;
    let mut front = fixture.front("exec", "container=a&command=cat&stdin=1&stdout=1").await;
    let mut response = soon(front.send_request(upgrade_request(Method::GET))).await.unwrap();
    let stream = TokioIo::new(soon(hyper::upgrade::on(&mut response)).await.unwrap());
    let (mut read, mut write) = tokio::io::split(stream);
    let data: Vec<u8> = (0..200_000u32).map(|number| b'a' + (number % 23) as u8).collect();
    let expected = data.to_ascii_uppercase();
    let send = async {
        write.write_all(&data).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut back = Vec::new();
    let (_, read) = soon(async { tokio::join!(send, read.read_to_end(&mut back)) }).await;
    read.unwrap();
    assert!(back == expected, "{} of {} bytes came back", back.len(), expected.len());
}

#[tokio::test]
async fn refusals_of_streams_reach_the_client() {
    let fixture = fixture().await;
    let mut front = fixture.front("attach", "container=a&stdout=1").await;
    let response = soon(front.send_request(upgrade_request(Method::GET))).await.unwrap();
    assert_eq!(response.status(), 404);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "container not found (\"a\")");

    let mut front = fixture.front("exec", "container=a&command=ls&stdout=1").await;
    let plain = Request::builder().uri("/").body(crate::empty()).unwrap();
    let response = soon(front.send_request(plain)).await.unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "Upgrade request required");
}

#[tokio::test]
async fn nodes_that_cannot_be_reached_or_trusted_are_named() {
    let mut fixture = fixture().await;
    // A port that nobody listens on: bound, then closed.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let open = std::mem::replace(&mut fixture.node.address, closed);
    let error = soon(fixture.log("a")).await.unwrap_err();
    let expected = format!(
        "Get \"https://{closed}/containerLogs/web/p/a?follow=true\": dial tcp {closed}: connect: connection refused"
    );
    assert_eq!((error.code, error.message.as_str()), (500, expected.as_str()));
    let mut front = fixture.front("exec", "container=a&command=ls&stdout=1").await;
    let response = soon(front.send_request(upgrade_request(Method::GET))).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, format!("error dialing backend: dial tcp {closed}: connect: connection refused"));

    // A node of another cluster at the right address.
    let (_keep, dir) = directory();
    let other = Pki::open_or_create(&dir, &options()).unwrap();
    fixture.node.address = open;
    let stranger = NodeClient::new(other.kubelet_client_tls().unwrap());
    let error = soon(stranger.forward(fixture.request("log", "container=a"))).await.unwrap_err();
    assert!(error.code == 500 && error.message.contains("tls: failed to verify"), "{}", error.message);
    assert!(fixture.node.seen.try_recv().is_err(), "nothing was asked of it");
    assert!(!fixture.pki.ca_pem().is_empty());
}

#[tokio::test]
async fn the_nodes_own_api_is_passed_through() {
    let mut fixture = fixture().await;
    let request = Request::builder()
        .method(Method::GET)
        .uri("/ignored")
        .header("accept", "text/plain")
        .body(crate::empty())
        .unwrap();
    let response =
        soon(fixture.client.proxy(&node(fixture.node.address), "/metrics?a=b", request)).await.unwrap();
    assert_eq!(text(response).await, "up 1\n");
    let seen = fixture.node.seen.recv().await.unwrap();
    assert_eq!(seen.path, "/metrics?a=b");
    assert_eq!(seen.headers["accept"], "text/plain");
}
