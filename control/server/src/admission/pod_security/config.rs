//! The plugin's configuration: what applies where labels say nothing, and to whom nothing applies.

use carrack_api::names;
use serde::Deserialize;
use serde_json::Value;

use super::policy::{Level, Policy, Version};
use crate::authn::text;

const GROUP: &str = "pod-security.admission.config.k8s.io/";
const KIND: &str = "PodSecurityConfiguration";
/// The fields are the same in all of them.
const VERSIONS: &[&str] = &["v1", "v1beta1", "v1alpha1"];

/// What applies where labels say nothing, and to whom nothing applies.
#[derive(Clone, Debug, Default)]
pub struct PodSecurityConfig {
    /// For namespaces without labels.
    pub defaults: Policy,
    /// Users whose pods are not looked at. Controllers make pods too: their names exempt everybody's workloads.
    pub usernames: Vec<String>,
    /// Namespaces that are not looked at.
    pub namespaces: Vec<String>,
    /// Runtime classes whose pods are not looked at.
    pub runtime_classes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[allow(dead_code)] // looked at before
struct Document {
    api_version: String,
    kind: String,
    #[serde(default)]
    defaults: Defaults,
    #[serde(default)]
    exemptions: Exemptions,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct Defaults {
    enforce: String,
    enforce_version: String,
    audit: String,
    audit_version: String,
    warn: String,
    warn_version: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Exemptions {
    usernames: Option<Vec<String>>,
    namespaces: Option<Vec<String>>,
    runtime_classes: Option<Vec<String>>,
}

impl PodSecurityConfig {
    /// Reads a `PodSecurityConfiguration`. An error names the field that is wrong: what is spelled wrong would leave
    /// pods alone that are to be judged.
    pub fn read(config: &Value) -> Result<Self, String> {
        let (version, kind) = (text(config, "/apiVersion"), text(config, "/kind"));
        if !version.strip_prefix(GROUP).is_some_and(|version| VERSIONS.contains(&version)) || kind != KIND {
            return Err(format!("expected {KIND} of {GROUP}v1, found {kind:?} of {version:?}"));
        }
        let document = Document::deserialize(config).map_err(|error| error.to_string())?;
        let said = document.defaults;
        let mut defaults = Policy::default();
        for (mode, standard, level, version) in [
            ("enforce", &mut defaults.enforce, said.enforce, said.enforce_version),
            ("audit", &mut defaults.audit, said.audit, said.audit_version),
            ("warn", &mut defaults.warn, said.warn, said.warn_version),
        ] {
            if !level.is_empty() {
                standard.level = Level::parse(&level).ok_or_else(|| {
                    format!("defaults.{mode}: {level:?} is no level; use privileged, baseline or restricted")
                })?;
            }
            if !version.is_empty() {
                standard.version = Version::parse(&version).ok_or_else(|| {
                    format!("defaults.{mode}-version: {version:?} is neither latest nor v1.x")
                })?;
            }
        }
        let exempt = document.exemptions;
        let unnamed = |name: &str| {
            if name.is_empty() { vec!["username must not be empty".to_owned()] } else { Vec::new() }
        };
        Ok(PodSecurityConfig {
            defaults,
            usernames: names("usernames", exempt.usernames, unnamed)?,
            namespaces: names("namespaces", exempt.namespaces, names::dns1123_label)?,
            runtime_classes: names("runtimeClasses", exempt.runtime_classes, names::dns1123_subdomain)?,
        })
    }

    /// Whether pods of this runtime class are left alone.
    pub(super) fn exempts_runtime(&self, spec: &Value) -> bool {
        exempt(&self.runtime_classes, text(spec, "/runtimeClassName"))
    }

    /// Why a request of `user` in a namespace is left alone, in the audit log's words.
    pub(super) fn exempts_request(&self, namespace: &str, user: &str) -> Option<&'static str> {
        if exempt(&self.namespaces, namespace) {
            return Some("namespace");
        }
        exempt(&self.usernames, user).then_some("user")
    }
}

fn exempt(list: &[String], name: &str) -> bool {
    !name.is_empty() && list.iter().any(|exempt| exempt == name)
}

/// The names of a list, each right and there once.
fn names(
    field: &str,
    list: Option<Vec<String>>,
    wrong: impl Fn(&str) -> Vec<String>,
) -> Result<Vec<String>, String> {
    let list = list.unwrap_or_default();
    for (index, name) in list.iter().enumerate() {
        let at = format!("exemptions.{field}[{index}]");
        if let Some(why) = wrong(name).first() {
            return Err(format!("{at}: Invalid value: {name:?}: {why}"));
        }
        if list[..index].contains(name) {
            return Err(format!("{at}: Duplicate value: {name:?}"));
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(version: &str, rest: &Value) -> Result<PodSecurityConfig, String> {
        let mut config = json!({"apiVersion": format!("{GROUP}{version}"), "kind": KIND});
        config.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        PodSecurityConfig::read(&config)
    }

    #[test]
    fn what_is_spelled_wrong_is_refused() {
        let exempt = |field: &str, names: Value| json!({"exemptions": {field: names}});
        for (rest, says) in [
            (json!({"default": {}}), "unknown field `default`"),
            (json!({"defaults": {"enforced": "baseline"}}), "unknown field `enforced`"),
            (json!({"defaults": {"enforce": 1}}), "invalid type"),
            (exempt("users", json!([])), "unknown field `users`"),
            (exempt("usernames", json!("a")), "invalid type"),
            (exempt("usernames", json!(["a", ""])), "exemptions.usernames[1]: Invalid value: \"\""),
            (exempt("namespaces", json!(["A"])), "exemptions.namespaces[0]: Invalid value: \"A\""),
            (
                exempt("namespaces", json!(["a", "b", "a"])),
                "exemptions.namespaces[2]: Duplicate value: \"a\"",
            ),
            (exempt("runtimeClasses", json!(["a_b"])), "exemptions.runtimeClasses[0]: Invalid value"),
        ] {
            let error = read("v1", &rest).unwrap_err();
            assert!(error.contains(says), "{rest}: {error}");
        }
        assert!(read("v2", &json!({})).is_err());
    }

    #[test]
    fn older_versions_say_the_same() {
        for version in VERSIONS {
            let rest = json!({"defaults": {"warn": "baseline", "warn-version": "v1.25"},
                "exemptions": {"usernames": null, "namespaces": ["kube-system"]}});
            let config = read(version, &rest).unwrap();
            assert_eq!(config.defaults.warn.to_string(), "baseline:v1.25");
            assert_eq!(config.exempts_request("kube-system", "x"), Some("namespace"));
            assert_eq!(config.exempts_request("other", "x"), None);
        }
    }
}
