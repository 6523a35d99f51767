//! ReplicationControllers, whose selector is a plain map of labels.

use k8s_openapi::api::core::v1 as core;

use super::prelude::*;
use super::workload::{self, Counts};
use crate::select::LabelSelector;

/// The row of replicationcontrollers.
pub(super) const RESOURCE: Resource = Resource {
    short_names: &["rc"],
    categories: &["all"],
    subresources: &[scale(), status(gvk("", "v1", "ReplicationController"))],
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::integer("Desired", "core.v1.ReplicationControllerSpec#replicas"),
            Column::integer("Current", "core.v1.ReplicationControllerStatus#replicas"),
            Column::integer("Ready", "core.v1.ReplicationControllerStatus#readyReplicas"),
            Column::AGE,
            Column::text("Containers", "Names of each container in the template.").wide(),
            Column::text("Images", "Images referenced by each container in the template.").wide(),
            Column::text("Selector", "core.v1.ReplicationControllerSpec#selector").wide(),
        ],
        cells,
    },
    ..row!(core "v1", "ReplicationController", "replicationcontroller", "replicationcontrollers",
        core::ReplicationController, ReplicationControllerRules)
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let (containers, images) = read::containers_and_images(object.pointer("/spec/template/spec"));
    vec![
        meta::name(object).into(),
        read::integer(object, "/spec/replicas").into(),
        read::integer(object, "/status/replicas").into(),
        read::integer(object, "/status/readyReplicas").into(),
        age(object, now),
        containers.into(),
        images.into(),
        read::labels(object.pointer("/spec/selector")).into(),
    ]
}

/// What is true of replicationcontrollers.
pub(super) struct ReplicationControllerRules;

impl Rules for ReplicationControllerRules {
    type Object = core::ReplicationController;

    const HAS_STATUS: bool = true;
    const HAS_GENERATION: bool = true;
    const SELECTABLE: &'static [&'static str] = &["metadata.name", "metadata.namespace", "status.replicas"];

    fn default(controller: &mut Value) {
        let labels = controller.pointer("/spec/template/metadata/labels").filter(|l| !is_empty(l)).cloned();
        let Some(spec) = spec_of(controller) else { return };
        set(spec, "replicas", 1);
        if let Some(template) = object(spec, "template") {
            defaults::pod_template(template);
        }
        let Some(labels) = labels else { return };
        if spec.get("selector").is_none_or(is_empty) {
            spec.insert("selector".into(), labels.clone());
        }
        if let Some(metadata) = meta::metadata_mut(controller)
            && metadata.get("labels").is_none_or(is_empty)
        {
            metadata.insert("labels".into(), labels);
        }
    }

    fn prepare_create(object: &mut Value) {
        if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
            status.insert("replicas".into(), 0.into());
        }
    }

    fn warnings(new: &Self::Object, old: Option<&Self::Object>, warnings: &mut Vec<String>) {
        has_no_controller(warnings);
        workload::name_warnings(&new.metadata, old.is_none(), warnings);
        let metadata = [Some(&new.metadata), old.map(|old| &old.metadata)];
        let template = new.spec.as_ref().and_then(|s| s.template.as_ref());
        workload::template_warnings(template, &workload::template_path(), metadata, warnings);
    }

    fn validate(object: &Self::Object, errors: &mut Errors) {
        let empty = core::ReplicationControllerSpec::default();
        let (spec, path) = (object.spec.as_ref().unwrap_or(&empty), spec_path());
        not_negative(
            &path.child("minReadySeconds"),
            i64::from(spec.min_ready_seconds.unwrap_or_default()),
            errors,
        );
        let selector = spec.selector.as_ref().filter(|s| !s.is_empty());
        if selector.is_none() {
            errors.push(FieldError::required(&path.child("selector"), ""));
        }
        workload::replicas(spec.replicas, &path, errors);
        let at = path.child("template");
        let Some(template) = &spec.template else {
            errors.push(FieldError::required(&at, ""));
            return;
        };
        let labels = template.metadata.as_ref().and_then(|m| m.labels.as_ref());
        let pairs = selector.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str()));
        if LabelSelector::from_map(pairs)
            .is_ok_and(|s| !s.matches(|key| labels.and_then(|l| l.get(key)).map(String::as_str)))
        {
            let shown = validate::shown(&labels);
            let at = at.child("metadata").child("labels");
            errors.push(FieldError::invalid(&at, shown, "`selector` does not match template `labels`"));
        }
        validate::pod_template(template, &at, errors);
        workload::runs_for_good("ReplicationController", template, &at, errors);
    }

    fn validate_status_update(new: &Self::Object, _old: &Self::Object, errors: &mut Errors) {
        let Some(status) = &new.status else { return };
        let counts = Counts {
            replicas: status.replicas,
            parts: &[
                ("fullyLabeledReplicas", status.fully_labeled_replicas, true),
                ("readyReplicas", status.ready_replicas, true),
                ("availableReplicas", status.available_replicas, true),
            ],
            observed: status.observed_generation,
            observed_first: false,
            collisions: None,
            ready: "readyReplicas",
        };
        counts.check(&FieldPath::root("status"), errors);
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_none_or(Map::is_empty)
}
