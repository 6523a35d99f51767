//! The tower service that all requests go through, whether they come over TLS or from a part of this process.
//!
//! In order: request info from the path, impersonation, a place among the requests in flight, authorization, the
//! verb. Whatever goes wrong becomes a `Status`; a panic becomes one too, and is logged.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use carrack_api::find;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use tower_service::Service;

use crate::authn::impersonation;
use crate::authz::decide;
use crate::call::{Call, Warnings};
use crate::metrics::Subject;
use crate::negotiate::{self, Representation};
use crate::query::Query;
use crate::router::RequestInfo;
use crate::server::Inner;
use crate::{
    ApiError, Authorizer, BoxError, RequestBody, ResponseBody, UserInfo, empty, limits, paths, respond,
    tracking, verbs,
};

/// Where a request comes from, which says what is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Over the network: everything is checked.
    Network,
    /// From a part of this process: as over the network, without a limit on requests in flight, since these parts
    /// have bounded queues of their own and a burst from outside must not stop them.
    Process,
    /// From the server itself, which makes the objects that every cluster has: no authorization, since the rules
    /// may not be there yet.
    Server,
}

/// A service that acts as one user. Made by [`crate::ApiServer::as_user`].
#[derive(Clone)]
pub struct UserService {
    server: Arc<Inner>,
    user: UserInfo,
}

impl UserService {
    pub(crate) fn new(server: Arc<Inner>, user: UserInfo) -> Self {
        UserService { server, user }
    }
}

impl<B> Service<Request<B>> for UserService
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (server, user) = (self.server.clone(), self.user.clone());
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        async move { Ok(handle(server, user, request, Origin::Process).await) }.boxed()
    }
}

/// Answers a request of a known user.
pub(crate) async fn handle(
    server: Arc<Inner>,
    user: UserInfo,
    request: Request<RequestBody>,
    origin: Origin,
) -> Response<ResponseBody> {
    let began = Instant::now();
    let is_head = request.method() == Method::HEAD;
    let line = format!("{} {}", request.method(), request.uri().path());
    let mut subject = Subject { verb: "other", ..Subject::default() };
    // Boxed, so that the types of the futures around it stay shallow enough for the compiler.
    let work: BoxFuture<'_, _> = Box::pin(process(server.clone(), user, request, origin, &mut subject));
    let response = match AssertUnwindSafe(work).catch_unwind().await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => respond::refusal(&error),
        Err(panic) => {
            let what = panic_text(&*panic);
            tracing::error!(request = %line, panic = what, "a request handler panicked: this is a bug, please report it");
            respond::refusal(&ApiError::internal("the request could not be handled"))
        }
    };
    server.metrics.request(subject, response.status().as_u16(), began.elapsed());
    tracing::debug!(request = %line, status = response.status().as_u16(), took = ?began.elapsed());
    if is_head { response.map(|_| empty()) } else { response }
}

/// The text of a panic.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}

/// Everything between the request and its answer.
async fn process(
    server: Arc<Inner>,
    user: UserInfo,
    request: Request<RequestBody>,
    origin: Origin,
    subject: &mut Subject,
) -> Result<Response<ResponseBody>, ApiError> {
    let query = Query::parse(request.uri().query().unwrap_or_default())?;
    let info = RequestInfo::parse(request.method(), request.uri().path(), &query)?;
    subject.verb = info.verb;
    let _place = if origin == Origin::Network { server.limits.enter(&info)? } else { None };
    let user = act_as(&server.config.authorizers, user, request.headers()).await?;
    let attributes = info.attributes(user);
    if origin != Origin::Server {
        decide(&server.config.authorizers, &attributes).await?;
    }
    if !info.is_resource() {
        return paths::answer(&server, request.method(), &info.path, &query, request.headers());
    }
    let resource = find(&info.group, &info.version, &info.resource).ok_or_else(ApiError::no_such_path)?;
    subject.resource = Some(resource);
    let subresource = match info.subresource.as_str() {
        "" => None,
        name => Some(resource.subresource(name).ok_or_else(ApiError::no_such_path)?),
    };
    subject.subresource = subresource.map_or("", |s| s.name);
    let stored = !resource.storage_prefix.is_empty() && subresource.is_none_or(|s| s.kind == resource.gvk());
    let call = Call {
        representation: Representation::negotiate(request.headers(), &query, stored)?,
        content_type: negotiate::content_type(request.headers()),
        manager: tracking::manager(&query, request.headers(), &attributes.user, origin)?,
        server,
        resource,
        subresource,
        info,
        attributes,
        query,
        warnings: Arc::new(Warnings::default()),
        annotations: Arc::default(),
        deletion: OnceLock::new(),
        origin,
    };
    verbs::check_path(&call)?;
    verbs::check_verb(&call)?;
    run(call, request).await
}

/// The user that the request is carried out as: who asks, or whom they impersonate and may.
async fn act_as(
    authorizers: &[Arc<dyn Authorizer>],
    user: UserInfo,
    headers: &http::HeaderMap,
) -> Result<UserInfo, ApiError> {
    let Some(other) = impersonation(headers, &user)? else { return Ok(user) };
    for need in &other.needs {
        decide(authorizers, need).await?;
    }
    Ok(other.user)
}

/// Carries out the verb, in the time it may take.
async fn run(call: Call, request: Request<RequestBody>) -> Result<Response<ResponseBody>, ApiError> {
    if verbs::is_connection(&call) {
        let answer = verbs::connect(&call, request).await?;
        return respond::respond(&call, answer);
    }
    let timeout = limits::timeout(&call.query)?;
    let work = async {
        let body = limits::read_body(request.into_body()).await?;
        let answer = verbs::answer(&call, body).await?;
        respond::respond(&call, answer)
    };
    match tokio::time::timeout(timeout, work).await {
        Ok(result) => result,
        Err(_) => {
            let message = format!("request did not complete within {} seconds", timeout.as_secs_f64());
            Err(ApiError::timeout(&message))
        }
    }
}
