//! What kinds that make pods from a template share.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector as ApiSelector, ObjectMeta};
use serde_json::Value;

use super::prelude::never_less;
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

/// A selector has to be there and to ask for something. What is found is put into its place by [`selector`].
pub(super) fn selector_is_there(word: &str, object: &Value, errors: &mut Errors) {
    let at = selector_path();
    match object.pointer("/spec/selector") {
        None => {
            errors.push(FieldError::required(&at, ""));
            let labels = object.pointer("/spec/template/metadata/labels").cloned();
            let at = FieldPath::root("spec").child("template").child("metadata").child("labels");
            errors.push(FieldError::invalid(&at, labels.unwrap_or_default(), MISMATCH));
        }
        Some(selector) if LabelSelector::from_value(Some(selector)).is_ok_and(|s| s.is_everything()) => {
            let why = format!("empty selector is invalid for {word}");
            errors.push(FieldError::invalid(&at, selector.clone(), why));
        }
        Some(_) => {}
    }
}

const MISMATCH: &str = "`selector` does not match template `labels`";

fn selector_path() -> FieldPath {
    FieldPath::root("spec").child("selector")
}

/// Takes out what [`selector_is_there`] found, which is known before the rest is looked at.
pub(super) fn found_early(errors: &mut Errors) -> Errors {
    errors.extract_if(.., |error| error.field.starts_with("spec.")).collect()
}

/// The labels of the selector at `spec.selector`, and what was found early.
pub(super) fn selector(selector: &ApiSelector, early: Errors, errors: &mut Errors) {
    validate::label_selector(selector, &selector_path(), errors);
    errors.extend(early);
}

/// Counts of a status in the order in which upstream looks at them. The number of replicas comes first; the `parts`
/// with true are not more than that.
pub(super) struct Counts<'a> {
    pub(super) replicas: i32,
    pub(super) parts: &'a [(&'a str, Option<i32>, bool)],
    pub(super) observed: Option<i64>,
    /// Whether upstream looks at the generation before the counts.
    pub(super) observed_first: bool,
    /// The number of collisions now and before, of kinds that count them.
    pub(super) collisions: Option<(Option<i32>, Option<i32>)>,
    /// How the ready ones are called, which the available ones are not more than.
    pub(super) ready: &'a str,
}

impl Counts<'_> {
    pub(super) fn check(&self, path: &FieldPath, errors: &mut Errors) {
        let negative = |field: &str, number: i64, errors: &mut Errors| {
            validate::not_negative(&path.child(field), number, errors);
        };
        let observed = ("observedGeneration", self.observed.unwrap_or_default());
        let mut numbers = vec![("replicas", i64::from(self.replicas))];
        numbers.extend(self.parts.iter().map(|(f, count, _)| (*f, i64::from(count.unwrap_or_default()))));
        numbers.insert(if self.observed_first { 0 } else { numbers.len() }, observed);
        for (field, number) in numbers {
            negative(field, number, errors);
        }
        if let Some((Some(collisions), _)) = self.collisions {
            negative("collisionCount", i64::from(collisions), errors);
        }
        for (field, count, is_part) in self.parts {
            let count = count.unwrap_or_default();
            if *is_part && count > self.replicas {
                let why = "cannot be greater than status.replicas";
                errors.push(FieldError::invalid(&path.child(field), count, why));
            }
        }
        let named = |name: &str| {
            let part = self.parts.iter().find(|(field, ..)| *field == name);
            part.and_then(|(_, count, _)| *count).unwrap_or_default()
        };
        let available = named("availableReplicas");
        if available > named("readyReplicas") {
            let why = format!("cannot be greater than {}", self.ready);
            errors.push(FieldError::invalid(&path.child("availableReplicas"), available, why));
        }
        if let Some((now, before)) = self.collisions {
            never_less(&path.child("collisionCount"), now, before, errors);
        }
    }
}

/// The selector and the template of a `kind`, which has to match it and to be of a pod that runs for good.
pub(super) fn selector_and_template(
    kind: &str,
    of: &ApiSelector,
    early: Errors,
    template: &PodTemplateSpec,
    path: &FieldPath,
    errors: &mut Errors,
) {
    selector(of, early, errors);
    let template_at = path.child("template");
    selector_matches(of, template, &template_at, errors);
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
                errors.push(FieldError::invalid(&at, validate::shown(&labels), MISMATCH));
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

/// Advice about the pods of a template at `path`, where there is a new one or what is wanted has changed.
pub(super) fn template_warnings(
    template: Option<&PodTemplateSpec>,
    path: &FieldPath,
    metadata: [Option<&ObjectMeta>; 2],
    warnings: &mut Vec<String>,
) {
    let [new, old] = metadata.map(|metadata| metadata.map(|m| m.generation));
    let Some(template) = template.filter(|_| old.is_none() || new != old) else { return };
    let annotations = template.metadata.as_ref().and_then(|metadata| metadata.annotations.as_ref());
    if let Some(spec) = &template.spec {
        validate::pod_warnings(validate::Subject { annotations, spec, base: path }, warnings);
    }
}

/// Advice about the name of a new object that pods are named after.
pub(super) fn name_warnings(new: &ObjectMeta, is_new: bool, warnings: &mut Vec<String>) {
    if is_new {
        validate::host_name(validate::text(&new.name), "Pod names and hostnames", warnings);
    }
}

/// The path of the template of most kinds.
pub(super) fn template_path() -> FieldPath {
    FieldPath::root("spec").child("template")
}

/// A selector never changes.
pub(super) fn same_selector(new: Option<ApiSelector>, old: Option<ApiSelector>, errors: &mut Errors) {
    let (new, old) = (new.unwrap_or_default(), old.unwrap_or_default());
    if !crate::meta::same(Some(&validate::shown(&new)), Some(&validate::shown(&old))) {
        let at = FieldPath::root("spec").child("selector");
        errors.push(FieldError::invalid(&at, validate::shown(&new), names::IMMUTABLE));
    }
}
