//! Encryption at rest: the values of configured resources are kept encrypted, in upstream's form
//! (`k8s:enc:aesgcm:v1:key1:` and the data, authenticated together with the key in the store).
//!
//! [`Encryption`] is the seal of a store's handle: everything that reads through [`carrack_store::Store::sealed`] sees
//! plain values. Whoever looks at the store's files, at a snapshot or a backup sees encrypted ones, and needs the
//! configuration's keys to read them.

mod cipher;
mod config;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use carrack_store::Seal;
use parking_lot::RwLock;
use ring::rand::{SecureRandom, SystemRandom};
use tokio_util::sync::CancellationToken;

pub use config::ConfigError;
use config::{Entry, Provider};

use crate::pki::Pki;

/// What the data of every provider but `identity` begins with. No object does: objects begin with a brace.
const ENCRYPTED: &[u8] = b"k8s:enc:";
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
        let entries = config::parse(text)?;
        let has_identity = |e: &Entry| e.providers.iter().any(|p| matches!(p, Provider::Identity));
        self.strict.store(!entries.iter().all(has_identity), Ordering::Release);
        *self.table.write() = Arc::new(Table::new(entries));
        Ok(())
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
                    match self.replace(&text) {
                        Ok(()) => {
                            tracing::info!(path = %path.display(), "the encryption configuration has changed")
                        }
                        Err(error) => {
                            tracing::error!(path = %path.display(), %error, "the encryption goes on by the old configuration");
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

impl Seal for Encryption {
    fn seal(&self, key: &[u8], value: &Bytes) -> Result<Bytes, String> {
        let table = self.table();
        match table.entry(key).and_then(|entry| entry.providers.first()) {
            None | Some(Provider::Identity) => Ok(value.clone()),
            Some(Provider::Keys { keys, .. }) => {
                let (prefix, cipher) = keys.first().ok_or("there is no key")?;
                let mut out = Vec::with_capacity(prefix.len() + value.len() + 64);
                out.extend_from_slice(prefix.as_bytes());
                cipher.encrypt(key, value, &mut out)?;
                Ok(out.into())
            }
        }
    }

    fn open(&self, key: &[u8], kept: &Bytes) -> Result<Option<Bytes>, String> {
        let encrypted = kept.starts_with(ENCRYPTED);
        if !encrypted && !self.strict.load(Ordering::Acquire) {
            return Ok(None);
        }
        let table = self.table();
        let identity = [Provider::Identity];
        let providers = table.entry(key).map_or(&identity[..], |entry| &entry.providers);
        open_with(providers, key, kept, encrypted)
    }

    fn is_outdated(&self, key: &[u8], kept: &Bytes) -> bool {
        let table = self.table();
        match table.entry(key).and_then(|entry| entry.providers.first()) {
            None | Some(Provider::Identity) => kept.starts_with(ENCRYPTED),
            Some(Provider::Keys { keys, .. }) => {
                keys.first().is_none_or(|(prefix, _)| !kept.starts_with(prefix.as_bytes()))
            }
        }
    }
}

/// Tries the providers in order, as upstream does; the errors are upstream's.
fn open_with(
    providers: &[Provider],
    key: &[u8],
    kept: &[u8],
    encrypted: bool,
) -> Result<Option<Bytes>, String> {
    let mut errors: Vec<String> = Vec::new();
    for provider in providers {
        let (kind, keys) = match provider {
            Provider::Identity if !encrypted => return Ok(None),
            Provider::Identity => {
                errors.push("identity transformer tried to read encrypted data".to_owned());
                continue;
            }
            Provider::Keys { kind, keys } => (kind, keys),
        };
        if !kept.starts_with(format!("k8s:enc:{}:v1:", kind.name()).as_bytes()) {
            continue;
        }
        let mut fits = keys.iter().filter_map(|(p, cipher)| Some((cipher, kept.strip_prefix(p.as_bytes())?)));
        match fits.next() {
            Some((cipher, data)) => match cipher.decrypt(key, data) {
                Ok(value) => return Ok(Some(value.into())),
                Err(error) => errors.push(error),
            },
            None => {
                errors.push(format!("no matching key was found for the provided {} transformer", kind.name()))
            }
        }
    }
    Err(if errors.is_empty() { "no matching prefix found".to_owned() } else { errors.join(", ") })
}

#[cfg(test)]
mod tests;
