//! Levels and versions, and which of them a namespace's labels ask for.

use std::fmt;

use carrack_api::status::{FieldError, FieldPath};
use serde_json::Value;

const PREFIX: &str = "pod-security.kubernetes.io/";

/// How much pods may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    #[default]
    Privileged,
    /// What is known to break out of a container is not allowed.
    Baseline,
    /// Good practice is demanded.
    Restricted,
}

impl Level {
    const ALL: [(Level, &str); 3] =
        [(Level::Privileged, "privileged"), (Level::Baseline, "baseline"), (Level::Restricted, "restricted")];

    /// The level of that name.
    pub fn parse(name: &str) -> Option<Level> {
        Level::ALL.iter().find(|(_, known)| *known == name).map(|(level, _)| *level)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Level::ALL.iter().find(|(level, _)| level == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

/// The Kubernetes version whose standards apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Version 1 with this minor number.
    Minor(u32),
    /// The newest known, also after an upgrade.
    Latest,
}

impl Version {
    /// Reads `latest` or `v1.x`.
    pub fn parse(text: &str) -> Option<Version> {
        if text == "latest" {
            return Some(Version::Latest);
        }
        let minor = text.strip_prefix("v1.")?;
        let plain =
            minor.bytes().all(|b| b.is_ascii_digit()) && (minor.len() == 1 || !minor.starts_with('0'));
        if plain { minor.parse().ok().map(Version::Minor) } else { None }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Minor(minor) => write!(f, "v1.{minor}"),
            Version::Latest => f.write_str("latest"),
        }
    }
}

/// A level as of a version: `restricted:latest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standard {
    /// The level.
    pub level: Level,
    /// The version.
    pub version: Version,
}

impl Default for Standard {
    fn default() -> Self {
        Standard { level: Level::default(), version: Version::Latest }
    }
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.level, self.version)
    }
}

/// What applies in a namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Pods that violate it are refused.
    pub enforce: Standard,
    /// Violations are noted in the audit log.
    pub audit: Standard,
    /// Users are warned of violations.
    pub warn: Standard,
}

impl Policy {
    /// Whether it asks for nothing; of `enforce` only where that counts.
    pub(super) fn is_privileged(self, enforce: bool) -> bool {
        let all = [self.audit, self.warn].into_iter().chain(enforce.then_some(self.enforce));
        all.into_iter().all(|standard| standard.level == Level::Privileged)
    }

    /// The modes that labels of the namespace ask something for, as in `enforce=baseline:latest`.
    pub(super) fn labelled(self, namespace: &Value) -> Vec<String> {
        let labels = carrack_api::meta::labels(namespace);
        let has = |name: &str| labels.is_some_and(|all| all.contains_key(&format!("{PREFIX}{name}")));
        [("enforce", self.enforce), ("audit", self.audit), ("warn", self.warn)]
            .into_iter()
            .filter(|(mode, standard)| {
                standard.level != Level::Privileged && (has(mode) || has(&format!("{mode}-version")))
            })
            .map(|(mode, standard)| format!("{mode}={standard}"))
            .collect()
    }

    /// The policy of a namespace with these labels, where `defaults` hold what no label says; and what is wrong with
    /// the labels. A wrong label enforces the strictest, and warns or notes nothing.
    pub fn of(namespace: &Value, defaults: Policy) -> (Policy, Vec<FieldError>) {
        let label =
            |name: &str| carrack_api::meta::labels(namespace)?.get(&[PREFIX, name].concat())?.as_str();
        let mut policy = defaults;
        let mut errors = Vec::new();
        for (mode, standard, wrong) in [
            ("enforce", &mut policy.enforce, Level::Restricted),
            ("audit", &mut policy.audit, Level::Privileged),
            ("warn", &mut policy.warn, Level::Privileged),
        ] {
            if let Some(text) = label(mode) {
                standard.level = Level::parse(text).unwrap_or_else(|| {
                    errors.push(invalid(mode, text, "must be one of privileged, baseline, restricted"));
                    wrong
                });
            }
            let mode = format!("{mode}-version");
            if let Some(text) = label(&mode) {
                standard.version = Version::parse(text).unwrap_or_else(|| {
                    errors.push(invalid(&mode, text, "must be \"latest\" or \"v1.x\""));
                    Version::Latest
                });
            }
        }
        // Who makes a workload learns at once what its pods will be refused for.
        if label("warn").is_none() && label("enforce").is_some() && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if label("warn-version").is_none() {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, errors)
    }
}

fn invalid(label: &str, value: &str, why: &str) -> FieldError {
    let path = FieldPath::root("metadata").child("labels").key(&format!("{PREFIX}{label}"));
    FieldError::invalid(&path, value, why)
}
