//! PodTemplates.

use k8s_openapi::api::core::v1 as core;

use super::prelude::*;
use super::workload;

/// The row of podtemplates.
pub(super) const RESOURCE: Resource = Resource {
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("Containers", "Names of each container in the template."),
            Column::text("Images", "Images referenced by each container in the template."),
            Column::text("Pod Labels", "The labels for the pod template."),
        ],
        cells,
    },
    ..row!(core "v1", "PodTemplate", "podtemplate", "podtemplates", core::PodTemplate, PodTemplateRules)
};

fn cells(object: &Value, _now: Timestamp) -> Vec<Value> {
    let (containers, images) = read::containers_and_images(object.pointer("/template/spec"));
    let labels = read::labels(object.pointer("/template/metadata/labels"));
    vec![meta::name(object).into(), containers.into(), images.into(), labels.into()]
}

/// What is true of podtemplates.
pub(super) struct PodTemplateRules;

impl Rules for PodTemplateRules {
    type Object = core::PodTemplate;

    const CREATE_ON_UPDATE: bool = true;
    const HAS_GENERATION: bool = true;

    fn default(object_: &mut Value) {
        if let Some(template) = object_.as_object_mut().and_then(|fields| object(fields, "template")) {
            defaults::pod_template(template);
        }
    }

    fn warnings(new: &Self::Object, _old: Option<&Self::Object>, warnings: &mut Vec<String>) {
        let path = FieldPath::root("template");
        workload::template_warnings(new.template.as_ref(), &path, [None; 2], warnings);
    }

    fn validate(object: &Self::Object, errors: &mut Errors) {
        let empty = core::PodTemplateSpec::default();
        let template = object.template.as_ref().unwrap_or(&empty);
        validate::pod_template(template, &FieldPath::root("template"), errors);
    }
}
