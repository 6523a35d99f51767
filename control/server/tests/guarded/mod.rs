//! A server with everything that guards it, on loopback, and requests to it: within the process as anybody, and over
//! TLS with what a client has to show.
// Each test file uses its own part; a helper that fails ends its test.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod fake;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use carrack_server::admission::{AdmissionConfig, Chosen, Steps, plugins_with};
use carrack_server::authn::{Authn, AuthnOptions, Objects, issuer};
use carrack_server::authz::config::{self, Choice};
use carrack_server::authz::{NodeAuthorizer, Rbac};
use carrack_server::kubelet::NodeClient;
use carrack_server::pki::{KeyMaterial, Pki, PkiOptions};
use carrack_server::{ApiServer, Authorizer, Config, StoreObjects, UserInfo, full};
use carrack_store::{Options, Store};
use http::{Method, Request};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower_service::Service;

/// What a server is told beside the usual.
pub struct Setup {
    pub authn: AuthnOptions,
    pub choices: Vec<Choice>,
    /// The authority of proxies, PEM.
    pub proxies: Option<String>,
    /// What plugins of admission are told, and which run.
    pub admission: AdmissionConfig,
    pub chosen: Chosen,
}

impl Default for Setup {
    fn default() -> Self {
        Setup {
            authn: AuthnOptions::default(),
            choices: vec![Choice::Node, Choice::Rbac],
            proxies: None,
            admission: AdmissionConfig::default(),
            chosen: Chosen::default(),
        }
    }
}

pub struct Cluster {
    pub api: ApiServer,
    pub pki: Arc<Pki>,
    pub authn: Arc<Authn>,
    pub address: SocketAddr,
    stop: CancellationToken,
    /// Where its files are.
    pub dir: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Keys and an authority of their own.
pub fn pki(dir: &Path) -> Pki {
    let options = PkiOptions {
        node_name: "n".into(),
        node_ips: vec!["127.0.0.1".parse().unwrap()],
        service_ip: "10.96.0.1".parse().unwrap(),
        cluster_domain: "cluster.local".into(),
        hostname: "n".into(),
        extra_sans: vec![],
    };
    Pki::open_or_create(&dir.join("pki"), &options).unwrap()
}

/// Code and body of an answer.
pub type Answer = (u16, Value);

impl Cluster {
    pub async fn start(setup: Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = Arc::new(pki(dir.path()));
        let store = Store::open(Options::new(dir.path().join("store"))).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let objects: Arc<dyn Objects> = Arc::new(StoreObjects::new(store.clone()));
        let authn = Authn::new(&pki, &issuer("cluster.local"), Arc::clone(&objects)).unwrap();
        let authn = Arc::new(authn.with(setup.authn).unwrap());
        let rbac = Rbac::start(store.clone()).await.unwrap();
        let nodes: Arc<dyn Authorizer> = NodeAuthorizer::start(store.clone()).await.unwrap();
        let roles: Arc<dyn Authorizer> = rbac.clone();
        let authorizers = config::authorizers(&setup.choices, &nodes, &roles).unwrap();
        let api = ApiServer::new(Config {
            store,
            advertise_address: "192.0.2.7".parse().unwrap(), // endpoints may not be on loopback
            secure_port: address.port(),
            service_cidr: "10.96.0.0/16".into(),
            dns_address: "10.96.0.10".parse().unwrap(),
            authenticator: authn.clone(),
            admission: plugins_with(&objects, &rbac, &authorizers, &setup.admission, &setup.chosen).unwrap(),
            authorizers,
            tokens: authn.clone(),
            nodes: Arc::new(NodeClient::new(pki.kubelet_client_tls().unwrap())),
        })
        .unwrap();
        api.set_admission_steps(Steps::new(setup.chosen, setup.admission.limited_resources));
        api.start().await.unwrap();
        let stop = CancellationToken::new();
        let tls = pki.server_tls_with(setup.proxies.as_deref()).unwrap();
        let (server, end) = (api.clone(), stop.clone());
        tokio::spawn(async move { server.serve(listener, tls, end).await });
        Cluster { api, pki, authn, address, stop, dir }
    }

    /// A request in the process; headers as (name, value).
    pub async fn ask(
        &self,
        user: &UserInfo,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answer {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let mut request = Request::builder().method(method).uri(path);
        if method == "PATCH" {
            request = request.header("content-type", "application/merge-patch+json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(self.api.as_user(user.clone()).call(request.body(full(text)).unwrap()).await.unwrap()).await
    }

    /// A request by one who may do everything, which has to succeed.
    pub async fn root(&self, method: &str, path: &str, body: Value) -> Value {
        let root = UserInfo::new("root", ["system:masters"]);
        let (code, answer) = self.ask(&root, method, path, &[], &body).await;
        assert!(code < 300, "{method} {path}: {code} {answer}");
        answer
    }

    /// A request over a TLS connection of its own; `Err` when the handshake is refused.
    pub async fn over_tls(
        &self,
        certificate: Option<&KeyMaterial>,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer, String> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pki.ca_pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match certificate {
            None => builder.with_no_client_auth(),
            Some(material) => {
                let chain = CertificateDer::pem_slice_iter(material.cert_pem.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(material.key_pem.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain.collect::<Result<_, _>>().unwrap(), key).unwrap()
            }
        };
        let tcp = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("kubernetes.default.svc").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, tcp).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = sender
            .send_request(request.body(full("")).unwrap())
            .await
            .map_err(|error| format!("{error:?}"))?;
        Ok(read(response).await)
    }

    /// Whether the bearer of a token may come in.
    pub async fn lets_in(&self, token: &str) -> bool {
        let bearer = format!("Bearer {token}");
        let (code, _) =
            self.over_tls(None, Method::GET, "/api", &[("authorization", &bearer)]).await.unwrap();
        code != 401
    }

    /// Who the server takes the bearer of a token for, with groups and extras; the code when it refuses.
    pub async fn whoami(&self, token: &str) -> Result<Value, u16> {
        if !self.lets_in(token).await {
            return Err(401);
        }
        let spec = json!({ "token": token });
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec});
        let answer = self.root("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review).await;
        assert_eq!(answer["status"]["authenticated"], true, "{answer}");
        Ok(answer["status"]["user"].clone())
    }

    /// What a review says is wrong with a token.
    pub async fn refusal(&self, token: &str) -> String {
        let spec = json!({ "token": token });
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec});
        let answer = self.root("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review).await;
        assert_ne!(answer["status"]["authenticated"], true, "{answer}");
        answer["status"]["error"].as_str().unwrap_or_default().to_owned()
    }
}

async fn read<B>(response: http::Response<B>) -> Answer
where
    B: http_body::Body<Data = bytes::Bytes>,
    B::Error: std::fmt::Debug,
{
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes))))
}

pub fn named(kind: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}})
}
