//! Which authorizers there are and in what order: upstream's AuthorizationConfiguration
//! (`apiserver.config.k8s.io/v1`), or its older options.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::abac::{Abac, AbacError};
use super::conditions::Conditions;
use super::webhook::{FailurePolicy, Webhook, WebhookOptions};
use crate::outbound::{KubeconfigError, Remote};
use crate::settings::{self, SettingsError};
use crate::{Attributes, Authorizer, Decision, RuleList, UserInfo};

const KIND: &str = "AuthorizationConfiguration";
/// What upstream remembers answers for, and how long it waits, where nothing else is said.
const AUTHORIZED_TTL: Duration = Duration::from_secs(300);
const UNAUTHORIZED_TTL: Duration = Duration::from_secs(30);
const MOST_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the authorizers cannot be set up.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum AuthorizationError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Abac(#[from] AbacError),
    #[error("the authorization webhook {name:?}: {source}")]
    Webhook { name: String, source: Box<KubeconfigError> },
}

/// One authorizer of the configuration.
#[derive(Clone, Debug)]
pub enum Choice {
    /// Nodes, by what their pods lead to.
    Node,
    /// Roles and bindings.
    Rbac,
    /// A file of policies.
    Abac(PathBuf),
    /// Everybody may do everything.
    AlwaysAllow,
    /// Nobody may do anything.
    AlwaysDeny,
    /// Another server, which a kubeconfig leads to.
    Webhook {
        /// The kubeconfig.
        kubeconfig: PathBuf,
        /// How long an answer may take.
        timeout: Duration,
        /// The rest.
        options: WebhookOptions,
    },
}

impl Choice {
    /// The type of one that is no webhook.
    pub(crate) fn own_type(&self) -> Option<&'static str> {
        Some(match self {
            Choice::Node => "Node",
            Choice::Rbac => "RBAC",
            Choice::Abac(_) => "ABAC",
            Choice::AlwaysAllow => "AlwaysAllow",
            Choice::AlwaysDeny => "AlwaysDeny",
            Choice::Webhook { .. } => return None,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    #[allow(dead_code)] // looked at before
    api_version: String,
    #[allow(dead_code)]
    kind: String,
    authorizers: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    r#type: String,
    name: String,
    webhook: Option<WebhookEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WebhookEntry {
    #[serde(rename = "authorizedTTL")]
    authorized_ttl: Option<String>,
    #[serde(rename = "unauthorizedTTL")]
    unauthorized_ttl: Option<String>,
    cache_authorized_requests: Option<bool>,
    cache_unauthorized_requests: Option<bool>,
    timeout: String,
    subject_access_review_version: String,
    #[serde(default)]
    match_condition_subject_access_review_version: String,
    failure_policy: String,
    connection_info: Connection,
    #[serde(default)]
    match_conditions: Vec<MatchCondition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Connection {
    r#type: String,
    kube_config_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MatchCondition {
    expression: String,
}

/// Reads the file at `path`. `abac` is where the policies of an ABAC authorizer are, which the file does not say.
pub fn read(path: &Path, abac: Option<&Path>) -> Result<Vec<Choice>, AuthorizationError> {
    let text = settings::text(path)?;
    Ok(parse(&text, abac).map_err(|why| settings::wrong(path, why))?)
}

fn parse(text: &str, abac: Option<&Path>) -> Result<Vec<Choice>, String> {
    let document: Document = settings::document(text, KIND)?;
    if document.authorizers.is_empty() {
        return Err("authorizers: Required value: at least one authorization mode must be defined".into());
    }
    let mut names = BTreeSet::new();
    let mut once = BTreeSet::new();
    let mut choices = Vec::new();
    for (index, entry) in document.authorizers.into_iter().enumerate() {
        let at = format!("authorizers[{index}]");
        if entry.name.is_empty() {
            return Err(format!("{at}.name: Required value"));
        }
        if let Some(why) = carrack_api::names::dns1123_subdomain(&entry.name).first() {
            return Err(format!(
                "{at}.name: Invalid value: {:?}: authorizer name is invalid: {why}",
                entry.name
            ));
        }
        if !names.insert(entry.name.clone()) {
            return Err(format!("{at}.name: Duplicate value: {:?}", entry.name));
        }
        if entry.r#type != "Webhook" && !once.insert(entry.r#type.clone()) {
            return Err(format!("{at}.type: Duplicate value: {:?}", entry.r#type));
        }
        if entry.webhook.is_some() != (entry.r#type == "Webhook") {
            return Err(format!("{at}.webhook: it belongs to authorizers of type Webhook, which need it"));
        }
        choices.push(match entry.webhook {
            Some(webhook) => {
                self::webhook(&entry.name, webhook).map_err(|why| format!("{at}.webhook.{why}"))?
            }
            None => mode(&entry.r#type, abac).map_err(|why| format!("{at}.type: {why}"))?,
        });
    }
    Ok(choices)
}

/// An authorizer that needs no more than its name, as `--authorization-mode` has it.
pub fn mode(name: &str, abac: Option<&Path>) -> Result<Choice, String> {
    Ok(match name {
        "Node" => Choice::Node,
        "RBAC" => Choice::Rbac,
        "AlwaysAllow" => Choice::AlwaysAllow,
        "AlwaysDeny" => Choice::AlwaysDeny,
        "ABAC" => Choice::Abac(
            abac.ok_or("ABAC needs a file of policies: give --authorization-policy-file")?.to_owned(),
        ),
        other => {
            return Err(format!(
                "Unsupported value: {other:?}: supported values: \"ABAC\", \"AlwaysAllow\", \"AlwaysDeny\", \"Node\", \
                 \"RBAC\", \"Webhook\""
            ));
        }
    })
}

/// The webhook of the older options.
pub fn plain_webhook(
    kubeconfig: &Path,
    version: &str,
    authorized: Duration,
    unauthorized: Duration,
) -> Choice {
    Choice::Webhook {
        kubeconfig: kubeconfig.to_owned(),
        timeout: MOST_TIMEOUT,
        options: WebhookOptions {
            name: "webhook".into(),
            version: version.into(),
            authorized_ttl: authorized,
            unauthorized_ttl: unauthorized,
            failure_policy: FailurePolicy::NoOpinion,
            conditions: Arc::default(),
        },
    }
}

fn webhook(name: &str, entry: WebhookEntry) -> Result<Choice, String> {
    let duration = |field: &str, text: Option<&str>, default: Duration| match text {
        None => Ok(default),
        Some(text) => settings::duration(text).map_err(|why| format!("{field}: {why}")),
    };
    // How long answers are remembered: nothing and none mean the default, as upstream has it.
    let ttl = |field: &str, cached: Option<bool>, text: Option<&str>, default: Duration| {
        let ttl = duration(field, text, default)?;
        Ok::<_, String>(match (cached, ttl.is_zero()) {
            (Some(false), _) => Duration::ZERO,
            (_, true) => default,
            (_, false) => ttl,
        })
    };
    let timeout = duration("timeout", Some(&entry.timeout), MOST_TIMEOUT)?;
    if timeout.is_zero() || timeout > MOST_TIMEOUT {
        return Err(format!("timeout: Invalid value: {:?}: must be above 0s and at most 30s", entry.timeout));
    }
    let version = entry.subject_access_review_version;
    if !matches!(version.as_str(), "v1" | "v1beta1") {
        return Err(format!(
            "subjectAccessReviewVersion: Unsupported value: {version:?}: supported values: \"v1\", \"v1beta1\""
        ));
    }
    match entry.match_condition_subject_access_review_version.as_str() {
        "v1" => {}
        "" if entry.match_conditions.is_empty() => {}
        "" => {
            return Err(
                "matchConditionSubjectAccessReviewVersion: Required value: required if match conditions are \
                        specified"
                    .into(),
            );
        }
        other => {
            return Err(format!(
                "matchConditionSubjectAccessReviewVersion: Unsupported value: {other:?}: supported values: \"v1\""
            ));
        }
    }
    let conditions: Vec<String> =
        entry.match_conditions.into_iter().map(|condition| condition.expression).collect();
    let failure_policy = match entry.failure_policy.as_str() {
        "NoOpinion" => FailurePolicy::NoOpinion,
        "Deny" => FailurePolicy::Deny,
        other => {
            return Err(format!(
                "failurePolicy: Unsupported value: {other:?}: supported values: \"Deny\", \"NoOpinion\""
            ));
        }
    };
    let kubeconfig = match (entry.connection_info.r#type.as_str(), entry.connection_info.kube_config_file) {
        ("KubeConfigFile", Some(path)) if path.is_absolute() => path,
        ("KubeConfigFile", _) => {
            return Err("connectionInfo.kubeConfigFile: Required value: must be an absolute path".into());
        }
        (other, _) => {
            return Err(format!(
                "connectionInfo.type: Unsupported value: {other:?}: supported values: \"KubeConfigFile\""
            ));
        }
    };
    Ok(Choice::Webhook {
        kubeconfig,
        timeout,
        options: WebhookOptions {
            name: name.into(),
            version,
            authorized_ttl: ttl(
                "authorizedTTL",
                entry.cache_authorized_requests,
                entry.authorized_ttl.as_deref(),
                AUTHORIZED_TTL,
            )?,
            unauthorized_ttl: ttl(
                "unauthorizedTTL",
                entry.cache_unauthorized_requests,
                entry.unauthorized_ttl.as_deref(),
                UNAUTHORIZED_TTL,
            )?,
            failure_policy,
            conditions: Arc::new(Conditions::compile(&conditions)?),
        },
    })
}

/// Refuses authorizers whose files cannot be used, before there is anything that they could judge.
pub fn check(choices: &[Choice]) -> Result<(), AuthorizationError> {
    let nobody: Arc<dyn Authorizer> = Arc::new(Always(Decision::NoOpinion(String::new())));
    authorizers(choices, &nobody, &nobody).map(drop)
}

/// The authorizers, in order. `nodes` and `rbac` are those that follow the store.
pub fn authorizers(
    choices: &[Choice],
    nodes: &Arc<dyn Authorizer>,
    rbac: &Arc<dyn Authorizer>,
) -> Result<Vec<Arc<dyn Authorizer>>, AuthorizationError> {
    choices
        .iter()
        .map(|choice| {
            Ok::<Arc<dyn Authorizer>, AuthorizationError>(match choice {
                Choice::Node => Arc::clone(nodes),
                Choice::Rbac => Arc::clone(rbac),
                Choice::Abac(path) => Arc::new(Abac::open(path)?),
                Choice::AlwaysAllow => Arc::new(Always(Decision::Allow)),
                Choice::AlwaysDeny => {
                    Arc::new(Always(Decision::NoOpinion("Everything is forbidden.".into())))
                }
                Choice::Webhook { kubeconfig, timeout, options } => {
                    let target = Remote::open(kubeconfig, *timeout).map_err(|source| {
                        AuthorizationError::Webhook { name: options.name.clone(), source: Box::new(source) }
                    })?;
                    Arc::new(Webhook::new(target, options.clone()))
                }
            })
        })
        .collect()
}

/// Says the same to everything.
struct Always(Decision);

#[async_trait::async_trait]
impl Authorizer for Always {
    fn authorize(&self, _: &Attributes) -> Decision {
        self.0.clone()
    }

    fn rules(&self, _: &UserInfo, _: &str) -> RuleList {
        let all = |what: &str| serde_json::json!({"verbs": ["*"], what: ["*"]});
        if self.0 != Decision::Allow {
            return RuleList::default();
        }
        let mut resources = all("resources");
        resources["apiGroups"] = serde_json::json!(["*"]);
        RuleList {
            resource_rules: vec![resources],
            non_resource_rules: vec![all("nonResourceURLs")],
            incomplete: false,
        }
    }
}
