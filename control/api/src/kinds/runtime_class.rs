//! RuntimeClasses.

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::api::node::v1 as node;

use super::prelude::*;

/// The row of runtimeclasses.
pub(super) const RESOURCE: Resource = Resource {
    printer: Printer { columns: &[Column::NAME, Column::text("Handler", ""), Column::AGE], cells },
    ..row!(
        "node.k8s.io" / "v1",
        "RuntimeClass",
        "runtimeclass",
        "runtimeclasses",
        "node",
        node::RuntimeClass,
        RuntimeClassRules
    )
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![meta::name(object).into(), read::text(object, "/handler").into(), age(object, now)]
}

/// What is true of runtimeclasses.
pub(super) struct RuntimeClassRules;

impl Rules for RuntimeClassRules {
    type Object = node::RuntimeClass;

    const SCOPE: Scope = Scope::Cluster;
    const UNCONDITIONAL_UPDATE: bool = false;

    fn validate(class: &Self::Object, errors: &mut Errors) {
        refuse(&FieldPath::root("handler"), &class.handler, names::dns1123_label(&class.handler), errors);
        if let Some(overhead) = &class.overhead {
            let limits = overhead.pod_fixed.clone();
            let wanted = ResourceRequirements { limits, ..ResourceRequirements::default() };
            validate::requirements(&wanted, &FieldPath::root("overhead"), errors);
        }
        if let Some(scheduling) = &class.scheduling {
            let at = FieldPath::root("scheduling");
            validate::label_map(scheduling.node_selector.as_ref(), &at.child("nodeSelector"), errors);
            validate::tolerations(validate::list(&scheduling.tolerations), &at.child("tolerations"), errors);
        }
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        validate::unchanged(&FieldPath::root("handler"), &new.handler, &old.handler, errors);
    }
}
