//! All policies and bindings in memory, compiled.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::super::matching::Matching;
use super::compile::Policy;
use crate::authn::text;
use crate::authz::index;

/// What puts a policy to work.
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) name: String,
    policy: String,
    /// What narrows the policy down.
    pub(super) matching: Option<Matching>,
    /// `paramRef`; null when there is none.
    pub(super) params: Value,
    /// `Deny`, `Warn`, `Audit`.
    pub(super) actions: Vec<String>,
}

/// A policy and its bindings, one or more.
pub(super) struct Bound {
    pub(super) policy: Arc<Policy>,
    pub(super) bindings: Vec<Arc<Binding>>,
}

/// The two kinds of policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Validating = 0,
    Mutating = 1,
}

/// The policies.
#[derive(Default)]
pub(crate) struct Index([Kind; 2]);

#[derive(Default)]
struct Kind {
    policies: BTreeMap<String, Arc<Policy>>,
    bindings: BTreeMap<String, Arc<Binding>>,
    /// Those that are bound, ready to be taken along.
    list: Arc<[Bound]>,
}

impl Index {
    pub(super) fn list(&self, which: Which) -> Arc<[Bound]> {
        Arc::clone(&self.0[which as usize].list)
    }

    /// The kind that a resource belongs to, and whether it is that of policies, not of bindings.
    fn kind(&mut self, resource: usize) -> (&mut Kind, bool) {
        (&mut self.0[resource / 2], resource.is_multiple_of(2))
    }
}

impl Kind {
    fn gather(&mut self) {
        let bound = self.policies.values().map(|policy| {
            let own = self.bindings.values().filter(|binding| binding.policy == policy.name);
            Bound { policy: Arc::clone(policy), bindings: own.cloned().collect() }
        });
        self.list = bound.filter(|bound| !bound.bindings.is_empty()).collect();
    }
}

impl Binding {
    fn read(name: &str, object: &Value) -> Result<Self, carrack_api::select::SelectorError> {
        let spec = &object["spec"];
        let matching = spec.get("matchResources").filter(|matching| matching.is_object());
        let actions = spec["validationActions"].as_array().into_iter().flatten().filter_map(Value::as_str);
        Ok(Binding {
            name: name.to_owned(),
            policy: text(spec, "/policyName").to_owned(),
            matching: matching.map(Matching::of_policy).transpose()?,
            params: spec["paramRef"].clone(),
            actions: actions.map(str::to_owned).collect(),
        })
    }
}

impl index::Index for Index {
    const WHAT: &'static str = "admission policies";
    const RESOURCES: &'static [(&'static str, &'static str)] = &[
        ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies"),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings"),
    ];

    fn put(&mut self, resource: usize, _: &str, name: &str, object: &Value) {
        let (kind, is_policy) = self.kind(resource);
        // What cannot be read is not let in; what was let in by another version may be such.
        if is_policy {
            match Policy::read(object) {
                Ok((policy, errors)) => {
                    for error in errors {
                        tracing::error!(policy = name, %error.field, error.detail, "an expression cannot be compiled");
                    }
                    kind.policies.insert(name.to_owned(), Arc::new(policy));
                }
                Err(error) => {
                    tracing::error!(policy = name, %error, "a policy that cannot be read is not heard")
                }
            }
        } else {
            match Binding::read(name, object) {
                Ok(binding) => drop(kind.bindings.insert(name.to_owned(), Arc::new(binding))),
                Err(error) => {
                    tracing::error!(binding = name, %error, "a binding that cannot be read binds nothing")
                }
            }
        }
        kind.gather();
    }

    fn remove(&mut self, resource: usize, _: &str, name: &str) {
        let (kind, is_policy) = self.kind(resource);
        if is_policy {
            kind.policies.remove(name);
        } else {
            kind.bindings.remove(name);
        }
        kind.gather();
    }
}
