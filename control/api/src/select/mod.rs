//! Label and field selectors, and the cheap views of objects that they are matched against.

mod field;
mod label;

use serde_json::Value;

pub use field::{FieldSelector, FieldTerm};
pub use label::{LabelSelector, Operator, Requirement};

use crate::meta;
use crate::resource::Resource;

/// Why a selector cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// The text does not have the form of a selector.
    #[error("unable to parse requirement: {0}")]
    Syntax(String),
    /// A key or value breaks the rules for labels.
    #[error("unable to parse requirement: {0}")]
    Invalid(String),
    /// `a=b` was wanted.
    #[error("invalid selector: '{0}'; can't understand '{1}'")]
    FieldTerm(String, String),
    /// A field that the kind does not let select by.
    #[error("field label not supported: {0}")]
    Unsupported(String),
}

/// What selectors look at, taken from an object once, so that matching never parses it again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    labels: Box<[(Box<str>, Box<str>)]>,
    fields: Box<[(&'static str, Box<str>)]>,
}

impl View {
    /// The view of an object of `resource`.
    pub fn of(resource: &Resource, object: &Value) -> Self {
        let mut labels: Vec<(Box<str>, Box<str>)> = meta::labels(object)
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.as_str().into(), value.as_str().unwrap_or_default().into()))
            .collect();
        labels.sort_unstable();
        let strategy = resource.strategy();
        let fields = strategy
            .selectable_fields()
            .iter()
            .filter_map(|field| Some((*field, strategy.selectable(object, field)?.into())))
            .collect();
        View { labels: labels.into(), fields }
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.binary_search_by(|(k, _)| (**k).cmp(key)).ok().map(|at| &*self.labels[at].1)
    }

    /// The value of a selectable field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| *field == name).map(|(_, value)| &**value)
    }
}

/// Both selectors of a list or watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// By labels.
    pub labels: LabelSelector,
    /// By fields.
    pub fields: FieldSelector,
}

impl Selection {
    /// Reads both from query parameters and checks the fields against what `resource` allows.
    pub fn parse(resource: &Resource, labels: &str, fields: &str) -> Result<Self, SelectorError> {
        let selection =
            Selection { labels: LabelSelector::parse(labels)?, fields: FieldSelector::parse(fields)? };
        selection.fields.check(resource)?;
        Ok(selection)
    }

    /// Whether everything matches.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// Whether the object of that view matches.
    pub fn matches(&self, view: &View) -> bool {
        self.labels.matches(|key| view.label(key)) && self.fields.matches(|name| view.field(name))
    }
}
