//! MutatingAdmissionPolicies and their bindings. Their expressions are compiled by the server's admission, not here.
//!
//! They are served in v1beta1, the one version that upstream's 1.35 has (behind a gate). What they share with validating
//! policies is validated by the types of v1, whose fields are the same.

use k8s_openapi::api::admissionregistration::{v1, v1beta1 as admission};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{matching, policy, policy_binding};
use crate::kinds::prelude::*;

/// The row of mutatingadmissionpolicies.
pub(in crate::kinds) const POLICY: Resource = Resource {
    categories: &["api-extensions"],
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::integer(
                "Mutations",
                "Mutation indicates the number of mutations rules defined in this configuration",
            ),
            Column::text(
                "ParamKind",
                "ParamKind specifies the kind of resources used to parameterize this policy",
            ),
            Column::AGE,
        ],
        cells,
    },
    ..row!(
        "admissionregistration.k8s.io" / "v1beta1",
        "MutatingAdmissionPolicy",
        "mutatingadmissionpolicy",
        "mutatingadmissionpolicies",
        "admissionregistration",
        admission::MutatingAdmissionPolicy,
        PolicyRules
    )
};

/// The row of mutatingadmissionpolicybindings.
pub(in crate::kinds) const BINDING: Resource = Resource {
    categories: &["api-extensions"],
    printer: policy_binding::RESOURCE.printer,
    ..row!(
        "admissionregistration.k8s.io" / "v1beta1",
        "MutatingAdmissionPolicyBinding",
        "mutatingadmissionpolicybinding",
        "mutatingadmissionpolicybindings",
        "admissionregistration",
        admission::MutatingAdmissionPolicyBinding,
        BindingRules
    )
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        meta::name(object).into(),
        read::list(object, "/spec/mutations").len().into(),
        policy::param_kind_cell(object),
        age(object, now),
    ]
}

/// Operations that have an object which can be changed.
const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "UPDATE"];
/// The two kinds of patches, with the field of each.
const PATCHES: [(&str, &str); 2] = [("ApplyConfiguration", "applyConfiguration"), ("JSONPatch", "jsonPatch")];

/// The part of a spec that its v1 counterpart has as well.
fn shared<T: DeserializeOwned + Default>(spec: &impl Serialize) -> T {
    // Both sides have the same fields, so that nothing can fail but by a change of the types.
    serde_json::to_value(spec).ok().and_then(|spec| serde_json::from_value(spec).ok()).unwrap_or_default()
}

/// What is true of mutatingadmissionpolicies.
pub(in crate::kinds) struct PolicyRules;

impl Rules for PolicyRules {
    type Object = admission::MutatingAdmissionPolicy;

    const FINALIZERS_HAVE_DOMAINS: bool = false;
    const SCOPE: Scope = Scope::Cluster;
    const HAS_GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn default(policy: &mut Value) {
        let Some(spec) = spec_of(policy) else { return };
        set(spec, "failurePolicy", "Fail");
        if let Some(constraints) = object(spec, "matchConstraints") {
            matching::default_match(constraints);
        }
    }

    fn validate(policy: &Self::Object, errors: &mut Errors) {
        let empty = admission::MutatingAdmissionPolicySpec::default();
        let (spec, path) = (policy.spec.as_ref().unwrap_or(&empty), spec_path());
        let common: v1::ValidatingAdmissionPolicySpec = shared(spec);
        policy::common(&common, &path, errors);
        if let Some(constraints) = &common.match_constraints {
            operations(constraints, &path.child("matchConstraints"), errors);
        }
        let (mutations, at) = (validate::list(&spec.mutations), path.child("mutations"));
        if mutations.is_empty() {
            errors.push(FieldError::required(&at, "mutations must contain at least one item"));
        }
        for (index, entry) in mutations.iter().enumerate() {
            mutation(entry, &at.index(index), errors);
        }
        let reinvocation = validate::text(&spec.reinvocation_policy);
        require_one_of(&path.child("reinvocationPolicy"), reinvocation, &["IfNeeded", "Never"], errors);
    }
}

/// Deletions have no object to change.
fn operations(of: &v1::MatchResources, path: &FieldPath, errors: &mut Errors) {
    let at = path.child("resourceRules").child("operations");
    for rule in validate::list(&of.resource_rules) {
        for operation in validate::list(&rule.operations) {
            one_of(&at, operation, OPERATIONS, errors);
        }
    }
}

fn mutation(of: &admission::Mutation, path: &FieldPath, errors: &mut Errors) {
    let at = path.child("patchType");
    let allowed = PATCHES.map(|(name, _)| name);
    if !require(&at, &of.patch_type, errors) {
        return;
    }
    if !allowed.contains(&of.patch_type.as_str()) {
        errors.push(FieldError::not_supported(&at, of.patch_type.as_str(), &allowed));
        return;
    }
    let apply = of.apply_configuration.as_ref().map(|patch| validate::text(&patch.expression));
    let json = of.json_patch.as_ref().map(|patch| validate::text(&patch.expression));
    for ((name, field), expression) in PATCHES.into_iter().zip([apply, json]) {
        let at = path.child(field);
        match (name == of.patch_type, expression) {
            (true, None) => {
                let why = format!("must be specified when patchType is {name}");
                errors.push(FieldError::required(&at, why));
            }
            (true, Some(expression)) => {
                require(&at.child("expression"), expression.trim(), errors);
            }
            (false, Some(_)) => {
                let why = format!("must not be specified when patchType is {}", of.patch_type);
                errors.push(FieldError::invalid(&at, format!("{{{field}}}"), why));
            }
            (false, None) => {}
        }
    }
}

/// What is true of mutatingadmissionpolicybindings.
pub(in crate::kinds) struct BindingRules;

impl Rules for BindingRules {
    type Object = admission::MutatingAdmissionPolicyBinding;

    const FINALIZERS_HAVE_DOMAINS: bool = false;
    const SCOPE: Scope = Scope::Cluster;
    const HAS_GENERATION: bool = true;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn default(binding: &mut Value) {
        let Some(spec) = spec_of(binding) else { return };
        if let Some(resources) = object(spec, "matchResources") {
            matching::default_match(resources);
        }
    }

    fn validate(binding: &Self::Object, errors: &mut Errors) {
        let empty = admission::MutatingAdmissionPolicyBindingSpec::default();
        let (spec, path) = (binding.spec.as_ref().unwrap_or(&empty), spec_path());
        let common: v1::ValidatingAdmissionPolicyBindingSpec = shared(spec);
        policy_binding::common(&common, &path, errors);
        if let Some(resources) = &common.match_resources {
            operations(resources, &path.child("matchResources"), errors);
        }
    }
}
