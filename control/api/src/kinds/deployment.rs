//! Deployments.

use jiff::Timestamp;
use k8s_openapi::api::apps;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::workload::{self, Counts};
use super::{BASE, gvk, scale, status};
use crate::defaults::{self, make_object, set};
use crate::meta;
use crate::resource::Resource;
use crate::schema::TypeRef;
use crate::status::{FieldError, FieldPath};
use crate::strategy::{Rules, Typed};
use crate::table::read::{age, containers_and_images, integer};
use crate::table::{Column, Printer};
use crate::validate::{self, Errors};

/// The row of deployments.
pub(super) const RESOURCE: Resource = Resource {
    group: "apps",
    api_version: "apps/v1",
    kind: "Deployment",
    list_kind: "DeploymentList",
    plural: "deployments",
    singular: "deployment",
    short_names: &["deploy"],
    categories: &["all"],
    subresources: &[scale(), status(gvk("apps", "v1", "Deployment"))],
    storage_prefix: "/registry/deployments/",
    storage: gvk("apps", "v1", "Deployment"),
    strategy: &Typed::<DeploymentRules>::new(),
    schema: TypeRef::of::<apps::v1::Deployment>("io.k8s.api.apps.v1.Deployment"),
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("Ready", "Number of the pod with ready state"),
            Column::text("Up-to-date", "apps.v1.DeploymentStatus#updatedReplicas"),
            Column::text("Available", "apps.v1.DeploymentStatus#availableReplicas"),
            Column::AGE,
            Column::text("Containers", "Names of each container in the template.").wide(),
            Column::text("Images", "Images referenced by each container in the template.").wide(),
            Column::text("Selector", "apps.v1.DeploymentSpec#selector").wide(),
        ],
        cells,
    },
    ..BASE
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let ready = integer(object, "/status/readyReplicas");
    let wanted = integer(object, "/spec/replicas");
    let (containers, images) = containers_and_images(object.pointer("/spec/template/spec"));
    vec![
        meta::name(object).into(),
        format!("{ready}/{wanted}").into(),
        integer(object, "/status/updatedReplicas").into(),
        integer(object, "/status/availableReplicas").into(),
        age(object, now),
        containers.into(),
        images.into(),
        workload::selector_text(object).into(),
    ]
}

/// What is true of deployments.
pub(super) struct DeploymentRules;

impl Rules for DeploymentRules {
    type Object = apps::v1::Deployment;

    const HAS_STATUS: bool = true;
    const HAS_GENERATION: bool = true;
    const ANNOTATIONS_COUNT: bool = true;
    const STATUS_KEEPS: &'static [&'static str] = &["labels"];

    fn default(deployment: &mut Value) {
        let Some(spec) = deployment.as_object_mut().and_then(|d| make_object(d, "spec")) else { return };
        set(spec, "replicas", 1);
        set(spec, "revisionHistoryLimit", 10);
        set(spec, "progressDeadlineSeconds", 600);
        if let Some(strategy) = make_object(spec, "strategy") {
            set(strategy, "type", "RollingUpdate");
            if defaults::text(strategy, "type") == "RollingUpdate"
                && let Some(rolling) = make_object(strategy, "rollingUpdate")
            {
                set(rolling, "maxUnavailable", "25%");
                set(rolling, "maxSurge", "25%");
            }
        }
        if let Some(template) = make_object(spec, "template") {
            defaults::pod_template(template);
        }
    }

    fn warnings(new: &Self::Object, old: Option<&Self::Object>, warnings: &mut Vec<String>) {
        workload::name_warnings(&new.metadata, old.is_none(), warnings);
        let metadata = [Some(&new.metadata), old.map(|old| &old.metadata)];
        let template = new.spec.as_ref().map(|s| &s.template);
        workload::template_warnings(template, &workload::template_path(), metadata, warnings);
    }

    fn validate_presence(object: &Value, errors: &mut Errors) {
        workload::selector_is_there("deployment", object, errors);
    }

    fn validate(deployment: &Self::Object, errors: &mut Errors) {
        let (path, early) = (FieldPath::root("spec"), workload::found_early(errors));
        let empty = apps::v1::DeploymentSpec::default();
        let spec = deployment.spec.as_ref().unwrap_or(&empty);
        workload::replicas(spec.replicas, &path, errors);
        workload::selector_and_template("ReplicaSet", &spec.selector, early, &spec.template, &path, errors);
        strategy(spec.strategy.as_ref(), &path.child("strategy"), errors);
        let numbers = [
            ("minReadySeconds", spec.min_ready_seconds),
            ("revisionHistoryLimit", spec.revision_history_limit),
            ("progressDeadlineSeconds", spec.progress_deadline_seconds),
        ];
        for (field, number) in numbers {
            validate::not_negative(&path.child(field), i64::from(number.unwrap_or_default()), errors);
        }
        let ready = spec.min_ready_seconds.unwrap_or_default();
        if let Some(deadline) = spec.progress_deadline_seconds.filter(|deadline| *deadline <= ready) {
            let at = path.child("progressDeadlineSeconds");
            errors.push(FieldError::invalid(&at, deadline, "must be greater than minReadySeconds"));
        }
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        Self::validate(new, errors);
        let selector = |d: &Self::Object| d.spec.as_ref().map(|s| s.selector.clone());
        workload::same_selector(selector(new), selector(old), errors);
    }

    fn validate_status_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        let Some(status) = &new.status else { return };
        let before = old.status.as_ref().and_then(|s| s.collision_count);
        let counts = Counts {
            replicas: status.replicas.unwrap_or_default(),
            parts: &[
                ("updatedReplicas", status.updated_replicas, true),
                ("readyReplicas", status.ready_replicas, true),
                ("availableReplicas", status.available_replicas, true),
                ("unavailableReplicas", status.unavailable_replicas, false),
            ],
            observed: status.observed_generation,
            observed_first: true,
            collisions: Some((status.collision_count, before)),
            ready: "readyReplicas",
        };
        counts.check(&FieldPath::root("status"), errors);
    }
}

fn strategy(strategy: Option<&apps::v1::DeploymentStrategy>, path: &FieldPath, errors: &mut Errors) {
    let Some(strategy) = strategy else { return };
    match validate::text(&strategy.type_) {
        "Recreate" => {
            if strategy.rolling_update.is_some() {
                let why = "may not be specified when strategy `type` is 'Recreate'";
                errors.push(FieldError::forbidden(&path.child("rollingUpdate"), why));
            }
        }
        "RollingUpdate" => match &strategy.rolling_update {
            None => errors.push(FieldError::required(
                &path.child("rollingUpdate"),
                "this should be defaulted and never be nil",
            )),
            Some(rolling) => rolling_update(rolling, &path.child("rollingUpdate"), errors),
        },
        other => {
            // Upstream shows the strategy as it has it.
            let shown = json!({"RollingUpdate": strategy.rolling_update, "Type": other});
            errors.push(FieldError::not_supported_in_order(path, shown, &["Recreate", "RollingUpdate"]));
        }
    }
}

fn rolling_update(rolling: &apps::v1::RollingUpdateDeployment, path: &FieldPath, errors: &mut Errors) {
    let (unavailable_at, surge_at) = (path.child("maxUnavailable"), path.child("maxSurge"));
    let unavailable =
        rolling.max_unavailable.as_ref().map(|v| validate::int_or_percent(v, &unavailable_at, errors));
    let surge = rolling.max_surge.as_ref().map(|v| validate::int_or_percent(v, &surge_at, errors));
    if let (Some(Some(0)), Some(Some(0))) = (unavailable, surge) {
        let shown = validate::shown(&rolling.max_unavailable);
        errors.push(FieldError::invalid(&unavailable_at, shown, "may not be 0 when `maxSurge` is 0"));
    }
    if let (Some(IntOrString::String(text)), Some(Some(percent))) = (&rolling.max_unavailable, unavailable)
        && percent > 100
    {
        errors.push(FieldError::invalid(&unavailable_at, text.as_str(), "must not be greater than 100%"));
    }
}
