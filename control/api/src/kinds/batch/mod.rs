//! Jobs and CronJobs.

mod cron_job;
mod indexes;
mod job;
mod job_policies;
mod job_rules;
mod job_status;
mod schedule;

pub(super) use cron_job::RESOURCE as CRON_JOB;
pub(super) use job::RESOURCE as JOB;
