//! Requests that a node answers: `pods/log`, `exec`, `attach`, `portforward`, and `nodes/proxy`.
//!
//! The API server finds the container and the node, connects with its own certificate, and passes the request on.
//! Logs are streamed chunk by chunk. Upgraded connections are joined byte for byte.

mod connect;
mod container;
mod target;
#[cfg(test)]
mod tests;
pub(crate) mod upgrade;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use rustls::ClientConfig;
use serde_json::Value;

use crate::query::Query;
use crate::{ApiError, NodeProxy, NodeRequest, RequestBody, ResponseBody};
use connect::connect;
use target::{Endpoint, Target};

/// Most of a node's complaint that is passed on.
const COMPLAINT_BYTES: usize = 50_000;

/// Headers that are the client's business with this server, not with the node: the node trusts the API server
/// and must not see anybody's credentials.
const PRIVATE: [HeaderName; 5] =
    [header::AUTHORIZATION, header::COOKIE, header::HOST, header::PROXY_AUTHORIZATION, header::FORWARDED];
/// Headers of one connection alone (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::PROXY_AUTHENTICATE,
];

/// Calls nodes.
#[derive(Clone)]
pub struct NodeClient {
    tls: Arc<ClientConfig>,
}

impl NodeClient {
    /// `tls` shows the API server's certificate and checks the nodes'; see
    /// [`crate::pki::Pki::kubelet_client_tls`].
    pub fn new(tls: Arc<ClientConfig>) -> Self {
        Self { tls }
    }

    async fn log(
        &self,
        pod: &Value,
        endpoint: &Endpoint,
        target: &Target,
    ) -> Result<Response<ResponseBody>, ApiError> {
        let mut request = Request::new(crate::empty());
        *request.method_mut() = Method::GET;
        let answer = self.call(endpoint, &target.path, request).await?;
        if answer.status().is_success() {
            return Ok(pass_on(answer));
        }
        let code = answer.status();
        let body = complaint(answer).await;
        // The pod's status knows why there is nothing yet, where the node only says that there is nothing.
        let waiting = container::waiting(pod, &target.container).filter(|_| code == StatusCode::NOT_FOUND);
        Err(match (waiting, code) {
            (Some(waiting), _) => ApiError::bad_request(waiting),
            (_, StatusCode::BAD_REQUEST) => ApiError::bad_request(body),
            (_, StatusCode::NOT_FOUND) => ApiError::new(404, "NotFound", body),
            (_, StatusCode::INTERNAL_SERVER_ERROR) => ApiError::internal(body),
            (_, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => ApiError::internal(format!(
                "node {:?} does not let the API server in ({code}): {body}",
                endpoint.node
            )),
            _ => {
                ApiError::new(code.as_u16(), "", format!("node {:?} answered {code}: {body}", endpoint.node))
            }
        })
    }

    async fn stream(
        &self,
        endpoint: &Endpoint,
        target: &Target,
        request: Request<RequestBody>,
    ) -> Result<Response<ResponseBody>, ApiError> {
        if !upgrade::wanted(request.headers()) {
            return Err(ApiError::bad_request("Upgrade request required"));
        }
        self.call(endpoint, &target.path, request).await.map(pass_on)
    }

    /// Sends the request to the node at `path`, headers and body included, and joins the streams when both sides
    /// agree on an upgrade.
    async fn call(
        &self,
        endpoint: &Endpoint,
        path: &str,
        mut request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, ApiError> {
        let client = request.extensions_mut().remove::<OnUpgrade>();
        let upgrades = upgrade::wanted(request.headers()) && client.is_some();
        let method = request.method().clone();
        let failed = |why: &dyn std::fmt::Display| unreachable(endpoint, &method, path, upgrades, why);

        let outgoing = outgoing(endpoint, path, request, upgrades)?;
        let mut sender = connect(endpoint, Arc::clone(&self.tls)).await.map_err(|error| failed(&error))?;
        let mut answer = sender.send_request(outgoing).await.map_err(|error| failed(&chain(&error)))?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        let Some(client) = client.filter(|_| upgrades) else {
            return Err(failed(&"the node switched protocols without being asked"));
        };
        let node = hyper::upgrade::on(&mut answer).await.map_err(|error| failed(&chain(&error)))?;
        tokio::spawn(upgrade::splice(client, node, answer.headers()));
        Ok(answer)
    }
}

#[async_trait::async_trait]
impl NodeProxy for NodeClient {
    async fn forward(&self, request: NodeRequest) -> Result<Response<ResponseBody>, ApiError> {
        let NodeRequest { pod, node, subresource, request } = request;
        let query = Query::parse(request.uri().query().unwrap_or_default())?;
        let target = Target::of(&pod, &subresource, &query)?;
        let endpoint = Endpoint::of(&node)?;
        if subresource == "log" {
            return self.log(&pod, &endpoint, &target).await;
        }
        self.stream(&endpoint, &target, request).await
    }

    async fn proxy(
        &self,
        node: &Value,
        path: &str,
        request: Request<RequestBody>,
    ) -> Result<Response<ResponseBody>, ApiError> {
        self.call(&Endpoint::of(node)?, path, request).await.map(pass_on)
    }
}

/// Where the API of a node (the stored object) is.
pub(crate) fn node_address(node: &Value) -> Result<SocketAddr, ApiError> {
    let endpoint = Endpoint::of(node)?;
    Ok(SocketAddr::new(endpoint.address, endpoint.port))
}

/// The request as the node gets it.
fn outgoing(
    endpoint: &Endpoint,
    path: &str,
    request: Request<RequestBody>,
    upgrades: bool,
) -> Result<Request<RequestBody>, ApiError> {
    let (parts, body) = request.into_parts();
    let mut outgoing = Request::new(body);
    *outgoing.method_mut() = parts.method;
    *outgoing.uri_mut() = path
        .parse()
        .map_err(|error| ApiError::bad_request(format!("{path:?} cannot be asked of a node: {error}")))?;
    *outgoing.headers_mut() = kept(&parts.headers);
    let headers = outgoing.headers_mut();
    if let (true, Some(protocol)) = (upgrades, parts.headers.get(header::UPGRADE)) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, protocol.clone());
    }
    let host = HeaderValue::try_from(endpoint.authority()).map_err(ApiError::internal)?;
    headers.insert(header::HOST, host);
    Ok(outgoing)
}

/// The headers that go on: not those of the connection, nor the client's credentials.
pub(crate) fn kept(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|name| name.trim().to_ascii_lowercase()))
        .collect();
    let mut kept = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let text = name.as_str();
        let dropped = HOP_BY_HOP.contains(name)
            || PRIVATE.contains(name)
            || text.starts_with("impersonate-")
            || text.starts_with("x-remote-")
            || text.starts_with("x-forwarded-")
            || named.iter().any(|named| named == text);
        if !dropped {
            kept.append(name.clone(), value.clone());
        }
    }
    kept.remove("keep-alive");
    // A client may carry its bearer token as a WebSocket protocol; it is for this server alone.
    strip_bearer_protocol(&mut kept);
    kept
}

/// Takes `base64url.bearer.authorization.k8s.io.…` out of the protocols that a WebSocket client offers.
fn strip_bearer_protocol(headers: &mut HeaderMap) {
    const TOKEN: &str = "base64url.bearer.authorization.k8s.io.";
    let offered: Vec<String> = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(|protocol| protocol.trim().to_owned()))
        .collect();
    if !offered.iter().any(|protocol| protocol.starts_with(TOKEN)) {
        return;
    }
    headers.remove(header::SEC_WEBSOCKET_PROTOCOL);
    let left: Vec<String> = offered.into_iter().filter(|protocol| !protocol.starts_with(TOKEN)).collect();
    if let Ok(value) = HeaderValue::try_from(left.join(", "))
        && !left.is_empty()
    {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    }
}

/// The node's answer as the client gets it; its body flows on as it comes.
pub(crate) fn pass_on(answer: Response<Incoming>) -> Response<ResponseBody> {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return upgrade::answer(&answer);
    }
    let (parts, body) = answer.into_parts();
    let mut response = Response::new(body.map_err(Into::into).boxed_unsync());
    *response.status_mut() = parts.status;
    *response.headers_mut() = parts.headers;
    for name in HOP_BY_HOP {
        response.headers_mut().remove(name);
    }
    response.headers_mut().remove("keep-alive");
    response
}

/// The text of an answer that is an error.
async fn complaint(answer: Response<Incoming>) -> String {
    let body: Result<Bytes, _> =
        Limited::new(answer.into_body(), COMPLAINT_BYTES).collect().await.map(|body| body.to_bytes());
    match body {
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim().to_owned(),
        Err(error) => format!("(its answer could not be read: {error})"),
    }
}

/// What a client is told when the node cannot be reached, in the words it is told by upstream.
fn unreachable(
    endpoint: &Endpoint,
    method: &Method,
    path: &str,
    upgrades: bool,
    why: &dyn std::fmt::Display,
) -> ApiError {
    let message = if upgrades {
        format!("error dialing backend: {why}")
    } else {
        // Get, Post, …
        let (first, rest) = method.as_str().split_at(1);
        format!("{first}{} \"https://{}{path}\": {why}", rest.to_ascii_lowercase(), endpoint.authority())
    };
    ApiError::new(500, "", message)
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
