//! Probes against small servers.

use std::net::Ipv4Addr;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use k8s_openapi::api::core::v1::{Container, Probe};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// Answers by path: `/ok`, `/moved` to `/ok`, `/away` to another host, `/loop` to itself, `/host` if the header is
/// right, and the health service, which knows `up` and `down`.
async fn answer(request: Request<Incoming>) -> Result<Response<Body>, std::convert::Infallible> {
    let path = request.uri().path().to_owned();
    let head =
        |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let (status, location) = match path.as_str() {
        "/grpc.health.v1.Health/Check" => return Ok(health(request).await),
        "/ok" => (200, None),
        "/moved" => (302, Some("/ok")),
        "/away" => (302, Some("http://elsewhere.invalid/")),
        "/loop" => (302, Some("/loop")),
        "/host" if head("host") == "web.example" && head("x-key") == "v" && head("user-agent") == AGENT => {
            (200, None)
        }
        _ => (500, None),
    };
    let mut builder = Response::builder().status(status);
    if let Some(location) = location {
        builder = builder.header("location", location);
    }
    Ok(builder.body(Full::new(Bytes::from("body")).boxed_unsync()).unwrap())
}

const AGENT: &str = "kube-probe/1.35";

async fn health(request: Request<Incoming>) -> Response<Body> {
    let asked = request.into_body().collect().await.unwrap().to_bytes();
    let (code, status) = match &asked[5..] {
        [] | [0x0a, 2, b'u', b'p'] => ("0", 1),
        [0x0a, 4, b'd', b'o', b'w', b'n'] => ("0", 2),
        _ => ("5", 0),
    };
    let data = Frame::data(Bytes::from(vec![0, 0, 0, 0, 2, 8, status]));
    let trailers = Frame::trailers(hyper::HeaderMap::from_iter([(
        "grpc-status".parse().unwrap(),
        code.parse().unwrap(),
    )]));
    let body = http_body_util::StreamBody::new(futures::stream::iter([Ok(data), Ok(trailers)]));
    Response::builder().header("content-type", "application/grpc").body(body.boxed_unsync()).unwrap()
}

/// Serves until the test ends; answers the port.
async fn serve(tls: Option<Arc<rustls::ServerConfig>>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                let http = Builder::new(TokioExecutor::new());
                let service = service_fn(answer);
                let _ = match tls {
                    None => http.serve_connection(TokioIo::new(stream), service).await,
                    Some(tls) => {
                        let Ok(stream) = tokio_rustls::TlsAcceptor::from(tls).accept(stream).await else {
                            return;
                        };
                        http.serve_connection(TokioIo::new(stream), service).await
                    }
                };
            });
        }
    });
    port
}

fn self_signed() -> Arc<rustls::ServerConfig> {
    let made = rcgen::generate_simple_self_signed(vec!["somebody.else".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap())
}

async fn probe(port: u16, probe: Value) -> Result<(), String> {
    let container: Container =
        serde_json::from_value(json!({ "name": "c", "ports": [{ "name": "web", "containerPort": port }] }))
            .unwrap();
    let probe: Probe = serde_json::from_value(probe).unwrap();
    let exec: ExecFn = Arc::new(|_, _| Box::pin(async { Ok((0, String::new())) }));
    attempt(&container, &probe, &Target { address: Ipv4Addr::LOCALHOST.into(), exec }).await
}

#[tokio::test]
async fn http_probes() {
    let port = serve(None).await;
    let get = async |path: &str| probe(port, json!({ "httpGet": { "port": "web", "path": path } })).await;
    assert_eq!(get("/ok").await, Ok(()));
    assert_eq!(get("ok").await, Ok(()));
    assert_eq!(get("/moved").await, Ok(()));
    assert_eq!(get("/away").await, Ok(()), "another host is not asked");
    assert!(get("/loop").await.unwrap_err().contains("10 redirects"));
    assert_eq!(get("/no").await, Err("HTTP probe failed with statuscode: 500".to_owned()));
    assert!(get("/host").await.is_err());
    let headers = json!([{ "name": "Host", "value": "web.example" }, { "name": "X-Key", "value": "v" }]);
    let host =
        json!({ "httpGet": { "port": port, "path": "/host", "host": "localhost", "httpHeaders": headers } });
    assert_eq!(probe(port, host).await, Ok(()));
}

#[tokio::test]
async fn https_probes_take_any_certificate() {
    let port = serve(Some(self_signed())).await;
    let get = json!({ "httpGet": { "port": "web", "path": "/ok", "scheme": "HTTPS" } });
    assert_eq!(probe(port, get).await, Ok(()));
    let plain = serve(None).await;
    let get = json!({ "httpGet": { "port": "web", "path": "/ok", "scheme": "HTTPS" } });
    assert!(probe(plain, get).await.unwrap_err().contains("tls: "), "a server without TLS fails");
}

#[tokio::test]
async fn grpc_probes() {
    let port = serve(None).await;
    let call =
        async |service: Value| probe(port, json!({ "grpc": { "port": port, "service": service } })).await;
    assert_eq!(call(json!(null)).await, Ok(()));
    assert_eq!(call(json!("up")).await, Ok(()));
    assert_eq!(
        call(json!("down")).await,
        Err("service unhealthy (responded with \"NOT_SERVING\")".to_owned())
    );
    assert!(call(json!("none")).await.unwrap_err().contains("code = 5"));
}

#[tokio::test]
async fn tcp_probes() {
    let port = serve(None).await;
    assert_eq!(probe(port, json!({ "tcpSocket": { "port": "web" } })).await, Ok(()));
    let refused = probe(port, json!({ "tcpSocket": { "port": 1 } })).await.unwrap_err();
    assert_eq!(refused, "dial tcp 127.0.0.1:1: connect: connection refused");
}
