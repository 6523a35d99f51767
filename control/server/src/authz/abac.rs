//! The ABAC authorizer: a file of policies, one JSON object a line, read once.
//!
//! Format and meaning are upstream's (`abac.authorization.kubernetes.io/v1beta1`, `Policy`).

use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use crate::{Attributes, Authorizer, Decision, RuleList, UserInfo};

const VERSION: &str = "abac.authorization.kubernetes.io/v1beta1";
const AUTHENTICATED: &str = "system:authenticated";
const ALL: &str = "*";

/// Why a policy file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AbacError {
    /// The file cannot be read.
    #[error("the ABAC policy file {path} cannot be read: {source}")]
    Read {
        /// The file.
        path: String,
        /// What went wrong.
        source: std::io::Error,
    },
    /// A line is no policy.
    #[error("the ABAC policy file {path} has no policy in line {line}: {why}")]
    Line {
        /// The file.
        path: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    api_version: String,
    kind: String,
    spec: Policy,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Policy {
    user: String,
    group: String,
    readonly: bool,
    #[serde(rename = "apiGroup")]
    api_group: String,
    resource: String,
    namespace: String,
    non_resource_path: String,
}

/// Judges by the policies of a file.
#[derive(Debug)]
pub struct Abac(Vec<Policy>);

impl Abac {
    /// Reads the file at `path`.
    pub fn open(path: &Path) -> Result<Self, AbacError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|source| AbacError::Read { path: shown.clone(), source })?;
        Self::parse(&text, &shown)
    }

    fn parse(text: &str, path: &str) -> Result<Self, AbacError> {
        let mut policies = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why: String| AbacError::Line { path: path.into(), line: index + 1, why };
            let read: Document = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
            if read.api_version != VERSION || read.kind != "Policy" {
                return Err(wrong(format!("it has to be of apiVersion {VERSION} and kind Policy")));
            }
            let mut policy = read.spec;
            // A star stands for everybody who has an identity.
            if policy.user == ALL || policy.group == ALL {
                policy.group = AUTHENTICATED.into();
            }
            policies.push(policy);
        }
        Ok(Self(policies))
    }
}

impl Policy {
    fn is_for(&self, user: &UserInfo) -> bool {
        let user_fits = self.user.is_empty() || self.user == ALL || self.user == user.name;
        let group_fits = self.group.is_empty() || user.in_group(&self.group);
        // One that names nobody is for nobody.
        user_fits && group_fits && !(self.user.is_empty() && self.group.is_empty())
    }

    fn allows(&self, request: &Attributes) -> bool {
        let reads = matches!(request.verb.as_str(), "get" | "list" | "watch");
        if !self.is_for(&request.user) || (self.readonly && !reads) {
            return false;
        }
        let fits = |pattern: &str, value: &str| pattern == ALL || pattern == value;
        if request.is_resource() {
            return fits(&self.namespace, &request.namespace)
                && fits(&self.resource, &request.resource)
                && fits(&self.api_group, &request.api_group);
        }
        let path = self.non_resource_path.as_str();
        fits(path, &request.path)
            || path.strip_suffix('*').is_some_and(|prefix| request.path.starts_with(prefix))
    }
}

#[async_trait::async_trait]
impl Authorizer for Abac {
    fn authorize(&self, request: &Attributes) -> Decision {
        if self.0.iter().any(|policy| policy.allows(request)) {
            return Decision::Allow;
        }
        Decision::NoOpinion("No policy matched.".into())
    }

    fn rules(&self, user: &UserInfo, namespace: &str) -> RuleList {
        let mut list = RuleList::default();
        for policy in self.0.iter().filter(|policy| policy.is_for(user)) {
            let verbs = if policy.readonly { json!(["get", "list", "watch"]) } else { json!(["*"]) };
            if policy.namespace == ALL || policy.namespace == namespace {
                list.resource_rules.push(json!({
                    "verbs": verbs, "apiGroups": [policy.api_group], "resources": [policy.resource],
                }));
            }
            if !policy.non_resource_path.is_empty() {
                let paths = [&policy.non_resource_path];
                list.non_resource_rules.push(json!({"verbs": verbs, "nonResourceURLs": paths}));
            }
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::request;
    use super::*;

    const FILE: &str = r##"
# who may what
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"user": "alice", "namespace": "*", "resource": "*", "apiGroup": "*"}}
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"user": "bob", "namespace": "web", "resource": "pods", "readonly": true}}
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"group": "ops", "nonResourcePath": "/metrics*", "readonly": true}}
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"user": "*", "nonResourcePath": "/version"}}
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"user": "eve", "group": "ops", "namespace": "*", "resource": "nodes", "apiGroup": ""}}
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"namespace": "*", "resource": "*", "apiGroup": "*"}}
"##;

    #[test]
    fn policies_match_as_upstream_matches_them() {
        let abac = Abac::parse(FILE, "x").unwrap();
        let anonymous = crate::authn::anonymous();
        let [alice, bob, ops, eve] = [
            UserInfo::new("alice", []),
            UserInfo::new("bob", []),
            UserInfo::new("olga", ["ops"]),
            UserInfo::new("eve", []),
        ];
        for (user, text, expected) in [
            (&alice, "delete apps/deployments:a @web", true),
            (&alice, "get pods/log:a @web", true),
            (&alice, "get /metrics", false),
            (&bob, "list pods @web", true),
            (&bob, "get pods/exec:a @web", true),
            (&bob, "create pods/exec:a @web", false),
            (&bob, "delete pods:a @web", false),
            (&bob, "list pods @other", false),
            (&bob, "list pods", false),
            (&bob, "list apps/pods @web", false),
            (&ops, "get /metrics/slis", true),
            (&ops, "post /metrics", false),
            (&ops, "get /version", true),
            (&ops, "get nodes:n", false),
            (&anonymous, "get /version", false),
            (&eve, "get nodes:n", false),
            (&eve, "list pods @web", false),
        ] {
            let allowed = abac.authorize(&request(user, text)) == Decision::Allow;
            assert_eq!(allowed, expected, "{}: {text}", user.name);
        }
        assert_eq!(abac.rules(&bob, "web").resource_rules.len(), 1);
        assert_eq!(abac.rules(&bob, "other").resource_rules.len(), 0);
    }

    #[test]
    fn a_broken_line_is_named() {
        for (text, says) in [
            ("\n{}", "in line 2: missing field"),
            ("{\"apiVersion\": \"v1\", \"kind\": \"Policy\", \"spec\": {}}", "has to be of apiVersion"),
            ("user=bob", "in line 1: expected value"),
        ] {
            let error = Abac::parse(text, "f").unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
