//! The configuration file of admission, as upstream's `--admission-control-config-file` reads it.

use std::path::Path;

use serde_json::Value;

use super::WebhookCredentials;
use super::pod_security::PodSecurityConfig;
use crate::authn::text;
use crate::outbound::WebhookUsers;

/// What the file says.
#[derive(Clone, Debug, Default)]
pub struct AdmissionConfig {
    /// Defaults and exemptions of pod security.
    pub pod_security: PodSecurityConfig,
    /// As whom webhooks are asked.
    pub webhooks: WebhookCredentials,
}

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
    #[error(
        "plugin {0:?} takes no configuration; PodSecurity, MutatingAdmissionWebhook and \
         ValidatingAdmissionWebhook do"
    )]
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

/// Reads an `AdmissionConfiguration`, and the kubeconfigs that it names.
pub fn read_config(file: &str) -> Result<AdmissionConfig, AdmissionConfigError> {
    let config: Value = serde_saphyr::from_str(file)?;
    let (version, kind) = (text(&config, "/apiVersion"), text(&config, "/kind"));
    if (version, kind) != ("apiserver.config.k8s.io/v1", "AdmissionConfiguration") {
        return Err(AdmissionConfigError::Kind { kind: kind.to_owned(), version: version.to_owned() });
    }
    let mut read = AdmissionConfig::default();
    for entry in super::list(&config, "/plugins") {
        let plugin = text(entry, "/name").to_owned();
        if !["PodSecurity", "MutatingAdmissionWebhook", "ValidatingAdmissionWebhook"].contains(&&*plugin) {
            return Err(AdmissionConfigError::Plugin(plugin));
        }
        let Some(own) = entry.get("configuration").filter(|own| own.is_object()) else {
            return Err(AdmissionConfigError::Elsewhere(plugin));
        };
        let done = match plugin.as_str() {
            "PodSecurity" => PodSecurityConfig::read(own).map(|own| read.pod_security = own),
            "MutatingAdmissionWebhook" => webhook_users(own).map(|users| read.webhooks.mutating = users),
            _ => webhook_users(own).map(|users| read.webhooks.validating = users),
        };
        done.map_err(|why| AdmissionConfigError::Wrong { plugin, why })?;
    }
    Ok(read)
}

/// The users of the kubeconfig that a `WebhookAdmissionConfiguration` names.
fn webhook_users(own: &Value) -> Result<Option<WebhookUsers>, String> {
    let (version, kind) = (text(own, "/apiVersion"), text(own, "/kind"));
    if (version, kind) != ("apiserver.config.k8s.io/v1", "WebhookAdmissionConfiguration") {
        return Err(format!(
            "expected WebhookAdmissionConfiguration of apiserver.config.k8s.io/v1, found {kind:?} of {version:?}"
        ));
    }
    let file = text(own, "/kubeConfigFile");
    if file.is_empty() {
        return Ok(None);
    }
    if !Path::new(file).is_absolute() {
        return Err(format!("kubeConfigFile: Invalid value: {file:?}: must be an absolute file path"));
    }
    WebhookUsers::open(Path::new(file)).map(Some).map_err(|why| format!("kubeConfigFile: {why}"))
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

    fn webhook(kubeconfig: &str) -> String {
        format!(
            "  configuration:\n    apiVersion: apiserver.config.k8s.io/v1\n    \
             kind: WebhookAdmissionConfiguration\n    kubeConfigFile: {kubeconfig}\n"
        )
    }

    #[test]
    fn each_kind_of_webhook_has_users_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hooks");
        let users = "users:\n- name: '*'\n  user: {token: t}\n";
        std::fs::write(&path, users).unwrap();
        let own = webhook(&path.display().to_string());
        let read = read_config(&file("ValidatingAdmissionWebhook", &own)).unwrap();
        assert!(read.webhooks.validating.is_some() && read.webhooks.mutating.is_none());
        std::fs::write(&path, users.replace("token: t", "exec: {command: x}")).unwrap();
        let refused = read_config(&file("ValidatingAdmissionWebhook", &own)).unwrap_err().to_string();
        assert!(refused.contains("exec or auth-provider is not supported"), "{refused}");
    }

    #[test]
    fn upstreams_example_is_read_and_mistakes_are_named() {
        let own = "  configuration:\n    apiVersion: pod-security.admission.config.k8s.io/v1\n    \
                   kind: PodSecurityConfiguration\n    defaults:\n      enforce: LEVEL\n      \
                   enforce-version: v1.30\n    exemptions:\n      namespaces: [kube-system]\n";
        let read = read_config(&file("PodSecurity", &own.replace("LEVEL", "baseline"))).unwrap().pod_security;
        assert_eq!(read.defaults.enforce.level, Level::Baseline);
        assert_eq!(read.defaults.enforce.version, Version::Minor(30));
        assert_eq!(read.namespaces, ["kube-system"]);
        for (file, why) in [
            (file("PodSecurity", &own.replace("LEVEL", "strict")), "\"strict\" is no level"),
            (file("EventRateLimit", own), "takes no configuration"),
            (file("ValidatingAdmissionWebhook", own), "expected WebhookAdmissionConfiguration"),
            (file("ValidatingAdmissionWebhook", &webhook("hooks.yaml")), "must be an absolute file path"),
            (
                file("MutatingAdmissionWebhook", &webhook("/nowhere/hooks.yaml")),
                "cannot read /nowhere/hooks.yaml",
            ),
            (file("PodSecurity", "  path: other.yaml\n"), "put its configuration into this file"),
            ("kind: Pod\n".to_owned(), "expected AdmissionConfiguration"),
            ("a: [".to_owned(), "it is no YAML"),
        ] {
            let error = read_config(&file).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
