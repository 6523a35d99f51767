//! How a plugin is, and by which key it encrypts: asked at start, every twenty seconds, and every three while something
//! is wrong, which is what upstream comes to where `/readyz` is asked regularly.
//!
//! While the plugin confirms its key, the present seed goes on writing. When it names another key, a new seed is taken,
//! which the plugin encrypts. While it fails, the present seed writes for three minutes more; reads of what is known go
//! on for as long.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::time::Instant;

use super::proto::StatusResponse;
use super::{Kms, Present, envelope};

/// How long a seed writes without being confirmed; upstream's figure.
pub(super) const CONFIRMED_FOR: Duration = Duration::from_secs(180);
const WHILE_WELL: Duration = Duration::from_secs(20);
const WHILE_ILL: Duration = Duration::from_secs(3);
/// The versions of the plugin's API, which are the same on the wire.
const VERSIONS: [&str; 2] = ["v2", "v2beta1"];

/// What the plugin said last.
pub(super) struct Condition {
    health: RwLock<Result<(), String>>,
    /// Of its API; it may not change.
    version: OnceLock<String>,
    is_followed: AtomicBool,
}

impl Default for Condition {
    fn default() -> Self {
        let health = RwLock::new(Err("it was not asked yet".to_owned()));
        Condition { health, version: OnceLock::new(), is_followed: AtomicBool::new(false) }
    }
}

impl Kms {
    /// How the plugin was when it was asked last.
    pub(in crate::encryption) fn health(&self) -> Result<(), String> {
        self.condition.health.read().clone()
    }

    /// Asks the plugin how it is, and takes a new seed if it has a new key. Bounded by twice the configured time.
    pub(in crate::encryption) async fn check(&self) -> Result<(), String> {
        let checked = self.ask().await;
        if let Err(error) = &checked
            && self.health().as_ref() != Err(error)
        {
            tracing::error!(name = self.settings.name, error, "the KMS plugin is not healthy");
        }
        (*self.condition.health.write()).clone_from(&checked);
        checked
    }

    async fn ask(&self) -> Result<(), String> {
        let name = &self.settings.name;
        let status = self.plugin.status().await.map_err(|error| {
            format!("failed to perform status section of the healthz check for KMS Provider {name}, error: {error}")
        })?;
        let mut errors = judge(&status, &self.condition.version);
        match envelope::check_key_id(&status.key_id) {
            Err(why) => errors.push(format!("got invalid KMSv2 KeyID: {why}")),
            Ok(()) => errors.extend(self.rotate(&status.key_id).await.err()),
        }
        match errors.as_slice() {
            [] => Ok(()),
            [one] => Err(format!("kmsv2 Provider {name} is not healthy, error: {one}")),
            all => Err(format!("kmsv2 Provider {name} is not healthy, error: [{}]", all.join(", "))),
        }
    }

    /// Confirms the present seed if it is of `key_id`, or else takes a new one. What goes wrong leaves the present one.
    async fn rotate(&self, key_id: &str) -> Result<(), String> {
        // Counted from before the plugin is asked.
        let until = Instant::now() + CONFIRMED_FOR;
        let present = self.present.read().clone();
        if let Some(present) = present.filter(|present| present.object.key_id == key_id) {
            let (key, object) = (present.key.clone(), present.object.clone());
            *self.present.write() = Some(Arc::new(Present { key, object, until }));
            return Ok(());
        }
        let failed = |why: &str| format!("failed to rotate DEK: {why}");
        let (key, object) = self.generate().await.map_err(|why| failed(&why))?;
        if object.key_id != key_id {
            return Err(failed("the plugin's Status and Encrypt name different keys"));
        }
        self.seeds.put(envelope::cache_key(&object), key.clone());
        *self.present.write() = Some(Arc::new(Present { key, object, until }));
        tracing::info!(
            name = self.settings.name,
            "the KMS plugin has a new key; what is written is encrypted by it"
        );
        Ok(())
    }

    /// Goes on asking, in a task that ends with the last handle. Does nothing when that is done already.
    pub(in crate::encryption) fn follow(self: &Arc<Self>) {
        if !self.condition.is_followed.swap(true, Ordering::AcqRel) {
            tokio::spawn(follow(Arc::downgrade(self)));
        }
    }
}

async fn follow(kms: Weak<Kms>) {
    loop {
        let Some(healthy) = kms.upgrade().map(|kms| kms.health().is_ok()) else { return };
        tokio::time::sleep(if healthy { WHILE_WELL } else { WHILE_ILL }).await;
        let Some(kms) = kms.upgrade() else { return };
        // What is wrong was logged, and `/readyz` tells it.
        let _ = kms.check().await;
    }
}

/// What is wrong with a status, but for its key. `version` is what the first one said.
fn judge(status: &StatusResponse, version: &OnceLock<String>) -> Vec<String> {
    let mut errors = Vec::new();
    if status.healthz != "ok" {
        errors.push(format!("got unexpected healthz status: {}", status.healthz));
    }
    if !VERSIONS.contains(&status.version.as_str()) {
        errors.push(format!("expected KMSv2 API version v2, got {}", status.version));
        return errors;
    }
    let first = version.get_or_init(|| status.version.clone());
    if *first != status.version {
        errors.push(format!(
            "KMSv2 API version should not change after the initial status response version {first}, got {}",
            status.version
        ));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_judged_as_upstream_does() {
        let status = |version: &str, healthz: &str| StatusResponse {
            version: version.into(),
            healthz: healthz.into(),
            key_id: "k".into(),
        };
        let version = OnceLock::new();
        assert_eq!(judge(&status("v1", "ok"), &version), ["expected KMSv2 API version v2, got v1"]);
        assert!(judge(&status("v2", "ok"), &version).is_empty(), "a wrong version is not remembered");
        assert_eq!(judge(&status("v2", "ill"), &version), ["got unexpected healthz status: ill"]);
        let changed = judge(&status("v2beta1", "ill"), &version);
        assert!(changed.len() == 2 && changed[1].contains("should not change"), "{changed:?}");
    }
}
