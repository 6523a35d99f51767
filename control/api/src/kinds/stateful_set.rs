//! StatefulSets.

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1::PodTemplateSpec;

use super::prelude::*;
use super::{volume, workload};

/// The row of statefulsets.
pub(super) const RESOURCE: Resource = Resource {
    short_names: &["sts"],
    categories: &["all"],
    subresources: &[scale(), status(gvk("apps", "v1", "StatefulSet"))],
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("Ready", "Number of the pod with ready state"),
            Column::AGE,
            Column::text("Containers", "Names of each container in the template.").wide(),
            Column::text("Images", "Images referenced by each container in the template.").wide(),
        ],
        cells,
    },
    ..row!(
        "apps" / "v1",
        "StatefulSet",
        "statefulset",
        "statefulsets",
        "apps",
        apps::StatefulSet,
        StatefulSetRules
    )
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let (containers, images) = read::containers_and_images(object.pointer("/spec/template/spec"));
    let (ready, wanted) =
        (read::integer(object, "/status/readyReplicas"), read::integer(object, "/spec/replicas"));
    vec![
        meta::name(object).into(),
        format!("{ready}/{wanted}").into(),
        age(object, now),
        containers.into(),
        images.into(),
    ]
}

/// Fields of the spec that an update may change.
const MUTABLE: &[&str] = &[
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

/// What is true of statefulsets.
pub(super) struct StatefulSetRules;

impl Rules for StatefulSetRules {
    type Object = apps::StatefulSet;

    const HAS_STATUS: bool = true;
    const HAS_GENERATION: bool = true;

    fn default(object_: &mut Value) {
        let Some(spec) = spec_of(object_) else { return };
        set(spec, "podManagementPolicy", "OrderedReady");
        set(spec, "replicas", 1);
        set(spec, "revisionHistoryLimit", 10);
        if let Some(strategy) = make_object(spec, "updateStrategy") {
            set(strategy, "type", "RollingUpdate");
            if defaults::text(strategy, "type") == "RollingUpdate"
                && let Some(rolling) = make_object(strategy, "rollingUpdate")
            {
                set(rolling, "partition", 0);
                set(rolling, "maxUnavailable", 1);
            }
        }
        if let Some(policy) = make_object(spec, "persistentVolumeClaimRetentionPolicy") {
            set(policy, "whenDeleted", "Retain");
            set(policy, "whenScaled", "Retain");
        }
        if let Some(template) = object(spec, "template") {
            defaults::pod_template(template);
        }
        for claim in objects(spec, "volumeClaimTemplates") {
            set(claim, "apiVersion", "v1");
            set(claim, "kind", "PersistentVolumeClaim");
            volume::claim_defaults(claim);
        }
    }

    fn prepare_create(object: &mut Value) {
        zero_counts(object);
    }

    fn warnings(object: &Self::Object, warnings: &mut Vec<String>) {
        has_no_controller(warnings);
        workload::template_warnings(object.spec.as_ref().map(|s| &s.template), warnings);
    }

    fn validate_presence(object: &Value, errors: &mut Errors) {
        workload::selector_is_there("statefulset", object, errors);
    }

    fn validate(object: &Self::Object, errors: &mut Errors) {
        let empty = apps::StatefulSetSpec::default();
        let (spec, path) = (object.spec.as_ref().unwrap_or(&empty), spec_path());
        let policies = ["OrderedReady", "Parallel"];
        let policy = validate::text(&spec.pod_management_policy);
        let at = path.child("podManagementPolicy");
        if require(&at, policy, errors) && !policies.contains(&policy) {
            errors.push(FieldError::invalid(&at, policy, "must be 'OrderedReady' or 'Parallel'"));
        }
        update_strategy(spec.update_strategy.as_ref(), &path.child("updateStrategy"), errors);
        if let Some(policy) = &spec.persistent_volume_claim_retention_policy {
            let at = path.child("persistentVolumeClaimRetentionPolicy");
            for (field, value) in [("whenDeleted", &policy.when_deleted), ("whenScaled", &policy.when_scaled)]
            {
                require_one_of(&at.child(field), validate::text(value), &["Delete", "Retain"], errors);
            }
        }
        let numbers = [
            ("replicas", spec.replicas),
            ("minReadySeconds", spec.min_ready_seconds),
            ("revisionHistoryLimit", spec.revision_history_limit),
        ];
        for (field, number) in numbers {
            not_negative(&path.child(field), i64::from(number.unwrap_or_default()), errors);
        }
        if let Some(start) = spec.ordinals.as_ref().and_then(|o| o.start) {
            not_negative(&path.child("ordinals").child("start"), i64::from(start), errors);
        }
        validate::label_selector(&spec.selector, &path.child("selector"), errors);
        workload::selector_matches(&spec.selector, &spec.template, &path.child("template"), errors);
        template(&spec.template, &path.child("template"), errors);
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        let fixed = |object: &Self::Object| {
            let mut spec = validate::shown(&object.spec);
            if let Some(fields) = spec.as_object_mut() {
                fields.retain(|field, _| !MUTABLE.contains(&field.as_str()));
            }
            spec
        };
        if !meta::same(Some(&fixed(new)), Some(&fixed(old))) {
            let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                       'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                       'minReadySeconds' are forbidden";
            errors.push(FieldError::forbidden(&spec_path(), why));
        }
        Self::validate(new, errors);
    }

    fn validate_status_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        let (Some(status), path) = (&new.status, status_path()) else { return };
        let parts = [
            ("readyReplicas", status.ready_replicas),
            ("currentReplicas", status.current_replicas),
            ("updatedReplicas", status.updated_replicas),
            ("availableReplicas", status.available_replicas),
        ];
        not_negative(&path.child("replicas"), i64::from(status.replicas), errors);
        not_negative(
            &path.child("observedGeneration"),
            status.observed_generation.unwrap_or_default(),
            errors,
        );
        for (field, count) in parts {
            let (at, count) = (path.child(field), count.unwrap_or_default());
            not_negative(&at, i64::from(count), errors);
            if count > status.replicas {
                errors.push(FieldError::invalid(&at, count, "cannot be greater than status.replicas"));
            }
        }
        let (ready, available) = (status.ready_replicas, status.available_replicas.unwrap_or_default());
        if available > ready.unwrap_or_default() {
            let why = "cannot be greater than status.readyReplicas";
            errors.push(FieldError::invalid(&path.child("availableReplicas"), available, why));
        }
        let before = old.status.as_ref().and_then(|s| s.collision_count);
        never_less(&path.child("collisionCount"), status.collision_count, before, errors);
    }
}

/// These counts are no pointers in Go and so are always there.
fn zero_counts(object: &mut Value) {
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        status.insert("replicas".into(), 0.into());
        status.insert("availableReplicas".into(), 0.into());
    }
}

fn update_strategy(
    strategy: Option<&apps::StatefulSetUpdateStrategy>,
    path: &FieldPath,
    errors: &mut Errors,
) {
    let Some(strategy) = strategy else { return };
    match validate::text(&strategy.type_) {
        "" => errors.push(FieldError::required(path, "")),
        "OnDelete" => {
            if let Some(rolling) = &strategy.rolling_update {
                let why = "only allowed for updateStrategy 'RollingUpdate'";
                let at = path.child("rollingUpdate");
                errors.push(FieldError::invalid(&at, validate::shown(rolling), why));
            }
        }
        "RollingUpdate" => {
            let Some(rolling) = &strategy.rolling_update else { return };
            let at = path.child("rollingUpdate");
            not_negative(&at.child("partition"), i64::from(rolling.partition.unwrap_or_default()), errors);
            if let Some(most) = &rolling.max_unavailable {
                let at = at.child("maxUnavailable");
                if validate::part_of_whole(most, &at, errors) == Some(0) {
                    errors.push(FieldError::invalid(&at, validate::shown(most), "cannot be 0"));
                }
            }
        }
        _ => {
            let why = "must be 'RollingUpdate' or 'OnDelete'";
            errors.push(FieldError::invalid(path, validate::shown(strategy), why));
        }
    }
}

/// Upstream leaves the pod itself to the pod's own validation, since claims become volumes only there.
fn template(template: &PodTemplateSpec, path: &FieldPath, errors: &mut Errors) {
    if let Some(metadata) = &template.metadata {
        validate::label_map(metadata.labels.as_ref(), &path.child("labels"), errors);
        if let Some(Value::Object(annotations)) = metadata.annotations.as_ref().map(validate::shown) {
            meta::validate_annotations(&annotations, &path.child("annotations"), errors);
        }
    }
    workload::runs_for_good("StatefulSet", template, path, errors);
}
