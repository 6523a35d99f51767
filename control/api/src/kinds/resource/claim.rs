//! ResourceClaims, and the templates they are made from.

use k8s_openapi::api::resource::v1 as api;

use super::{request, status as claim_status};
use crate::kinds::prelude::*;

/// The row of resourceclaims.
pub(in crate::kinds) const CLAIM: Resource = Resource {
    subresources: &[status(gvk("resource.k8s.io", "v1", "ResourceClaim"))],
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("State", "A summary of the current state (allocated, pending, reserved, etc.)."),
            Column::AGE,
        ],
        cells,
    },
    ..row!(
        "resource.k8s.io" / "v1",
        "ResourceClaim",
        "resourceclaim",
        "resourceclaims",
        "resource",
        api::ResourceClaim,
        ClaimRules
    )
};

/// The row of resourceclaimtemplates.
pub(in crate::kinds) const TEMPLATE: Resource = Resource {
    ..row!(
        "resource.k8s.io" / "v1",
        "ResourceClaimTemplate",
        "resourceclaimtemplate",
        "resourceclaimtemplates",
        "resource",
        api::ResourceClaimTemplate,
        TemplateRules
    )
};

fn cells(claim: &Value, now: Timestamp) -> Vec<Value> {
    let mut words = Vec::new();
    if meta::is_deleting(claim) {
        words.push("deleted");
    }
    if claim.pointer("/status/allocation").is_none_or(Value::is_null) {
        if words.is_empty() {
            words.push("pending");
        }
    } else {
        words.push("allocated");
        let reserved = !read::list(claim, "/status/reservedFor").is_empty();
        words.extend(reserved.then_some("reserved"));
    }
    vec![meta::name(claim).into(), words.join(",").into(), age(claim, now)]
}

/// What is true of resourceclaims.
pub(in crate::kinds) struct ClaimRules;

impl Rules for ClaimRules {
    type Object = api::ResourceClaim;

    const HAS_STATUS: bool = true;

    fn default(claim: &mut Value) {
        if let Some(devices) = spec_of(claim).and_then(|spec| object(spec, "devices")) {
            request::default_devices(devices);
        }
    }

    fn validate(claim: &Self::Object, errors: &mut Errors) {
        if let Some(devices) = &claim.spec.devices {
            request::devices(devices, &spec_path().child("devices"), errors);
        }
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        validate::unchanged(&spec_path(), &new.spec, &old.spec, errors);
    }

    fn validate_status_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        claim_status::change(new, old, errors);
    }
}

/// What is true of resourceclaimtemplates.
pub(in crate::kinds) struct TemplateRules;

impl Rules for TemplateRules {
    type Object = api::ResourceClaimTemplate;

    fn default(template: &mut Value) {
        let devices = spec_of(template)
            .and_then(|outer| make_object(outer, "spec"))
            .and_then(|inner| object(inner, "devices"));
        if let Some(devices) = devices {
            request::default_devices(devices);
        }
    }

    fn validate(template: &Self::Object, errors: &mut Errors) {
        let path = spec_path();
        if let Some(metadata) = &template.spec.metadata {
            let at = path.child("metadata");
            validate::label_map(metadata.labels.as_ref(), &at.child("labels"), errors);
            let mut others = metadata.clone();
            (others.labels, others.annotations) = (None, None);
            let shown = validate::shown(&others);
            for field in shown.as_object().into_iter().flat_map(Map::keys) {
                let why = "only labels and annotations may be set";
                errors.push(FieldError::forbidden(&at.child(field), why));
            }
        }
        if let Some(devices) = &template.spec.spec.devices {
            request::devices(devices, &path.child("spec").child("devices"), errors);
        }
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        validate::unchanged(&spec_path(), &new.spec, &old.spec, errors);
    }
}
