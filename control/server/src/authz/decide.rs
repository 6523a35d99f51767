//! From the authorizers' answers to a verdict, and the words of a refusal.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Either, Ready, ready};

use crate::{ApiError, Attributes, Authorizer, Decision};

/// Asks the authorizers in order until one allows or denies. Before it is refused, the question is asked again of
/// authorizers that have caught up with the store: a client that has just made a binding may count on it.
pub async fn decide(authorizers: &[Arc<dyn Authorizer>], request: &Attributes) -> Result<(), ApiError> {
    verdict(authorizers, request).await.map_err(|reason| forbidden(request, &reason))
}

/// What [`verdict`] waits for: known at once, or after catching up.
type Verdict<'a> = Either<Ready<Result<(), String>>, BoxFuture<'a, Result<(), String>>>;

/// As [`decide`], without the error: `Err` holds the reason of a refusal, which may be empty.
// Boxed where it waits: the compiler cannot prove an `async fn` that holds a slice of trait objects `Send` for all
// lifetimes, which the server's own futures have to be.
pub fn verdict<'a>(authorizers: &'a [Arc<dyn Authorizer>], request: &'a Attributes) -> Verdict<'a> {
    if ask(authorizers, request).is_ok() {
        return Either::Left(ready(Ok(())));
    }
    let again = async move {
        for authorizer in authorizers {
            authorizer.catch_up().await;
        }
        ask(authorizers, request)
    };
    Either::Right(again.boxed())
}

fn ask(authorizers: &[Arc<dyn Authorizer>], request: &Attributes) -> Result<(), String> {
    let mut reasons = Vec::new();
    for authorizer in authorizers {
        match authorizer.authorize(request) {
            Decision::Allow => return Ok(()),
            Decision::Deny(reason) => return Err(reason),
            Decision::NoOpinion(reason) if reason.is_empty() => {}
            Decision::NoOpinion(reason) => reasons.push(reason),
        }
    }
    Err(reasons.join(", "))
}

/// 403 in upstream's words: `pods "web" is forbidden: User "jane" cannot get resource "pods" in API group "" in
/// the namespace "default"`.
pub fn forbidden(request: &Attributes, reason: &str) -> ApiError {
    let user = format!("User {:?} cannot {}", request.user.name, request.verb);
    let what = if request.is_resource() {
        let place = match request.namespace.as_str() {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        format!("{user} resource {:?} in API group {:?} {place}", request.full_resource(), request.api_group)
    } else {
        format!("{user} path {:?}", request.path)
    };
    let why = if reason.is_empty() { what } else { format!("{what}: {reason}") };
    ApiError::forbidden(&request.api_group, &request.resource, &request.name, &why)
}
