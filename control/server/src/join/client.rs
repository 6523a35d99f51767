//! The joiner's side: it finds out whether it speaks with the right cluster, then shows its token.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{AUTHORITY_PATH, JOIN_PATH, JoinRequest, Joiner, Token, Welcome, authority_hash};
use crate::outbound::Unchecked;
use crate::pki::provider;

/// The largest answer: keys and an encryption configuration have a few KiB.
const MAX_ANSWER: usize = 1 << 20;
/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(35);
/// How often a cluster that cannot take a member right now is asked again, and the pause before.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);

/// Why this host did not join.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum JoinError {
    #[error("--join {url:?} is not like https://10.0.0.1:6443")]
    Url { url: String },
    #[error("{url} does not answer: {why}")]
    Unreachable { url: String, why: String },
    #[error(
        "the cluster at {url} is not the one that the token is from (its authority has the key {found}, the token says \
         {wanted}): the address or the token is wrong, or somebody is in between. Nothing was sent to it"
    )]
    OtherCluster { url: String, found: String, wanted: String },
    #[error("the cluster at {url} refuses: {message}")]
    Refused { url: String, message: String },
    #[error("{url} answered with something else than expected: {why}")]
    Answer { url: String, why: String },
}

/// Where the cluster is.
struct Place<'a> {
    url: &'a str,
    host: String,
    port: u16,
}

/// Joins the cluster at `url` (`https://host:port`). On return the joiner is a member that has yet to be started.
pub async fn join(url: &str, token: &Token, joiner: &Joiner) -> Result<Welcome, JoinError> {
    let place = Place::parse(url)?;
    let (_, answer) = place.ask(trusting_nobody(&place)?, Method::GET, AUTHORITY_PATH, Bytes::new()).await?;
    let pem = answer["authority"].as_str().unwrap_or_default();
    let found = authority_hash(pem).map_err(|error| place.strange(error))?;
    if found != token.authority {
        let wanted = token.authority.clone();
        return Err(JoinError::OtherCluster { url: url.to_owned(), found, wanted });
    }
    let request = JoinRequest { token: token.shown(), joiner: joiner.clone() };
    let body = Bytes::from(serde_json::to_vec(&request).map_err(|error| place.strange(error))?);
    for _ in 1..TRIES {
        match place.ask(trusting(pem, &place)?, Method::POST, JOIN_PATH, body.clone()).await? {
            (429 | 503, answer) => tracing::info!(message = %answer["message"], "the cluster is asked again"),
            (code, answer) => return place.welcome(code, answer),
        }
        tokio::time::sleep(PAUSE).await;
    }
    let (code, answer) = place.ask(trusting(pem, &place)?, Method::POST, JOIN_PATH, body).await?;
    place.welcome(code, answer)
}

impl<'a> Place<'a> {
    fn parse(url: &'a str) -> Result<Self, JoinError> {
        let wrong = || JoinError::Url { url: url.to_owned() };
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        if uri.scheme_str() != Some("https") || uri.path() != "/" {
            return Err(wrong());
        }
        let host = uri.host().ok_or_else(wrong)?.trim_matches(['[', ']']).to_owned();
        Ok(Place { url, host, port: uri.port_u16().ok_or_else(wrong)? })
    }

    fn strange(&self, why: impl std::fmt::Display) -> JoinError {
        JoinError::Answer { url: self.url.to_owned(), why: why.to_string() }
    }

    fn unreachable(&self, why: impl std::fmt::Display) -> JoinError {
        JoinError::Unreachable { url: self.url.to_owned(), why: why.to_string() }
    }

    fn welcome(&self, code: u16, answer: Value) -> Result<Welcome, JoinError> {
        if code != 200 {
            let message = answer["message"].as_str().unwrap_or("it does not say why").to_owned();
            return Err(JoinError::Refused { url: self.url.to_owned(), message });
        }
        serde_json::from_value(answer).map_err(|error| self.strange(error))
    }

    /// One request on a connection of its own: the status and the JSON of the answer.
    async fn ask(
        &self,
        tls: ClientConfig,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(u16, Value), JoinError> {
        let work = self.exchange(tls, method, path, body);
        match tokio::time::timeout(TIMEOUT, work).await {
            Ok(answer) => answer,
            Err(_) => Err(self.unreachable(format!("nothing within {} s", TIMEOUT.as_secs()))),
        }
    }

    async fn exchange(
        &self,
        tls: ClientConfig,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(u16, Value), JoinError> {
        let name = ServerName::try_from(self.host.clone())
            .map_err(|_| JoinError::Url { url: self.url.to_owned() })?;
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|error| self.unreachable(error))?;
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await.map_err(|error| {
            self.unreachable(format!(
                "{error} (if its certificate has another name, start its server with --tls-san {})",
                self.host
            ))
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(error))?;
        let connection = tokio::spawn(connection);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|error| self.strange(error))?;
        let host = format!("{}:{}", self.host, self.port).parse().map_err(|error| self.strange(error))?;
        request.headers_mut().insert(HOST, host);
        request.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        let response = sender.send_request(request).await.map_err(|error| self.unreachable(error))?;
        let code = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| self.unreachable(error))?.to_bytes();
        connection.abort();
        Ok((code, serde_json::from_slice(&body).map_err(|error| self.strange(error))?))
    }
}

/// TLS under the cluster's authority.
fn trusting(pem: &str, place: &Place<'_>) -> Result<ClientConfig, JoinError> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| place.strange(error))?;
    roots.add(authority).map_err(|error| place.strange(error))?;
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| place.strange(error))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// TLS that believes nothing: what comes over it is compared with the token's hash, and nothing secret is sent.
fn trusting_nobody(place: &Place<'_>) -> Result<ClientConfig, JoinError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| place.strange(error))?.dangerous();
    let verifier = Arc::new(Unchecked);
    Ok(builder.with_custom_certificate_verifier(verifier).with_no_client_auth())
}
