//! StatefulSets.

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, PodTemplateSpec, Volume,
};
use std::collections::BTreeSet;

use super::prelude::*;
use super::volume;
use super::workload::{self, Counts};

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

    // Pods' host names begin with it.
    const NAME: NameRule = NameRule::Label;
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
        if let Some(template) = make_object(spec, "template") {
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

    fn warnings(new: &Self::Object, old: Option<&Self::Object>, warnings: &mut Vec<String>) {
        has_no_controller(warnings);
        let metadata = [Some(&new.metadata), old.map(|old| &old.metadata)];
        let template = new.spec.as_ref().map(|s| &s.template);
        workload::template_warnings(template, &workload::template_path(), metadata, warnings);
        let Some(spec) = new
            .spec
            .as_ref()
            .filter(|_| old.is_none_or(|o| o.metadata.generation != new.metadata.generation))
        else {
            return;
        };
        let all = spec_path().child("volumeClaimTemplates");
        for (index, claim) in validate::list(&spec.volume_claim_templates).iter().enumerate() {
            if let Some(spec) = &claim.spec {
                // Upstream names it in one way at first and in another afterwards.
                let at = all.index(index);
                let at = if old.is_none() { at } else { at.child("Spec") };
                validate::claim_warnings(spec, &at, warnings);
            }
        }
        if spec.revision_history_limit.is_some_and(|limit| limit < 0) {
            let why = "a negative value retains all historical revisions; a value >= 0 is recommended";
            warnings.push(format!("spec.revisionHistoryLimit: {why}"));
        }
    }

    fn validate_presence(object: &Value, errors: &mut Errors) {
        workload::selector_is_there("statefulset", object, errors);
    }

    fn validate(object: &Self::Object, errors: &mut Errors) {
        let early = workload::found_early(errors);
        check(object.spec.as_ref(), Strictness::ALL, early, errors);
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        // A set of old may have what new ones may not.
        let mut before = Errors::new();
        let early = workload::found_early(errors);
        let all_but_name = Strictness { service_name: false, ..Strictness::ALL };
        check(old.spec.as_ref(), all_but_name, Errors::new(), &mut before);
        let parts = before.is_empty();
        let strictness = Strictness { service_name: false, template: parts, claims: parts };
        check(new.spec.as_ref(), strictness, early, errors);
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
    }

    fn validate_status_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        let Some(status) = &new.status else { return };
        let before = old.status.as_ref().and_then(|s| s.collision_count);
        let counts = Counts {
            replicas: status.replicas,
            parts: &[
                ("readyReplicas", status.ready_replicas, true),
                ("currentReplicas", status.current_replicas, true),
                ("updatedReplicas", status.updated_replicas, true),
                ("availableReplicas", status.available_replicas, true),
            ],
            observed: status.observed_generation,
            observed_first: false,
            collisions: Some((status.collision_count, before)),
            ready: "status.readyReplicas",
        };
        counts.check(&status_path(), errors);
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
                let number = validate::int_or_percent(most, &at, errors);
                // What is no percentage counts as 0 too.
                if number.unwrap_or_default() == 0 {
                    errors.push(FieldError::invalid(&at, validate::shown(most), "cannot be 0"));
                }
                validate::not_over_whole(most, number, &at, errors);
            }
        }
        _ => {
            let why = "must be 'RollingUpdate' or 'OnDelete'";
            errors.push(FieldError::invalid(path, validate::shown(strategy), why));
        }
    }
}

/// What is looked at: sets that were made before a rule was may keep what it refuses.
#[derive(Clone, Copy)]
struct Strictness {
    service_name: bool,
    template: bool,
    claims: bool,
}

impl Strictness {
    const ALL: Self = Strictness { service_name: true, template: true, claims: true };
}

/// A spec, in upstream's order, with what was found `early` of its selector.
fn check(spec: Option<&apps::StatefulSetSpec>, strictness: Strictness, early: Errors, errors: &mut Errors) {
    let empty = apps::StatefulSetSpec::default();
    let (spec, path) = (spec.unwrap_or(&empty), spec_path());
    let policy = validate::text(&spec.pod_management_policy);
    let at = path.child("podManagementPolicy");
    if require(&at, policy, errors) && !["OrderedReady", "Parallel"].contains(&policy) {
        errors.push(FieldError::invalid(&at, policy, "must be 'OrderedReady' or 'Parallel'"));
    }
    update_strategy(spec.update_strategy.as_ref(), &path.child("updateStrategy"), errors);
    if let Some(policy) = &spec.persistent_volume_claim_retention_policy {
        let at = path.child("persistentVolumeClaimRetentionPolicy");
        for (field, value) in [("whenDeleted", &policy.when_deleted), ("whenScaled", &policy.when_scaled)] {
            one_in_order(&at.child(field), validate::text(value), &["Retain", "Delete"], errors);
        }
    }
    let claims = validate::list(&spec.volume_claim_templates);
    for (index, claim) in claims.iter().enumerate().filter(|_| strictness.claims) {
        let at = path.child("volumeClaimTemplates").index(index).child("spec");
        volume::claim_spec(claim.spec.as_ref(), &at, errors);
    }
    let numbers = [
        ("replicas", spec.replicas),
        ("minReadySeconds", spec.min_ready_seconds),
        ("ordinals.start", spec.ordinals.as_ref().and_then(|o| o.start)),
    ];
    for (field, number) in numbers {
        not_negative(&path.child(field), i64::from(number.unwrap_or_default()), errors);
    }
    let service = validate::text(&spec.service_name);
    if strictness.service_name && !service.is_empty() {
        refuse(&path.child("serviceName"), service, names::dns1123_label(service), errors);
    }
    workload::selector(&spec.selector, early, errors);
    let at = path.child("template");
    workload::selector_matches(&spec.selector, &spec.template, &at, errors);
    if strictness.template {
        validate::pod_template(&with_claims(&spec.template, claims), &at, errors);
    }
    workload::runs_for_good("StatefulSet", &spec.template, &at, errors);
}

/// The template with a volume for each claim, in the place of a volume of that name.
fn with_claims(template: &PodTemplateSpec, claims: &[PersistentVolumeClaim]) -> PodTemplateSpec {
    let mut template = template.clone();
    let names: BTreeSet<&str> = claims.iter().filter_map(|claim| claim.metadata.name.as_deref()).collect();
    if let Some(spec) = template.spec.as_mut().filter(|_| !names.is_empty()) {
        let others = spec.volumes.take().unwrap_or_default();
        let others = others.into_iter().filter(|volume| !names.contains(volume.name.as_str()));
        let of_claim = |name: &&str| Volume {
            name: (*name).to_owned(),
            // What the claim of a pod will be called is of no interest here.
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: (*name).to_owned(),
                read_only: None,
            }),
            ..Volume::default()
        };
        spec.volumes = Some(names.iter().map(of_claim).chain(others).collect());
    }
    template
}
