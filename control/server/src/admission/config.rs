//! The configuration file of admission, as upstream's `--admission-control-config-file` reads it.

use serde_json::Value;

use super::pod_security::PodSecurityConfig;
use crate::authn::text;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AdmissionConfigError {
    /// It is no YAML.
    #[error("it is no YAML: {0}")]
    Yaml(#[from] serde_saphyr::Error),
    /// It is something else.
    #[error("expected AdmissionConfiguration of apiserver.config.k8s.io/v1, found {kind:?} of {version:?}")]
    Kind {
        /// Its kind.
        kind: String,
        /// Its apiVersion.
        version: String,
    },
    /// It speaks of a plugin that takes no configuration here.
    #[error("plugin {0:?} takes no configuration; PodSecurity does")]
    Plugin(String),
    /// The configuration is in a file of its own.
    #[error("plugin {0:?}: put its configuration into this file, under `configuration`")]
    Elsewhere(String),
    /// A plugin's configuration is wrong.
    #[error("plugin {plugin:?}: {why}")]
    Wrong {
        /// The plugin.
        plugin: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Reads an `AdmissionConfiguration`, of which the part of PodSecurity matters.
pub fn read_config(file: &str) -> Result<PodSecurityConfig, AdmissionConfigError> {
    let config: Value = serde_saphyr::from_str(file)?;
    let (version, kind) = (text(&config, "/apiVersion"), text(&config, "/kind"));
    if (version, kind) != ("apiserver.config.k8s.io/v1", "AdmissionConfiguration") {
        return Err(AdmissionConfigError::Kind { kind: kind.to_owned(), version: version.to_owned() });
    }
    let mut pod_security = PodSecurityConfig::default();
    for entry in super::list(&config, "/plugins") {
        let plugin = text(entry, "/name").to_owned();
        if plugin != "PodSecurity" {
            return Err(AdmissionConfigError::Plugin(plugin));
        }
        let Some(own) = entry.get("configuration").filter(|own| own.is_object()) else {
            return Err(AdmissionConfigError::Elsewhere(plugin));
        };
        pod_security =
            PodSecurityConfig::read(own).map_err(|why| AdmissionConfigError::Wrong { plugin, why })?;
    }
    Ok(pod_security)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::{Level, Version};

    fn file(plugin: &str, rest: &str) -> String {
        format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n- name: {plugin}\n{rest}"
        )
    }

    #[test]
    fn upstreams_example_is_read_and_mistakes_are_named() {
        let own = "  configuration:\n    apiVersion: pod-security.admission.config.k8s.io/v1\n    \
                   kind: PodSecurityConfiguration\n    defaults:\n      enforce: LEVEL\n      \
                   enforce-version: v1.30\n    exemptions:\n      namespaces: [kube-system]\n";
        let read = read_config(&file("PodSecurity", &own.replace("LEVEL", "baseline"))).unwrap();
        assert_eq!(read.defaults.enforce.level, Level::Baseline);
        assert_eq!(read.defaults.enforce.version, Version::Minor(30));
        assert_eq!(read.namespaces, ["kube-system"]);
        for (file, why) in [
            (file("PodSecurity", &own.replace("LEVEL", "strict")), "\"strict\" is no level"),
            (file("EventRateLimit", own), "takes no configuration"),
            (file("PodSecurity", "  path: other.yaml\n"), "put its configuration into this file"),
            ("kind: Pod\n".to_owned(), "expected AdmissionConfiguration"),
            ("a: [".to_owned(), "it is no YAML"),
        ] {
            let error = read_config(&file).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
