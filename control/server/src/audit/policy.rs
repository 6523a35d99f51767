//! The audit policy: `Policy` of audit.k8s.io/v1. The first rule that matches a request says how much of it is told.

use serde::Deserialize;

use crate::UserInfo;
use crate::router::RequestInfo;

/// How much is told of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) enum Level {
    /// Nothing.
    None,
    /// Who did what to which object, and how it ended.
    Metadata,
    /// Also what was sent.
    Request,
    /// Also what was answered.
    RequestResponse,
}

impl Level {
    pub(super) const ALL: [Level; 4] = [Level::None, Level::Metadata, Level::Request, Level::RequestResponse];

    pub(super) fn name(self) -> &'static str {
        ["None", "Metadata", "Request", "RequestResponse"][self as usize]
    }
}

/// When in a request's life an event is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
    Panic,
}

impl Stage {
    pub(super) fn name(self) -> &'static str {
        ["RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"][self as usize]
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    metadata: Option<serde_json::Value>,
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

/// Empty lists match everything.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GroupResources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// A policy that was checked.
pub(super) struct Policy {
    rules: Vec<Rule>,
    omit_managed_fields: bool,
}

/// What the policy says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) level: Level,
    pub(super) omit_stages: Vec<Stage>,
    pub(super) omit_managed_fields: bool,
}

impl Policy {
    /// Reads a policy; `Err` says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut file: File = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
        drop(file.metadata.take());
        if (file.api_version.as_str(), file.kind.as_str()) != ("audit.k8s.io/v1", "Policy") {
            return Err(format!(
                "it is {}, kind {}, not a Policy of audit.k8s.io/v1",
                file.api_version, file.kind
            ));
        }
        if file.rules.is_empty() {
            return Err("it has no rules; one with `level: Metadata` alone tells of every request".to_owned());
        }
        for (index, rule) in file.rules.iter_mut().enumerate() {
            let both = !rule.non_resource_urls.is_empty()
                && (!rule.resources.is_empty() || !rule.namespaces.is_empty());
            if both {
                return Err(format!(
                    "rules[{index}]: rules cannot apply to both regular resources and non-resource URLs"
                ));
            }
            rule.omit_stages.extend(&file.omit_stages);
        }
        Ok(Policy { rules: file.rules, omit_managed_fields: file.omit_managed_fields })
    }

    /// What the first rule that matches says; `None` when nothing is to be told.
    pub(super) fn judge(&self, user: &UserInfo, info: &RequestInfo) -> Option<Verdict> {
        let rule = self.rules.iter().find(|rule| rule.matches(user, info))?;
        (rule.level != Level::None).then(|| Verdict {
            level: rule.level,
            omit_stages: rule.omit_stages.clone(),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        })
    }
}

fn allows(list: &[String], value: &str) -> bool {
    list.is_empty() || list.iter().any(|entry| entry == value)
}

impl Rule {
    fn matches(&self, user: &UserInfo, info: &RequestInfo) -> bool {
        allows(&self.users, &user.name)
            && (self.user_groups.is_empty() || self.user_groups.iter().any(|group| user.in_group(group)))
            && allows(&self.verbs, info.verb)
            && self.matches_target(info)
    }

    fn matches_target(&self, info: &RequestInfo) -> bool {
        if !self.resources.is_empty() || !self.namespaces.is_empty() {
            return info.is_resource()
                && allows(&self.namespaces, &info.namespace)
                && (self.resources.is_empty() || self.resources.iter().any(|group| group.matches(info)));
        }
        if self.non_resource_urls.is_empty() {
            return true;
        }
        let fits = |url: &String| match url.strip_suffix('*') {
            Some(start) => info.path.starts_with(start),
            None => info.path == *url,
        };
        !info.is_resource() && self.non_resource_urls.iter().any(fits)
    }
}

impl GroupResources {
    fn matches(&self, info: &RequestInfo) -> bool {
        if self.group != info.group || !allows(&self.resource_names, &info.name) {
            return false;
        }
        let fits = |wanted: &String| match wanted.split_once('/') {
            _ if wanted == "*" => true,
            None => *wanted == info.resource && info.subresource.is_empty(),
            Some((resource, sub)) => {
                (resource == "*" || resource == info.resource)
                    && (sub == "*" || sub == info.subresource)
                    && (resource != "*" || !info.subresource.is_empty())
            }
        };
        self.resources.is_empty() || self.resources.iter().any(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Query;

    fn level(policy: &str, user: &UserInfo, method: &http::Method, path: &str) -> Level {
        let text = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n{policy}");
        let info = RequestInfo::parse(method, path, &Query::default()).unwrap();
        Policy::parse(&text).unwrap().judge(user, &info).map_or(Level::None, |verdict| verdict.level)
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let jane = UserInfo::new("jane", ["dev"]);
        let pods = "/api/v1/namespaces/web/pods";
        let cases = [
            ("- {level: Metadata}", "GET", pods, Level::Metadata),
            ("- {level: None, users: [jane]}\n- {level: Metadata}", "GET", pods, Level::None),
            ("- {level: None, users: [joe]}\n- {level: Request}", "GET", pods, Level::Request),
            ("- {level: Request, userGroups: [dev]}", "GET", pods, Level::Request),
            ("- {level: Request, verbs: [create]}", "GET", pods, Level::None),
            ("- {level: Request, verbs: [create]}", "POST", pods, Level::Request),
            ("- {level: Request, namespaces: [web]}", "GET", pods, Level::Request),
            ("- {level: Request, namespaces: ['']}", "GET", pods, Level::None),
            ("- {level: Request, namespaces: ['']}", "GET", "/api/v1/nodes", Level::Request),
            ("- {level: Request, namespaces: ['']}", "GET", "/healthz", Level::None),
            ("- {level: Request, nonResourceURLs: ['/health*']}", "GET", "/healthz", Level::Request),
            ("- {level: Request, nonResourceURLs: ['/health*']}", "GET", pods, Level::None),
        ];
        for (policy, method, path, expected) in cases {
            assert_eq!(level(policy, &jane, &method.parse().unwrap(), path), expected, "{policy} {path}");
        }
    }

    #[test]
    fn resources_and_their_parts() {
        let jane = UserInfo::new("jane", []);
        let cases = [
            ("{group: ''}", "/api/v1/pods", true),
            ("{group: apps}", "/api/v1/pods", false),
            ("{resources: [pods]}", "/api/v1/namespaces/a/pods/b", true),
            ("{resources: [pods]}", "/api/v1/namespaces/a/pods/b/log", false),
            ("{resources: ['pods/log']}", "/api/v1/namespaces/a/pods/b/log", true),
            ("{resources: ['pods/*']}", "/api/v1/namespaces/a/pods/b/log", true),
            ("{resources: ['*/status']}", "/api/v1/namespaces/a/pods/b/status", true),
            ("{resources: ['*/status']}", "/api/v1/namespaces/a/pods/b", false),
            ("{resources: ['*']}", "/api/v1/namespaces/a/pods/b/log", true),
            ("{resources: [pods], resourceNames: [b]}", "/api/v1/namespaces/a/pods/b", true),
            ("{resources: [pods], resourceNames: [c]}", "/api/v1/namespaces/a/pods/b", false),
        ];
        for (resources, path, expected) in cases {
            let policy = format!("- {{level: Metadata, resources: [{resources}]}}");
            assert_eq!(
                level(&policy, &jane, &http::Method::GET, path) != Level::None,
                expected,
                "{resources} {path}"
            );
        }
    }

    #[test]
    fn wrong_policies_are_refused() {
        for (text, says) in [
            ("apiVersion: v1\nkind: Policy\nrules: [{level: None}]", "not a Policy"),
            ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: []", "no rules"),
            ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Loud}]", "Loud"),
            ("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, omitStages: [Now]}]", "Now"),
            (
                "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, namespaces: [a], nonResourceURLs: [/]}]",
                "both",
            ),
        ] {
            let error = Policy::parse(text).err().unwrap_or_default();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
