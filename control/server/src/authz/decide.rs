//! From the authorizers' answers to a verdict, and the words of a refusal.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Either, Map, Ready, ready};

use crate::{ApiError, Attributes, Authorizer, Decision};

/// Asks the authorizers in order until one allows or denies: those that answer from memory first, as far as the order
/// lets them, so that most requests wait for nobody. Before it is refused, the question is asked again of
/// authorizers that have caught up with the store: a client that has just made a binding may count on it.
pub async fn decide(authorizers: &[Arc<dyn Authorizer>], request: &Attributes) -> Result<(), ApiError> {
    verdict(authorizers, request).await.map_err(|reason| forbidden(request, &reason))
}

/// What [`decision`] waits for: known at once, or after catching up and asking others.
type Decided<'a> = Either<Ready<Decision>, BoxFuture<'a, Decision>>;
/// What [`verdict`] waits for.
type Verdict<'a> = Map<Decided<'a>, fn(Decision) -> Result<(), String>>;

/// As [`decide`], without the error: `Err` holds the reason of a refusal, which may be empty.
pub fn verdict<'a>(authorizers: &'a [Arc<dyn Authorizer>], request: &'a Attributes) -> Verdict<'a> {
    decision(authorizers, request).map(|decision| match decision {
        Decision::Allow => Ok(()),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(reason),
        Decision::Ask => Err(String::new()),
    })
}

/// As [`decide`], in full: whether somebody refused, or nobody allowed.
// Boxed where it waits: the compiler cannot prove an `async fn` that holds a slice of trait objects `Send` for all
// lifetimes, which the server's own futures have to be.
pub fn decision<'a>(authorizers: &'a [Arc<dyn Authorizer>], request: &'a Attributes) -> Decided<'a> {
    if allowed_at_once(authorizers, request) {
        return Either::Left(ready(Decision::Allow));
    }
    let again = async move {
        for authorizer in authorizers {
            authorizer.catch_up().await;
        }
        let mut reasons = Vec::new();
        for authorizer in authorizers {
            let mut decision = authorizer.authorize(request);
            if decision == Decision::Ask {
                decision = authorizer.ask(request).await;
            }
            match decision {
                Decision::Allow | Decision::Deny(_) => return decision,
                Decision::NoOpinion(reason) if !reason.is_empty() => reasons.push(reason),
                Decision::NoOpinion(_) | Decision::Ask => {}
            }
        }
        Decision::NoOpinion(reasons.join("\n"))
    };
    Either::Right(again.boxed())
}

/// Whether memory alone allows it. Who has to be asked is asked later, in the same order.
fn allowed_at_once(authorizers: &[Arc<dyn Authorizer>], request: &Attributes) -> bool {
    for authorizer in authorizers {
        match authorizer.authorize(request) {
            Decision::Allow => return true,
            Decision::Deny(_) | Decision::Ask => return false,
            Decision::NoOpinion(_) => {}
        }
    }
    false
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
