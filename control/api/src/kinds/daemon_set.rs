//! DaemonSets.

use k8s_openapi::api::apps::v1 as apps;

use super::prelude::*;
use super::workload;
use crate::status::ErrorType;

/// The row of daemonsets.
pub(super) const RESOURCE: Resource = Resource {
    short_names: &["ds"],
    categories: &["all"],
    subresources: &[status(gvk("apps", "v1", "DaemonSet"))],
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::integer("Desired", "apps.v1.DaemonSetStatus#desiredNumberScheduled"),
            Column::integer("Current", "apps.v1.DaemonSetStatus#currentNumberScheduled"),
            Column::integer("Ready", "apps.v1.DaemonSetStatus#numberReady"),
            Column::integer("Up-to-date", "apps.v1.DaemonSetStatus#updatedNumberScheduled"),
            Column::integer("Available", "apps.v1.DaemonSetStatus#numberAvailable"),
            Column::text("Node Selector", "core.v1.PodSpec#nodeSelector"),
            Column::AGE,
            Column::text("Containers", "Names of each container in the template.").wide(),
            Column::text("Images", "Images referenced by each container in the template.").wide(),
            Column::text("Selector", "apps.v1.DaemonSetSpec#selector").wide(),
        ],
        cells,
    },
    ..row!("apps" / "v1", "DaemonSet", "daemonset", "daemonsets", "apps", apps::DaemonSet, DaemonSetRules)
};

const COUNTS: &[&str] = &[
    "/status/desiredNumberScheduled",
    "/status/currentNumberScheduled",
    "/status/numberReady",
    "/status/updatedNumberScheduled",
    "/status/numberAvailable",
];

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let (containers, images) = read::containers_and_images(object.pointer("/spec/template/spec"));
    let mut row = vec![meta::name(object).into()];
    row.extend(COUNTS.iter().map(|count| Value::from(read::integer(object, count))));
    row.extend([
        read::labels(object.pointer("/spec/template/spec/nodeSelector")).into(),
        age(object, now),
        containers.into(),
        images.into(),
        workload::selector_text(object).into(),
    ]);
    row
}

/// Counts changes of the template, for clients of the old API.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// What is true of daemonsets.
pub(super) struct DaemonSetRules;

impl Rules for DaemonSetRules {
    type Object = apps::DaemonSet;

    const HAS_STATUS: bool = true;
    const HAS_GENERATION: bool = true;

    fn default(set_: &mut Value) {
        let Some(spec) = spec_of(set_) else { return };
        set(spec, "revisionHistoryLimit", 10);
        if let Some(strategy) = make_object(spec, "updateStrategy") {
            set(strategy, "type", "RollingUpdate");
            if defaults::text(strategy, "type") == "RollingUpdate"
                && let Some(rolling) = make_object(strategy, "rollingUpdate")
            {
                set(rolling, "maxUnavailable", 1);
                set(rolling, "maxSurge", 0);
            }
        }
        if let Some(template) = make_object(spec, "template") {
            defaults::pod_template(template);
        }
    }

    fn prepare_create(object: &mut Value) {
        set_template_generation(object, 1);
        zero_counts(object);
    }

    fn prepare_update(new: &mut Value, old: &Value) {
        let known = meta::annotation(old, TEMPLATE_GENERATION).and_then(|text| text.parse().ok());
        let before: i64 = known.unwrap_or(1);
        let changed = !meta::same(new.pointer("/spec/template"), old.pointer("/spec/template"));
        set_template_generation(new, if changed { before + 1 } else { before });
    }

    fn warnings(new: &Self::Object, old: Option<&Self::Object>, warnings: &mut Vec<String>) {
        has_no_controller(warnings);
        let metadata = [Some(&new.metadata), old.map(|old| &old.metadata)];
        let template = new.spec.as_ref().map(|s| &s.template);
        workload::template_warnings(template, &workload::template_path(), metadata, warnings);
    }

    fn validate_presence(object: &Value, errors: &mut Errors) {
        workload::selector_is_there("daemonset", object, errors);
        // Upstream says of one that is missing only that nothing matches it.
        errors.retain(|error| error.kind != ErrorType::Required || error.field != "spec.selector");
    }

    fn validate(object: &Self::Object, errors: &mut Errors) {
        let empty = apps::DaemonSetSpec::default();
        let (spec, path) = (object.spec.as_ref().unwrap_or(&empty), spec_path());
        let early = workload::found_early(errors);
        workload::selector_and_template("DaemonSet", &spec.selector, early, &spec.template, &path, errors);
        let ready = i64::from(spec.min_ready_seconds.unwrap_or_default());
        not_negative(&path.child("minReadySeconds"), ready, errors);
        update_strategy(spec.update_strategy.as_ref(), &path.child("updateStrategy"), errors);
        let kept = i64::from(spec.revision_history_limit.unwrap_or_default());
        not_negative(&path.child("revisionHistoryLimit"), kept, errors);
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        Self::validate(new, errors);
        let selector = |d: &Self::Object| d.spec.as_ref().map(|s| s.selector.clone());
        workload::same_selector(selector(new), selector(old), errors);
    }

    fn validate_status_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        let (Some(status), path) = (&new.status, status_path()) else { return };
        let all = [
            ("currentNumberScheduled", i64::from(status.current_number_scheduled)),
            ("numberMisscheduled", i64::from(status.number_misscheduled)),
            ("desiredNumberScheduled", i64::from(status.desired_number_scheduled)),
            ("numberReady", i64::from(status.number_ready)),
            ("observedGeneration", status.observed_generation.unwrap_or_default()),
            ("updatedNumberScheduled", i64::from(status.updated_number_scheduled.unwrap_or_default())),
            ("numberAvailable", i64::from(status.number_available.unwrap_or_default())),
            ("numberUnavailable", i64::from(status.number_unavailable.unwrap_or_default())),
            ("collisionCount", i64::from(status.collision_count.unwrap_or_default())),
        ];
        counts(&path, &all, errors);
        let before = old.status.as_ref().and_then(|s| s.collision_count);
        never_less(&path.child("collisionCount"), status.collision_count, before, errors);
    }
}

fn set_template_generation(object: &mut Value, generation: i64) {
    if let Some(annotations) = meta::metadata_mut(object).and_then(|m| make_object(m, "annotations")) {
        annotations.insert(TEMPLATE_GENERATION.into(), generation.to_string().into());
    }
}

/// These counts are no pointers in Go and so are always there.
fn zero_counts(object: &mut Value) {
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        for count in ["currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady"]
        {
            status.insert(count.into(), 0.into());
        }
    }
}

fn update_strategy(strategy: Option<&apps::DaemonSetUpdateStrategy>, path: &FieldPath, errors: &mut Errors) {
    let Some(strategy) = strategy else { return };
    match validate::text(&strategy.type_) {
        "OnDelete" => {}
        "RollingUpdate" => match &strategy.rolling_update {
            None => errors.push(FieldError::required(&path.child("rollingUpdate"), "")),
            Some(rolling) => rolling_update(rolling, &path.child("rollingUpdate"), errors),
        },
        other => {
            // Upstream shows the strategy as it has it.
            let shown = json!({"RollingUpdate": strategy.rolling_update, "Type": other});
            errors.push(FieldError::not_supported_in_order(path, shown, &["RollingUpdate", "OnDelete"]));
        }
    }
}

fn rolling_update(rolling: &apps::RollingUpdateDaemonSet, path: &FieldPath, errors: &mut Errors) {
    let (unavailable_at, surge_at) = (path.child("maxUnavailable"), path.child("maxSurge"));
    let given = [(&rolling.max_unavailable, &unavailable_at), (&rolling.max_surge, &surge_at)];
    let numbers =
        given.map(|(value, at)| value.as_ref().and_then(|v| validate::int_or_percent(v, at, errors)));
    for ((value, at), number) in given.into_iter().zip(numbers) {
        value.iter().for_each(|value| validate::not_over_whole(value, number, at, errors));
    }
    let [unavailable, surge] = numbers.map(Option::unwrap_or_default);
    if unavailable != 0 && surge != 0 {
        let shown = validate::shown(&rolling.max_surge);
        errors.push(FieldError::invalid(&surge_at, shown, "may not be set when maxUnavailable is non-zero"));
    } else if unavailable == 0 && surge == 0 {
        errors.push(FieldError::required(&unavailable_at, "cannot be 0 when maxSurge is 0"));
    }
}
