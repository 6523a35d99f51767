//! A server on loopback that answers over TLS as a test tells it: an issuer of tokens, or a webhook.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use carrack_server::full;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};

/// Code and body for a path and a body.
pub type Rule = Box<dyn Fn(&str, &Value) -> (u16, Value) + Send>;

pub struct Fake {
    pub url: String,
    /// Its authority, PEM.
    pub authority: String,
    /// The bodies that came.
    pub asked: Arc<Mutex<Vec<Value>>>,
    rule: Arc<Mutex<Rule>>,
    task: tokio::task::JoinHandle<()>,
    dir: tempfile::TempDir,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    pub async fn start(rule: impl Fn(&str, &Value) -> (u16, Value) + Send + 'static) -> Self {
        let own = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let rule: Arc<Mutex<Rule>> = Arc::new(Mutex::new(Box::new(rule)));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answers, log) = (rule.clone(), asked.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answers, log) = (acceptor.clone(), answers.clone(), log.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                        let (answers, log) = (answers.clone(), log.clone());
                        async move {
                            let path = request.uri().path().to_owned();
                            let body = request.into_body().collect().await?.to_bytes();
                            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                            let (code, answer) = (answers.lock().unwrap())(&path, &body);
                            log.lock().unwrap().push(body);
                            let response = Response::builder().status(code).body(full(answer.to_string()));
                            Ok::<_, hyper::Error>(response.unwrap())
                        }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Fake { url, authority: own.cert.pem(), asked, rule, task, dir: tempfile::tempdir().unwrap() }
    }

    /// Answers otherwise from now on.
    pub fn answer(&self, rule: impl Fn(&str, &Value) -> (u16, Value) + Send + 'static) {
        *self.rule.lock().unwrap() = Box::new(rule);
    }

    pub fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// A kubeconfig that leads here.
    pub fn kubeconfig(&self) -> PathBuf {
        let path: &Path = self.dir.path();
        let path = path.join("kubeconfig");
        let authority = STANDARD.encode(&self.authority);
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "there", "user": "me"}}],
            "clusters": [{"name": "there", "cluster": {
                "server": format!("{}/hook", self.url), "certificate-authority-data": authority}}],
            "users": [{"name": "me", "user": {"token": "secret"}}],
        });
        std::fs::write(&path, text.to_string()).unwrap();
        path
    }
}
