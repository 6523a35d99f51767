//! What may be used in namespaces alone that have a quota for it: `limitedResources` of the configuration of
//! ResourceQuota.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use super::scope::{self, Requirement};
use super::usage::{Kind, usage};
use super::{Change, Quota};
use crate::footprint::Amounts;
use crate::quantity::Quantity;

/// The forms of the configuration: apiVersion and kind.
const FORMS: &[(&str, &str)] = &[
    ("apiserver.config.k8s.io/v1", "ResourceQuotaConfiguration"),
    ("apiserver.config.k8s.io/v1beta1", "ResourceQuotaConfiguration"),
    ("apiserver.config.k8s.io/v1alpha1", "ResourceQuotaConfiguration"),
    ("resourcequota.admission.k8s.io/v1beta1", "Configuration"),
    ("resourcequota.admission.k8s.io/v1alpha1", "Configuration"),
];
const OPERATORS: &[&str] = &["In", "NotIn", "Exists", "DoesNotExist"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    limited_resources: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    api_group: String,
    #[serde(default)]
    resource: String,
    #[serde(default)]
    match_contains: Option<Vec<String>>,
    #[serde(default)]
    match_scopes: Option<Vec<Value>>,
}

/// One entry: what of which resource has to be covered by a quota.
#[derive(Clone, Debug, PartialEq)]
pub struct Limited {
    group: String,
    resource: String,
    contains: Vec<String>,
    scopes: Vec<Requirement>,
}

/// Why a write is refused, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Insufficient {
    /// No quota that the object is in limits these.
    #[error("insufficient quota to consume: {}", .0.join(","))]
    Resources(Vec<String>),
    /// No quota of the namespace is about these scopes.
    #[error("insufficient quota to match these scopes: [{}]", .0.join(" "))]
    Scopes(Vec<String>),
}

impl Limited {
    /// Reads a ResourceQuotaConfiguration; the error says what is wrong with it.
    pub fn read(config: &Value) -> Result<Vec<Limited>, String> {
        let file: File = serde_json::from_value(config.clone()).map_err(|why| why.to_string())?;
        if !FORMS.contains(&(&file.api_version, &file.kind)) {
            return Err(format!(
                "expected ResourceQuotaConfiguration of apiserver.config.k8s.io/v1, found {:?} of {:?}",
                file.kind, file.api_version
            ));
        }
        let entries = file.limited_resources.unwrap_or_default().into_iter().enumerate();
        entries.map(|(index, entry)| Self::of(entry, &format!("limitedResources[{index}]"))).collect()
    }

    fn of(entry: Entry, path: &str) -> Result<Self, String> {
        if entry.resource.is_empty() {
            return Err(format!("{path}.resource: Required value"));
        }
        let scopes = entry.match_scopes.unwrap_or_default();
        for (index, of) in scopes.iter().enumerate() {
            let text = |field: &str| of.get(field).and_then(Value::as_str).unwrap_or_default();
            let (name, operator) = (text("scopeName"), text("operator"));
            if !scope::NAMES.contains(&name) {
                return Err(format!(
                    "{path}.matchScopes[{index}].scopeName: Invalid value: {name:?}: unsupported scope"
                ));
            }
            if !OPERATORS.contains(&operator) {
                return Err(format!(
                    "{path}.matchScopes[{index}].operator: Invalid value: {operator:?}: not a valid selector operator"
                ));
            }
        }
        Ok(Limited {
            group: entry.api_group,
            resource: entry.resource,
            contains: entry.match_contains.unwrap_or_default(),
            scopes: scopes.iter().map(scope::expression).collect(),
        })
    }
}

/// What of a change has to be covered by quotas.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Demand {
    names: BTreeSet<String>,
    scopes: Vec<Requirement>,
}

impl Demand {
    /// What `change` has to be covered for. Nothing for facts, and for what takes no more than before.
    pub fn of(limited: &[Limited], change: &Change<'_>) -> Self {
        let Some(new) = change.new.filter(|_| !change.fact && !limited.is_empty()) else {
            return Demand::default();
        };
        let after = usage(change.kind, new, change.now);
        if let Some(old) = change.old
            && !grows(&usage(change.kind, old, change.now), &after)
        {
            return Demand::default();
        }
        let is_its = |limited: &&Limited| change.kind == Kind::new(&limited.group, &limited.resource);
        let contains = |name: &String| {
            limited.iter().filter(is_its).any(|entry| entry.contains.iter().any(|part| name.contains(part)))
        };
        let taken = after.iter().filter(|(_, amount)| **amount > Quantity::ZERO).map(|(name, _)| name);
        let scopes = limited.iter().flat_map(|entry| &entry.scopes);
        Demand {
            names: taken.filter(|name| contains(name)).cloned().collect(),
            scopes: scopes.filter(|scope| scope.matches(change.kind, new)).cloned().collect(),
        }
    }

    /// Whether nothing has to be covered.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.scopes.is_empty()
    }

    /// Refuses what none of the namespace's quotas covers.
    pub fn check(&self, quotas: &[Quota], change: &Change<'_>) -> Result<(), Insufficient> {
        let Some(new) = change.new.filter(|_| !self.is_empty()) else { return Ok(()) };
        let covers = |name: &String| {
            quotas.iter().any(|quota| quota.hard.contains_key(name) && quota.matches(change.kind, new))
        };
        let bare: Vec<String> = self.names.iter().filter(|name| !covers(name)).cloned().collect();
        if !bare.is_empty() {
            return Err(Insufficient::Resources(bare));
        }
        let is_about = |wanted: &Requirement| {
            let scopes = quotas.iter().flat_map(|quota| &quota.scopes);
            scopes.into_iter().any(|scope| scope.scope == wanted.scope && scope.matches(change.kind, new))
        };
        let bare: Vec<String> =
            self.scopes.iter().filter(|scope| !is_about(scope)).map(Requirement::to_string).collect();
        if bare.is_empty() { Ok(()) } else { Err(Insufficient::Scopes(bare)) }
    }
}

/// Whether something is taken more than before.
fn grows(before: &Amounts, after: &Amounts) -> bool {
    let had = |name: &String| before.get(name).copied().unwrap_or(Quantity::ZERO);
    after.iter().any(|(name, amount)| *amount > had(name))
}

impl fmt::Display for Requirement {
    /// As Go shows the structure, which is what upstream's message holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{} {} [{}]}}", self.scope, self.operator_word(), self.values.join(" "))
    }
}

#[cfg(test)]
mod tests;
