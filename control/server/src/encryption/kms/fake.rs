//! A KMS plugin for tests: gRPC by hand over a unix socket, with messages by the numbers of the protocol, so that it
//! shares nothing with what it tests. It "encrypts" by turning all bits over behind the name of its key.
// Helpers outside the test functions; each user has its own part of them.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use prost::Message;
use tokio::net::UnixListener;
use tokio::task::{JoinHandle, JoinSet};

type Annotations = BTreeMap<String, Vec<u8>>;
/// Goes with each key that it encrypts, and has to come back.
const ANNOTATION: (&str, &[u8]) = ("version.fake.example", b"7");

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(string, tag = "2")]
    healthz: String,
    #[prost(string, tag = "3")]
    key_id: String,
}

#[derive(Clone, PartialEq, Message)]
struct Plain {
    #[prost(bytes = "vec", tag = "1")]
    bytes: Vec<u8>,
    #[prost(string, tag = "2")]
    uid: String,
}

#[derive(Clone, PartialEq, Message)]
struct Encrypted {
    #[prost(bytes = "vec", tag = "1")]
    bytes: Vec<u8>,
    #[prost(string, tag = "2")]
    key_id: String,
    #[prost(btree_map = "string, bytes", tag = "3")]
    annotations: Annotations,
}

#[derive(Clone, PartialEq, Message)]
struct ToDecrypt {
    #[prost(bytes = "vec", tag = "1")]
    bytes: Vec<u8>,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    key_id: String,
    #[prost(btree_map = "string, bytes", tag = "4")]
    annotations: Annotations,
}

/// What the plugin is to do, and what it did.
#[derive(Default)]
pub struct State {
    pub key_id: Mutex<String>,
    pub healthz: Mutex<String>,
    /// Takes calls and answers none.
    pub hangs: AtomicBool,
    pub encrypted: AtomicUsize,
    pub decrypted: AtomicUsize,
    /// What it was given to encrypt.
    pub seeds: Mutex<Vec<Vec<u8>>>,
}

/// A plugin that may serve.
pub struct Fake {
    dir: tempfile::TempDir,
    pub state: Arc<State>,
    serving: Mutex<Option<JoinHandle<()>>>,
}

impl Fake {
    /// One that does not serve yet, with the key `one`.
    pub fn new() -> Self {
        let state = Arc::<State>::default();
        *state.key_id.lock() = "one".into();
        *state.healthz.lock() = "ok".into();
        Fake { dir: tempfile::tempdir().unwrap(), state, serving: Mutex::default() }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("kms.sock")
    }

    /// The provider in a configuration.
    pub fn provider(&self) -> String {
        let socket = self.socket();
        format!(
            "{{kms: {{apiVersion: v2, name: fake, endpoint: 'unix://{}', timeout: 1s}}}}",
            socket.display()
        )
    }

    pub fn set_key(&self, key_id: &str) {
        *self.state.key_id.lock() = key_id.into();
    }

    pub fn start(&self) {
        let (listener, state) = (UnixListener::bind(self.socket()).unwrap(), self.state.clone());
        *self.serving.lock() = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = state.clone();
                connections.spawn(async move {
                    let service = hyper::service::service_fn(move |request| answer(state.clone(), request));
                    let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    http.serve_connection(TokioIo::new(stream), service).await
                });
            }
        }));
    }

    /// Ends it with all its connections.
    pub async fn stop(&self) {
        let serving = self.serving.lock().take().expect("it serves");
        serving.abort();
        let _ = serving.await;
        std::fs::remove_file(self.socket()).unwrap();
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.lock().take() {
            serving.abort();
        }
    }
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    if state.hangs.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    // One byte for compression, four for the length.
    let answered = call(&state, &path, &body[5..]);
    let mut trailers = HeaderMap::new();
    let mut frames = Vec::new();
    match answered {
        Ok(message) => {
            let mut frame = vec![0];
            frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
            frame.extend_from_slice(&message);
            frames.push(Ok(Frame::data(Bytes::from(frame))));
            trailers.insert("grpc-status", "0".parse().unwrap());
        }
        Err(why) => {
            trailers.insert("grpc-status", "3".parse().unwrap());
            trailers.insert("grpc-message", why.parse().unwrap());
        }
    }
    frames.push(Ok(Frame::trailers(trailers)));
    let body = StreamBody::new(stream::iter(frames)).boxed_unsync();
    Ok(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
}

fn call(state: &State, path: &str, message: &[u8]) -> Result<Vec<u8>, &'static str> {
    let key_id = state.key_id.lock().clone();
    match path {
        "/v2.KeyManagementService/Status" => {
            let healthz = state.healthz.lock().clone();
            Ok(Status { version: "v2".into(), healthz, key_id }.encode_to_vec())
        }
        "/v2.KeyManagementService/Encrypt" => {
            state.encrypted.fetch_add(1, Ordering::Relaxed);
            let plain = Plain::decode(message).unwrap();
            state.seeds.lock().push(plain.bytes.clone());
            let turned = plain.bytes.iter().map(|byte| !byte);
            let bytes = key_id.bytes().chain(turned).collect();
            let annotations = [(ANNOTATION.0.to_owned(), ANNOTATION.1.to_vec())].into();
            Ok(Encrypted { bytes, key_id, annotations }.encode_to_vec())
        }
        "/v2.KeyManagementService/Decrypt" => {
            state.decrypted.fetch_add(1, Ordering::Relaxed);
            let asked = ToDecrypt::decode(message).unwrap();
            let annotation = asked.annotations.get(ANNOTATION.0).map(Vec::as_slice);
            match asked.bytes.strip_prefix(asked.key_id.as_bytes()) {
                Some(turned) if annotation == Some(ANNOTATION.1) && !asked.uid.is_empty() => {
                    let bytes = turned.iter().map(|byte| !byte).collect();
                    Ok(Plain { bytes, uid: String::new() }.encode_to_vec())
                }
                _ => Err("no such key"),
            }
        }
        _ => Err("no such method"),
    }
}
