//! IngressClasses.

use k8s_openapi::api::networking::v1 as net;

use crate::kinds::prelude::*;

/// The row of ingressclasses.
pub(in crate::kinds) const RESOURCE: Resource = Resource {
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("Controller", "Controller that is responsible for handling this class"),
            Column::text("Parameters", "A reference to a resource with additional parameters"),
            Column::AGE,
        ],
        cells,
    },
    ..row!(
        "networking.k8s.io" / "v1",
        "IngressClass",
        "ingressclass",
        "ingressclasses",
        "networking",
        net::IngressClass,
        IngressClassRules
    )
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let parameters = object.pointer("/spec/parameters").map_or_else(
        || "<none>".to_owned(),
        |of| {
            let (kind, name) = (read::text(of, "/kind"), read::text(of, "/name"));
            match read::text(of, "/apiGroup") {
                "" => format!("{kind}/{name}"),
                group => format!("{kind}.{group}/{name}"),
            }
        },
    );
    vec![
        meta::name(object).into(),
        read::text(object, "/spec/controller").into(),
        parameters.into(),
        age(object, now),
    ]
}

const MAX_CONTROLLER: usize = 250;

/// What is true of ingressclasses.
pub(in crate::kinds) struct IngressClassRules;

impl Rules for IngressClassRules {
    type Object = net::IngressClass;

    const SCOPE: Scope = Scope::Cluster;
    const CREATE_ON_UPDATE: bool = true;
    const HAS_GENERATION: bool = true;

    fn default(class: &mut Value) {
        let parameters = spec_of(class).and_then(|spec| object(spec, "parameters"));
        if let Some(parameters) = parameters {
            set(parameters, "scope", "Cluster");
        }
    }

    fn validate(class: &Self::Object, errors: &mut Errors) {
        let empty = net::IngressClassSpec::default();
        let (spec, path) = (class.spec.as_ref().unwrap_or(&empty), spec_path());
        let (at, controller) = (path.child("controller"), validate::text(&spec.controller));
        if controller.len() > MAX_CONTROLLER {
            errors.push(FieldError::too_long(&at, MAX_CONTROLLER));
        }
        validate::domain_prefixed_path(&at, controller, errors);
        if let Some(of) = &spec.parameters {
            parameters(of, &path.child("parameters"), errors);
        }
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        let controller = |class: &Self::Object| class.spec.as_ref().and_then(|s| s.controller.clone());
        let at = spec_path().child("controller");
        validate::unchanged(&at, &controller(new), &controller(old), errors);
        Self::validate(new, errors);
    }
}

fn parameters(of: &net::IngressClassParametersReference, path: &FieldPath, errors: &mut Errors) {
    if let Some(group) = &of.api_group {
        refuse(&path.child("apiGroup"), group, names::dns1123_subdomain(group), errors);
    }
    for (field, text) in [("kind", &of.kind), ("name", &of.name)] {
        validate::require_segment(&path.child(field), text, &format!("{field} is required"), errors);
    }
    let at = path.child("namespace");
    match (validate::text(&of.scope), &of.namespace) {
        ("", _) => errors.push(FieldError::required(&path.child("scope"), "")),
        ("Namespace", None) => {
            errors.push(FieldError::required(&at, "`parameters.scope` is set to 'Namespace'"));
        }
        ("Namespace", Some(namespace)) => refuse(&at, namespace, names::dns1123_label(namespace), errors),
        ("Cluster", Some(_)) => {
            errors.push(FieldError::forbidden(&at, "`parameters.scope` is set to 'Cluster'"));
        }
        ("Cluster", None) => {}
        (other, _) => {
            errors.push(FieldError::not_supported(&path.child("scope"), other, &["Cluster", "Namespace"]));
        }
    }
}
