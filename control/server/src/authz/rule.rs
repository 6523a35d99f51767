//! RBAC rules: what one allows, and whether some cover another.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Attributes;

const ALL: &str = "*";

/// Most parts that the rules of one role are taken apart into: a few kilobytes of verbs, resources and names have more parts
/// together than memory holds. Roles that people write have some thousand.
const MOST_PARTS: usize = 50_000;

/// One rule of a Role or ClusterRole (`rbac.authorization.k8s.io/v1` PolicyRule).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// Verbs, or `*`.
    pub verbs: Vec<String>,
    /// API groups, `""` being the core group, or `*`.
    pub api_groups: Vec<String>,
    /// `resource`, `resource/subresource`, `*/subresource`, or `*`.
    pub resources: Vec<String>,
    /// Names of objects; none means all.
    pub resource_names: Vec<String>,
    /// Paths that name no resource; a `*` at the end stands for any rest.
    #[serde(rename = "nonResourceURLs")]
    pub non_resource_urls: Vec<String>,
}

impl Rule {
    /// Whether this rule alone allows the request.
    pub fn allows(&self, request: &Attributes) -> bool {
        if !holds(&self.verbs, &request.verb) {
            return false;
        }
        if !request.is_resource() {
            return self.non_resource_urls.iter().any(|url| url_matches(url, &request.path));
        }
        holds(&self.api_groups, &request.api_group)
            && self.resources.iter().any(|resource| resource_matches(resource, request))
            && (self.resource_names.is_empty() || self.resource_names.contains(&request.name))
    }

    /// Whether this rule allows all that `other` does. Asked of rules taken apart by [`Rule::parts`], so that
    /// several rules together can cover one.
    fn covers(&self, other: &Rule) -> bool {
        let all = |own: &[String], theirs: &[String]| theirs.iter().all(|value| holds(own, value));
        all(&self.verbs, &other.verbs)
            && all(&self.api_groups, &other.api_groups)
            && other.resources.iter().all(|resource| self.covers_resource(resource))
            && self.covers_names(&other.resource_names)
            && other.non_resource_urls.iter().all(|url| self.covers_url(url))
    }

    fn covers_resource(&self, resource: &str) -> bool {
        let any_of_subresource = resource.split_once('/').map(|(_, subresource)| format!("*/{subresource}"));
        holds(&self.resources, resource)
            || any_of_subresource.is_some_and(|pattern| self.resources.contains(&pattern))
    }

    fn covers_names(&self, names: &[String]) -> bool {
        self.resource_names.is_empty()
            || (!names.is_empty() && names.iter().all(|name| self.resource_names.contains(name)))
    }

    fn covers_url(&self, url: &str) -> bool {
        self.non_resource_urls.iter().any(|own| own == url || url_matches(own, url))
    }

    /// How many rules [`Rule::parts`] makes.
    fn count_of_parts(&self) -> usize {
        let names = self.resource_names.len().max(1);
        let resources = self.api_groups.len().saturating_mul(self.resources.len()).saturating_mul(names);
        self.verbs.len().saturating_mul(resources.saturating_add(self.non_resource_urls.len()))
    }

    /// The rule as rules of one verb and one resource (or one path) each.
    fn parts(&self) -> Vec<Rule> {
        let mut parts = Vec::new();
        let one = |text: &String| vec![text.clone()];
        for verb in &self.verbs {
            for (group, resource) in
                self.api_groups.iter().flat_map(|g| self.resources.iter().map(move |r| (g, r)))
            {
                let part = Rule {
                    verbs: one(verb),
                    api_groups: one(group),
                    resources: one(resource),
                    ..Rule::default()
                };
                if self.resource_names.is_empty() {
                    parts.push(part);
                } else {
                    let names = self.resource_names.iter();
                    parts.extend(names.map(|name| Rule { resource_names: one(name), ..part.clone() }));
                }
            }
            let urls = self.non_resource_urls.iter();
            parts.extend(urls.map(|url| Rule {
                verbs: one(verb),
                non_resource_urls: one(url),
                ..Rule::default()
            }));
        }
        parts
    }

    /// The rule in a SelfSubjectRulesReview: the part about resources, and the part about paths.
    pub(super) fn review_parts(&self) -> (Option<Value>, Option<Value>) {
        let resource = (!self.resources.is_empty()).then(|| {
            let mut rule =
                json!({"verbs": self.verbs, "apiGroups": self.api_groups, "resources": self.resources});
            if !self.resource_names.is_empty() {
                rule["resourceNames"] = json!(self.resource_names);
            }
            rule
        });
        let path = (!self.non_resource_urls.is_empty())
            .then(|| json!({"verbs": self.verbs, "nonResourceURLs": self.non_resource_urls}));
        (resource, path)
    }
}

/// As kubectl and upstream's messages show a rule.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("ResourceNames", &self.resource_names),
            ("NonResourceURLs", &self.non_resource_urls),
            ("Verbs", &self.verbs),
        ];
        let shown: Vec<String> = lists
            .iter()
            .filter(|(_, values)| !values.is_empty())
            .map(|(name, values)| {
                let values: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
                format!("{name}:[{}]", values.join(", "))
            })
            .collect();
        write!(f, "{{{}}}", shown.join(", "))
    }
}

/// What of `wanted` is not covered by `held` taken together; empty when everything is. What one rule does not cover as a whole
/// and has more than [`MOST_PARTS`] counts as not covered.
pub fn uncovered(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let is_covered = |rule: &Rule| held.iter().any(|own| own.covers(rule));
    let mut left = MOST_PARTS;
    let mut missing = Vec::new();
    for rule in wanted.iter().filter(|rule| !is_covered(rule)) {
        match left.checked_sub(rule.count_of_parts()) {
            Some(rest) => {
                left = rest;
                missing.extend(rule.parts().into_iter().filter(|part| !is_covered(part)));
            }
            None => missing.push(rule.clone()),
        }
    }
    missing
}

/// Whether a list names a value or `*`.
fn holds(list: &[String], value: &str) -> bool {
    list.iter().any(|entry| entry == ALL || entry == value)
}

fn resource_matches(pattern: &str, request: &Attributes) -> bool {
    if pattern == ALL {
        return true;
    }
    match pattern.split_once('/') {
        None => request.subresource.is_empty() && pattern == request.resource,
        Some((resource, subresource)) => {
            !request.subresource.is_empty()
                && subresource == request.subresource
                && (resource == ALL || resource == request.resource)
        }
    }
}

fn url_matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => pattern == path,
    }
}
