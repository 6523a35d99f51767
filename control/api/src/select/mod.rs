//! Label and field selectors, and the cheap views of objects that they are matched against.

mod field;
mod label;

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

pub use field::{FieldSelector, FieldTerm};
pub use label::{LabelSelector, Operator, Requirement};

use crate::codec::{Parts, read_lean};
use crate::meta;
use crate::resource::Resource;
use crate::resources;

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

/// Kinds some of whose selectable fields are not named after where they are.
const ELSEWHERE: &[(&str, &str)] = &[("", "events"), ("batch", "jobs"), ("events.k8s.io", "events")];

/// Where the labels and selectable fields of each built-in kind are.
static PARTS: LazyLock<HashMap<(&str, &str), Parts>> = LazyLock::new(|| {
    let rows = resources().iter().filter(|row| row.is_storage_version());
    let rows = rows.filter(|row| !ELSEWHERE.contains(&(row.group, row.plural)));
    rows.map(|row| ((row.group, row.plural), parts(row))).collect()
});

fn parts(resource: &Resource) -> Parts {
    let fields = resource.strategy().selectable_fields().iter().map(|field| field.split('.').collect());
    Parts::at(std::iter::once(vec!["metadata", "labels"]).chain(fields))
}

impl View {
    /// The view of the text of a stored object of `resource`, which is the version that is stored; fails when the text
    /// is damaged.
    pub fn read(resource: &Resource, text: &[u8]) -> Result<Self, serde_json::Error> {
        let object = match PARTS.get(&(resource.group, resource.plural)) {
            Some(parts) => parts.read(text)?,
            None => read_lean(text)?.object,
        };
        Ok(Self::of(resource, &object))
    }

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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// An object with something at each of the paths that the kind's selectable fields name.
    fn with_fields(resource: &Resource) -> Value {
        let mut object = json!({
            "metadata": {"name": "n", "namespace": "web", "labels": {"a": "b"}, "managedFields": [{"manager": "m"}]},
            "reportingComponent": "kubelet",
            "source": {"component": ""},
            "status": {"succeeded": 1, "podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]},
            "spec": {"parentRef": {"resource": "services", "namespace": "web", "name": "s"}}
        });
        for field in resource.strategy().selectable_fields() {
            let pointer = format!("/{}", field.replace('.', "/"));
            if object.pointer(&pointer).is_some() {
                continue;
            }
            let mut within = &mut object;
            for name in field.split('.') {
                within = &mut within[name];
            }
            *within = format!("value of {field}").into();
        }
        object
    }

    #[test]
    fn views_of_texts_are_those_of_objects() {
        for resource in resources().iter().filter(|row| row.is_storage_version()) {
            let object = with_fields(resource);
            let read = View::read(resource, object.to_string().as_bytes()).unwrap();
            assert_eq!(read, View::of(resource, &object), "{resource:?}");
            assert_eq!(read.label("a"), Some("b"), "{resource:?}");
        }
        assert!(View::read(crate::find("", "v1", "pods").unwrap(), b"{").is_err());
    }
}
