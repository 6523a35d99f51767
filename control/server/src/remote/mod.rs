//! A client for the servers that this one asks: issuers of tokens, and webhooks. TLS, a time limit for each request,
//! and answers of bounded size.

mod kubeconfig;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;

pub use kubeconfig::{KubeconfigError, Target};

/// Largest answer that is read. Key sets and reviews have a few KiB.
const MOST_BYTES: usize = 1 << 20;

/// Why a server could not be asked, or did not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum RemoteError {
    #[error("TLS towards it cannot be set up: {0}")]
    Setup(String),
    #[error("{url:?} is no URL to ask: {why}")]
    Url { url: String, why: String },
    #[error("{method} {url:?}: {why}")]
    Failed { method: Method, url: String, why: String },
    #[error("{method} {url:?}: no answer within {} s", within.as_secs_f64())]
    Timeout { method: Method, url: String, within: Duration },
    #[error("{method} {url:?}: unexpected status {code}")]
    Status { method: Method, url: String, code: u16 },
    #[error("{method} {url:?}: the answer is not JSON: {why}")]
    Json { method: Method, url: String, why: String },
}

impl RemoteError {
    /// Whether asking again may help.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            RemoteError::Failed { .. } => true,
            RemoteError::Status { code, .. } => *code == 429 || *code >= 500,
            _ => false,
        }
    }
}

/// Whom to trust, and who one is.
#[derive(Default)]
pub(crate) struct Security {
    /// Authorities as PEM text; the host's own when there are none.
    pub(crate) authorities: Option<String>,
    /// A certificate chain and its key, as PEM text.
    pub(crate) identity: Option<(String, String)>,
    /// The name in the server's certificate, where it is not that of its URL.
    pub(crate) server_name: Option<String>,
}

/// The client. Clones share connections.
#[derive(Clone)]
pub(crate) struct Remote {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    timeout: Duration,
}

impl Remote {
    /// A client whose requests take `timeout` at most.
    pub(crate) fn new(security: &Security, timeout: Duration) -> Result<Self, RemoteError> {
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls(security)?).https_or_http();
        let builder = match &security.server_name {
            Some(name) => {
                let name = ServerName::try_from(name.clone()).map_err(setup)?;
                builder.with_server_name_resolver(FixedServerNameResolver::new(name))
            }
            None => builder,
        };
        let connector = builder.enable_http1().enable_http2().build();
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector), timeout })
    }

    /// The body and the headers at `url`.
    pub(crate) async fn get(&self, url: &str) -> Result<(HeaderMap, Bytes), RemoteError> {
        self.send(Method::GET, url, None, Bytes::new()).await
    }

    /// The JSON that `url` answers to `body`.
    pub(crate) async fn post(
        &self,
        url: &str,
        authorization: Option<HeaderValue>,
        body: &Value,
    ) -> Result<Value, RemoteError> {
        let body = Bytes::from(body.to_string());
        let (_, answer) = self.send(Method::POST, url, authorization, body).await?;
        serde_json::from_slice(&answer).map_err(|error| RemoteError::Json {
            method: Method::POST,
            url: url.into(),
            why: error.to_string(),
        })
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        authorization: Option<HeaderValue>,
        body: Bytes,
    ) -> Result<(HeaderMap, Bytes), RemoteError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method.clone();
        *request.uri_mut() =
            url.parse().map_err(|error| RemoteError::Url { url: url.into(), why: format!("{error}") })?;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if method == Method::POST {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(authorization) = authorization {
            headers.insert(AUTHORIZATION, authorization);
        }
        let failed = |why: String| RemoteError::Failed { method: method.clone(), url: url.into(), why };
        let work = async {
            let response = self.client.request(request).await.map_err(|error| failed(chain(&error)))?;
            let (head, body) = response.into_parts();
            if !head.status.is_success() {
                let (method, url, code) = (method.clone(), url.into(), head.status.as_u16());
                return Err(RemoteError::Status { method, url, code });
            }
            let body = Limited::new(body, MOST_BYTES).collect().await;
            let body = body.map_err(|error| failed(format!("the answer cannot be read: {error}")))?;
            Ok((head.headers, body.to_bytes()))
        };
        match tokio::time::timeout(self.timeout, work).await {
            Ok(result) => result,
            Err(_) => {
                Err(RemoteError::Timeout { method: method.clone(), url: url.into(), within: self.timeout })
            }
        }
    }
}

fn setup(error: impl std::fmt::Display) -> RemoteError {
    RemoteError::Setup(error.to_string())
}

/// An error with what caused it: hyper's own words say little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn tls(security: &Security) -> Result<ClientConfig, RemoteError> {
    let mut roots = RootCertStore::empty();
    match &security.authorities {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                roots.add(certificate.map_err(setup)?).map_err(setup)?;
            }
            if roots.is_empty() {
                return Err(RemoteError::Setup("the authority's PEM text holds no certificate".into()));
            }
        }
        // A host without authorities is noticed when a certificate cannot be checked.
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(setup)?
        .with_root_certificates(roots);
    match &security.identity {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(setup)?;
            builder.with_client_auth_cert(chain.map_err(setup)?, key).map_err(setup)
        }
    }
}
