//! Custom resources: rows that are made of CustomResourceDefinitions while the server runs.
//!
//! [`rows`] makes the rows of a definition; each carries a [`Custom`], which knows the schema of its version and, since
//! objects may be stored in any version that a definition ever stored, those of all others.

mod columns;
mod default;
mod definition;
mod formats;
mod lists;
mod numbers;
pub mod path;
mod pattern;
mod prune;
mod rules;
mod stored;
mod strategy;
pub mod structural;
#[cfg(test)]
mod tests;
mod validate;

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::resource::{Scope, Subresource};

pub use default::default;
pub use definition::{condition, is_served, rows, same_rows, set_condition};
pub use prune::prune;
pub use rules::{Judged, Rules};
pub use stored::{Webhook, is_in};
pub use validate::validate;

pub(crate) use prune::prune_default;
pub(crate) use validate::judge_at;

use columns::PrinterColumn;
use structural::Structural;

/// The annotation of a definition in a protected group.
pub const APPROVED: &str = "api-approved.kubernetes.io";
/// Whether the annotation's value is a URL, which tells where the approval is.
pub fn is_approval(value: &str) -> bool {
    value.split_once("://").is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty())
}

/// Whether a group is one of the Kubernetes project, whose definitions need an approval.
pub fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|ours| group == *ours || group.strip_suffix(ours).is_some_and(|rest| rest.ends_with('.')))
}

/// The finalizer of a definition: its objects go first.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// One version of a definition.
pub struct Version {
    /// Its name, such as `v1`.
    pub name: &'static str,
    /// `group/version`.
    pub api_version: &'static str,
    /// The schema.
    pub schema: Structural,
    /// The schema as the definition has it, for OpenAPI.
    pub source: Value,
    rules: rules::Slot,
    columns: Vec<PrinterColumn>,
    /// Paths below an object, in the order of their names.
    subresources: Vec<Subresource>,
    /// Where the scale is, if there is one.
    pub scale: Option<Scale>,
    /// Fields that selectors may use beside those of metadata, and where they are.
    selectable: Vec<(&'static str, Vec<String>)>,
    /// What clients of a deprecated version are told.
    pub deprecated: Option<String>,
}

/// Where the parts of a scale are in an object: simple paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    /// The wanted replicas.
    pub spec: Vec<String>,
    /// The present replicas.
    pub status: Vec<String>,
    /// The selector as text, if the definition names one.
    pub selector: Option<Vec<String>>,
}

/// A definition, with all its versions.
pub struct Definition {
    group: &'static str,
    kind: &'static str,
    scope: Scope,
    short_names: Vec<String>,
    categories: Vec<String>,
    versions: Vec<Version>,
    storage: usize,
    webhook: Option<Webhook>,
    /// Tells this state of the definition from all others that this process saw; later ones have greater numbers.
    generation: u64,
}

/// What a row of a custom resource has of its own, beside what every [`crate::Resource`] has.
pub struct Custom {
    definition: Arc<Definition>,
    at: usize,
    /// Names of the fields that selectors may use, those of metadata first.
    selectable: Vec<&'static str>,
}

impl Custom {
    /// Tells this row from all others that this process had: the number of the state of its definition, which grows,
    /// and the place of its version therein.
    pub fn identity(&self) -> (u64, usize) {
        (self.definition.generation, self.at)
    }

    /// The row's version.
    pub fn version(&self) -> &Version {
        &self.definition.versions[self.at]
    }

    /// The version that objects are stored in.
    pub fn storage(&self) -> &Version {
        &self.definition.versions[self.definition.storage]
    }

    /// A version by its `group/version`.
    pub(crate) fn find(&self, api_version: &str) -> Option<&Version> {
        self.definition.versions.iter().find(|v| v.api_version == api_version)
    }

    pub(crate) fn scope(&self) -> Scope {
        self.definition.scope
    }

    pub(crate) fn short_names(&self) -> Vec<&str> {
        self.definition.short_names.iter().map(String::as_str).collect()
    }

    pub(crate) fn categories(&self) -> Vec<&str> {
        self.definition.categories.iter().map(String::as_str).collect()
    }

    pub(crate) fn subresources(&self) -> &[Subresource] {
        &self.version().subresources
    }

    pub(crate) fn column_definitions(&self) -> Value {
        columns::definitions(&self.version().columns)
    }

    pub(crate) fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        columns::cells(&self.version().columns, object, now)
    }
}
