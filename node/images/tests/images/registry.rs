//! A small registry in the test's own process, which can be told to misbehave.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use carrack_images::Digest;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

type Body = BoxBody<Bytes, std::io::Error>;

/// What the registry wants to see.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Auth {
    None,
    Basic,
    Bearer,
}

/// How it misbehaves.
#[derive(Clone, Default)]
pub(crate) struct Faults {
    /// Blob connections that break after half of what is left.
    pub(crate) broken_blobs: usize,
    /// Answers 503 to so many requests.
    pub(crate) unavailable: usize,
    /// Ends each blob early without an error.
    pub(crate) short_blobs: bool,
    /// Does not know ranges.
    pub(crate) no_ranges: bool,
    /// Milliseconds before a blob is answered.
    pub(crate) delay: u64,
}

pub(crate) struct State {
    pub(crate) auth: Auth,
    pub(crate) faults: Mutex<Faults>,
    manifests: Mutex<HashMap<String, Bytes>>,
    pub(crate) blobs: Mutex<HashMap<Digest, Bytes>>,
    /// Requests for blobs, by digest.
    pub(crate) fetched: Mutex<HashMap<Digest, usize>>,
    pub(crate) ranges: AtomicUsize,
    pub(crate) tokens: AtomicUsize,
}

pub(crate) struct Registry {
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Registry {
    pub(crate) async fn start(auth: Auth) -> Registry {
        Registry::start_with(auth, None).await
    }

    /// Starts one that speaks TLS if it is given a certificate.
    pub(crate) async fn start_with(auth: Auth, tls: Option<TlsAcceptor>) -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            auth,
            faults: Mutex::default(),
            manifests: Mutex::default(),
            blobs: Mutex::default(),
            fetched: Mutex::default(),
            ranges: AtomicUsize::new(0),
            tokens: AtomicUsize::new(0),
        });
        let shared = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = shared.clone();
                let tls = tls.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| {
                        let state = state.clone();
                        async move { Ok::<_, Infallible>(answer(&state, address, request).await) }
                    });
                    let connection = hyper::server::conn::http1::Builder::new();
                    // A broken body ends the connection; that is the point. So does plain HTTP where there is TLS.
                    match tls {
                        None => _ = connection.serve_connection(TokioIo::new(stream), service).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                _ = connection.serve_connection(TokioIo::new(stream), service).await;
                            }
                        }
                    }
                });
            }
        });
        Registry { address, state, task }
    }

    pub(crate) fn reference(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    pub(crate) fn blob(&self, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::of(&bytes);
        self.state.blobs.lock().insert(digest, bytes);
        digest
    }

    pub(crate) fn manifest(&self, tag: &str, json: String) -> Digest {
        let digest = Digest::of(json.as_bytes());
        let mut manifests = self.state.manifests.lock();
        manifests.insert(tag.to_owned(), json.clone().into());
        manifests.insert(digest.to_string(), json.into());
        digest
    }

    /// Pushes an image of these uncompressed layers under a tag. Gives the manifest's digest.
    pub(crate) fn push(&self, tag: &str, layers: &[Vec<u8>]) -> Digest {
        self.push_config(tag, layers, r#""Cmd":["sh"],"Env":["A=b"]"#)
    }

    pub(crate) fn push_config(&self, tag: &str, layers: &[Vec<u8>], config: &str) -> Digest {
        let ids: Vec<String> = layers.iter().map(|layer| format!("\"{}\"", Digest::of(layer))).collect();
        let config = format!(
            r#"{{"os":"linux","architecture":"amd64","config":{{{config}}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            ids.join(",")
        );
        let size = config.len();
        let config = self.blob(config);
        let layers: Vec<String> = layers
            .iter()
            .map(|layer| {
                let packed = gzip(layer);
                let size = packed.len();
                let digest = self.blob(packed);
                format!(r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{digest}","size":{size}}}"#)
            })
            .collect();
        self.manifest(
            tag,
            format!(
                r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
                "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":{size}}},
                "layers":[{}]}}"#,
                layers.join(",")
            ),
        )
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A tar of files.
pub(crate) fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, *data).unwrap();
    }
    builder.into_inner().unwrap()
}

fn full(status: StatusCode, bytes: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(bytes.into()).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

fn error(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    full(status, format!(r#"{{"errors":[{{"code":"{code}","message":"{message}"}}]}}"#))
}

async fn answer(state: &State, address: SocketAddr, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    if path == "/token" {
        return token(state, &request);
    }
    {
        let mut faults = state.faults.lock();
        if path != "/v2/" && faults.unavailable > 0 {
            faults.unavailable -= 1;
            return error(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "come back later");
        }
    }
    let wanted = match state.auth {
        Auth::None => None,
        Auth::Basic => Some(("Basic dXNlcjpwYXNz", "Basic realm=\"test\"".to_owned())),
        Auth::Bearer => Some((
            "Bearer t0ken",
            format!("Bearer realm=\"http://{address}/token\",service=\"test\",scope=\"repository:app:pull\""),
        )),
    };
    if let Some((wanted, challenge)) = wanted
        && request.headers().get(header::AUTHORIZATION).is_none_or(|value| value != wanted)
    {
        let mut response = error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.parse().unwrap());
        return response;
    }
    match path.split('/').collect::<Vec<_>>()[..] {
        ["", "v2", ""] => full(StatusCode::OK, "{}"),
        ["", "v2", _, "manifests", name] => match state.manifests.lock().get(name) {
            Some(bytes) => full(StatusCode::OK, bytes.clone()),
            None => error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown"),
        },
        ["", "v2", _, "blobs", digest] => {
            let digest: Digest = digest.parse().unwrap();
            let found = state.blobs.lock().get(&digest).cloned();
            match found {
                Some(bytes) => blob(state, digest, bytes, request.headers()).await,
                None => error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "blob unknown"),
            }
        }
        _ => error(StatusCode::NOT_FOUND, "NAME_UNKNOWN", "repository name not known to registry"),
    }
}

fn token(state: &State, request: &Request<Incoming>) -> Response<Body> {
    state.tokens.fetch_add(1, Ordering::SeqCst);
    let query = request.uri().query().unwrap_or_default();
    let known =
        request.headers().get(header::AUTHORIZATION).is_some_and(|value| value == "Basic dXNlcjpwYXNz");
    match known && query.contains("scope=repository%3Aapp%3Apull") && query.contains("service=test") {
        true => full(StatusCode::OK, r#"{"token":"t0ken","expires_in":60}"#),
        false => full(StatusCode::UNAUTHORIZED, r#"{"details":"incorrect username or password"}"#),
    }
}

async fn blob(state: &State, digest: Digest, bytes: Bytes, headers: &HeaderMap) -> Response<Body> {
    *state.fetched.lock().entry(digest).or_default() += 1;
    let faults = state.faults.lock().clone();
    tokio::time::sleep(std::time::Duration::from_millis(faults.delay)).await;
    let range = headers.get(header::RANGE).map(|range| range.to_str().unwrap().to_owned());
    let from: usize = match range {
        Some(range) if !faults.no_ranges => {
            state.ranges.fetch_add(1, Ordering::SeqCst);
            range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap()
        }
        _ => 0,
    };
    let rest = bytes.slice(from..);
    let response = if faults.short_blobs {
        full(StatusCode::OK, rest.slice(..rest.len() / 2))
    } else if faults.broken_blobs > 0 && rest.len() > 1000 {
        state.faults.lock().broken_blobs -= 1;
        let pieces = [
            Ok(Frame::data(rest.slice(..rest.len() / 2))),
            Err(std::io::Error::other("the cable was pulled")),
        ];
        let paced = futures::stream::unfold(pieces.into_iter(), |mut pieces| async {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            Some((pieces.next()?, pieces))
        });
        let mut response =
            Response::new(BodyExt::boxed(StreamBody::new(Box::pin(SyncStream(Mutex::new(Box::pin(paced)))))));
        response.headers_mut().insert(header::CONTENT_LENGTH, rest.len().into());
        response
    } else {
        full(StatusCode::OK, rest)
    };
    let (mut parts, body) = response.into_parts();
    if from > 0 {
        parts.status = StatusCode::PARTIAL_CONTENT;
        let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
        parts.headers.insert(header::CONTENT_RANGE, range.parse().unwrap());
    }
    Response::from_parts(parts, body)
}

/// Makes a stream `Sync`, as a boxed body has to be.
struct SyncStream<S>(Mutex<std::pin::Pin<Box<S>>>);

impl<S: futures::Stream> futures::Stream for SyncStream<S> {
    type Item = S::Item;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<S::Item>> {
        self.0.lock().as_mut().poll_next(context)
    }
}
