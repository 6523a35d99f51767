//! ValidatingAdmissionPolicyBindings.

use k8s_openapi::api::admissionregistration::v1 as admission;

use super::matching;
use crate::kinds::prelude::*;

/// The row of validatingadmissionpolicybindings.
pub(in crate::kinds) const RESOURCE: Resource = Resource {
    categories: &["api-extensions"],
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text(
                "PolicyName",
                "PolicyName indicates the policy definition which the policy binding binded to",
            ),
            Column::text(
                "ParamRef",
                "ParamRef indicates the param resource which sets the configration param",
            ),
            Column::AGE,
        ],
        cells,
    },
    ..row!(
        "admissionregistration.k8s.io" / "v1",
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybinding",
        "validatingadmissionpolicybindings",
        "admissionregistration",
        admission::ValidatingAdmissionPolicyBinding,
        BindingRules
    )
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let reference = object.pointer("/spec/paramRef").map_or_else(
        || "<unset>".to_owned(),
        |of| match (read::text(of, "/namespace"), read::text(of, "/name")) {
            (_, "") => of.get("selector").map_or_else(|| "<unset>".to_owned(), selector_in_go),
            ("", name) => format!("*/{name}"),
            (namespace, name) => format!("{namespace}/{name}"),
        },
    );
    vec![
        meta::name(object).into(),
        read::text(object, "/spec/policyName").into(),
        reference.into(),
        age(object, now),
    ]
}

/// A label selector as Go's generated code writes it, which is what upstream prints here.
fn selector_in_go(selector: &Value) -> String {
    let labels = selector.get("matchLabels").and_then(Value::as_object);
    let mut labels: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}: {},", value.as_str().unwrap_or_default()))
        .collect();
    labels.sort_unstable();
    let expressions: String = read::list(selector, "/matchExpressions")
        .iter()
        .map(|of| {
            let values: Vec<&str> = read::list(of, "/values").iter().filter_map(Value::as_str).collect();
            let (key, operator) = (read::text(of, "/key"), read::text(of, "/operator"));
            format!(
                "LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{}],}},",
                values.join(" ")
            )
        })
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}",
        labels.concat()
    )
}

/// What is true of validatingadmissionpolicybindings.
pub(in crate::kinds) struct BindingRules;

impl Rules for BindingRules {
    type Object = admission::ValidatingAdmissionPolicyBinding;

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
        let empty = admission::ValidatingAdmissionPolicyBindingSpec::default();
        let (spec, path) = (binding.spec.as_ref().unwrap_or(&empty), spec_path());
        common(spec, &path, errors);
        actions(validate::list(&spec.validation_actions), &path.child("validationActions"), errors);
    }
}

/// What bindings of validating and mutating policies share.
pub(super) fn common(
    spec: &admission::ValidatingAdmissionPolicyBindingSpec,
    path: &FieldPath,
    errors: &mut Errors,
) {
    let name = validate::text(&spec.policy_name);
    require_by(&path.child("policyName"), name, names::dns1123_subdomain, errors);
    if let Some(of) = &spec.param_ref {
        param_ref(of, &path.child("paramRef"), errors);
    }
    if let Some(resources) = &spec.match_resources {
        matching::resources_matched(resources, &path.child("matchResources"), errors);
    }
}

fn param_ref(of: &admission::ParamRef, path: &FieldPath, errors: &mut Errors) {
    let name = validate::text(&of.name);
    match (name, &of.selector) {
        ("", None) => {
            let why = "one of name or selector must be specified";
            errors.push(FieldError::required(&path.child("name"), why));
        }
        ("", Some(selector)) => validate::label_selector(selector, &path.child("selector"), errors),
        (_, Some(_)) => {
            let why = "name and selector are mutually exclusive";
            errors.push(FieldError::forbidden(&path.child("name"), why));
        }
        (name, None) => refuse(&path.child("name"), name, names::path_segment(name, false), errors),
    }
    let at = path.child("parameterNotFoundAction");
    match &of.parameter_not_found_action {
        None => errors.push(FieldError::required(&at, "")),
        Some(action) => one_of(&at, action, &["Allow", "Deny"], errors),
    }
}

fn actions(actions: &[String], path: &FieldPath, errors: &mut Errors) {
    if actions.is_empty() {
        errors.push(FieldError::required(path, "at least one validation action is required"));
    }
    let mut seen = HashSet::new();
    for (index, action) in actions.iter().enumerate() {
        one_of(&path.index(index), action, &["Audit", "Deny", "Warn"], errors);
        if !seen.insert(action) {
            errors.push(FieldError::duplicate(&path.index(index), action.as_str()));
        }
    }
    if ["Deny", "Warn"].iter().all(|wanted| actions.iter().any(|a| a == wanted)) {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the \
                   API response and headers serves no purpose)";
        errors.push(FieldError::invalid(path, validate::shown(&actions), why));
    }
}
