//! The tower service that all requests go through, whether they come over TLS or from a part of this process.
//!
//! In order: request info from the path, impersonation, priority and fairness, authorization, the verb. Whatever goes wrong becomes a `Status`; a panic becomes one too, and is logged.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use carrack_api::status;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use tower_service::Service;

use crate::audit::{self, Trail};
use crate::authn::impersonation;
use crate::authn::notes::Notes as Learned;
use crate::authz::decide;
use crate::call::{Answer, Call, Warnings};
use crate::metrics::Subject;
use crate::negotiate::{self, RefusalForm, Representation};
use crate::query::Query;
use crate::router::RequestInfo;
use crate::server::Inner;
use crate::{
    ApiError, Authorizer, BoxError, RequestBody, ResponseBody, UserInfo, definitions, empty, flow, full,
    limits, paths, protobuf, respond, tracking, verbs,
};

/// Where a request comes from, which says what is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Over the network: everything is checked.
    Network,
    /// From a part of this process: as over the network, without waiting for a turn, since these parts have bounded
    /// queues of their own and a burst from outside must not stop them.
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

/// What becomes known of a request while it is answered.
struct Notes {
    /// What it is about.
    subject: Subject,
    /// How it was judged.
    marks: Option<flow::Marks>,
    /// Whether and what is told of it.
    open: Option<audit::Open>,
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
    let id = audit::id(request.headers());
    let form = RefusalForm::of(&request);
    let subject = Subject { verb: "other", ..Subject::default() };
    let mut notes = Notes { subject, marks: None, open: None };
    // Boxed, so that the types of the futures around it stay shallow enough for the compiler.
    let work: BoxFuture<'_, _> =
        Box::pin(process(server.clone(), user, request, origin, id.clone(), &mut notes));
    let outcome = AssertUnwindSafe(work).catch_unwind().await;
    let mut response = match outcome {
        Ok(outcome) => {
            let (response, error) = match outcome {
                Ok(response) => (response, None),
                Err(error) if error.is_no_such_path() => {
                    (respond::nothing_at(form.path(), &error, &form.representation()), Some(error))
                }
                Err(error) => (respond::refusal_as(&error, &form.representation()), Some(error)),
            };
            match notes.open.take() {
                Some(open) => open.end(response, error.as_ref()).await,
                None => response,
            }
        }
        Err(panic) => {
            let what = panic_text(&*panic);
            tracing::error!(request = %line, panic = what, "a request handler panicked: this is a bug, please report it");
            let error = ApiError::internal("the request could not be handled");
            if let Some(open) = notes.open.take() {
                open.panicked(&error);
            }
            respond::refusal_as(&error, &form.representation())
        }
    };
    respond::keep_private(&mut response);
    response.headers_mut().insert(audit::ID, id);
    if let Some(marks) = notes.marks {
        marks.write(response.headers_mut());
    }
    server.metrics.request(notes.subject, response.status().as_u16(), began.elapsed());
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
    id: HeaderValue,
    notes: &mut Notes,
) -> Result<Response<ResponseBody>, ApiError> {
    let query = Query::parse(request.uri().query().unwrap_or_default())?;
    let info = RequestInfo::parse(request.method(), request.uri().path(), &query)?;
    notes.subject.verb = info.verb;
    notes.subject.scope = scope(&info);
    notes.subject.dry_run = query.non_empty("dryRun").is_some();
    notes.open = server.audit.get().and_then(|audit| audit.begin(&user, &info, &request, &id));
    if let Some(open) = &mut notes.open {
        if let Some(learned) = request.extensions().get::<Learned>() {
            open.trail.note(learned);
        }
        open.received().await?;
    }
    let trail = notes.open.as_ref().map(|open| open.trail.clone());
    // Boxed, so that it is not moved from future to future around it.
    let work = Box::pin(carry_out(server, user, request, origin, query, info, trail.clone(), notes));
    audit::scope(trail, work).await
}

/// What part of the cluster a request is about, for the metrics.
fn scope(info: &RequestInfo) -> &'static str {
    match (info.is_resource(), info.namespace.as_str()) {
        (false, _) => "",
        _ if !info.name.is_empty() || info.verb == "create" => "resource",
        (true, "") => "cluster",
        (true, _) => "namespace",
    }
}

/// Everything once it is known what is asked for.
#[expect(clippy::too_many_arguments, reason = "the state of the one function above")]
async fn carry_out(
    server: Arc<Inner>,
    user: UserInfo,
    request: Request<RequestBody>,
    origin: Origin,
    query: Query,
    info: RequestInfo,
    trail: Option<Arc<Trail>>,
    notes: &mut Notes,
) -> Result<Response<ResponseBody>, ApiError> {
    let user = act_as(&server.config.authorizers, user, request.headers()).await?;
    if let Some(trail) = &trail {
        trail.impersonates(&user);
    }
    let admitted = server.flow.enter(&info, &query, &user, origin, &mut notes.marks).await?;
    let attributes = info.attributes(user);
    if origin != Origin::Server {
        let verdict = decide(&server.config.authorizers, &attributes).await;
        if let Some(trail) = &trail {
            trail.decided(&verdict);
        }
        verdict?;
    }
    let request = match server.aggregation.hand_on(&info, &attributes.user, request).await? {
        Ok(answer) => return Ok(answer),
        Err(own) => own,
    };
    if !info.is_resource() {
        return Box::pin(paths::answer(&server, &attributes.user, request, &info.path, &query)).await;
    }
    let resource = definitions::find(&server, &info).await?;
    if info.is_watch_path && request.method() != Method::GET {
        return Err(ApiError::method_not_allowed());
    }
    notes.subject.resource = Some((resource.group, resource.version, resource.plural));
    let subresource = match info.subresource.as_str() {
        "" => None,
        name => Some(resource.subresource(name).ok_or_else(|| match resource.custom() {
            Some(_) => status::not_found(&resource, &info.name).into(),
            None => ApiError::no_such_path(),
        })?),
    };
    notes.subject.subresource = subresource.map_or("", |s| s.name);
    let stored = !resource.storage_prefix.is_empty() && subresource.is_none_or(|s| s.kind == resource.gvk());
    // What somebody else answers is no matter of what this server can write.
    let representation = match info.is_proxy() {
        true => Representation::plain(),
        false => Representation::negotiate_for(
            request.headers(),
            &query,
            stored
                || (subresource.is_none() && resource.verbs.contains(&carrack_api::Verb::List))
                || subresource.is_some_and(|s| s.name == "scale"),
            !stored || resource.has_protobuf(),
        )?,
    };
    let warnings = Warnings::default();
    if let Some(learned) = request.extensions().get::<Learned>() {
        warnings.add(learned.warnings.iter().map(|text| (*text).to_owned()));
    }
    let call = Call {
        representation,
        content_type: negotiate::content_type(request.headers()),
        manager: tracking::manager(&query, request.headers(), &attributes.user, origin),
        server,
        resource,
        subresource,
        info,
        attributes,
        query,
        warnings: Arc::new(warnings),
        annotations: Arc::default(),
        deletion: OnceLock::new(),
        origin,
    };
    let custom = call.resource.custom();
    if let Some(warning) = custom.and_then(|custom| custom.version().deprecated.clone()) {
        call.warnings.add([warning]);
    }
    verbs::check_path(&call)?;
    verbs::check_verb(&call)?;
    if call.is_apply() {
        notes.subject.verb = "apply";
    }
    let is_list = call.info.verb == "list";
    let response = run(call, request, trail).await?;
    Ok(if is_list { flow::hold(response, admitted) } else { response })
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
async fn run(
    mut call: Call,
    request: Request<RequestBody>,
    trail: Option<Arc<Trail>>,
) -> Result<Response<ResponseBody>, ApiError> {
    if verbs::is_connection(&call) {
        let answer = Box::pin(verbs::connect(&call, request)).await?;
        return respond::respond(&call, answer);
    }
    let timeout = limits::timeout(&call.query)?;
    let trail = trail.as_deref();
    // What is told has to be readable.
    call.representation.gzip &= !trail.is_some_and(Trail::wants_response);
    let work = async {
        let body = limits::read_body(request.into_body()).await?;
        if let Some(trail) = trail {
            trail.sent(&text_of(&call, &body));
        }
        let answer = verbs::answer(&call, body).await?;
        match trail.filter(|trail| trail.wants_response()) {
            Some(trail) => Box::pin(tell_answer(&call, answer, trail)).await,
            None => respond::respond(&call, answer),
        }
    };
    match tokio::time::timeout(timeout, work).await {
        Ok(result) => result,
        // Upstream's words.
        Err(_) => {
            let why = "request did not complete within requested timeout - context deadline exceeded";
            Err(ApiError::timeout(why))
        }
    }
}

/// The body as text, for the audit; one that cannot be read is told as nothing.
fn text_of(call: &Call, body: &Bytes) -> Bytes {
    if call.content_type != protobuf::MEDIA_TYPE {
        return body.clone();
    }
    protobuf::to_json(body, &call.resource.schema).unwrap_or_default()
}

/// Answers, and tells the audit what.
async fn tell_answer(call: &Call, answer: Answer, trail: &Trail) -> Result<Response<ResponseBody>, ApiError> {
    match &answer {
        Answer::Stored(_, stored) => trail.answered(stored.served(&call.resource)?),
        Answer::Object(_, object) | Answer::Other(_, object) => trail.answered(object.clone()),
        Answer::Ready(_) => {}
    }
    let is_list = matches!(answer, Answer::Ready(_)) && call.info.verb == "list";
    let response = respond::respond(call, answer)?;
    if !is_list {
        return Ok(response);
    }
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.map_err(ApiError::internal)?.to_bytes();
    if let Ok(list) = serde_json::from_slice(&bytes) {
        trail.answered(list);
    }
    Ok(Response::from_parts(head, full(bytes)))
}
