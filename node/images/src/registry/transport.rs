//! HTTP to registries: connections, TLS, time limits, redirects.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, LOCATION};
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a registry may take to begin its answer. Some assemble manifests from slow storage.
const ANSWER: Duration = Duration::from_secs(30);
/// How many redirects are followed.
const MAX_REDIRECTS: usize = 5;

/// An HTTP client; clones share its connections.
#[derive(Clone)]
pub(crate) struct Transport {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// Why there was no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoAnswer {
    pub(crate) message: String,
    /// Whether the connection could not be made or TLS failed, so that asking in another way might help.
    pub(crate) connecting: bool,
}

/// What to ask.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The clients of a store: one for all registries but those that have CA certificates of their own.
pub(crate) struct Transports {
    folders: Vec<PathBuf>,
    common: OnceLock<Transport>,
    /// By the certificates, so that new ones are noticed.
    special: Mutex<HashMap<Vec<CertificateDer<'static>>, Transport>>,
}

impl Transports {
    pub(crate) fn new(folders: Vec<PathBuf>) -> Transports {
        Transports { folders, common: OnceLock::new(), special: Mutex::default() }
    }

    /// The client for a registry. The first one takes some milliseconds, since the host's certificates are read.
    pub(super) fn to(&self, registry: &str) -> Result<Transport, NoAnswer> {
        let certificates = self.certificates(registry)?;
        if certificates.is_empty() {
            if let Some(transport) = self.common.get() {
                return Ok(transport.clone());
            }
            let transport = Transport::new(Vec::new())?;
            return Ok(self.common.get_or_init(|| transport).clone());
        }
        if let Some(transport) = self.special.lock().get(&certificates) {
            return Ok(transport.clone());
        }
        let transport = Transport::new(certificates.clone())?;
        self.special.lock().insert(certificates, transport.clone());
        Ok(transport)
    }

    /// The certificates in `<folder>/<registry>/*.crt`. A file that cannot be read is an error: without it the
    /// registry would just seem to be a stranger.
    fn certificates(&self, registry: &str) -> Result<Vec<CertificateDer<'static>>, NoAnswer> {
        let mut found = Vec::new();
        for folder in &self.folders {
            let Ok(entries) = fs::read_dir(folder.join(registry)) else { continue };
            let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            files.retain(|file| file.extension().is_some_and(|extension| extension == "crt"));
            files.sort();
            for file in files {
                let bad = |error: pem::Error| NoAnswer {
                    message: format!("certificates in {}: {error}", file.display()),
                    connecting: true,
                };
                for certificate in CertificateDer::pem_file_iter(&file).map_err(bad)? {
                    found.push(certificate.map_err(bad)?);
                }
            }
        }
        Ok(found)
    }
}

impl Transport {
    fn new(own: Vec<CertificateDer<'static>>) -> Result<Transport, NoAnswer> {
        let mut roots = rustls::RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (usable, _) = roots.add_parsable_certificates(found.certs.into_iter().chain(own));
        if usable == 0 {
            // Plain HTTP registries still work; HTTPS ones fail with an unknown issuer.
            tracing::warn!(errors = ?found.errors, "the host has no CA certificates; registries over HTTPS cannot be trusted");
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| NoAnswer { message: error.to_string(), connecting: true })?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT));
        http.set_nodelay(true);
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Transport { client })
    }

    /// Asks, following redirects. Credentials go to the first host only.
    pub(crate) async fn send(&self, mut ask: Ask) -> Result<Response<Incoming>, NoAnswer> {
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send_once(&ask).await?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let next = redirect_target(&ask.uri, response.headers())?;
            if next.authority() != ask.uri.authority() {
                ask.headers.remove(AUTHORIZATION);
            }
            ask.uri = next;
        }
        Err(NoAnswer { message: format!("stopped after {MAX_REDIRECTS} redirects"), connecting: false })
    }

    async fn send_once(&self, ask: &Ask) -> Result<Response<Incoming>, NoAnswer> {
        let mut request = Request::new(Full::new(ask.body.clone()));
        *request.method_mut() = ask.method.clone();
        *request.uri_mut() = ask.uri.clone();
        *request.headers_mut() = ask.headers.clone();
        match tokio::time::timeout(ANSWER, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(NoAnswer { connecting: error.is_connect(), message: innermost(&error) }),
            Err(_) => Err(NoAnswer {
                message: format!("no answer within {} s", ANSWER.as_secs()),
                connecting: false,
            }),
        }
    }
}

/// Where a redirect leads: relative to where it came from, and never from HTTPS to HTTP.
fn redirect_target(from: &Uri, headers: &HeaderMap) -> Result<Uri, NoAnswer> {
    let bad = |message: String| NoAnswer { message, connecting: false };
    let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| bad("a redirect without a location".to_owned()))?;
    let to: Uri = location.parse().map_err(|_| bad(format!("a redirect to \"{location}\"")))?;
    let mut parts = to.into_parts();
    if parts.authority.is_none() {
        if !location.starts_with('/') {
            return Err(bad(format!("a redirect to \"{location}\"")));
        }
        parts.authority = from.authority().cloned();
        parts.scheme = from.scheme().cloned();
    }
    let to = Uri::from_parts(parts).map_err(|_| bad(format!("a redirect to \"{location}\"")))?;
    match (from.scheme_str(), to.scheme_str()) {
        (Some("https"), Some("https")) | (Some("http"), Some("http" | "https")) => Ok(to),
        _ => Err(bad(format!("a redirect from {from} to \"{location}\" would lose encryption"))),
    }
}

/// The last cause says what the kernel or TLS said; the outer ones only that something failed.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(from: &'static str, to: &'static str) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, http::HeaderValue::from_static(to));
        redirect_target(&Uri::from_static(from), &headers)
            .map(|uri| uri.to_string())
            .map_err(|error| error.message)
    }

    #[test]
    fn follows_redirects_that_keep_encryption() {
        assert_eq!(target("https://a/v2/x", "https://cdn.b/y?z=1"), Ok("https://cdn.b/y?z=1".to_owned()));
        assert_eq!(target("https://a:5000/v2/x", "/y"), Ok("https://a:5000/y".to_owned()));
        assert_eq!(target("http://a/x", "https://b/y"), Ok("https://b/y".to_owned()));
        assert!(target("https://a/x", "http://b/y").is_err());
        assert!(target("https://a/x", "file:///etc/passwd").is_err());
        assert!(target("https://a/x", "y").is_err());
    }
}
