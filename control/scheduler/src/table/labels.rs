//! Labels of nodes, turned round: for each label the set of nodes that have it, so that a selector is a few operations
//! on sets.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};

use super::{Row, Table};
use crate::bits::Bits;

/// Labels of all nodes.
#[derive(Clone, Debug, Default)]
pub struct LabelIndex {
    values: HashMap<String, HashMap<String, Bits>>,
    of: Vec<BTreeMap<String, String>>,
}

impl LabelIndex {
    /// Gives a node its labels; says whether they changed.
    pub(super) fn set(&mut self, row: Row, labels: BTreeMap<String, String>) -> bool {
        let at = row as usize;
        if self.of.len() <= at {
            self.of.resize(at + 1, BTreeMap::new());
        }
        if self.of[at] == labels {
            return false;
        }
        for (name, value) in &self.of[at] {
            if let Some(values) = self.values.get_mut(name) {
                if let Some(nodes) = values.get_mut(value) {
                    nodes.remove(row);
                    if nodes.is_empty() {
                        values.remove(value);
                    }
                }
                if values.is_empty() {
                    self.values.remove(name);
                }
            }
        }
        for (name, value) in &labels {
            let values = self.values.entry(name.clone()).or_default();
            values.entry(value.clone()).or_default().insert(row);
        }
        self.of[at] = labels;
        true
    }

    /// The value of a node's label.
    fn get(&self, row: Row, name: &str) -> Option<&str> {
        self.of.get(row as usize)?.get(name).map(String::as_str)
    }

    /// The nodes whose label `name` has `value`.
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Option<&Bits> {
        self.values.get(name)?.get(value)
    }

    /// The nodes that have the label, whose value satisfies `test`.
    fn any(&self, name: &str, capacity: usize, test: impl Fn(&str) -> bool) -> Bits {
        let mut nodes = Bits::empty(capacity);
        for (value, with) in self.values.get(name).into_iter().flatten() {
            if test(value) {
                nodes.add(with);
            }
        }
        nodes
    }
}

impl Table {
    /// The nodes that have every pair of `selector`.
    #[must_use]
    pub fn selected(&self, selector: &BTreeMap<String, String>) -> Bits {
        let mut nodes = self.live.clone();
        for (name, value) in selector {
            match self.labels.with(name, value) {
                Some(with) => nodes.keep(with),
                None => return Bits::empty(self.rows()),
            }
        }
        nodes
    }

    /// The nodes that match a term. A term without requirements matches none.
    #[must_use]
    pub fn matching(&self, term: &NodeSelectorTerm) -> Bits {
        let (expressions, fields) = (term.match_expressions.as_ref(), term.match_fields.as_ref());
        let count = expressions.map_or(0, Vec::len) + fields.map_or(0, Vec::len);
        if count == 0 {
            return Bits::empty(self.rows());
        }
        let mut nodes = self.live.clone();
        for requirement in expressions.into_iter().flatten() {
            nodes.keep(&self.with_label(requirement));
        }
        for requirement in fields.into_iter().flatten() {
            nodes.keep(&self.with_field(requirement));
        }
        nodes
    }

    fn with_label(&self, requirement: &NodeSelectorRequirement) -> Bits {
        let negated = matches!(requirement.operator.as_str(), "NotIn" | "DoesNotExist");
        let test = |value: &str| -> bool {
            let holds = holds(requirement, Some(value));
            if negated { !holds } else { holds }
        };
        let found = self.labels.any(&requirement.key, self.rows(), test);
        if !negated {
            return found;
        }
        // What has the label with a value that does not count, out of all.
        let mut nodes = self.live.clone();
        nodes.subtract(&found);
        nodes
    }

    /// `metadata.name` is the only field that a node can be selected by.
    fn with_field(&self, requirement: &NodeSelectorRequirement) -> Bits {
        self.live.iter().filter(|row| self.field_holds(requirement, *row)).collect()
    }

    fn field_holds(&self, requirement: &NodeSelectorRequirement, row: Row) -> bool {
        requirement.key == "metadata.name" && holds(requirement, Some(self.name(row)))
    }

    /// Whether one node matches a term.
    #[must_use]
    pub fn matches(&self, term: &NodeSelectorTerm, row: Row) -> bool {
        let (expressions, fields) = (term.match_expressions.as_ref(), term.match_fields.as_ref());
        let count = expressions.map_or(0, Vec::len) + fields.map_or(0, Vec::len);
        count > 0
            && expressions.into_iter().flatten().all(|r| holds(r, self.labels.get(row, &r.key)))
            && fields.into_iter().flatten().all(|r| self.field_holds(r, row))
    }

    /// Whether one node has every pair of `selector`.
    #[must_use]
    pub fn is_selected(&self, selector: &BTreeMap<String, String>, row: Row) -> bool {
        selector.iter().all(|(name, value)| self.labels.get(row, name) == Some(value))
    }
}

/// Whether a label's value, or its absence, satisfies a requirement. An unknown operator is satisfied by nothing.
fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let listed = |value: &str| requirement.values.iter().flatten().any(|one| one == value);
    match (requirement.operator.as_str(), value) {
        ("In", Some(value)) => listed(value),
        ("NotIn", Some(value)) => !listed(value),
        ("NotIn" | "DoesNotExist", None) | ("Exists", Some(_)) => true,
        ("Gt", Some(value)) => compare(requirement, value).is_some_and(|(value, bound)| value > bound),
        ("Lt", Some(value)) => compare(requirement, value).is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

fn compare(requirement: &NodeSelectorRequirement, value: &str) -> Option<(i64, i64)> {
    let bound = requirement.values.as_ref()?.first()?.parse().ok()?;
    Some((value.parse().ok()?, bound))
}
