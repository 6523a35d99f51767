//! The configuration file of admission, as upstream's `--admission-control-config-file` reads it.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde_json::Value;

use carrack_api::quota::Limited;

use super::optional::{Limits, NodeSelectors, TolerationLists};
use super::pod_security::PodSecurityConfig;
use super::{ChoiceError, ImagePolicy, WebhookCredentials};
use crate::authn::text;
use crate::outbound::WebhookUsers;

/// What the file says.
#[derive(Clone, Debug, Default)]
pub struct AdmissionConfig {
    /// Defaults and exemptions of pod security.
    pub pod_security: PodSecurityConfig,
    /// As whom webhooks are asked.
    pub webhooks: WebhookCredentials,
    /// What may be used under a quota alone.
    pub limited_resources: Vec<Limited>,
    /// Whom to ask about images.
    pub image_policy: Option<ImagePolicy>,
    /// Where the pods of namespaces go.
    pub(super) node_selectors: NodeSelectors,
    /// What pods may tolerate.
    pub(super) tolerations: TolerationLists,
    /// How many events are taken.
    pub(super) event_limits: Option<Limits>,
}

/// The plugins that take a configuration.
const CONFIGURABLE: &[&str] = &[
    "PodSecurity",
    "MutatingAdmissionWebhook",
    "ValidatingAdmissionWebhook",
    "ResourceQuota",
    "ImagePolicyWebhook",
    "PodNodeSelector",
    "PodTolerationRestriction",
    "EventRateLimit",
];

impl AdmissionConfig {
    /// Takes in a plugin's own configuration; `dir` is where its paths begin.
    fn take(&mut self, plugin: &str, own: &Value, dir: &Path) -> Result<(), String> {
        match plugin {
            "PodSecurity" => PodSecurityConfig::read(own).map(|own| self.pod_security = own),
            "MutatingAdmissionWebhook" => webhook_users(own).map(|users| self.webhooks.mutating = users),
            "ValidatingAdmissionWebhook" => webhook_users(own).map(|users| self.webhooks.validating = users),
            "ResourceQuota" => Limited::read(own).map(|limited| self.limited_resources = limited),
            "ImagePolicyWebhook" => ImagePolicy::read(own, dir).map(|own| self.image_policy = Some(own)),
            "PodNodeSelector" => NodeSelectors::read(own).map(|own| self.node_selectors = own),
            "PodTolerationRestriction" => TolerationLists::read(own).map(|own| self.tolerations = own),
            _ => Limits::read(own).map(|own| self.event_limits = Some(own)),
        }
    }
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
    #[error("plugin {0:?} takes no configuration; these do: {known}", known = CONFIGURABLE.join(", "))]
    Plugin(String),
    /// A plugin that is to run cannot.
    #[error(transparent)]
    Choice(#[from] ChoiceError),
    /// The file of a plugin's configuration.
    #[error("plugin {plugin:?}: path: {}: {why}", path.display())]
    File {
        /// The plugin.
        plugin: String,
        /// Its file.
        path: PathBuf,
        /// Why it cannot be used.
        why: String,
    },
    /// A plugin's configuration is wrong.
    #[error("plugin {plugin:?}: {why}")]
    Wrong {
        /// The plugin.
        plugin: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Reads an `AdmissionConfiguration`, and the files that it names: configurations of plugins, which are looked for in
/// `dir` (where the file itself is), and kubeconfigs.
pub fn read_config(file: &str, dir: &Path) -> Result<AdmissionConfig, AdmissionConfigError> {
    let config: Value = serde_saphyr::from_str(file)?;
    let (version, kind) = (text(&config, "/apiVersion"), text(&config, "/kind"));
    if (version, kind) != ("apiserver.config.k8s.io/v1", "AdmissionConfiguration") {
        return Err(AdmissionConfigError::Kind { kind: kind.to_owned(), version: version.to_owned() });
    }
    let mut read = AdmissionConfig::default();
    for entry in super::list(&config, "/plugins") {
        let plugin = text(entry, "/name").to_owned();
        if !CONFIGURABLE.contains(&&*plugin) {
            return Err(AdmissionConfigError::Plugin(plugin));
        }
        let Some(own) = own_configuration(entry, &plugin, dir)? else { continue };
        let done = read.take(&plugin, &own, dir);
        done.map_err(|why| AdmissionConfigError::Wrong { plugin, why })?;
    }
    Ok(read)
}

/// What an entry configures: in itself, which counts before a file of its own; nothing leaves the plugin as it is.
fn own_configuration<'a>(
    entry: &'a Value,
    plugin: &str,
    dir: &Path,
) -> Result<Option<Cow<'a, Value>>, AdmissionConfigError> {
    if let Some(own) = entry.get("configuration").filter(|own| !own.is_null()) {
        return Ok(Some(Cow::Borrowed(own)));
    }
    let path = text(entry, "/path");
    if path.is_empty() {
        return Ok(None);
    }
    let path = dir.join(path);
    let read = std::fs::read_to_string(&path).map_err(|error| error.to_string());
    let own = read.and_then(|text| serde_saphyr::from_str(&text).map_err(|error| error.to_string()));
    let plugin = plugin.to_owned();
    own.map(|own| Some(Cow::Owned(own))).map_err(|why| AdmissionConfigError::File { plugin, path, why })
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

    fn parse(file: &str) -> Result<AdmissionConfig, AdmissionConfigError> {
        read_config(file, Path::new("/nowhere"))
    }

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
        let read = parse(&file("ValidatingAdmissionWebhook", &own)).unwrap();
        assert!(read.webhooks.validating.is_some() && read.webhooks.mutating.is_none());
        std::fs::write(&path, users.replace("token: t", "exec: {command: x}")).unwrap();
        let refused = parse(&file("ValidatingAdmissionWebhook", &own)).unwrap_err().to_string();
        assert!(refused.contains("exec or auth-provider is not supported"), "{refused}");
    }

    #[test]
    fn upstreams_example_is_read_and_mistakes_are_named() {
        let own = "  configuration:\n    apiVersion: pod-security.admission.config.k8s.io/v1\n    \
                   kind: PodSecurityConfiguration\n    defaults:\n      enforce: LEVEL\n      \
                   enforce-version: v1.30\n    exemptions:\n      namespaces: [kube-system]\n";
        let read = parse(&file("PodSecurity", &own.replace("LEVEL", "baseline"))).unwrap().pod_security;
        assert_eq!(read.defaults.enforce.level, Level::Baseline);
        assert_eq!(read.defaults.enforce.version, Version::Minor(30));
        assert_eq!(read.namespaces, ["kube-system"]);
        for (file, why) in [
            (file("PodSecurity", &own.replace("LEVEL", "strict")), "\"strict\" is no level"),
            (file("LimitRanger", own), "takes no configuration; these do: PodSecurity, "),
            (file("EventRateLimit", own), "unknown field"),
            (file("ResourceQuota", own), "unknown field"),
            (file("ImagePolicyWebhook", own), "imagePolicy"),
            (file("PodNodeSelector", own), "unknown field"),
            (file("PodTolerationRestriction", own), "unknown field"),
            (file("ValidatingAdmissionWebhook", own), "expected WebhookAdmissionConfiguration"),
            (file("ValidatingAdmissionWebhook", &webhook("hooks.yaml")), "must be an absolute file path"),
            (
                file("MutatingAdmissionWebhook", &webhook("/nowhere/hooks.yaml")),
                "cannot read /nowhere/hooks.yaml",
            ),
            (file("PodSecurity", "  path: other.yaml\n"), "path: /nowhere/other.yaml: No such file"),
            (file("PodSecurity", "  configuration: text\n"), "plugin \"PodSecurity\""),
            ("kind: Pod\n".to_owned(), "expected AdmissionConfiguration"),
            ("a: [".to_owned(), "it is no YAML"),
        ] {
            let error = parse(&file).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_plugin_may_have_a_file_of_its_own_beside_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let own = "apiVersion: pod-security.admission.config.k8s.io/v1\nkind: PodSecurityConfiguration\n\
                   defaults: {enforce: restricted}\n";
        std::fs::write(dir.path().join("pods.yaml"), own).unwrap();
        let absolute = dir.path().join("pods.yaml").display().to_string();
        for path in ["pods.yaml", "./pods.yaml", &absolute] {
            let read = read_config(&file("PodSecurity", &format!("  path: {path}\n")), dir.path()).unwrap();
            assert_eq!(read.pod_security.defaults.enforce.level, Level::Restricted, "{path}");
        }
        let both = format!(
            "  path: {absolute}\n  configuration: {}\n",
            "{apiVersion: pod-security.admission.config.k8s.io/v1, kind: PodSecurityConfiguration, \
             defaults: {enforce: baseline}}"
        );
        let read = read_config(&file("PodSecurity", &both), dir.path()).unwrap();
        assert_eq!(read.pod_security.defaults.enforce.level, Level::Baseline, "what is in the entry counts");
        let read = read_config(&file("PodSecurity", "  path: ''\n"), dir.path()).unwrap();
        assert_eq!(read.pod_security.defaults.enforce.level, Level::Privileged, "nothing is configured");
        std::fs::write(dir.path().join("pods.yaml"), "a: [").unwrap();
        let error =
            read_config(&file("PodSecurity", "  path: pods.yaml\n"), dir.path()).unwrap_err().to_string();
        assert!(
            error.starts_with("plugin \"PodSecurity\": path: ") && error.contains("pods.yaml: "),
            "{error}"
        );
    }
}
