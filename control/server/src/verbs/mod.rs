//! The verbs, one file each, and the choice among them.

pub(crate) mod answered;
mod apply;
mod binding;
mod budget;
mod components;
mod connect;
mod create;
mod delete;
mod delete_collection;
mod evict;
mod finalize;
mod get;
mod list;
mod patch;
mod review;
pub(crate) mod scale;
mod token;
mod update;
mod watch;

#[cfg(any(test, fuzzing))]
pub(crate) use list::ContinueToken;

use carrack_api::{Scope, Verb, status};
use futures::future::BoxFuture;

use crate::call::{Answer, Body, Call};
use crate::rewrite::{is_namespace, not_built};
use crate::{ApiError, RequestBody, metrics_api, proxy};

/// The verb of a request in the table's words; `None` for what no resource answers.
fn verb_of(name: &str) -> Option<Verb> {
    Verb::ALL.iter().copied().find(|v| v.as_str() == name)
}

/// Refuses paths that no resource has: a cluster-scoped resource below a namespace, an object of a namespaced
/// one without.
pub(crate) fn check_path(call: &Call) -> Result<(), ApiError> {
    let in_namespace = !call.info.namespace.is_empty();
    let fits = match call.resource.scope {
        // The path of a namespace itself reads as being below it; no other namespace is below one.
        Scope::Cluster => !in_namespace || is_itself(call),
        Scope::Namespaced => in_namespace || !path_has_name(call),
    };
    if !fits {
        return Err(ApiError::no_such_path());
    }
    if call.resource.scope == Scope::Namespaced
        && !in_namespace
        && !matches!(call.info.verb, "list" | "watch")
    {
        return Err(match call.resource.custom() {
            Some(_) => ApiError::no_such_path(),
            None => ApiError::method_not_allowed(),
        });
    }
    Ok(())
}

/// Whether the path is that of the very namespace it is judged in. Who may do something to the namespaces in one
/// may not do it to others.
fn is_itself(call: &Call) -> bool {
    is_namespace(call) && call.info.namespace == call.info.name && path_has_name(call)
}

/// Whether the path (and not a field selector) names an object.
fn path_has_name(call: &Call) -> bool {
    let of_one = call.info.is_watch_path || !matches!(call.info.verb, "list" | "watch" | "deletecollection");
    !call.info.name.is_empty() && of_one
}

/// Checks that the resource (or subresource) answers the verb.
pub(crate) fn check_verb(call: &Call) -> Result<(), ApiError> {
    // Browsers ask what they may do of whom they think they talk to.
    if call.info.is_proxy() && call.info.verb == "options" {
        return Ok(());
    }
    if call.info.is_watch_path && call.subresource.is_some() && call.resource.custom().is_none() {
        return Err(ApiError::no_such_path());
    }
    let refuse = || match call.resource.custom() {
        // Upstream answers for these itself, and leaves built-in kinds to its router.
        Some(_) => status::method_not_allowed(&call.resource, call.info.verb).into(),
        None => ApiError::method_not_allowed(),
    };
    let verb = verb_of(call.info.verb).ok_or_else(refuse)?;
    let verbs = call.subresource.map_or(call.resource.verbs, |s| s.verbs);
    if !verbs.contains(&verb) {
        return Err(refuse());
    }
    if matches!(verb, Verb::Update | Verb::Patch) && call.info.name.is_empty() {
        return Err(ApiError::method_not_allowed());
    }
    // A creation names its object in the body.
    if verb == Verb::Create && call.subresource.is_none() && !call.info.name.is_empty() {
        return Err(ApiError::method_not_allowed());
    }
    Ok(())
}

/// Answers a request whose body is read at once.
pub(crate) fn answer(call: &Call, body: Body) -> BoxFuture<'_, Result<Answer, ApiError>> {
    // One allocation keeps the futures around it small, and their types shallow enough for the compiler.
    Box::pin(choose(call, body))
}

/// Chooses among the verbs.
async fn choose(call: &Call, body: Body) -> Result<Answer, ApiError> {
    if let Some(subresource) = call.subresource {
        return match (subresource.name, call.info.verb) {
            ("status", "get") => get::get(call).await,
            ("status", "update") => update::update(call, body, update::Part::Status).await,
            ("status", "patch") => patch::patch(call, body, update::Part::Status).await,
            ("scale", "get") => scale::get(call).await,
            ("scale", "update") => scale::update(call, body).await,
            ("scale", "patch") => scale::patch(call, body).await,
            ("binding", "create") => binding::create(call, body).await,
            ("eviction", "create") => evict::create(call, body).await,
            ("finalize", "update") => finalize::update(call, body).await,
            ("token", "create") => token::create(call, body).await,
            // Other parts whose body is the kind itself; the kind says whether it knows them.
            (part, "get") if subresource.kind == call.resource.gvk() && part != "log" => get::get(call).await,
            (part, "update") => update::update(call, body, update::Part::Sub(part)).await,
            (part, "patch") => patch::patch(call, body, update::Part::Sub(part)).await,
            (part, _) => Err(not_built(call, part)),
        };
    }
    if call.resource.storage_prefix.is_empty() {
        return match (call.resource.group, call.resource.plural) {
            ("", "bindings") => binding::create(call, body).await,
            ("", "componentstatuses") => components::read(call).await,
            ("metrics.k8s.io", _) => metrics_api::read(call).await,
            _ => review::create(call, body).await,
        };
    }
    match call.info.verb {
        "get" => get::get(call).await,
        "list" => list::list(call).await,
        "watch" => watch::watch(call).await,
        "create" => create::create(call, body).await,
        "update" => update::update(call, body, update::Part::Object).await,
        "patch" => patch::patch(call, body, update::Part::Object).await,
        "delete" => delete::delete(call, body).await,
        "deletecollection" => delete_collection::delete(call, body).await,
        _ => Err(ApiError::method_not_allowed()),
    }
}

/// Whether the request is handed through as it is: to the pod's node, or to what listens in a pod, behind a service or
/// on a node.
pub(crate) fn is_connection(call: &Call) -> bool {
    let of_pod = call.resource.plural == "pods";
    call.resource.group.is_empty()
        && call.subresource.is_some_and(|s| match s.name {
            "log" | "exec" | "attach" | "portforward" => of_pod,
            name => name == "proxy",
        })
}

/// Answers a request that somebody else has to answer.
pub(crate) async fn connect(call: &Call, request: http::Request<RequestBody>) -> Result<Answer, ApiError> {
    if call.info.is_proxy() {
        return proxy::answer(call, request).await;
    }
    connect::connect(call, request).await
}
