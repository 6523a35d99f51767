//! ValidatingAdmissionPolicies and MutatingAdmissionPolicies: CEL expressions that judge and change what is written, in
//! this process.
//!
//! Policies and their bindings are in memory, compiled, fed by watches ([`index`]): where there are none, a write costs a
//! look. Their expressions are compiled when they are created, too, and a policy with one that cannot be is refused
//! ([`created`]). Validating ones run before validating webhooks, on the final object; [`mutate`] has the others.

mod compile;
mod created;
mod evaluate;
mod index;
mod mutate;
mod params;
mod patching;
pub(in crate::admission) mod request;
mod rights;
mod scene;
#[cfg(test)]
mod tests;
pub(crate) mod typecheck;
mod types;

use std::sync::Arc;

use carrack_store::Store;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::authn::Objects;
use crate::authz::feed;
use crate::authz::index::Indexed;
use crate::call::Call;
use crate::{AdmissionRequest, ApiError, Operation, StoreObjects};
use compile::Policy;
use evaluate::{Failure, Judged, judge};
use index::{Binding, Bound, Index, Which};
pub(crate) use mutate::mutation;
use request::Asked;
use scene::Scene;

/// All policies.
pub(crate) struct Policies {
    store: Store,
    objects: Arc<dyn Objects>,
    /// Loaded by the first write.
    index: OnceCell<Arc<Indexed<Index>>>,
}

impl Policies {
    pub(crate) fn new(store: Store) -> Self {
        let objects = Arc::new(StoreObjects::new(store.clone()));
        Policies { store, objects, index: OnceCell::new() }
    }

    /// The policies of one kind that are bound, in the order of their names.
    async fn list(&self, which: Which) -> Result<Arc<[Bound]>, ApiError> {
        let load = || feed::start::<Index>(self.store.clone());
        let index = self.index.get_or_try_init(load).await.map_err(|why| {
            ApiError::unavailable(format!("not yet ready to handle request: {why}")).retry_after(1)
        })?;
        Ok(index.read().list(which))
    }
}

/// Judges the final object, `None` for deletions. Warnings and annotations for the audit log go to the call.
pub(crate) async fn validate(
    call: &Call,
    request: &AdmissionRequest<'_>,
    object: Option<&Value>,
) -> Result<(), ApiError> {
    if request.operation != Operation::Delete {
        created::check(call, request, object)?;
    }
    if !is_judged(call, request) {
        return Ok(());
    }
    let policies = call.server.policies.list(Which::Validating).await?;
    if policies.is_empty() {
        return Ok(());
    }
    let mut run = Run { scene: Scene::new(call, request), object, denied: None };
    for bound in policies.iter() {
        run.policy(bound).await?;
    }
    run.denied.map_or(Ok(()), Err)
}

/// Whether policies are about the request at all.
fn is_judged(call: &Call, request: &AdmissionRequest<'_>) -> bool {
    super::webhook::is_asked(call, request) && !is_review(&request.attributes.api_group)
}

/// Questions about rights are not judged by policies, which may ask such questions.
fn is_review(group: &str) -> bool {
    matches!(group, "authentication.k8s.io" | "authorization.k8s.io")
}

/// The judgement of one request.
struct Run<'a> {
    scene: Scene<'a>,
    object: Option<&'a Value>,
    /// The first refusal. All policies are heard, for their warnings.
    denied: Option<ApiError>,
}

impl Run<'_> {
    async fn policy(&mut self, bound: &Bound) -> Result<(), ApiError> {
        let policy = &bound.policy;
        let Some((form, bindings)) = self.scene.meant(bound, self.object).await? else { return Ok(()) };
        let asked = Asked::new(&self.scene.review, self.object, &form).await?;
        for binding in &bindings {
            if let Some(why) = &policy.broken {
                let failures = policy.failures(format!("failed to configure policy: {why}"));
                self.settle(policy, binding, vec![Judged::of_failures(failures)]);
                continue;
            }
            let namespace = &self.scene.request.attributes.namespace;
            let judged = match params::find(policy, binding, namespace, self.scene.call).await? {
                Err(why) => {
                    let why = format!("failed to configure binding: {why}");
                    vec![Judged::of_failures(policy.failures(why))]
                }
                Ok(params) => {
                    let namespace = self.scene.namespace().await?;
                    let mut judged = Vec::with_capacity(params.len());
                    for params in &params {
                        judged.push(asked.rights.settled(|| judge(policy, &asked, namespace, params)).await);
                    }
                    judged
                }
            };
            self.settle(policy, binding, judged);
        }
        Ok(())
    }

    /// Does what the binding says about failures.
    fn settle(&mut self, policy: &Policy, binding: &Binding, judged: Vec<Judged>) {
        let does = |action: &str| binding.actions.iter().any(|wanted| wanted == action);
        let mut annotations = Vec::new();
        for judged in judged {
            annotations.extend(judged.annotations);
            for failure in judged.failures {
                if does("Deny") {
                    let refusal = self.refusal(policy, binding, &failure);
                    self.denied.get_or_insert(refusal);
                }
                if does("Audit") {
                    let actions = &binding.actions;
                    let (index, message) = (failure.index, failure.message.as_str());
                    self.scene.call.annotations.failure(&policy.name, &binding.name, actions, index, message);
                }
                if does("Warn") {
                    self.scene.call.warnings.add([format!(
                        "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                        policy.name, binding.name, failure.message
                    )]);
                }
            }
        }
        for (key, value) in annotations {
            self.scene.call.annotations.add(format!("{}/{key}", policy.name), value);
        }
    }

    fn refusal(&self, policy: &Policy, binding: &Binding, failure: &Failure) -> ApiError {
        let message = format!(
            "ValidatingAdmissionPolicy '{}' with binding '{}' denied request: {}",
            policy.name, binding.name, failure.message
        );
        let mut status = (*self.scene.refusal(self.object, &message)).clone();
        (status.code, status.reason) = match failure.reason.as_str() {
            "Forbidden" => (403, "Forbidden"),
            "Unauthorized" => (401, "Unauthorized"),
            "RequestEntityTooLarge" => (413, "RequestEntityTooLarge"),
            _ => (422, "Invalid"),
        };
        let cause = crate::error::Cause { reason: String::new(), message, field: String::new() };
        ApiError::from(status).with_cause(cause)
    }
}
