//! How this server calls out: webhooks, aggregated API servers.
//!
//! A target is a URL or a Service. A Service's name is resolved here, from the objects of this server, and its
//! endpoint is dialled directly: the server's own process may stand outside of the network of pods. TLS is checked
//! against `<service>.<namespace>.svc` and the bundle that the target brings along, or the host's authorities.
//!
//! Connections are kept and shared, HTTP/2 where the other side speaks it; answers are bounded; redirects are
//! answers like others, and never followed.

mod clients;
mod dial;
mod failure;
mod resolve;
mod target;
#[cfg(test)]
mod tests;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;

pub(crate) use failure::CallError;
pub(crate) use resolve::{Endpoints, endpoints, is_of};
pub(crate) use target::{Place, Target, bundle, service_place};
pub(crate) use trust::{Identity, Trust};

use crate::authn::Objects;
use crate::{RequestBody, full};
use clients::Clients;
use dial::Dialer;
use failure::words;
use resolve::Resolver;

/// Most bytes of an answer that is read as a whole: an object of the largest size, three times over (as a patch in
/// base64, with what a webhook has to say).
const MAX_ANSWER: usize = 8 << 20;
/// Who calls.
const AGENT: &str = concat!("carrack/", env!("CARGO_PKG_VERSION"));

/// Calls out. Clones share their connections.
#[derive(Clone)]
pub(crate) struct Outbound {
    resolver: Arc<Resolver>,
    clients: Arc<Clients>,
}

/// An answer that was read completely.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Outbound {
    /// Looks Services up in `objects`.
    pub(crate) fn new(objects: Arc<dyn Objects>) -> Self {
        Outbound { resolver: Arc::new(Resolver::new(objects)), clients: Arc::default() }
    }

    /// Posts a JSON text and reads the answer, in at most `limit`, which the other side is told in the query.
    pub(crate) async fn post(
        &self,
        target: &Target,
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<Answer, CallError> {
        let seconds = limit.as_millis().div_ceil(1000);
        let url = format!("{}?timeout={seconds}s", target.url());
        let failed = |why: String| CallError { method: "Post", url: url.clone(), why };
        let mut request = Request::new(full(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = url.parse().map_err(|why: http::uri::InvalidUri| failed(why.to_string()))?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*"));
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let work = async {
            let response = self.send(target, request).await.map_err(failed)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| failed(words(&*error)))?.to_bytes();
            Ok(Answer { status, body })
        };
        match tokio::time::timeout(limit, work).await {
            Ok(answer) => answer,
            Err(_) => Err(failed("context deadline exceeded".into())),
        }
    }

    /// Sends a request, whose URI is absolute, and answers as soon as the head of the answer is there. An error
    /// tells the cause alone.
    pub(crate) async fn send(
        &self,
        target: &Target,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, String> {
        let client = self.clients.of(target, || self.dialer(target)).map_err(|error| error.to_string())?;
        client.request(request).await.map_err(|error| words(&error))
    }

    /// A connection of its own, for a request that is to become a stream of bytes: HTTP/1.1, which upgrades need.
    pub(crate) async fn connect(&self, target: &Target) -> Result<SendRequest<RequestBody>, String> {
        let uri: Uri = target.url().parse().map_err(|why: http::uri::InvalidUri| why.to_string())?;
        dial::connect(self.dialer(target), &target.trust, &uri).await
    }

    fn dialer(&self, target: &Target) -> Dialer {
        match &target.place {
            Place::Url(_) => Dialer::Dns,
            Place::Service { namespace, name, port, .. } => Dialer::Service {
                resolver: Arc::clone(&self.resolver),
                namespace: namespace.clone(),
                name: name.clone(),
                port: *port,
            },
        }
    }
}
