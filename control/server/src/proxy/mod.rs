//! `proxy` of pods, services and nodes: a request is handed on to what listens there, and the answer comes back, as
//! upstream does it: links and redirects lead back through this server, upgrades become streams of bytes.
//!
//! A pod is reached by its address, a service by an endpoint that is a pod of its namespace; both directly from this
//! process. The API of a node is asked by way of the client that knows nodes.

mod answer;
mod html;
mod link;
mod place;
#[cfg(test)]
mod tests;

#[cfg(any(test, fuzzing))]
pub(crate) use html::rewrite as rewrite_html;

use std::net::SocketAddr;

use carrack_api::find;
use http::header::{
    CONNECTION, COOKIE, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, UPGRADE,
};
use http::{Method, Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use serde_json::{Value, json};

use crate::audit::Peer;
use crate::authn::Objects;
use crate::call::{Answer, Call};
use crate::kubelet::{kept, node_address, pass_on, upgrade};
use crate::object::Stored;
use crate::outbound::{Outbound, Place, Target, Trust, is_of};
use crate::{ApiError, BoxError, Operation, RequestBody, ResponseBody, StoreObjects, empty};
use link::Links;
use place::Id;

/// Says under what path the client found what is asked; upstream's name.
const FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Hands the request on to the pod, service or node that it names.
pub(crate) async fn answer(call: &Call, request: Request<RequestBody>) -> Result<Answer, ApiError> {
    let path = request.uri().path().to_owned();
    let (prefix, tail) = place::split_path(&path, !call.namespace().is_empty());
    admit(call, tail).await?;
    let id = Id::parse(call.name()).ok_or_else(|| {
        ApiError::bad_request(format!("invalid {} request {:?}", call.resource.singular, call.name()))
    })?;
    let is_upgrade = upgrade::wanted(request.headers());
    let host = host(&request);
    let mut links = Links { prefix: prefix.to_owned(), source: String::new(), host };
    let target = match call.resource.plural {
        "pods" => Where::At(pod(call, &id).await?),
        "services" => Where::At(service(call, &id).await?),
        _ => node(call, &id).await?,
    };
    if tail.is_empty() && !is_upgrade && matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(Answer::Ready(with_slash(&request)?));
    }
    let is_head = request.method() == Method::HEAD;
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let tail = if tail.is_empty() { "/" } else { tail };
    let response = match target {
        Where::Api(node) => call.server.config.nodes.proxy(&node, &format!("{tail}{query}"), request).await?,
        Where::At(address) => {
            links.source = address.to_string();
            let outgoing =
                Outgoing { address, is_tls: id.is_tls, path: format!("{tail}{query}"), links: &links };
            outgoing.send(&call.server.proxied, request, is_upgrade).await?
        }
    };
    Ok(Answer::Ready(answer::led_back(response, &links, is_head).await))
}

/// Where a request goes.
enum Where {
    /// To an address.
    At(SocketAddr),
    /// To the API of this node.
    Api(Value),
}

/// Lets admission judge the connection.
async fn admit(call: &Call, tail: &str) -> Result<(), ApiError> {
    let kind = call.subresource.map_or("", |subresource| subresource.kind.kind);
    let mut options = json!({"kind": kind, "apiVersion": "v1", "path": tail.trim_matches('/')});
    let admission = call.admission(Operation::Connect, kind, None, false);
    call.mutate(&admission, &mut options).await?;
    call.judge(&admission, Some(&options)).await
}

async fn pod(call: &Call, id: &Id) -> Result<SocketAddr, ApiError> {
    place::of_pod(&stored(call, "pods", call.namespace(), &id.name).await?, id)
}

async fn service(call: &Call, id: &Id) -> Result<SocketAddr, ApiError> {
    let namespace = call.namespace();
    let service = stored(call, "services", namespace, &id.name).await?;
    let port = place::port_of_service(&service, id)?;
    let objects = StoreObjects::new(call.registry().store().clone());
    let slices = objects.list("discovery.k8s.io", "endpointslices", namespace).await?;
    let own: Vec<&Value> = slices.iter().map(|s| &**s).filter(|slice| is_of(slice, &id.name)).collect();
    let legacy = match own.is_empty() {
        true => objects.get("", "endpoints", namespace, &id.name).await?,
        false => None,
    };
    let mut found = place::candidates(&port, namespace, &own, legacy.as_deref());
    if !found.is_empty() {
        let turn = rand::random_range(0..found.len());
        found.rotate_left(turn);
    }
    // Somebody who may write endpoints must not thereby reach what is no pod of the namespace.
    for candidate in found {
        let pod = objects.get("", "pods", namespace, &candidate.pod).await?;
        if pod.is_some_and(|pod| place::has_address(&pod, candidate.address.ip())) {
            return Ok(candidate.address);
        }
    }
    Err(ApiError::unavailable(format!("no endpoints available for service {:?}", call.name())))
}

async fn node(call: &Call, id: &Id) -> Result<Where, ApiError> {
    let node = stored(call, "nodes", "", &id.name).await?;
    let own = node_address(&node)?;
    match id.port.parse::<u16>() {
        Ok(port) if port != own.port() => Ok(Where::At(SocketAddr::new(own.ip(), port))),
        Err(_) if !id.port.is_empty() => {
            Err(ApiError::bad_request(format!("invalid node request {:?}", call.name())))
        }
        _ => Ok(Where::Api(node)),
    }
}

async fn stored(call: &Call, plural: &str, namespace: &str, name: &str) -> Result<Value, ApiError> {
    let row = find("", "v1", plural).ok_or_else(|| ApiError::internal("the table has no such kind"))?;
    let found = call.registry().get(row, namespace, name).await?;
    Stored::from(&*found.ok_or_else(|| ApiError::not_found("", plural, name))?).object()
}

/// The host as the client called it.
fn host<B>(request: &Request<B>) -> String {
    let named = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    named.or_else(|| request.uri().authority().map(|a| a.as_str())).unwrap_or_default().to_owned()
}

/// Relative links of a page work below a path with a slash at its end only.
fn with_slash<B>(request: &Request<B>) -> Result<Response<ResponseBody>, ApiError> {
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let to =
        HeaderValue::try_from(format!("{}/{query}", request.uri().path())).map_err(ApiError::internal)?;
    response.headers_mut().insert(LOCATION, to);
    Ok(response)
}

/// A request on its way to an address.
struct Outgoing<'a> {
    address: SocketAddr,
    is_tls: bool,
    /// Path and query there.
    path: String,
    links: &'a Links,
}

impl Outgoing<'_> {
    async fn send(
        self,
        outbound: &Outbound,
        mut request: Request<RequestBody>,
        is_upgrade: bool,
    ) -> Result<Response<ResponseBody>, ApiError> {
        let client = request.extensions_mut().remove::<OnUpgrade>();
        let peer = request.extensions().get::<Peer>().copied();
        let (parts, body) = request.into_parts();
        let scheme = if self.is_tls { "https" } else { "http" };
        let base = format!("{scheme}://{}", self.address);
        // As upstream: pods show certificates of their own making.
        let target = Target::new(Place::Url(base.clone()), Trust::anything().over_http1());
        let mut outgoing = Request::new(body);
        *outgoing.method_mut() = parts.method;
        *outgoing.headers_mut() = self.headers(&parts.headers, peer)?;
        let unusable = |why| ApiError::bad_request(format!("{:?} cannot be asked: {why}", self.path));
        let (Some(client), true) = (client, is_upgrade) else {
            *outgoing.uri_mut() =
                format!("{base}{}", self.path).parse().map_err(|why: http::uri::InvalidUri| unusable(why))?;
            let answer = outbound.send(&target, outgoing).await;
            return answer
                .map(pass_on)
                .map_err(|why| ApiError::unavailable(format!("error trying to reach service: {why}")));
        };
        *outgoing.uri_mut() = self.path.parse().map_err(|why: http::uri::InvalidUri| unusable(why))?;
        if let Some(protocol) = parts.headers.get(UPGRADE) {
            let headers = outgoing.headers_mut();
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, protocol.clone());
        }
        stream(outbound, &target, outgoing, client).await
    }

    /// What is told: all that is not between the client and this server alone.
    fn headers(&self, from: &HeaderMap, peer: Option<Peer>) -> Result<HeaderMap, ApiError> {
        let mut headers = kept(from);
        let forwarded = |name: &HeaderName| name.as_str().starts_with("x-forwarded-");
        let more = from.iter().filter(|(name, _)| *name == COOKIE || *name == FORWARDED || forwarded(name));
        for (name, value) in more {
            headers.append(name.clone(), value.clone());
        }
        let before =
            headers.get_all(&FORWARDED_FOR).iter().filter_map(|v| v.to_str().ok().map(str::to_owned));
        let chain: Vec<String> = before.chain(peer.map(|Peer(ip)| ip.to_canonical().to_string())).collect();
        let uri = format!("{}{}", self.links.prefix, self.path.split('?').next().unwrap_or_default());
        let host = match self.links.host.as_str() {
            "" => self.address.to_string(),
            host => host.to_owned(),
        };
        for (name, value) in [(FORWARDED_FOR, chain.join(", ")), (FORWARDED_URI, uri), (HOST, host)] {
            if !value.is_empty() {
                headers.insert(name, HeaderValue::try_from(value).map_err(ApiError::internal)?);
            }
        }
        Ok(headers)
    }
}

/// Joins the client's stream with that of the other side, when that side agrees.
async fn stream(
    outbound: &Outbound,
    target: &Target,
    outgoing: Request<RequestBody>,
    client: OnUpgrade,
) -> Result<Response<ResponseBody>, ApiError> {
    let failed = |why: String| ApiError::new(500, "", format!("error dialing backend: {why}"));
    let mut sender = outbound.connect(target).await.map_err(failed)?;
    let sent = sender.send_request(outgoing).await;
    let mut answer = sent.map_err(|why| failed(BoxError::from(why).to_string()))?;
    match answer.status() {
        StatusCode::SWITCHING_PROTOCOLS => {
            let remote = hyper::upgrade::on(&mut answer).await.map_err(|why| failed(why.to_string()))?;
            tokio::spawn(upgrade::splice(client, remote, answer.headers()));
        }
        // What it says against it is for the client.
        status if status.as_u16() >= 400 => {}
        status => {
            let why = format!("invalid upgrade response: status code {}", status.as_u16());
            return Err(ApiError::new(500, "", why));
        }
    }
    Ok(pass_on(answer))
}
