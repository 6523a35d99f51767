//! ValidatingAdmissionPolicies. Their expressions are compiled by the server's admission, not here.

use k8s_openapi::api::admissionregistration::v1 as admission;

use super::matching;
use crate::kinds::prelude::*;

/// The row of validatingadmissionpolicies.
pub(in crate::kinds) const RESOURCE: Resource = Resource {
    categories: &["api-extensions"],
    subresources: &[status(gvk("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy"))],
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::integer(
                "Validations",
                "Validations indicates the number of validation rules defined in this configuration",
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
        "admissionregistration.k8s.io" / "v1",
        "ValidatingAdmissionPolicy",
        "validatingadmissionpolicy",
        "validatingadmissionpolicies",
        "admissionregistration",
        admission::ValidatingAdmissionPolicy,
        PolicyRules
    )
};

/// The cell that shows a policy's kind of parameters.
pub(super) fn param_kind_cell(object: &Value) -> Value {
    let kind = object.pointer("/spec/paramKind").map_or_else(
        || "<unset>".to_owned(),
        |of| format!("{}/{}", read::text(of, "/apiVersion"), read::text(of, "/kind")),
    );
    kind.into()
}

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        meta::name(object).into(),
        read::list(object, "/spec/validations").len().into(),
        param_kind_cell(object),
        age(object, now),
    ]
}

/// Reasons that a refusal may give.
const REASONS: &[&str] = &["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
const MAX_ANNOTATIONS: usize = 20;

/// What is true of validatingadmissionpolicies.
pub(in crate::kinds) struct PolicyRules;

impl Rules for PolicyRules {
    type Object = admission::ValidatingAdmissionPolicy;

    const FINALIZERS_HAVE_DOMAINS: bool = false;
    const SCOPE: Scope = Scope::Cluster;
    const HAS_STATUS: bool = true;
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
        let empty = admission::ValidatingAdmissionPolicySpec::default();
        let (spec, path) = (policy.spec.as_ref().unwrap_or(&empty), spec_path());
        common(spec, &path, errors);
        let (validations, annotations) =
            (validate::list(&spec.validations), validate::list(&spec.audit_annotations));
        if validations.is_empty() && annotations.is_empty() {
            let why = "validations or auditAnnotations must contain at least one item";
            for field in ["validations", "auditAnnotations"] {
                errors.push(FieldError::required(&path.child(field), why));
            }
        }
        for (index, validation) in validations.iter().enumerate() {
            one_validation(validation, &path.child("validations").index(index), errors);
        }
        audit_annotations(annotations, &path.child("auditAnnotations"), errors);
    }
}

/// What validating and mutating policies share.
pub(super) fn common(spec: &admission::ValidatingAdmissionPolicySpec, path: &FieldPath, errors: &mut Errors) {
    matching::policies(&spec.failure_policy, &None, path, errors);
    if let Some(kind) = &spec.param_kind {
        check_param_kind(kind, &path.child("paramKind"), errors);
    }
    let at = path.child("matchConstraints");
    match &spec.match_constraints {
        None => errors.push(FieldError::required(&at, "")),
        Some(constraints) => {
            matching::resources_matched(constraints, &at, errors);
            if validate::list(&constraints.resource_rules).is_empty() {
                errors.push(FieldError::required(&at.child("resourceRules"), ""));
            }
        }
    }
    matching::conditions(validate::list(&spec.match_conditions), &path.child("matchConditions"), errors);
    variables(validate::list(&spec.variables), &path.child("variables"), errors);
}

/// A kind of parameters is one that there could be.
fn check_param_kind(param: &admission::ParamKind, path: &FieldPath, errors: &mut Errors) {
    let (at, version) = (path.child("apiVersion"), validate::text(&param.api_version));
    if require(&at, version, errors) {
        let (group, own) = version.split_once('/').unwrap_or(("", version));
        if own.contains('/') {
            let why = format!("unexpected GroupVersion string: {version}");
            errors.push(FieldError::invalid(&at, version, why));
        } else {
            if !group.is_empty() {
                refuse(&at, group, names::dns1123_subdomain(group), errors);
            }
            refuse(&at, own, names::dns1035_label(own), errors);
        }
    }
    let (at, kind) = (path.child("kind"), validate::text(&param.kind));
    if require(&at, kind, errors) {
        let wrong = names::dns1035_label(&kind.to_lowercase());
        let wrong: Vec<String> = wrong
            .iter()
            .map(|why| format!("may have mixed case, but should otherwise match: {why}"))
            .collect();
        refuse(&at, kind, wrong, errors);
    }
}

fn one_validation(validation: &admission::Validation, path: &FieldPath, errors: &mut Errors) {
    if validation.expression.trim().is_empty() {
        errors.push(FieldError::required(&path.child("expression"), "expression is not specified"));
    }
    if let Some(message) = &validation.message {
        let at = path.child("message");
        if message.trim().is_empty() {
            let why = "message must be non-empty if specified";
            errors.push(FieldError::invalid(&at, message.as_str(), why));
        } else if message.contains('\n') {
            let why = "message must not contain line breaks";
            errors.push(FieldError::invalid(&at, message.as_str(), why));
        }
    }
    if let Some(reason) = &validation.reason {
        one_of(&path.child("reason"), reason, REASONS, errors);
    }
}

fn variables(variables: &[admission::Variable], path: &FieldPath, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (index, variable) in variables.iter().enumerate() {
        let at = path.index(index);
        let name = variable.name.as_str();
        if name.is_empty() {
            errors.push(FieldError::required(&at.child("name"), "name is not specified"));
        } else if !is_identifier(name) {
            let why = "name is not a valid CEL identifier";
            errors.push(FieldError::invalid(&at.child("name"), name, why));
        }
        if !seen.insert(&variable.name) {
            errors.push(FieldError::duplicate(&at.child("name"), name));
        }
        if variable.expression.trim().is_empty() {
            errors.push(FieldError::required(&at.child("expression"), "expression is not specified"));
        }
    }
}

fn is_identifier(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn audit_annotations(annotations: &[admission::AuditAnnotation], path: &FieldPath, errors: &mut Errors) {
    if annotations.len() > MAX_ANNOTATIONS {
        let why = format!("must not have more than {MAX_ANNOTATIONS} auditAnnotations");
        errors.push(FieldError::invalid(path, validate::shown(&annotations), why));
    }
    let mut seen = HashSet::new();
    for (index, annotation) in annotations.iter().enumerate() {
        let at = path.index(index);
        require_by(&at.child("key"), &annotation.key, names::qualified_name, errors);
        if !seen.insert(&annotation.key) {
            errors.push(FieldError::duplicate(&at.child("key"), annotation.key.as_str()));
        }
        if annotation.value_expression.trim().is_empty() {
            let at = at.child("valueExpression");
            errors.push(FieldError::required(&at, "valueExpression is not specified"));
        }
    }
}
