//! What kinds that make pods from a template share.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as ApiSelector;
use serde_json::Value;

use crate::names;
use crate::select::LabelSelector;
use crate::status::{FieldError, FieldPath};
use crate::validate::{self, Errors};

/// `spec.selector` in its string form, as tables and scale have it.
pub(super) fn selector_text(object: &Value) -> String {
    match LabelSelector::from_value(object.pointer("/spec/selector")) {
        Ok(selector) if selector.requirements().is_empty() => "<none>".to_owned(),
        Ok(selector) => selector.to_string(),
        Err(_) => "<invalid>".to_owned(),
    }
}

/// `spec.replicas`.
pub(super) fn replicas(replicas: Option<i32>, path: &FieldPath, errors: &mut Errors) {
    validate::not_negative(&path.child("replicas"), i64::from(replicas.unwrap_or_default()), errors);
}

/// A selector has to be there and to ask for something.
pub(super) fn selector_is_there(word: &str, object: &Value, errors: &mut Errors) {
    let at = FieldPath::root("spec").child("selector");
    match object.pointer("/spec/selector") {
        None => {
            errors.push(FieldError::required(&at, ""));
            let labels = object.pointer("/spec/template/metadata/labels").cloned();
            let at = FieldPath::root("spec").child("template").child("metadata").child("labels");
            let shown = labels.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
            errors.push(FieldError::invalid(&at, shown, "`selector` does not match template `labels`"));
        }
        Some(selector) if LabelSelector::from_value(Some(selector)).is_ok_and(|s| s.is_everything()) => {
            let why = format!("empty selector is invalid for {word}");
            errors.push(FieldError::invalid(&at, selector.clone(), why));
        }
        Some(_) => {}
    }
}

/// The selector and the template of a `kind`, which has to match it and to be of a pod that runs for good.
pub(super) fn selector_and_template(
    kind: &str,
    selector: &ApiSelector,
    template: &PodTemplateSpec,
    path: &FieldPath,
    errors: &mut Errors,
) {
    validate::label_selector(selector, &path.child("selector"), errors);
    let template_at = path.child("template");
    selector_matches(selector, template, &template_at, errors);
    validate::pod_template(template, &template_at, errors);
    runs_for_good(kind, template, &template_at, errors);
}

/// The labels of the template at `path` have to match.
pub(super) fn selector_matches(
    selector: &ApiSelector,
    template: &PodTemplateSpec,
    path: &FieldPath,
    errors: &mut Errors,
) {
    match LabelSelector::from_typed(selector) {
        // What is wrong with it is said by its own validation.
        Err(_) => {}
        // That it is missing is said by `selector_is_there`.
        Ok(selector) if selector.is_everything() => {}
        Ok(selector) => {
            let labels = template.metadata.as_ref().and_then(|m| m.labels.as_ref());
            if !selector.matches(|key| labels?.get(key).map(String::as_str)) {
                let at = path.child("metadata").child("labels");
                let shown =
                    labels.map(validate::shown).unwrap_or_else(|| Value::Object(serde_json::Map::new()));
                errors.push(FieldError::invalid(&at, shown, "`selector` does not match template `labels`"));
            }
        }
    }
}

/// A pod of a controller that replaces it restarts always and has no deadline.
pub(super) fn runs_for_good(kind: &str, template: &PodTemplateSpec, path: &FieldPath, errors: &mut Errors) {
    let Some(spec) = &template.spec else { return };
    let policy = validate::text(&spec.restart_policy);
    let at = path.child("spec");
    if policy != "Always" {
        errors.push(FieldError::not_supported(&at.child("restartPolicy"), policy, &["Always"]));
    }
    if spec.active_deadline_seconds.is_some() {
        let why = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(FieldError::forbidden(&at.child("activeDeadlineSeconds"), why));
    }
}

/// Advice about the pods of `spec.template`.
pub(super) fn template_warnings(template: Option<&PodTemplateSpec>, warnings: &mut Vec<String>) {
    if let Some(spec) = template.and_then(|t| t.spec.as_ref()) {
        let path = FieldPath::root("spec").child("template").child("spec");
        validate::pod_warnings(spec, &path, warnings);
    }
}

/// A selector never changes.
pub(super) fn same_selector(new: Option<ApiSelector>, old: Option<ApiSelector>, errors: &mut Errors) {
    let (new, old) = (new.unwrap_or_default(), old.unwrap_or_default());
    if !crate::meta::same(Some(&validate::shown(&new)), Some(&validate::shown(&old))) {
        let at = FieldPath::root("spec").child("selector");
        errors.push(FieldError::invalid(&at, validate::shown(&new), names::IMMUTABLE));
    }
}
