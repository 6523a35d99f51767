//! MutatingAdmissionPolicies: expressions that change what is written, in this process.
//!
//! They run behind the plugins of this server and before mutating webhooks, in the order of their names. When one of
//! either changes the object, there is one more round of all of it, in which those policies with
//! `reinvocationPolicy: IfNeeded` run that ran before the last change.
//!
//! Source: `apiserver/pkg/admission/plugin/policy/mutating/dispatcher.go`.

use std::collections::BTreeSet;
use std::sync::Arc;

use carrack_api::meta;
use serde_json::Value;

use super::super::matching::Form;
use super::compile::Policy;
use super::evaluate::{bind, is_meant};
use super::index::{Binding, Bound, Which};
use super::params;
use super::patching::patched;
use super::request::Asked;
use super::scene::{Scene, merges_as};
use crate::call::Call;
use crate::{AdmissionRequest, ApiError, Operation};

/// The mutating policies of one request, with what is known of them between two rounds.
pub(crate) struct Mutations<'a> {
    scene: Scene<'a>,
    policies: Arc<[Bound]>,
    /// Those that want to run again and ran since the object changed last.
    seen: BTreeSet<Key>,
    /// Those that are to run in the second round.
    again: BTreeSet<Key>,
    second: bool,
    /// What the first round made of the object.
    left: Option<Value>,
}

/// Policy, binding, and the namespace and name of the parameters.
type Key = [String; 4];

/// A policy with a binding and one object of parameters.
struct Invocation {
    policy: Arc<Policy>,
    binding: Arc<Binding>,
    params: Arc<Value>,
    form: Form,
}

impl Invocation {
    fn key(&self) -> Key {
        let name = |text: &str| text.to_owned();
        let (params, binding) = (&*self.params, &self.binding.name);
        [name(&self.policy.name), name(binding), name(meta::namespace(params)), name(meta::name(params))]
    }
}

/// Why the request is refused.
struct Refusal {
    message: String,
    /// Whether a policy was configured wrongly, rather than failing on this request.
    configuration: bool,
}

impl Refusal {
    fn of(policy: &Policy, binding: Option<&Binding>, why: &str, configuration: bool) -> Option<Refusal> {
        if policy.ignores_failure {
            tracing::warn!(policy = policy.name, why, "a mutating policy failed; the request goes on");
            return None;
        }
        let message = match binding {
            Some(binding) => {
                format!("policy '{}' with binding '{}' denied request: {why}", policy.name, binding.name)
            }
            None => format!("policy {:?} denied request: {why}", policy.name),
        };
        Some(Refusal { message, configuration })
    }
}

/// The mutating policies that can be about the request; `None` when there are none.
pub(crate) async fn mutation<'a>(
    call: &'a Call,
    request: &'a AdmissionRequest<'a>,
) -> Result<Option<Mutations<'a>>, ApiError> {
    let has_object = request.operation != Operation::Delete;
    if !has_object || !super::is_judged(call, request) {
        return Ok(None);
    }
    let policies = call.server.policies.list(Which::Mutating).await?;
    if policies.is_empty() {
        return Ok(None);
    }
    let scene = Scene::new(call, request);
    let none = BTreeSet::new();
    Ok(Some(Mutations { scene, policies, seen: none.clone(), again: none, second: false, left: None }))
}

impl Mutations<'_> {
    /// The first round; says whether a policy changed the object.
    pub(crate) async fn run(&mut self, object: &mut Value) -> Result<bool, ApiError> {
        let changed = self.round(object).await?;
        self.left = Some(object.clone());
        Ok(changed)
    }

    /// The second and last round.
    pub(crate) async fn run_again(&mut self, object: &mut Value) -> Result<(), ApiError> {
        self.second = true;
        if self.left.as_ref() != Some(object) {
            self.again.append(&mut self.seen);
        }
        self.round(object).await.map(drop)
    }

    async fn round(&mut self, object: &mut Value) -> Result<bool, ApiError> {
        let mut refusals = Vec::new();
        let invocations = self.invocations(object, &mut refusals).await?;
        let mut changed = false;
        for invocation in &invocations {
            changed |= self.invoke(invocation, object, &mut refusals).await?;
        }
        if changed {
            self.again.append(&mut self.seen);
        }
        match refusals.is_empty() {
            true => Ok(changed),
            false => Err(self.refused(object, &refusals)),
        }
    }

    /// All that is to be run on the object as it is now.
    async fn invocations(
        &self,
        object: &Value,
        refusals: &mut Vec<Refusal>,
    ) -> Result<Vec<Invocation>, ApiError> {
        let mut all = Vec::new();
        for bound in self.policies.iter() {
            let Some((form, bindings)) = self.scene.meant(bound, Some(object)).await? else { continue };
            let policy = &bound.policy;
            if let Some(why) = &policy.broken {
                let why = format!("failed to configure policy: {why}");
                refusals.extend(Refusal::of(policy, None, &why, true));
                continue;
            }
            for binding in bindings {
                let namespace = &self.scene.request.attributes.namespace;
                match params::find(policy, &binding, namespace, self.scene.call).await? {
                    Err(why) => {
                        let why = format!("failed to configure binding: {why}");
                        refusals.extend(Refusal::of(policy, Some(&binding), &why, true));
                    }
                    Ok(found) => all.extend(found.into_iter().map(|params| Invocation {
                        policy: Arc::clone(policy),
                        binding: Arc::clone(&binding),
                        params,
                        form: form.clone(),
                    })),
                }
            }
        }
        Ok(all)
    }

    /// Runs one; says whether it changed the object.
    async fn invoke(
        &mut self,
        invocation: &Invocation,
        object: &mut Value,
        refusals: &mut Vec<Refusal>,
    ) -> Result<bool, ApiError> {
        let Invocation { policy, binding, params, form } = invocation;
        let mut fail = |why: String| refusals.extend(Refusal::of(policy, Some(binding), &why, false));
        let namespace = self.scene.namespace().await?;
        let mut asked = Asked::new(&self.scene.review, Some(object), form).await?;
        let held = || {
            let bindings = bind(policy, &asked, namespace, params).map_err(|why| why.to_string())?;
            is_meant(policy, &bindings)
        };
        match asked.rights.settled(held).await {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(why) => {
                fail(why);
                return Ok(false);
            }
        }
        let key = invocation.key();
        if self.second && !self.again.contains(&key) {
            return Ok(false);
        }
        let before = object.clone();
        let row = self.scene.row(form);
        for mutation in &policy.mutations {
            asked.object = self.scene.review.show(form, object).await?;
            let kind = merges_as(self.scene.request.kind, &row);
            let mutated = || patched(policy, mutation, (&asked, namespace, params), kind);
            match asked.rights.settled(mutated).await {
                Ok(new) if new == asked.object => {}
                Ok(new) => self.scene.review.take_all(form, object, new).await?,
                Err(why) => fail(why),
            }
        }
        let changed = *object != before;
        if changed {
            self.again.append(&mut self.seen);
        }
        if policy.reinvoke {
            self.seen.insert(key);
        }
        Ok(changed)
    }

    /// The first refusal, with the messages of all.
    fn refused(&self, object: &Value, refusals: &[Refusal]) -> ApiError {
        let Some(first) = refusals.first() else { return ApiError::internal("nothing was refused") };
        let mut status = (*self.scene.refusal(Some(object), &first.message)).clone();
        status.message.clone_from(&first.message);
        if !first.configuration {
            status.reason = "Invalid";
        }
        refusals.iter().fold(ApiError::from(status), |error, refusal| {
            let message = refusal.message.clone();
            error.with_cause(crate::error::Cause { reason: String::new(), message, field: String::new() })
        })
    }
}
