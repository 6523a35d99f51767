//! The configuration of encryption at rest: `EncryptionConfiguration` of apiserver.config.k8s.io/v1, checked by
//! upstream's rules.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::cipher::{Cipher, Kind};
use super::kms::Kms;
use super::kms::config::{FileKms, KmsSettings};

/// Why a configuration is not used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is no EncryptionConfiguration.
    #[error("the encryption configuration cannot be read: {0}")]
    Syntax(String),
    /// A part is not valid.
    #[error("the encryption configuration is not valid: {at}: {why}")]
    Invalid {
        /// Where, as a path of fields.
        at: String,
        /// What is wrong, and what would be right.
        why: String,
    },
}

fn invalid(at: &str, why: impl Into<String>) -> ConfigError {
    ConfigError::Invalid { at: at.to_owned(), why: why.into() }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    resources: Vec<FileEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileEntry {
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    providers: Vec<FileProvider>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileProvider {
    aesgcm: Option<FileKeys>,
    aescbc: Option<FileKeys>,
    secretbox: Option<FileKeys>,
    identity: Option<serde_json::Value>,
    kms: Option<FileKms>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileKeys {
    #[serde(default)]
    keys: Vec<FileKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileKey {
    #[serde(default)]
    name: String,
    #[serde(default)]
    secret: String,
}

/// What is done to the values of some resources.
pub(super) struct Entry {
    resources: Vec<Pattern>,
    /// The first one writes, all read.
    pub(super) providers: Vec<Provider>,
}

impl Entry {
    pub(super) fn matches(&self, group: &str, resource: &str) -> bool {
        self.resources.iter().any(|pattern| pattern.matches(group, resource))
    }
}

/// One way of keeping values.
pub(super) enum Provider {
    /// As they are.
    Identity,
    /// Encrypted; the first key writes. Each with the prefix of what it wrote.
    Keys { kind: Kind, keys: Vec<(String, Cipher)> },
    /// Encrypted by keys that a plugin encrypts.
    Kms(Arc<Kms>),
}

/// Which resources an entry is about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    All,
    Group(String),
    One { group: String, resource: String },
}

impl Pattern {
    /// `secrets`, `deployments.apps`, `*.` (the core group), `*.apps`, `*.*`.
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(why) = stored_elsewhere(text) {
            return Err(why.to_owned());
        }
        match text.split_once('.') {
            _ if text == "*" => Err("use '*.' to encrypt all the resources from core API group or *.* to \
                                     encrypt all resources"
                .to_owned()),
            Some(("*", "*")) => Ok(Pattern::All),
            Some(("*", group)) if !group.contains('*') => Ok(Pattern::Group(group.to_owned())),
            _ if text.contains('*') => {
                Err("wildcards are of the form '*.<group>', '*.' and '*.*' alone".to_owned())
            }
            Some((resource, group)) if !resource.is_empty() => {
                Ok(Pattern::One { group: group.to_owned(), resource: resource.to_owned() })
            }
            None if !text.is_empty() => Ok(Pattern::One { group: String::new(), resource: text.to_owned() }),
            _ => Err("name a resource, such as 'secrets' or 'deployments.apps'".to_owned()),
        }
    }

    fn matches(&self, group: &str, resource: &str) -> bool {
        match self {
            Pattern::All => true,
            Pattern::Group(wanted) => wanted == group,
            Pattern::One { group: g, resource: r } => g == group && r == resource,
        }
    }

    /// Whether everything that `other` means is meant by this, too.
    fn covers(&self, other: &Pattern) -> bool {
        match other {
            Pattern::All => *self == Pattern::All,
            Pattern::Group(group) => match self {
                Pattern::All => true,
                Pattern::Group(own) => own == group,
                Pattern::One { .. } => false,
            },
            Pattern::One { group, resource } => self.matches(group, resource),
        }
    }
}

/// Why nothing is kept under a name that looks like one of a resource: whoever gave it would believe that something is
/// encrypted.
fn stored_elsewhere(text: &str) -> Option<&'static str> {
    let group = text.split_once('.').map_or("", |(_, group)| group);
    match (text, group) {
        _ if text.chars().any(char::is_uppercase) => Some("resource name should not contain capital letters"),
        ("apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations", _) => {
            Some("resources which do not have REST API/s cannot be encrypted")
        }
        (_, "extensions") => Some("'extensions' group has been removed and cannot be used for encryption"),
        (_, "events.k8s.io") => Some(
            "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the \
             config file",
        ),
        _ => None,
    }
}

/// Reads and checks a configuration. Plugins that are among `present` with the same settings are those: they go on with
/// what they know.
pub(super) fn parse(text: &str, present: &[Arc<Kms>]) -> Result<Vec<Entry>, ConfigError> {
    let file: File = serde_saphyr::from_str(text).map_err(|e| ConfigError::Syntax(e.to_string()))?;
    if (file.api_version.as_str(), file.kind.as_str())
        != ("apiserver.config.k8s.io/v1", "EncryptionConfiguration")
    {
        let found = format!("{}, kind {}", file.api_version, file.kind);
        return Err(ConfigError::Syntax(format!(
            "it is {found}, not an EncryptionConfiguration of apiserver.config.k8s.io/v1"
        )));
    }
    if file.resources.is_empty() {
        return Err(invalid("resources", "no resources are configured for encryption"));
    }
    let mut plugins = Plugins { present, names: BTreeSet::new() };
    let entries = file.resources.into_iter().enumerate();
    entries.map(|(index, entry)| read_entry(entry, &format!("resources[{index}]"), &mut plugins)).collect()
}

/// The plugins of one file.
struct Plugins<'a> {
    present: &'a [Arc<Kms>],
    names: BTreeSet<String>,
}

impl Plugins<'_> {
    fn read(&mut self, file: FileKms, at: &str) -> Result<Provider, ConfigError> {
        let settings =
            KmsSettings::check(file).map_err(|(field, why)| invalid(&format!("{at}.kms.{field}"), why))?;
        let name = settings.name();
        if !self.names.insert(name.to_owned()) {
            let why = format!("duplicate KMS provider name {name}, names must be unique");
            return Err(invalid(&format!("{at}.kms.name"), why));
        }
        let known = self.present.iter().find(|kms| kms.settings == settings);
        Ok(Provider::Kms(known.cloned().unwrap_or_else(|| Arc::new(Kms::new(settings)))))
    }
}

fn read_entry(entry: FileEntry, at: &str, plugins: &mut Plugins<'_>) -> Result<Entry, ConfigError> {
    let mut resources: Vec<Pattern> = Vec::new();
    for (index, text) in entry.resources.iter().enumerate() {
        let at = format!("{at}.resources[{index}]");
        let pattern = Pattern::parse(text).map_err(|why| invalid(&at, why))?;
        if let Some(other) = resources.iter().find(|o| o.covers(&pattern) || pattern.covers(o)) {
            let why = format!(
                "using overlapping resources such as {text:?} and {other:?} in the same resource list is not allowed \
                 as they will be masked"
            );
            return Err(invalid(&at, why));
        }
        resources.push(pattern);
    }
    if resources.is_empty() {
        return Err(invalid(&format!("{at}.resources"), "name at least one resource"));
    }
    let providers = entry.providers.into_iter().enumerate();
    let providers: Vec<Provider> = providers
        .map(|(index, provider)| read_provider(provider, &format!("{at}.providers[{index}]"), plugins))
        .collect::<Result<_, _>>()?;
    if providers.is_empty() {
        return Err(invalid(&format!("{at}.providers"), "name at least one provider"));
    }
    Ok(Entry { resources, providers })
}

fn read_provider(
    provider: FileProvider,
    at: &str,
    plugins: &mut Plugins<'_>,
) -> Result<Provider, ConfigError> {
    let keyed = [
        (Kind::AesGcm, provider.aesgcm),
        (Kind::AesCbc, provider.aescbc),
        (Kind::Secretbox, provider.secretbox),
    ];
    let mut found: Vec<(Kind, FileKeys)> =
        keyed.into_iter().filter_map(|(kind, keys)| Some((kind, keys?))).collect();
    match (found.pop(), found.is_empty(), provider.identity, provider.kms) {
        (None, _, Some(_), None) => Ok(Provider::Identity),
        (None, _, None, Some(kms)) => plugins.read(kms, at),
        (Some((kind, keys)), true, None, None) => read_keys(kind, keys, &format!("{at}.{}", kind.name())),
        _ => Err(invalid(at, "a provider is exactly one of aesgcm, aescbc, secretbox, kms and identity")),
    }
}

fn read_keys(kind: Kind, keys: FileKeys, at: &str) -> Result<Provider, ConfigError> {
    let mut names = BTreeSet::new();
    let mut read = Vec::new();
    for (index, key) in keys.keys.into_iter().enumerate() {
        let at = format!("{at}.keys[{index}]");
        if key.name.is_empty() || key.name.contains(':') {
            return Err(invalid(&format!("{at}.name"), "a key has a name without colons"));
        }
        if !names.insert(key.name.clone()) {
            return Err(invalid(&format!("{at}.name"), format!("there are two keys {:?}", key.name)));
        }
        let at = format!("{at}.secret");
        let secret = STANDARD.decode(key.secret.trim());
        let secret = secret.map_err(|_| invalid(&at, "secrets must be base64 encoded"))?;
        let cipher = Cipher::new(kind, &secret).ok_or_else(|| {
            let why = format!(
                "secret is not of the expected length, got {}, expected one of {:?}",
                secret.len(),
                kind.key_lengths()
            );
            invalid(&at, why)
        })?;
        read.push((format!("k8s:enc:{}:v1:{}:", kind.name(), key.name), cipher));
    }
    if read.is_empty() {
        return Err(invalid(&format!("{at}.keys"), "name at least one key"));
    }
    Ok(Provider::Keys { kind, keys: read })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(resources: &str, providers: &str) -> Result<Vec<Entry>, ConfigError> {
        let text = format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
             - resources: {resources}\n  providers: {providers}\n"
        );
        parse(&text, &[])
    }

    const KMS: &str = "{kms: {apiVersion: v2, name: a, endpoint: 'unix:///run/a.sock'}}";

    #[test]
    fn resources_are_named_as_upstream_does() {
        let cases = [
            ("[secrets]", "", "secrets", true),
            ("[secrets]", "", "configmaps", false),
            ("[secrets]", "x.io", "secrets", false),
            ("[deployments.apps]", "apps", "deployments", true),
            ("['*.']", "", "configmaps", true),
            ("['*.']", "apps", "deployments", false),
            ("['*.apps']", "apps", "deployments", true),
            ("['*.*']", "x.io", "things", true),
            ("[pandas.awesome.bears.example]", "awesome.bears.example", "pandas", true),
        ];
        for (text, group, resource, expected) in cases {
            let entries = with(text, "[{identity: {}}]").unwrap();
            assert_eq!(entries[0].matches(group, resource), expected, "{text} {group} {resource}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let key = |way: &str, secret: &str| format!("[{{{way}: {{keys: [{{name: k, secret: {secret}}}]}}}}]");
        let (good, short) = (STANDARD.encode([1; 32]), STANDARD.encode([1; 31]));
        let cases = [
            ("['*']", key("aesgcm", &good), "resources[0].resources[0]: use '*.'"),
            ("['*.*', secrets]", key("aesgcm", &good), "overlapping resources"),
            ("[Secrets]", key("aesgcm", &good), "should not contain capital letters"),
            ("[ingresses.extensions]", key("aesgcm", &good), "'extensions' group has been removed"),
            ("[events.events.k8s.io]", key("aesgcm", &good), "Use 'events' instead"),
            ("[serviceipallocations]", key("aesgcm", &good), "do not have REST API/s"),
            ("[]", key("aesgcm", &good), "name at least one resource"),
            ("[secrets]", "[]".to_owned(), "name at least one provider"),
            (
                "[secrets]",
                "[{kms: {name: x}}]".to_owned(),
                "providers[0].kms.apiVersion: KMSv1 is deprecated",
            ),
            ("[secrets]", "[{identity: {}, kms: {name: x}}]".to_owned(), "exactly one of"),
            ("[secrets]", format!("[{KMS}, {KMS}]"), "providers[1].kms.name: duplicate KMS provider name a"),
            ("[secrets]", key("aesgcm", &short), "got 31, expected one of [16, 32]"),
            ("[secrets]", key("secretbox", &STANDARD.encode([1; 16])), "got 16, expected one of [32]"),
            ("[secrets]", key("aescbc", "'%'"), "secrets must be base64 encoded"),
            ("[secrets]", "[{aesgcm: {keys: []}}]".to_owned(), "name at least one key"),
            ("[secrets]", "[{}]".to_owned(), "exactly one of"),
            ("[secrets]", "[{rot13: {}}]".to_owned(), "cannot be read"),
        ];
        for (resources, providers, says) in cases {
            let error = with(resources, &providers).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains(says), "{resources} {providers}: {error}");
        }
        assert!(parse("apiVersion: v1\nkind: EncryptionConfiguration\n", &[]).is_err());
    }
}
