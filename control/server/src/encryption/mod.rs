//! Encryption at rest: the values of configured resources are kept encrypted, in upstream's form
//! (`k8s:enc:aesgcm:v1:key1:` and the data, authenticated together with the key in the store).
//!
//! [`Encryption`] is the seal of a store's handle: everything that reads through [`carrack_store::Store::sealed`] sees
//! plain values. Whoever looks at the store's files, at a snapshot or a backup sees encrypted ones, and needs the
//! configuration's keys to read them.

mod cipher;
mod config;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod kms;
mod sealing;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::future::join_all;
use parking_lot::RwLock;
use ring::rand::{SecureRandom, SystemRandom};
use tokio_util::sync::CancellationToken;

pub use config::ConfigError;
use config::{Entry, Provider};
use kms::Kms;

use crate::pki::Pki;

/// How often the file is looked at for changes.
const RELOAD_EVERY: Duration = Duration::from_secs(5);

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum EncryptionError {
    /// The file cannot be read or made.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file says nothing that can be used.
    #[error("{path}: {source}", path = path.display())]
    Config {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: ConfigError,
    },
    /// A plugin of a configuration that is to replace the present one does not work.
    #[error("the new encryption configuration waits for its KMS plugin: {0}")]
    Plugin(String),
    /// There is no randomness to make a key of.
    #[error("a key cannot be made: the system gives no randomness")]
    Random,
}

/// How values are kept, as a configuration says. It can be replaced while it is used.
pub struct Encryption {
    table: RwLock<Arc<Table>>,
    /// Whether there are resources whose values must not be there unencrypted.
    strict: AtomicBool,
}

/// The configuration in a form that is quick to ask.
struct Table {
    entries: Vec<Entry>,
    /// By the prefix of their keys: which entry the resources of the table of kinds go by.
    known: HashMap<&'static str, Option<usize>>,
}

impl Table {
    fn new(entries: Vec<Entry>) -> Self {
        let mut known: HashMap<&'static str, Option<usize>> = HashMap::new();
        for row in carrack_api::resources().iter().filter(|row| !row.storage_prefix.is_empty()) {
            let entry = entries.iter().position(|entry| entry.matches(row.group, row.plural));
            let slot = known.entry(row.storage_prefix).or_default();
            // What several groups serve is encrypted when it is configured under the name of one.
            *slot = match (*slot, entry) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
        }
        Table { entries, known }
    }

    /// All plugins.
    fn plugins(&self) -> Vec<Arc<Kms>> {
        let providers = self.entries.iter().flat_map(|entry| &entry.providers);
        providers
            .filter_map(|provider| if let Provider::Kms(kms) = provider { Some(kms.clone()) } else { None })
            .collect()
    }

    /// What says how the values of a key are kept.
    fn providers(&self, key: &[u8]) -> &[Provider] {
        self.entry(key).map_or(&[Provider::Identity], |entry| &entry.providers)
    }

    /// Upstream's data would be refused without an entry for the key.
    fn entry(&self, key: &[u8]) -> Option<&Entry> {
        let key = std::str::from_utf8(key).ok()?;
        let mut slashes = key.match_indices('/').map(|(at, _)| at + 1).skip(2);
        let (short, long) = (slashes.next(), slashes.next());
        for prefix in [short, long].into_iter().flatten().filter_map(|end| key.get(..end)) {
            if let Some(entry) = self.known.get(prefix) {
                return entry.and_then(|index| self.entries.get(index));
            }
        }
        // Kinds that users define are kept by group and plural.
        let (group, rest) = key.strip_prefix("/registry/")?.split_once('/')?;
        let (plural, _) = rest.split_once('/')?;
        let custom = group.contains('.');
        self.entries.iter().find(|entry| custom && entry.matches(group, plural))
    }
}

impl Encryption {
    /// Reads a configuration.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let encryption = Encryption {
            table: RwLock::new(Arc::new(Table::new(Vec::new()))),
            strict: AtomicBool::new(false),
        };
        encryption.replace(text)?;
        Ok(encryption)
    }

    /// Goes on by another configuration; when it is not valid, by the present one.
    pub fn replace(&self, text: &str) -> Result<(), ConfigError> {
        self.put(self.parsed(text)?);
        Ok(())
    }

    fn parsed(&self, text: &str) -> Result<Vec<Entry>, ConfigError> {
        config::parse(text, &self.table().plugins())
    }

    fn put(&self, entries: Vec<Entry>) {
        let has_identity = |e: &Entry| e.providers.iter().any(|p| matches!(p, Provider::Identity));
        self.strict.store(!entries.iter().all(has_identity), Ordering::Release);
        *self.table.write() = Arc::new(Table::new(entries));
    }

    /// The same as [`Self::replace`], once the plugins of the new configuration work; until then the present one stays.
    async fn adopt(&self, path: &Path, text: &str) -> Result<(), EncryptionError> {
        let entries = self.parsed(text);
        let table =
            Table::new(entries.map_err(|source| EncryptionError::Config { path: path.to_owned(), source })?);
        let plugins = table.plugins();
        let checks = join_all(plugins.iter().map(|kms| kms.check())).await;
        if let Some(error) = checks.into_iter().find_map(Result::err) {
            return Err(EncryptionError::Plugin(error));
        }
        plugins.iter().for_each(Kms::follow);
        self.put(table.entries);
        Ok(())
    }

    /// Asks the KMS plugins how they are, and follows them from then on. One that does not answer (within twice its
    /// timeout) is no reason not to start: it is asked again and again, [`Self::health`] fails, and so does what needs
    /// it. Needs a runtime.
    pub async fn start(&self) {
        self.check().await;
        self.table().plugins().iter().for_each(Kms::follow);
    }

    /// Asks the KMS plugins at once: how they are, and by which keys they encrypt.
    pub async fn check(&self) {
        let plugins = self.table().plugins();
        join_all(plugins.iter().map(|kms| kms.check())).await;
    }

    /// How the KMS plugins are, in the words of upstream's check `kms-providers`.
    pub fn health(&self) -> Result<(), String> {
        let plugins = self.table().plugins();
        let ill = plugins.iter().enumerate().filter_map(|(index, kms)| Some((index, kms.health().err()?)));
        let ill: Vec<String> = ill.map(|(index, why)| format!("kms-provider-{index}: {why}")).collect();
        match ill.as_slice() {
            [] => Ok(()),
            [one] => Err(one.clone()),
            all => Err(format!("[{}]", all.join(", "))),
        }
    }

    /// Reads the configuration in a file.
    pub fn load(path: &Path) -> Result<Self, EncryptionError> {
        Self::parse(&read(path)?).map_err(|source| EncryptionError::Config { path: path.to_owned(), source })
    }

    /// Reads the configuration in a file; makes one (0600) that encrypts Secrets with a new key if there is none.
    pub fn load_or_create(path: &Path) -> Result<Self, EncryptionError> {
        if !path.exists() {
            let mut key = [0; 32];
            SystemRandom::new().fill(&mut key).map_err(|_| EncryptionError::Random)?;
            Pki::write_secret(path, &default_text(&key)).map_err(|error| {
                let source = std::io::Error::other(error.to_string());
                EncryptionError::File { path: path.to_owned(), source }
            })?;
        }
        Self::load(path)
    }

    /// Follows the file until `end`: a change of it is in force some seconds later.
    pub async fn follow(self: Arc<Self>, path: PathBuf, end: CancellationToken) {
        let mut known = read(&path).unwrap_or_default();
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                () = tokio::time::sleep(RELOAD_EVERY) => {}
            }
            match read(&path) {
                Ok(text) if text == known => {}
                Ok(text) => {
                    match self.adopt(&path, &text).await {
                        Ok(()) => {
                            tracing::info!(path = %path.display(), "the encryption configuration has changed")
                        }
                        // To be tried again.
                        Err(error @ EncryptionError::Plugin(_)) => {
                            tracing::error!(%error, "the encryption goes on by the old configuration");
                            continue;
                        }
                        Err(error) => {
                            tracing::error!(%error, "the encryption goes on by the old configuration");
                        }
                    }
                    known = text;
                }
                Err(error) => tracing::warn!(%error, "the encryption configuration cannot be read"),
            }
        }
    }

    fn table(&self) -> Arc<Table> {
        self.table.read().clone()
    }
}

fn read(path: &Path) -> Result<String, EncryptionError> {
    std::fs::read_to_string(path).map_err(|source| EncryptionError::File { path: path.to_owned(), source })
}

/// What a cluster begins with: Secrets encrypted, and what is there unencrypted readable.
fn default_text(key: &[u8]) -> String {
    format!(
        "# The keys that Secrets are encrypted with in the store. Without this file they cannot be read any more:\n\
         # keep a copy of it, apart from backups of the store.\n\
         apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
         - resources: [secrets]\n  providers:\n  - aesgcm:\n      keys:\n      - name: key1\n        secret: {}\n\
         \x20 - identity: {{}}\n",
        STANDARD.encode(key)
    )
}

#[cfg(test)]
mod tests;
