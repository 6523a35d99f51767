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

/// The selector and the template, which has to match it and to be of a pod that runs for good.
pub(super) fn selector_and_template(
    selector: &ApiSelector,
    template: &PodTemplateSpec,
    path: &FieldPath,
    errors: &mut Errors,
) {
    let at = path.child("selector");
    validate::label_selector(selector, &at, errors);
    let template_at = path.child("template");
    match LabelSelector::from_typed(selector) {
        // What is wrong with it was said above.
        Err(_) => {}
        // That it is missing is said by `selector_is_there`.
        Ok(selector) if selector.is_everything() => {}
        Ok(selector) => {
            let labels = template.metadata.as_ref().and_then(|m| m.labels.as_ref());
            if !selector.matches(|key| labels?.get(key).map(String::as_str)) {
                let at = template_at.child("metadata").child("labels");
                let shown =
                    labels.map(validate::shown).unwrap_or_else(|| Value::Object(serde_json::Map::new()));
                errors.push(FieldError::invalid(&at, shown, "`selector` does not match template `labels`"));
            }
        }
    }
    validate::pod_template(template, &template_at, errors);
    let Some(spec) = &template.spec else { return };
    let policy = validate::text(&spec.restart_policy);
    if policy != "Always" {
        let at = template_at.child("spec").child("restartPolicy");
        errors.push(FieldError::not_supported(&at, policy, &["Always"]));
    }
    if spec.active_deadline_seconds.is_some() {
        let at = template_at.child("spec").child("activeDeadlineSeconds");
        errors.push(FieldError::forbidden(&at, "activeDeadlineSeconds in ReplicaSet is not Supported"));
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
