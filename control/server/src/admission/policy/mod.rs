//! ValidatingAdmissionPolicies: CEL expressions that judge what is written, in this process.
//!
//! Policies and their bindings are in memory, compiled, fed by watches ([`index`]): where there are none, a write costs a
//! look. Their expressions are compiled when they are created, too, and a policy with one that cannot be is refused
//! ([`created`]). They run before validating webhooks, on the final object.

mod compile;
mod created;
mod evaluate;
mod index;
mod params;
mod request;
mod rights;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use carrack_store::Store;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::matching::{Matching, NamespaceLabels, Target, forms};
use crate::authn::Objects;
use crate::authz::feed;
use crate::authz::index::Indexed;
use crate::call::Call;
use crate::{AdmissionRequest, ApiError, Operation, StoreObjects};
use compile::Policy;
use evaluate::{Failure, Judged, judge};
use index::{Binding, Bound, Index};
use request::Asked;

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

    /// The policies that are bound, in the order of their names.
    async fn list(&self) -> Result<Arc<[Bound]>, ApiError> {
        let load = || feed::start::<Index>(self.store.clone());
        let index = self.index.get_or_try_init(load).await.map_err(|why| {
            ApiError::unavailable(format!("not yet ready to handle request: {why}")).retry_after(1)
        })?;
        Ok(index.read().list())
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
    if !super::webhook::is_asked(call, request) || is_review(&request.attributes.api_group) {
        return Ok(());
    }
    let policies = call.server.policies.list().await?;
    if policies.is_empty() {
        return Ok(());
    }
    let mut run = Run { call, request, object, namespace: OnceCell::new(), denied: None };
    for bound in policies.iter() {
        run.policy(&bound.policy, &bound.bindings).await?;
    }
    run.denied.map_or(Ok(()), Err)
}

/// Questions about rights are not judged by policies, which may ask such questions.
fn is_review(group: &str) -> bool {
    matches!(group, "authentication.k8s.io" | "authorization.k8s.io")
}

/// The judgement of one request.
struct Run<'a> {
    call: &'a Call,
    request: &'a AdmissionRequest<'a>,
    object: Option<&'a Value>,
    /// The namespace of the request, looked up at most once; null where there is none.
    namespace: OnceCell<Arc<Value>>,
    /// The first refusal. All policies are heard, for their warnings.
    denied: Option<ApiError>,
}

impl Run<'_> {
    async fn policy(&mut self, policy: &Policy, bindings: &[Arc<Binding>]) -> Result<(), ApiError> {
        let target = Target::of(self.request.attributes, self.request.operation);
        let forms = forms(&self.call.server.kinds.now(), &target);
        let Some(form) = policy.matching.form(&target, &forms) else { return Ok(()) };
        if !self.is_selected(&policy.matching, &target).await? {
            return Ok(());
        }
        let asked = Asked::new(self.call, self.request, self.object, &form).await?;
        for binding in bindings {
            if let Some(matching) = &binding.matching
                && (matching.form(&target, &forms).is_none() || !self.is_selected(matching, &target).await?)
            {
                continue;
            }
            if let Some(why) = &policy.broken {
                let failures = policy.failures(format!("failed to configure policy: {why}"));
                self.settle(policy, binding, vec![Judged::of_failures(failures)]);
                continue;
            }
            let params = params::find(policy, binding, &self.request.attributes.namespace, self.call).await?;
            let judged = match params {
                Err(why) => {
                    let why = format!("failed to configure binding: {why}");
                    vec![Judged::of_failures(policy.failures(why))]
                }
                Ok(params) => {
                    let namespace = self.namespace(&target).await?;
                    let each = |params: &Arc<Value>| judge(policy, &asked, namespace, params);
                    params.iter().map(each).collect()
                }
            };
            self.settle(policy, binding, judged);
        }
        Ok(())
    }

    async fn is_selected(&self, matching: &Matching, target: &Target<'_>) -> Result<bool, ApiError> {
        if !matching.selects(self.object, self.request.old) {
            return Ok(false);
        }
        Ok(match matching.namespace(target) {
            NamespaceLabels::None => true,
            NamespaceLabels::Object => self.object.is_some_and(|object| matching.in_namespace(object)),
            NamespaceLabels::Stored(name) => matching.in_namespace(self.stored(name).await?),
        })
    }

    /// The namespace that expressions see; null for objects that are in none.
    async fn namespace(&self, target: &Target<'_>) -> Result<&Value, ApiError> {
        let is_namespace = target.group.is_empty() && target.resource == "namespaces";
        if target.namespace.is_empty() || is_namespace {
            return Ok(&Value::Null);
        }
        self.stored(target.namespace).await
    }

    async fn stored(&self, name: &str) -> Result<&Value, ApiError> {
        let look = || async {
            let found = self.call.server.policies.objects.get("", "namespaces", "", name).await?;
            found.ok_or_else(|| ApiError::not_found("", "namespaces", name))
        };
        self.namespace.get_or_try_init(look).await.map(|namespace| &**namespace)
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
                    self.call.annotations.failure(&policy.name, &binding.name, actions, index, message);
                }
                if does("Warn") {
                    self.call.warnings.add([format!(
                        "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                        policy.name, binding.name, failure.message
                    )]);
                }
            }
        }
        for (key, value) in annotations {
            self.call.annotations.add(format!("{}/{key}", policy.name), value);
        }
    }

    fn refusal(&self, policy: &Policy, binding: &Binding, failure: &Failure) -> ApiError {
        let message = format!(
            "ValidatingAdmissionPolicy '{}' with binding '{}' denied request: {}",
            policy.name, binding.name, failure.message
        );
        let attributes = self.request.attributes;
        let name = super::display_name(self.request, self.object);
        let refused = ApiError::forbidden(&attributes.api_group, &attributes.resource, name, &message);
        let mut status = (*refused).clone();
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
