//! The options of the audit, under upstream's names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use carrack_server::audit::{self, Audit, LogOptions, WebhookOptions};
use carrack_server::{Remote, duration};
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
    #[command(flatten)]
    webhook: Webhook,
}

/// How long the webhook may take for a batch; upstream's figure.
const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(30);

/// The webhook that events are handed to.
#[derive(Args, Clone, Debug)]
struct Webhook {
    /// A kubeconfig of the webhook that audit events are posted to
    #[arg(long, value_name = "FILE")]
    audit_webhook_config_file: Option<PathBuf>,
    /// How events are handed to it
    #[arg(long, value_enum, default_value_t = Mode::Batch)]
    audit_webhook_mode: Mode,
    /// Events that wait for it at most; further ones are dropped and counted
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    audit_webhook_batch_buffer_size: usize,
    /// Events of a batch at most
    #[arg(long, value_name = "COUNT", default_value_t = 400)]
    audit_webhook_batch_max_size: usize,
    /// How long an event waits for others of its batch
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    audit_webhook_batch_max_wait: String,
    /// Whether batches are held back to a rate
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    audit_webhook_batch_throttle_enable: bool,
    /// Batches in a second
    #[arg(long, value_name = "RATE", default_value_t = 10.0)]
    audit_webhook_batch_throttle_qps: f64,
    /// Batches at once after a while without any
    #[arg(long, value_name = "COUNT", default_value_t = 15)]
    audit_webhook_batch_throttle_burst: usize,
    /// How long to wait before a batch that was not taken is sent again
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    audit_webhook_initial_backoff: String,
}

impl Webhook {
    fn options(&self) -> Result<Option<WebhookOptions>> {
        let Some(path) = &self.audit_webhook_config_file else { return Ok(None) };
        let time = |name: &str, text: &str| {
            duration(text).map_err(|why| anyhow::anyhow!("--audit-webhook-{name}: {why}"))
        };
        let burst = self.audit_webhook_batch_throttle_burst;
        let is_held_back = self.audit_webhook_batch_throttle_enable;
        if self.audit_webhook_batch_max_size == 0 || self.audit_webhook_batch_buffer_size == 0 {
            bail!("--audit-webhook-batch-max-size and --audit-webhook-batch-buffer-size have to be above 0");
        }
        if is_held_back && !(self.audit_webhook_batch_throttle_qps > 0.0 && burst > 0) {
            bail!("--audit-webhook-batch-throttle-qps and -burst have to be above 0");
        }
        Ok(Some(WebhookOptions {
            mode: self.audit_webhook_mode.into(),
            remote: Remote::open(path, WEBHOOK_TIMEOUT).context("the audit webhook")?,
            buffer_size: self.audit_webhook_batch_buffer_size,
            max_size: self.audit_webhook_batch_max_size,
            max_wait: time("batch-max-wait", &self.audit_webhook_batch_max_wait)?,
            throttle: is_held_back.then_some((self.audit_webhook_batch_throttle_qps, burst)),
            initial_backoff: time("initial-backoff", &self.audit_webhook_initial_backoff)?,
        }))
    }
}

/// How events go their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Before the request goes on
    Blocking,
    /// The same; a request whose first event is lost is refused
    BlockingStrict,
    /// Behind its back; what is too much is dropped and counted
    Batch,
}

impl From<Mode> for audit::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Blocking => audit::Mode::Blocking,
            Mode::BlockingStrict => audit::Mode::BlockingStrict,
            Mode::Batch => audit::Mode::Batch,
        }
    }
}

impl AuditOptions {
    /// Refuses what [`Self::open`] would refuse, and opens nothing.
    pub(crate) fn check(&self) -> Result<()> {
        let has_way = self.audit_log_path.is_some() || self.webhook.options()?.is_some();
        if let Some(policy) = self.policy(has_way)? {
            audit::check_policy(policy)?;
        }
        Ok(())
    }

    /// The audit, where one is wanted.
    pub(crate) fn open(&self) -> Result<Option<Audit>> {
        let webhook = self.webhook.options()?;
        let log = self.audit_log_path.as_ref().map(|path| LogOptions {
            path: path.clone(),
            max_age: self.audit_log_maxage,
            max_backup: self.audit_log_maxbackup,
            max_size: self.audit_log_maxsize,
            mode: self.audit_log_mode.into(),
        });
        let has_way = log.is_some() || webhook.is_some();
        Ok(self.policy(has_way)?.map(|policy| Audit::open(policy, log, webhook)).transpose()?)
    }

    /// The policy's file; it and a way for events need each other.
    fn policy(&self, has_way: bool) -> Result<Option<&Path>> {
        match &self.audit_policy_file {
            Some(policy) if has_way => Ok(Some(policy)),
            Some(_) => bail!(
                "--audit-policy-file needs --audit-log-path or --audit-webhook-config-file, where events go"
            ),
            None if has_way => bail!(
                "--audit-log-path and --audit-webhook-config-file need --audit-policy-file, which says what is told"
            ),
            None => Ok(None),
        }
    }
}
