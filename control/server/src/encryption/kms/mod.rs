//! The provider `kms` (v2): values are encrypted with a seed of our own, which a plugin on this host encrypts with a key
//! that leaves it never.
//!
//! Writes take the present seed and wait for nobody. Reads need the seed that the value was written with: those of other
//! servers and of earlier starts are decrypted by the plugin, once, and kept in memory for a day ([`seeds`]). [`probe`]
//! asks the plugin regularly how it is and by which key it encrypts, and takes a new seed when that changes.

pub(super) mod config;
mod envelope;
#[cfg(test)]
mod fake;
mod plugin;
mod probe;
mod proto;
mod seeds;

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::RwLock;
use prost::Message;
use tokio::time::Instant;

use config::KmsSettings;
use envelope::DataKey;
use plugin::Plugin;
use probe::Condition;
use proto::{EncryptedObject, HKDF_SEED};
use seeds::Seeds;

/// A plugin, and what is known of it.
pub(super) struct Kms {
    pub(super) settings: KmsSettings,
    prefix: String,
    plugin: Arc<Plugin>,
    present: RwLock<Option<Arc<Present>>>,
    seeds: Arc<Seeds>,
    condition: Condition,
}

/// The seed that writes today.
struct Present {
    key: Arc<DataKey>,
    /// What is kept beside each value; has no data.
    object: EncryptedObject,
    /// Until when it may write, unless the plugin says before that it is still right.
    until: Instant,
}

impl Kms {
    pub(super) fn new(settings: KmsSettings) -> Self {
        Kms {
            prefix: format!("k8s:enc:kms:v2:{}:", settings.name),
            plugin: Arc::new(Plugin::new(settings.socket.clone(), settings.timeout)),
            settings,
            present: RwLock::default(),
            seeds: Arc::default(),
            condition: Condition::default(),
        }
    }

    /// What its data begins with.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    fn present(&self) -> Result<Arc<Present>, String> {
        self.present.read().clone().ok_or_else(|| {
            let health = self.health().err().unwrap_or_default();
            format!("the KMS plugin {:?} has encrypted no key yet: {health}", self.settings.name)
        })
    }

    /// The bytes to keep for a value.
    pub(super) fn seal(&self, key: &[u8], value: &[u8]) -> Result<Bytes, String> {
        let present = self.present()?;
        if Instant::now() > present.until {
            let health = self.health().err().unwrap_or_default();
            return Err(format!(
                "the key of the KMS plugin {:?} has expired, since the plugin has not confirmed it for {} minutes: \
                 {health}",
                self.settings.name,
                probe::CONFIRMED_FOR.as_secs() / 60
            ));
        }
        let data = present.key.encrypt(key, value)?.into();
        let object = EncryptedObject { data, ..present.object.clone() };
        let mut out = Vec::with_capacity(self.prefix.len() + object.encoded_len());
        out.extend_from_slice(self.prefix.as_bytes());
        object.encode(&mut out).map_err(|error| error.to_string())?;
        Ok(out.into())
    }

    /// The value behind `kept`, which has no prefix any more. An error when its seed is not in memory: then
    /// [`Kms::fetch`] helps.
    pub(super) fn open(&self, key: &[u8], kept: &[u8]) -> Result<Vec<u8>, String> {
        let object = envelope::decode(kept)?;
        let known = self.seeds.known(&envelope::cache_key(&object));
        let known = known.ok_or("the KMS plugin has not decrypted the key of this value yet")?;
        known.decrypt(key, &object.data)
    }

    /// Has the seed of `kept` (without prefix) decrypted; `None` when that is known, or `kept` is not valid.
    pub(super) fn fetch(&self, kept: &[u8]) -> Option<BoxFuture<'static, Result<(), String>>> {
        let object = envelope::decode(kept).ok()?;
        let cache_key = envelope::cache_key(&object);
        if self.seeds.known(&cache_key).is_some() {
            return None;
        }
        let plugin = self.plugin.clone();
        let decrypt = async move {
            let plain = plugin.decrypt(&object).await;
            let plain = plain.map_err(|error| format!("failed to decrypt DEK, error: {error}"))?;
            DataKey::from_plain(&plain, object.source_type)
        };
        Some(self.seeds.fetch(cache_key, decrypt))
    }

    /// Whether `kept` (without prefix) is of another key than the one that writes today.
    pub(super) fn is_outdated(&self, kept: &[u8]) -> bool {
        let (Ok(object), Ok(present)) = (envelope::decode(kept), self.present()) else { return false };
        (&object.key_id, object.source_type) != (&present.object.key_id, present.object.source_type)
    }

    /// Takes a new seed, which the plugin encrypts. Gives the plugin's key; the caller says whether that is right.
    async fn generate(&self) -> Result<(Arc<DataKey>, EncryptedObject), String> {
        let (key, plain) = DataKey::generate()?;
        let answer = self.plugin.encrypt(plain).await;
        let answer = answer.map_err(|error| format!("failed to encrypt DEK, error: {error}"))?;
        let object = EncryptedObject {
            key_id: answer.key_id,
            source: answer.ciphertext,
            annotations: answer.annotations,
            source_type: HKDF_SEED,
            data: Bytes::new(),
        };
        envelope::check(&object)?;
        Ok((Arc::new(key), object))
    }
}

/// Reads what is kept behind the prefix, as far as that needs no key.
#[cfg(any(test, fuzzing))]
pub(super) fn read(kept: &[u8]) {
    let _ = envelope::decode(kept);
}

#[cfg(test)]
mod tests;
