//! ReplicaSets.

use jiff::Timestamp;
use k8s_openapi::api::apps;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use super::workload::{self, Counts};
use super::{BASE, gvk, scale, status};
use crate::defaults::{self, make_object, set};
use crate::meta;
use crate::resource::Resource;
use crate::schema::TypeRef;
use crate::status::FieldPath;
use crate::strategy::{Rules, Typed};
use crate::table::read::{age, containers_and_images, integer};
use crate::table::{Column, Printer};
use crate::validate::{self, Errors};

/// The row of replicasets.
pub(super) const RESOURCE: Resource = Resource {
    group: "apps",
    api_version: "apps/v1",
    kind: "ReplicaSet",
    list_kind: "ReplicaSetList",
    plural: "replicasets",
    singular: "replicaset",
    short_names: &["rs"],
    categories: &["all"],
    subresources: &[scale(), status(gvk("apps", "v1", "ReplicaSet"))],
    storage_prefix: "/registry/replicasets/",
    storage: gvk("apps", "v1", "ReplicaSet"),
    strategy: &Typed::<ReplicaSetRules>::new(),
    schema: TypeRef::of::<apps::v1::ReplicaSet>("io.k8s.api.apps.v1.ReplicaSet"),
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::integer("Desired", "apps.v1.ReplicaSetSpec#replicas"),
            Column::integer("Current", "apps.v1.ReplicaSetStatus#replicas"),
            Column::integer("Ready", "apps.v1.ReplicaSetStatus#readyReplicas"),
            Column::AGE,
            Column::text("Containers", "Names of each container in the template.").wide(),
            Column::text("Images", "Images referenced by each container in the template.").wide(),
            Column::text("Selector", "apps.v1.ReplicaSetSpec#selector").wide(),
        ],
        cells,
    },
    ..BASE
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let (containers, images) = containers_and_images(object.pointer("/spec/template/spec"));
    vec![
        meta::name(object).into(),
        integer(object, "/spec/replicas").into(),
        integer(object, "/status/replicas").into(),
        integer(object, "/status/readyReplicas").into(),
        age(object, now),
        containers.into(),
        images.into(),
        workload::selector_text(object).into(),
    ]
}

/// What is true of replicasets.
pub(super) struct ReplicaSetRules;

impl Rules for ReplicaSetRules {
    type Object = apps::v1::ReplicaSet;

    const HAS_STATUS: bool = true;
    const HAS_GENERATION: bool = true;
    const SELECTABLE: &'static [&'static str] = &["metadata.name", "metadata.namespace", "status.replicas"];

    fn default(set_: &mut Value) {
        let Some(spec) = set_.as_object_mut().and_then(|d| make_object(d, "spec")) else { return };
        set(spec, "replicas", 1);
        if let Some(template) = make_object(spec, "template") {
            defaults::pod_template(template);
        }
    }

    fn prepare_create(set: &mut Value) {
        // The count is no pointer in Go and so is always there.
        if let Some(status) = set.get_mut("status").and_then(Value::as_object_mut) {
            status.insert("replicas".into(), 0.into());
        }
    }

    fn warnings(new: &Self::Object, old: Option<&Self::Object>, warnings: &mut Vec<String>) {
        workload::name_warnings(&new.metadata, old.is_none(), warnings);
        let metadata = [Some(&new.metadata), old.map(|old| &old.metadata)];
        let template = new.spec.as_ref().and_then(|s| s.template.as_ref());
        workload::template_warnings(template, &workload::template_path(), metadata, warnings);
    }

    fn validate_presence(object: &Value, errors: &mut Errors) {
        // The word is upstream's.
        workload::selector_is_there("deployment", object, errors);
    }

    fn validate(set: &Self::Object, errors: &mut Errors) {
        let (path, early) = (FieldPath::root("spec"), workload::found_early(errors));
        let empty = apps::v1::ReplicaSetSpec::default();
        let spec = set.spec.as_ref().unwrap_or(&empty);
        workload::replicas(spec.replicas, &path, errors);
        let ready = i64::from(spec.min_ready_seconds.unwrap_or_default());
        validate::not_negative(&path.child("minReadySeconds"), ready, errors);
        let none = PodTemplateSpec::default();
        let template = spec.template.as_ref().unwrap_or(&none);
        workload::selector_and_template("ReplicaSet", &spec.selector, early, template, &path, errors);
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        Self::validate(new, errors);
        let selector = |s: &Self::Object| s.spec.as_ref().map(|s| s.selector.clone());
        workload::same_selector(selector(new), selector(old), errors);
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
