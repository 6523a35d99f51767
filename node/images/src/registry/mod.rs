//! The registry side of a pull: the distribution API (`/v2/…`), with authentication, retries and resumption.

mod auth;
mod blob;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod transport;

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use parking_lot::Mutex;
use rand::Rng;

use crate::credential::Credential;
use crate::digest::Digest;
use crate::error::PullFailure;
use crate::manifest::{ACCEPT, MAX_DOCUMENT};
use crate::reference::Reference;
use auth::{Challenge, TokenError};
use transport::{Ask, NoAnswer, Transport};

pub(crate) use transport::Transports;

/// How often a request is made before its failure counts.
const ATTEMPTS: u32 = 5;
/// The pause after the first failure; it doubles, and is varied so that nodes do not come back together.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause, also when the registry asks for a longer one.
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// How long a body may stand still.
const IDLE: Duration = Duration::from_secs(30);
/// The largest error message that is read.
const MAX_ERROR: usize = 64 << 10;

/// One repository of a registry, for the length of one pull.
pub(crate) struct Registry {
    transport: Transport,
    reference: Reference,
    /// `http://host` or `https://host`.
    base: String,
    /// What matches the reference, closest first.
    credentials: Vec<Credential>,
    /// What the registry last accepted.
    authorization: Mutex<Option<HeaderValue>>,
    /// One request at a time finds out what the registry wants.
    authorizing: tokio::sync::Mutex<()>,
}

/// A document with the digest of its bytes.
pub(crate) struct Fetched {
    pub(crate) bytes: Bytes,
    pub(crate) digest: Digest,
}

impl Registry {
    /// Finds out how the registry is reached. Registries that may be insecure are tried over HTTP first.
    pub(crate) async fn connect(
        transports: &Transports,
        reference: &Reference,
        credentials: &[Credential],
        insecure: &[String],
    ) -> Result<Registry, PullFailure> {
        let plain = is_loopback(reference.host()) || insecure.iter().any(|host| host == reference.host());
        let schemes: &[&str] = if plain { &["http", "https"] } else { &["https"] };
        let transport =
            transports.to(reference.registry()).map_err(|error| no_answer("GET", reference.host(), error))?;
        let mut matching: Vec<(usize, Credential)> = credentials
            .iter()
            .filter_map(|credential| Some((credential.matches(reference)?, credential.clone())))
            .collect();
        matching.sort_by_key(|(closeness, _)| std::cmp::Reverse(*closeness));
        let mut registry = Registry {
            transport,
            reference: reference.clone(),
            base: String::new(),
            credentials: matching.into_iter().map(|(_, credential)| credential).collect(),
            authorization: Mutex::new(None),
            authorizing: tokio::sync::Mutex::new(()),
        };
        let mut pauses = Pauses::default();
        loop {
            let mut failures = Vec::new();
            for scheme in schemes {
                registry.base = format!("{scheme}://{}", reference.host());
                match registry.ping().await {
                    Ok(()) => return Ok(registry),
                    Err(failure) => failures.push(failure),
                }
            }
            // A refused connection is a clear answer, and the agent backs off by itself. Otherwise the last failure
            // says most: it is the one of HTTPS.
            let is_clear = failures.iter().all(|failure| failure.connecting);
            let index = if is_clear { 0 } else { failures.len() - 1 };
            if is_clear || !pauses.pause(None).await {
                let url = format!("{}://{}/v2/", schemes[index], reference.host());
                return Err(no_answer("GET", &url, failures.swap_remove(index)));
            }
        }
    }

    /// Asks whether anybody is there who speaks the API. Refusals count as yes; servers that speak TLS call plain HTTP a
    /// bad request.
    async fn ping(&self) -> Result<(), NoAnswer> {
        let response = self.send(Method::GET, &format!("{}/v2/", self.base), HeaderMap::new()).await?;
        match response.status() {
            status @ StatusCode::BAD_REQUEST => {
                Err(NoAnswer { message: status.to_string(), connecting: false })
            }
            _ => Ok(()),
        }
    }

    /// Fetches a manifest or an index by tag or digest, and checks it against the digest.
    pub(crate) async fn manifest(&self, name: &str) -> Result<Fetched, PullFailure> {
        let url = format!("{}/v2/{}/manifests/{name}", self.base, self.reference.repository());
        let accept = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(ACCEPT))]);
        let (headers, bytes) = self.document(&url, accept).await?;
        let digest = Digest::of(&bytes);
        let said = headers.get("docker-content-digest").and_then(|value| value.to_str().ok()?.parse().ok());
        let expected = name.parse().ok().or(said).unwrap_or(digest);
        match digest == expected {
            true => Ok(Fetched { bytes, digest }),
            false => Err(PullFailure::DigestMismatch { what: "manifest", expected, found: digest }),
        }
    }

    /// Fetches a small blob, such as a configuration, and checks it.
    pub(crate) async fn small_blob(&self, digest: Digest, what: &'static str) -> Result<Bytes, PullFailure> {
        let (_, bytes) = self.document(&self.blob_url(digest), HeaderMap::new()).await?;
        match Digest::of(&bytes) {
            found if found == digest => Ok(bytes),
            found => Err(PullFailure::DigestMismatch { what, expected: digest, found }),
        }
    }

    fn blob_url(&self, digest: Digest) -> String {
        format!("{}/v2/{}/blobs/{digest}", self.base, self.reference.repository())
    }

    /// Fetches a whole small document; a body that breaks off counts as a failed attempt.
    async fn document(&self, url: &str, headers: HeaderMap) -> Result<(HeaderMap, Bytes), PullFailure> {
        let mut pauses = Pauses::default();
        loop {
            let response = self.get(url, headers.clone()).await?;
            let answered = response.headers().clone();
            match read_body(response, MAX_DOCUMENT as usize).await {
                Ok(bytes) => return Ok((answered, bytes)),
                Err(message) => {
                    if !pauses.pause(None).await {
                        return Err(no_answer("GET", url, NoAnswer { message, connecting: false }));
                    }
                }
            }
        }
    }

    /// Asks for something with what authorization it takes; anything but 2xx is an error.
    async fn get(&self, url: &str, headers: HeaderMap) -> Result<Response<Incoming>, PullFailure> {
        let ask = |authorization: Option<HeaderValue>| {
            let mut headers = headers.clone();
            headers.extend(authorization.map(|value| (header::AUTHORIZATION, value)));
            self.retry("GET", url, move || self.send(Method::GET, url, headers.clone()))
        };
        let before = self.authorization.lock().clone();
        let response = ask(before.clone()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.success(url, response).await;
        }
        let _only = self.authorizing.lock().await;
        // Somebody else may have found out meanwhile.
        let now = self.authorization.lock().clone();
        if now != before {
            let response = ask(now).await?;
            if response.status() != StatusCode::UNAUTHORIZED {
                return self.success(url, response).await;
            }
        }
        let Some(challenge) = auth::challenge(response.headers()) else {
            return self.success(url, response).await;
        };
        let mut refusal = self.refusal(response).await;
        for credential in self.candidates(&challenge) {
            let authorization = match self.authorize(&challenge, credential).await {
                Ok(authorization) => authorization,
                Err(TokenError::Refused(message)) => {
                    refusal = message;
                    continue;
                }
                Err(TokenError::Protocol(message)) => return Err(PullFailure::Protocol(message)),
                Err(TokenError::NoAnswer { uri, error }) => {
                    return Err(no_answer("GET", &uri.to_string(), error));
                }
            };
            let response = ask(Some(authorization.clone())).await?;
            if !matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                *self.authorization.lock() = Some(authorization);
                return self.success(url, response).await;
            }
            refusal = self.refusal(response).await;
        }
        Err(PullFailure::Denied { reference: self.reference.to_string(), message: refusal })
    }

    /// Whom to be, in order; with tokens, nobody in particular at last.
    fn candidates(&self, challenge: &Challenge) -> Vec<Option<&Credential>> {
        let anonymous = matches!(challenge, Challenge::Bearer { .. }).then_some(None);
        self.credentials.iter().map(Some).chain(anonymous).collect()
    }

    async fn authorize(
        &self,
        challenge: &Challenge,
        credential: Option<&Credential>,
    ) -> Result<HeaderValue, TokenError> {
        match (challenge, credential) {
            (Challenge::Basic, Some(credential)) => auth::basic(credential),
            (Challenge::Basic, None) => Err(TokenError::Refused("credentials are needed".to_owned())),
            (Challenge::Bearer { realm, service, scope }, credential) => {
                let pull = format!("repository:{}:pull", self.reference.repository());
                let scope = scope.as_deref().unwrap_or(&pull);
                let plain = self.base.starts_with("http://");
                auth::token(&self.transport, (realm, service.as_deref(), scope), credential, plain).await
            }
        }
    }

    /// Sorts the answers that are final.
    async fn success(
        &self,
        url: &str,
        response: Response<Incoming>,
    ) -> Result<Response<Incoming>, PullFailure> {
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::NOT_FOUND => Err(PullFailure::NotFound(self.reference.to_string())),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let message = self.refusal(response).await;
                Err(PullFailure::Denied { reference: self.reference.to_string(), message })
            }
            _ => Err(self.unexpected("GET", url, response).await),
        }
    }

    async fn refusal(&self, response: Response<Incoming>) -> String {
        let status = response.status();
        let body = read_body(response, MAX_ERROR).await.unwrap_or_default();
        registry_words(&body, status)
    }

    async fn unexpected(&self, method: &'static str, url: &str, response: Response<Incoming>) -> PullFailure {
        let status = response.status();
        let message = self.refusal(response).await;
        PullFailure::Registry { method, url: url.to_owned(), status: status.as_u16(), message }
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        mut headers: HeaderMap,
    ) -> Result<Response<Incoming>, NoAnswer> {
        let uri: Uri = url
            .parse()
            .map_err(|_| NoAnswer { message: "the address is malformed".to_owned(), connecting: false })?;
        let agent = concat!("carrack/", env!("CARGO_PKG_VERSION"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        self.transport.send(Ask { method, uri, headers, body: Bytes::new() }).await
    }

    /// Makes a request again while there is no answer, or one that asks for patience.
    async fn retry<F>(
        &self,
        method: &'static str,
        url: &str,
        request: impl Fn() -> F,
    ) -> Result<Response<Incoming>, PullFailure>
    where
        F: Future<Output = Result<Response<Incoming>, NoAnswer>>,
    {
        let mut pauses = Pauses::default();
        loop {
            match request().await {
                Ok(response) if is_temporary(response.status()) => {
                    if !pauses.pause(retry_after(response.headers())).await {
                        return Err(self.unexpected(method, url, response).await);
                    }
                }
                Ok(response) => return Ok(response),
                Err(error) => {
                    // A refused connection is a clear answer, and the agent backs off by itself.
                    if error.connecting || !pauses.pause(None).await {
                        return Err(no_answer(method, url, error));
                    }
                }
            }
        }
    }
}

/// Counts attempts and waits between them.
#[derive(Default)]
struct Pauses {
    failures: u32,
}

impl Pauses {
    /// Waits before the next attempt; false when there is to be none.
    async fn pause(&mut self, asked: Option<Duration>) -> bool {
        self.failures += 1;
        if self.failures >= ATTEMPTS {
            return false;
        }
        let own = FIRST_PAUSE * 2u32.pow(self.failures - 1);
        let pause = asked.unwrap_or(own).min(MAX_PAUSE).mul_f64(rand::rng().random_range(0.8..1.2));
        tokio::time::sleep(pause).await;
        true
    }

    /// Starts counting anew after progress.
    fn reset(&mut self) {
        self.failures = 0;
    }
}

fn is_temporary(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// The number of seconds a registry asks to wait; its other form, a date, is not used by registries.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let name: HeaderName = header::RETRY_AFTER;
    Some(Duration::from_secs(headers.get(name)?.to_str().ok()?.parse().ok()?))
}

/// Whether a registry's host is this machine, where HTTP harms nobody.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(address, _)| address),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn no_answer(method: &'static str, url: &str, error: NoAnswer) -> PullFailure {
    PullFailure::Unreachable { method, url: url.to_owned(), message: error.message }
}

/// Reads a body of bounded size that does not stand still.
async fn read_body(response: Response<Incoming>, limit: usize) -> Result<Bytes, String> {
    let body = Limited::new(response.into_body(), limit).collect();
    match tokio::time::timeout(IDLE, body).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("the answer was not complete within {} s", IDLE.as_secs())),
    }
}

#[derive(serde::Deserialize)]
struct ErrorAnswer {
    #[serde(default)]
    errors: Vec<ErrorItem>,
    details: Option<String>,
}

#[derive(serde::Deserialize)]
struct ErrorItem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What a registry says about an error, in its own words if there are any.
fn registry_words(body: &[u8], status: StatusCode) -> String {
    if let Ok(answer) = serde_json::from_slice::<ErrorAnswer>(body) {
        let items =
            answer.errors.iter().map(|item| format!("{}: {}", item.code.to_lowercase(), item.message));
        let words: Vec<String> = items.chain(answer.details).collect();
        if !words.is_empty() {
            return format!("server message: {}", words.join("; "));
        }
    }
    status.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_loopback_registries() {
        for host in ["localhost", "localhost:5000", "127.0.0.1", "127.1.2.3:80", "[::1]:5000", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example.com", "10.0.0.1:5000", "registry-1.docker.io", "[2001:db8::1]:5000"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn repeats_the_registrys_words() {
        let body =
            br#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry"}]}"#;
        let words = registry_words(body, StatusCode::NOT_FOUND);
        assert_eq!(words, "server message: name_unknown: repository name not known to registry");
        assert_eq!(registry_words(b"<html>", StatusCode::BAD_GATEWAY), "502 Bad Gateway");
    }
}
