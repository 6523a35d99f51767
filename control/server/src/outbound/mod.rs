//! How this server calls out: webhooks, issuers of tokens, aggregated API servers, pods and services for `proxy`.
//!
//! A target is a URL or a Service. A Service's name is resolved here, from the objects of this server, and its
//! endpoint is dialled directly: the server's own process may stand outside of the network of pods. TLS is checked
//! against `<service>.<namespace>.svc` or the URL's host and the bundle that the target brings along, or the host's
//! authorities.
//!
//! Connections are kept and shared, HTTP/2 where the other side speaks it; answers are bounded; redirects are
//! answers like others, and never followed.

mod clients;
mod credentials;
mod dial;
mod failure;
mod kubeconfig;
mod remote;
mod resolve;
mod target;
#[cfg(test)]
mod tests;
mod trust;
mod users;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderValue, USER_AGENT};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;

pub use failure::{CallError, CallFailure};
pub use kubeconfig::KubeconfigError;
pub use remote::Remote;
pub use users::WebhookUsers;

pub(crate) use dial::{DialError, dial};
pub(crate) use failure::words;
pub(crate) use resolve::{Endpoints, endpoints, is_of, items, number};
pub(crate) use target::{Place, Target, bundle, service_place};
pub(crate) use trust::{Identity, Trust, Unchecked};

use crate::authn::Objects;
use crate::{RequestBody, empty, full};
use clients::Clients;
use dial::Dialer;
use failure::method_word;
use resolve::Resolver;

/// Most bytes of an answer that is read as a whole: an object of the largest size, three times over (as a patch in
/// base64, with what a webhook has to say).
const MAX_ANSWER: usize = 8 << 20;
/// Who calls.
const AGENT: &str = concat!("carrack/", env!("CARGO_PKG_VERSION"));

/// Calls out. Clones share their connections.
#[derive(Clone)]
pub(crate) struct Outbound {
    /// None where nothing but URLs is called.
    resolver: Option<Arc<Resolver>>,
    clients: Arc<Clients>,
}

/// An answer that was read completely.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// What the version of the body is called.
    pub(crate) tag: Option<HeaderValue>,
    pub(crate) body: Bytes,
}

impl Outbound {
    /// Looks Services up in `objects`.
    pub(crate) fn new(objects: Arc<dyn Objects>) -> Self {
        Outbound { resolver: Some(Arc::new(Resolver::new(objects))), clients: Arc::default() }
    }

    /// Calls URLs alone: for those who are set up before there are objects.
    pub(crate) fn of_urls() -> Self {
        Outbound { resolver: None, clients: Arc::default() }
    }

    /// What is at `url`, read in at most `limit`.
    pub(crate) async fn get(&self, target: &Target, url: &str, limit: Duration) -> Result<Answer, CallError> {
        let mut request = request(Method::GET, url, empty())?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        self.ask(target, request, limit).await
    }

    /// Posts a JSON text to `url` and reads the answer, in at most `limit`.
    pub(crate) async fn post(
        &self,
        target: &Target,
        url: &str,
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<Answer, CallError> {
        let mut request = request(Method::POST, url, full(body))?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*"));
        self.ask(target, request, limit).await
    }

    /// Sends a request, whose URI is absolute, and reads the answer, in at most `limit`.
    pub(crate) async fn ask(
        &self,
        target: &Target,
        mut request: Request<RequestBody>,
        limit: Duration,
    ) -> Result<Answer, CallError> {
        let (method, url) = (method_word(request.method()), request.uri().to_string());
        let failed = |why: CallFailure| CallError { method, url, why };
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        if let Some(credentials) = &target.credentials
            && let Some(value) = credentials.authorization()
        {
            headers.insert(AUTHORIZATION, value);
        }
        let work = async {
            let response = self.send(target, request).await.map_err(CallFailure::Failed)?;
            let (status, tag) = (response.status(), response.headers().get(ETAG).cloned());
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| CallFailure::Failed(words(&*error)))?.to_bytes();
            Ok(Answer { status, tag, body })
        };
        match tokio::time::timeout(limit, work).await {
            Ok(answer) => answer.map_err(failed),
            Err(_) => Err(failed(CallFailure::Late)),
        }
    }

    /// Sends a request, whose URI is absolute, and answers as soon as the head of the answer is there. An error
    /// tells the cause alone.
    pub(crate) async fn send(
        &self,
        target: &Target,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, String> {
        let dialer = self.dialer(target)?;
        let client = self.clients.of(target, dialer).map_err(|error| error.to_string())?;
        client.request(request).await.map_err(|error| words(&error))
    }

    /// A connection of its own, for a request that is to become a stream of bytes: HTTP/1.1, which upgrades need.
    pub(crate) async fn connect(&self, target: &Target) -> Result<SendRequest<RequestBody>, String> {
        let uri = target.url().parse().map_err(|why: http::uri::InvalidUri| why.to_string())?;
        dial::connect(self.dialer(target)?, &target.trust, &uri).await
    }

    fn dialer(&self, target: &Target) -> Result<Dialer, String> {
        match (&target.place, &self.resolver) {
            (Place::Url(_), _) => Ok(Dialer::Dns),
            (Place::Service { namespace, name, port, .. }, Some(resolver)) => Ok(Dialer::Service {
                resolver: Arc::clone(resolver),
                namespace: namespace.clone(),
                name: name.clone(),
                port: *port,
            }),
            (Place::Service { name, .. }, None) => {
                Err(format!("service {name:?} cannot be called from here, only URLs can"))
            }
        }
    }
}

/// A request whose URI is absolute.
fn request(method: Method, url: &str, body: RequestBody) -> Result<Request<RequestBody>, CallError> {
    let mut request = Request::new(body);
    *request.uri_mut() = url.parse().map_err(|why: http::uri::InvalidUri| CallError {
        method: method_word(&method),
        url: url.to_owned(),
        why: CallFailure::Url(why.to_string()),
    })?;
    *request.method_mut() = method;
    Ok(request)
}
