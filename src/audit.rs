//! The options of the audit, under upstream's names.

use std::path::PathBuf;

use anyhow::{Result, bail};
use carrack_server::audit::{Audit, LogOptions};
use clap::{Args, ValueEnum};

/// What is told of requests, and where.
#[derive(Args, Clone, Debug)]
pub(crate) struct AuditOptions {
    /// The audit policy (audit.k8s.io/v1) that says what is told of which requests; nothing is without one
    #[arg(long, value_name = "FILE")]
    audit_policy_file: Option<PathBuf>,
    /// The audit log; `-` is standard output
    #[arg(long, value_name = "FILE")]
    audit_log_path: Option<PathBuf>,
    /// Days that replaced audit logs are kept; 0 for ever
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    audit_log_maxage: u32,
    /// How many replaced audit logs are kept; 0 for all
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    audit_log_maxbackup: usize,
    /// Megabytes after which the audit log is replaced
    #[arg(long, value_name = "MB", default_value_t = 100)]
    audit_log_maxsize: u64,
    /// Whether requests wait until they are told of
    #[arg(long, value_enum, default_value_t = Mode::Blocking)]
    audit_log_mode: Mode,
}

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Before the request goes on
    Blocking,
    /// Behind its back; what is too much is dropped and counted
    Batch,
}

impl AuditOptions {
    /// The audit, where one is wanted.
    pub(crate) fn open(&self) -> Result<Option<Audit>> {
        let (policy, path) = match (&self.audit_policy_file, &self.audit_log_path) {
            (None, None) => return Ok(None),
            (Some(policy), Some(path)) => (policy, path),
            (Some(_), None) => bail!("--audit-policy-file needs --audit-log-path, where events go"),
            (None, Some(_)) => bail!("--audit-log-path needs --audit-policy-file, which says what is told"),
        };
        let log = LogOptions {
            path: path.clone(),
            max_age: self.audit_log_maxage,
            max_backup: self.audit_log_maxbackup,
            max_size: self.audit_log_maxsize,
            blocking: self.audit_log_mode == Mode::Blocking,
        };
        Ok(Some(Audit::open(policy, log)?))
    }
}
