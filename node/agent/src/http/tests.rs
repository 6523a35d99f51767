//! The API over real connections, with an agent that only plays one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::List;
use k8s_openapi::api::core::v1::Pod;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_util::sync::CancellationToken;

use super::*;

const WAIT: Duration = Duration::from_secs(30);

/// Plays the agent. Commands: `cat` echoes, `exit N` ends, `size` prints the first size of the terminal, `fail` does
/// not start, `hang` runs until the client leaves, `daemon` ends but leaves its output open.
struct Fake {
    dir: tempfile::TempDir,
    ended: watch::Sender<bool>,
    dropped: Arc<AtomicBool>,
}

impl NodeApi for Fake {
    fn healthy(&self) -> Result<(), String> {
        match *self.ended.borrow() {
            false => Ok(()),
            true => Err("the runtime is down".to_owned()),
        }
    }

    fn pods(&self) -> List<Pod> {
        let mut pod = Pod::default();
        pod.metadata.name = Some("web".to_owned());
        List { items: vec![pod], ..List::default() }
    }

    async fn stats_summary(&self) -> Result<serde_json::Value, ApiFailure> {
        Err(ApiFailure::NotImplemented("no statistics".to_owned()))
    }

    async fn resource_metrics(&self) -> Result<String, ApiFailure> {
        Ok("resource_scrape_error 0\n".to_owned())
    }

    async fn logs(&self, target: &Target, previous: bool) -> Result<LogSource, ApiFailure> {
        match (target.container.as_str(), previous) {
            ("c", false) => {
                Ok(LogSource { path: self.dir.path().join("0.log"), ended: self.ended.subscribe() })
            }
            ("c", true) => {
                Err(ApiFailure::BadRequest("previous terminated container \"c\" not found".to_owned()))
            }
            _ => Err(ApiFailure::NotFound("container not found".to_owned())),
        }
    }

    async fn exec(&self, target: &Target, request: ExecRequest) -> Result<Streams, ApiFailure> {
        if target.container != "c" {
            return Err(ApiFailure::NotFound(format!("container \"{}\" not found", target.container)));
        }
        Ok(play(request, self.dropped.clone()))
    }

    async fn attach(&self, _: &Target, streams: Attach) -> Result<Streams, ApiFailure> {
        Ok(play(ExecRequest { command: vec!["cat".to_owned()], streams }, self.dropped.clone()))
    }

    async fn port_forward(&self, _: &str, _: &str, _: u16) -> Result<TcpStream, ApiFailure> {
        Err(ApiFailure::NotImplemented("no".to_owned()))
    }
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn play(request: ExecRequest, dropped: Arc<AtomicBool>) -> Streams {
    let (stdin, inside) = duplex(64);
    let (stdout, out) = duplex(64);
    let (stderr, err) = duplex(64);
    let (resize, sizes) = mpsc::channel(4);
    let guard = SetOnDrop(dropped);
    Streams {
        stdin: request.streams.stdin.then(|| Box::new(stdin) as Writer),
        stdout: Some(Box::new(stdout)),
        stderr: request.streams.stderr.then(|| Box::new(stderr) as Reader),
        resize: Some(resize),
        exit: Box::pin(async move {
            let _guard = guard;
            command(request.command, inside, out, err, sizes).await
        }),
    }
}

async fn command(
    command: Vec<String>,
    mut stdin: DuplexStream,
    mut out: DuplexStream,
    mut err: DuplexStream,
    mut sizes: mpsc::Receiver<TerminalSize>,
) -> Result<ExitStatus, String> {
    let mut code = 0;
    match command[0].as_str() {
        "cat" => {
            tokio::io::copy(&mut stdin, &mut out).await.unwrap();
            // Nobody listens if the client did not ask for it.
            _ = err.write_all(b"done").await;
        }
        "exit" => {
            out.write_all(b"bye").await.unwrap();
            code = command[1].parse().unwrap();
        }
        "size" => {
            let TerminalSize { width, height } = sizes.recv().await.unwrap();
            out.write_all(format!("{width}x{height}").as_bytes()).await.unwrap();
        }
        "fail" => return Err("the process was lost".to_owned()),
        "hang" => std::future::pending().await,
        "daemon" => std::mem::forget(out),
        other => panic!("{other}"),
    }
    Ok(ExitStatus { code })
}

/// A node that listens, and what it takes to call it.
struct Node {
    address: std::net::SocketAddr,
    api: Arc<Fake>,
    shutdown: CancellationToken,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
    authority: Authority,
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: rustls::pki_types::CertificateDer<'static>,
}

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test CA");
        let der = params.self_signed(&key).unwrap().der().clone();
        Authority { issuer: Issuer::new(params, key), der }
    }

    fn issue(
        &self,
        name: &str,
        group: Option<&str>,
    ) -> (Vec<rustls::pki_types::CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (vec![certificate], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    fn roots(&self) -> rustls::RootCertStore {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        roots
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

impl Node {
    async fn start() -> Node {
        let authority = Authority::new();
        let (chain, key) = authority.issue("node", None);
        let roots = Arc::new(authority.roots());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build().unwrap();
        let tls = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let dropped = Arc::new(AtomicBool::new(false));
        let api = Arc::new(Fake { dir, ended: watch::channel(false).0, dropped });
        let shutdown = CancellationToken::new();
        let served = tokio::spawn(serve(listener, Arc::new(tls), api.clone(), shutdown.clone()));
        Node { address, api, shutdown, served, authority }
    }

    async fn connect_as(&self, name: &str, group: Option<&str>) -> std::io::Result<TlsStream<TcpStream>> {
        let (chain, key) = self.authority.issue(name, group);
        let tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.authority.roots())
            .with_client_auth_cert(chain, key)
            .unwrap();
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(tls)).connect(name, stream).await
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        self.connect_as("kube-apiserver-kubelet-client", None).await.unwrap()
    }

    async fn get_on(&self, stream: TlsStream<TcpStream>, path: &str) -> (StatusCode, String) {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = Request::get(path).header("host", "node").body(Empty::<bytes::Bytes>::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        connection.abort();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        self.get_on(self.connect().await, path).await
    }

    async fn websocket(&self, path: &str, protocol: &str) -> Client {
        let mut request = format!("wss://localhost{path}").into_client_request().unwrap();
        if !protocol.is_empty() {
            request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
        }
        let (socket, response) =
            tokio_tungstenite::client_async(request, self.connect().await).await.unwrap();
        let agreed = response.headers().get("sec-websocket-protocol").map(|value| value.to_str().unwrap());
        assert_eq!(agreed.unwrap_or_default(), protocol);
        Client { socket }
    }
}

/// A client of exec.
struct Client {
    socket: WebSocketStream<TlsStream<TcpStream>>,
}

impl Client {
    async fn send(&mut self, bytes: &[u8]) {
        self.socket.send(Message::binary(bytes.to_vec())).await.unwrap();
    }

    async fn next(&mut self) -> Message {
        tokio::time::timeout(WAIT, self.socket.next()).await.expect("an answer").expect("a message").unwrap()
    }

    /// Reads to the end: what came on channels 1, 2 and 3, and the code of the close.
    async fn rest(&mut self) -> ([String; 3], u16) {
        let mut channels = [const { String::new() }; 3];
        loop {
            match self.next().await {
                Message::Binary(bytes) => {
                    channels[usize::from(bytes[0]) - 1].push_str(std::str::from_utf8(&bytes[1..]).unwrap());
                }
                Message::Close(frame) => return (channels, frame.unwrap().code.into()),
                other => panic!("{other:?}"),
            }
        }
    }
}

fn status(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn only_the_right_certificates_get_in() {
    let node = Node::start().await;
    assert_eq!(node.get("/healthz").await, (StatusCode::OK, "ok".to_owned()));
    let admin = node.connect_as("me", Some("system:masters")).await.unwrap();
    assert_eq!(node.get_on(admin, "/healthz").await.0, StatusCode::OK);
    let other = node.connect_as("system:node:n", Some("system:nodes")).await.unwrap();
    let refused = (StatusCode::FORBIDDEN, "user \"system:node:n\" may not use this node's API".to_owned());
    assert_eq!(node.get_on(other, "/pods").await, refused);
    // A certificate of another authority, and none at all.
    let strangers = Node::start().await;
    let forged = Node { authority: strangers.authority, ..node };
    let outcome = forged.connect_as("kube-apiserver-kubelet-client", Some("system:masters")).await;
    let outcome = match outcome {
        Ok(mut stream) => stream.read_u8().await.map(drop),
        Err(error) => Err(error),
    };
    assert!(outcome.is_err());
}

#[tokio::test]
async fn answers_the_simple_paths() {
    let node = Node::start().await;
    let (code, pods) = node.get("/pods").await;
    let pods = status(&pods);
    assert_eq!(
        (code, &pods["kind"], &pods["items"][0]["metadata"]["name"]),
        (StatusCode::OK, &"PodList".into(), &"web".into())
    );
    assert_eq!(node.get("/metrics/resource").await, (StatusCode::OK, "resource_scrape_error 0\n".to_owned()));
    assert_eq!(node.get("/stats/summary").await, (StatusCode::NOT_IMPLEMENTED, "no statistics".to_owned()));
    assert_eq!(node.get("/nothing").await.0, StatusCode::NOT_FOUND);
    assert_eq!(node.get("/portForward/ns/p?port=80").await.0, StatusCode::BAD_REQUEST);
    assert_eq!(node.get("/exec/ns/p/c?command=cat&output=1").await.0, StatusCode::BAD_REQUEST);
    node.api.ended.send_replace(true);
    assert_eq!(
        node.get("/healthz").await,
        (StatusCode::INTERNAL_SERVER_ERROR, "the runtime is down".to_owned())
    );
}

#[tokio::test]
async fn streams_logs() {
    let node = Node::start().await;
    let path = node.api.dir.path().join("0.log");
    std::fs::write(&path, "2026-01-02T00:00:01Z stdout F one\n2026-01-02T00:00:02Z stderr F two\n").unwrap();
    assert_eq!(node.get("/containerLogs/ns/p/c?tailLines=1").await, (StatusCode::OK, "two\n".to_owned()));
    assert_eq!(
        node.get("/containerLogs/ns/p/x").await,
        (StatusCode::NOT_FOUND, "container not found".to_owned())
    );
    let (code, words) = node.get("/containerLogs/ns/p/c?previous=true").await;
    assert_eq!((code, &*words), (StatusCode::BAD_REQUEST, "previous terminated container \"c\" not found"));
    assert_eq!(node.get("/containerLogs/ns/p/c?tailLines=x").await.0, StatusCode::BAD_REQUEST);
    let ended = node.api.ended.clone();
    let later = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        ended.send_replace(true);
    });
    assert_eq!(
        node.get("/containerLogs/ns/p/c?follow=true").await,
        (StatusCode::OK, "one\ntwo\n".to_owned())
    );
    later.await.unwrap();
}

#[tokio::test]
async fn v5_closes_its_input_and_gets_a_status() {
    let node = Node::start().await;
    let mut client =
        node.websocket("/exec/ns/p/c?command=cat&input=1&output=1&error=1", "v5.channel.k8s.io").await;
    let input = "many words ".repeat(1000);
    assert_eq!(client.next().await, Message::binary(&b"\x01"[..]), "connected");
    let (first, second) = input.split_at(5000);
    client.send(&[b"\x00", first.as_bytes()].concat()).await;
    client.socket.send(Message::Ping("still there?".into())).await.unwrap();
    client.send(&[b"\x00", second.as_bytes()].concat()).await;
    client.send(&[255, 0]).await;
    let mut pongs = 0;
    let mut channels = [const { String::new() }; 3];
    let code: u16 = loop {
        match client.next().await {
            Message::Binary(bytes) => {
                channels[usize::from(bytes[0]) - 1].push_str(std::str::from_utf8(&bytes[1..]).unwrap());
            }
            Message::Pong(words) => {
                assert_eq!(words, "still there?");
                pongs += 1;
            }
            Message::Close(frame) => break frame.unwrap().code.into(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((channels[0].as_str(), channels[1].as_str(), pongs, code), (input.as_str(), "done", 1, 1000));
    assert_eq!(status(&channels[2]), serde_json::json!({"metadata": {}, "status": "Success"}));
}

#[tokio::test]
async fn tells_exit_codes() {
    let node = Node::start().await;
    for protocol in ["v5.channel.k8s.io", "v4.channel.k8s.io"] {
        let mut client = node.websocket("/exec/ns/p/c?command=exit&command=3&output=1", protocol).await;
        let (channels, code) = client.rest().await;
        assert_eq!((channels[0].as_str(), code), ("bye", 1000));
        let status = status(&channels[2]);
        assert_eq!(
            (&status["reason"], &status["details"]["causes"][0]["message"]),
            (&"NonZeroExitCode".into(), &"3".into())
        );
    }
    for protocol in ["channel.k8s.io", ""] {
        let mut client = node.websocket("/exec/ns/p/c?command=exit&command=0&output=1", protocol).await;
        assert_eq!(client.rest().await, (["bye".to_owned(), String::new(), String::new()], 1000));
        let mut client = node.websocket("/exec/ns/p/c?command=exit&command=3&output=1", protocol).await;
        let (channels, _) = client.rest().await;
        assert_eq!(channels[2], "command terminated with non-zero exit code: exit status 3");
    }
}

#[tokio::test]
async fn tells_failures_in_the_protocol() {
    let node = Node::start().await;
    let mut client = node.websocket("/exec/ns/p/x?command=cat&output=1", "v5.channel.k8s.io").await;
    let (channels, code) = client.rest().await;
    let told = status(&channels[2]);
    assert_eq!(
        (&told["reason"], &told["message"], code),
        (&"NotFound".into(), &"container \"x\" not found".into(), 1000)
    );
    let mut client = node.websocket("/exec/ns/p/c?command=fail&output=1", "v4.channel.k8s.io").await;
    let told = status(&client.rest().await.0[2]);
    assert_eq!(
        (&told["reason"], &told["message"]),
        (&"InternalError".into(), &"the process was lost".into())
    );
}

#[tokio::test]
async fn forwards_ports_over_channels() {
    let node = Node::start().await;
    let mut client = node.websocket("/portForward/ns/p?port=80,256", "v4.channel.k8s.io").await;
    let mut told = Vec::new();
    while let Message::Binary(bytes) = client.next().await {
        told.push(bytes.to_vec());
    }
    // Each channel begins with its port; this pod's ports can not be connected to.
    for first in [[0, 80, 0], [1, 80, 0], [2, 0, 1], [3, 0, 1]] {
        assert!(told.contains(&first.to_vec()), "{told:?}");
    }
    for (channel, port) in [(1, 80), (3, 256)] {
        let why = format!("error forwarding port {port} to pod p: ").into_bytes();
        assert!(told.iter().any(|m| m[0] == channel && m[1..].starts_with(&why)), "{told:?}");
    }
}

#[tokio::test]
async fn resizes_terminals() {
    let node = Node::start().await;
    let path = "/exec/ns/p/c?command=size&input=1&output=1&tty=1";
    let mut client = node.websocket(path, "v4.channel.k8s.io").await;
    client.send(b"\x04{\"Width\":132,\"Height\":43}\n").await;
    assert_eq!(client.rest().await.0[0], "132x43");
}

#[tokio::test]
async fn speaks_base64() {
    let node = Node::start().await;
    let mut client =
        node.websocket("/exec/ns/p/c?command=exit&command=0&output=1", "base64.channel.k8s.io").await;
    assert_eq!(client.next().await, Message::text("1"));
    assert_eq!(client.next().await, Message::text("1Ynll"));
    assert!(matches!(client.next().await, Message::Close(_)));
}

#[tokio::test]
async fn attaches() {
    let node = Node::start().await;
    let mut client = node.websocket("/attach/ns/p/c?input=1&output=1", "v5.channel.k8s.io").await;
    client.send(b"\x00hello").await;
    client.send(&[255, 0]).await;
    assert_eq!(client.rest().await.0[0], "hello");
}

#[tokio::test]
async fn lets_go_when_the_client_leaves() {
    let node = Node::start().await;
    for leave_politely in [true, false] {
        node.api.dropped.store(false, Ordering::SeqCst);
        let path = "/exec/ns/p/c?command=hang&input=1&output=1";
        let mut client = node.websocket(path, "v5.channel.k8s.io").await;
        assert_eq!(client.next().await, Message::binary(&b"\x01"[..]));
        if leave_politely {
            client.socket.close(None).await.unwrap();
            while let Some(Ok(_)) = client.socket.next().await {}
        }
        drop(client);
        let deadline = tokio::time::Instant::now() + WAIT;
        while !node.api.dropped.load(Ordering::SeqCst) {
            assert!(tokio::time::Instant::now() < deadline, "the process is let go");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn output_that_a_daemon_holds_open_does_not_keep_a_session() {
    let node = Node::start().await;
    let mut client = node.websocket("/exec/ns/p/c?command=daemon&output=1", "v5.channel.k8s.io").await;
    let (channels, _) = client.rest().await;
    assert_eq!(status(&channels[2])["status"], "Success");
}

#[tokio::test]
async fn a_shutdown_ends_sessions() {
    let node = Node::start().await;
    let mut client = node.websocket("/exec/ns/p/c?command=hang&output=1", "v5.channel.k8s.io").await;
    assert_eq!(client.next().await, Message::binary(&b"\x01"[..]));
    node.shutdown.cancel();
    assert_eq!(client.rest().await.1, 1001);
    tokio::time::timeout(WAIT, node.served).await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(node.address).await.is_err());
}
