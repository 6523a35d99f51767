//! Jobs: the row, defaults and the selector that each makes for itself.

use k8s_openapi::api::batch::v1 as batch;

use super::{job_rules, job_status};
use crate::kinds::prelude::*;
use crate::kinds::workload;

/// The row of jobs.
pub(in crate::kinds) const RESOURCE: Resource = Resource {
    categories: &["all"],
    subresources: &[status(gvk("batch", "v1", "Job"))],
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("Status", "Status of the job."),
            Column::text("Completions", "batch.v1.JobStatus#succeeded"),
            Column::text("Duration", "Time required to complete the job."),
            Column::AGE,
            Column::text("Containers", "Names of each container in the template.").wide(),
            Column::text("Images", "Images referenced by each container in the template.").wide(),
            Column::text("Selector", "batch.v1.JobSpec#selector").wide(),
        ],
        cells,
    },
    ..row!("batch" / "v1", "Job", "job", "jobs", "batch", batch::Job, JobRules)
};

fn cells(job: &Value, now: Timestamp) -> Vec<Value> {
    let (containers, images) = read::containers_and_images(job.pointer("/spec/template/spec"));
    vec![
        meta::name(job).into(),
        state(job).into(),
        completions(job).into(),
        took(job, now).into(),
        age(job, now),
        containers.into(),
        images.into(),
        workload::selector_text(job).into(),
    ]
}

fn state(job: &Value) -> &'static str {
    let conditions = read::list(job, "/status/conditions");
    let holds = |kind: &str| {
        conditions.iter().any(|c| read::text(c, "/type") == kind && read::text(c, "/status") == "True")
    };
    if let Some(end) = ["Complete", "Failed"].into_iter().find(|kind| holds(kind)) {
        return end;
    }
    if meta::is_deleting(job) {
        return "Terminating";
    }
    ["Suspended", "FailureTarget", "SuccessCriteriaMet"]
        .into_iter()
        .find(|kind| holds(kind))
        .unwrap_or("Running")
}

fn completions(job: &Value) -> String {
    let succeeded = read::integer(job, "/status/succeeded");
    match (job.pointer("/spec/completions").and_then(Value::as_i64), read::integer(job, "/spec/parallelism"))
    {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, at_once) if at_once > 1 => format!("{succeeded}/1 of {at_once}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn took(job: &Value, now: Timestamp) -> String {
    let Some(start) = read::time(job, "/status/startTime") else { return String::new() };
    duration::since(Some(start), read::time(job, "/status/completionTime").unwrap_or(now))
}

/// The labels that tell a job's pods from others, today's and those of old.
const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

/// What is true of jobs.
pub(in crate::kinds) struct JobRules;

impl Rules for JobRules {
    type Object = batch::Job;

    const HAS_STATUS: bool = true;
    const HAS_GENERATION: bool = true;
    const SELECTABLE: &'static [&'static str] = &["metadata.name", "metadata.namespace", "status.successful"];

    fn default(job: &mut Value) {
        let Some(spec) = spec_of(job) else { return };
        if !spec.contains_key("completions") && !spec.contains_key("parallelism") {
            set(spec, "completions", 1);
        }
        set(spec, "parallelism", 1);
        let limit = if spec.contains_key("backoffLimitPerIndex") { i32::MAX } else { 6 };
        set(spec, "backoffLimit", limit);
        set(spec, "completionMode", "NonIndexed");
        set(spec, "suspend", false);
        set(spec, "manualSelector", false);
        let replacement =
            if spec.contains_key("podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
        set(spec, "podReplacementPolicy", replacement);
        shared_defaults(spec);
        labels_of_template(job);
    }

    fn prepare_create(job: &mut Value) {
        if job.pointer("/spec/manualSelector") != Some(&Value::Bool(true)) {
            generate_selector(job);
        }
        labels_of_template(job);
    }

    fn warnings(new: &Self::Object, old: Option<&Self::Object>, warnings: &mut Vec<String>) {
        has_no_controller(warnings);
        workload::name_warnings(&new.metadata, old.is_none(), warnings);
        let metadata = [Some(&new.metadata), old.map(|old| &old.metadata)];
        let template = new.spec.as_ref().map(|s| &s.template);
        workload::template_warnings(template, &workload::template_path(), metadata, warnings);
        let changes = old.is_none_or(|old| old.metadata.generation != new.metadata.generation);
        if changes && new.spec.as_ref().is_some_and(job_rules::is_hard_to_track) {
            warnings.push(job_rules::HARD_TO_TRACK.to_owned());
        }
    }

    fn validate(job: &Self::Object, errors: &mut Errors) {
        job_rules::create(job, errors);
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        job_rules::update(new, old, errors);
    }

    fn validate_status_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        job_status::update(new, old, errors);
    }

    fn selectable<'a>(job: &'a Value, field: &str) -> std::borrow::Cow<'a, str> {
        match field {
            "status.successful" => read::integer(job, "/status/succeeded").to_string().into(),
            _ => meta::text_at(job, field),
        }
    }
}

/// Defaults of the spec of a Job that a CronJob's template has, too.
pub(super) fn shared_defaults(spec: &mut Fields) {
    if let Some(policy) = object(spec, "podFailurePolicy") {
        for rule in objects(policy, "rules") {
            for pattern in objects(rule, "onPodConditions") {
                set(pattern, "status", "True");
            }
        }
    }
    if let Some(template) = object(spec, "template") {
        defaults::pod_template(template);
    }
}

/// A job without labels has those of its template.
fn labels_of_template(job: &mut Value) {
    let labels = job.pointer("/spec/template/metadata/labels").cloned();
    let Some(labels) = labels.filter(|l| l.as_object().is_some_and(|l| !l.is_empty())) else { return };
    if let Some(metadata) = meta::metadata_mut(job)
        && metadata.get("labels").and_then(Value::as_object).is_none_or(Map::is_empty)
    {
        metadata.insert("labels".into(), labels);
    }
}

/// A job selects the pods that carry its UID, which its template gives them.
fn generate_selector(job: &mut Value) {
    let (uid, name) = (meta::uid(job).to_owned(), meta::name(job).to_owned());
    let Some(spec) = spec_of(job) else { return };
    let labels = make_object(spec, "template")
        .and_then(|t| make_object(t, "metadata"))
        .and_then(|m| make_object(m, "labels"));
    let Some(labels) = labels else { return };
    for label in NAME_LABELS {
        set(labels, label, name.as_str());
    }
    for label in UID_LABELS {
        set(labels, label, uid.as_str());
    }
    if let Some(selected) = make_object(spec, "selector").and_then(|s| make_object(s, "matchLabels")) {
        set(selected, UID_LABELS[0], uid);
    }
}
