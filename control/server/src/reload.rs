//! Configuration files that are followed while the server runs: a good change is in force some seconds later, a bad one
//! leaves what was, and both are counted.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::metrics::head;
use crate::server::ApiServer;

/// How often files are looked at. Upstream is told of changes by the kernel, and looks once a minute as well.
const EVERY: Duration = Duration::from_secs(5);

/// Why a changed file is not adopted.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReloadError {
    /// It is wrong, and is not looked at again until it changes.
    #[error("{0}")]
    Wrong(String),
    /// It may be right, and is tried again.
    #[error("{0}; it is tried again")]
    Later(String),
}

/// How often, and when last: by configuration and outcome.
type Counted = BTreeMap<(&'static str, &'static str), (u64, Timestamp)>;

/// How often files were adopted and refused.
#[derive(Default)]
pub(crate) struct Reloads(Mutex<Counted>);

impl Reloads {
    fn note(&self, what: &'static str, status: &'static str) {
        let mut all = self.0.lock();
        let entry = all.entry((what, status)).or_default();
        *entry = (entry.0 + 1, Timestamp::now());
    }

    /// The part of `/metrics`.
    pub(crate) fn page(&self, out: &mut String) {
        for ((what, status), (count, last)) in &*self.0.lock() {
            let name = format!("apiserver_{what}_config_controller_automatic_reloads_total");
            head(out, &name, "counter", &format!("Automatic reloads of the {what} configuration."));
            let _ = writeln!(out, "{name}{{status=\"{status}\"}} {count}");
            let name = format!("apiserver_{what}_config_controller_automatic_reload_last_timestamp_seconds");
            head(out, &name, "gauge", &format!("When the {what} configuration was last reloaded."));
            let _ = writeln!(out, "{name}{{status=\"{status}\"}} {}", last.as_second());
        }
    }
}

impl ApiServer {
    /// Follows the file of a configuration, which was read just now, until the server ends. `adopt` takes over what it
    /// says by then.
    pub fn follow<F>(&self, what: &'static str, path: PathBuf, adopt: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<(), ReloadError>> + Send,
    {
        let (server, end) = (std::sync::Arc::downgrade(&self.inner), self.inner.shutdown.clone());
        let mut known = std::fs::read(&path).unwrap_or_default();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = end.cancelled() => return,
                    () = tokio::time::sleep(EVERY) => {}
                }
                let text = match std::fs::read(&path) {
                    Ok(text) if text == known => continue,
                    Ok(text) => text,
                    Err(error) => {
                        tracing::warn!(path = %path.display(), %error, "a configuration cannot be read");
                        continue;
                    }
                };
                let adopted = adopt().await;
                let Some(server) = server.upgrade() else { return };
                server.reloads.note(what, if adopted.is_ok() { "success" } else { "failure" });
                match &adopted {
                    Ok(()) => tracing::info!(path = %path.display(), "a changed configuration is in force"),
                    Err(why) => {
                        tracing::error!(path = %path.display(), %why, "the former configuration stays in force");
                    }
                }
                if !matches!(adopted, Err(ReloadError::Later(_))) {
                    known = text;
                }
            }
        });
    }
}
