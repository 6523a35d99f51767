//! `x-kubernetes-validations`: the rules of a structural schema, compiled once, and applied to objects.

mod compile;
mod path;
#[cfg(test)]
mod tests;
mod validate;

use std::collections::BTreeMap;

use serde_json::Value as Json;

pub use compile::compile;
pub use validate::{Outcome, validate};

use crate::program::Program;
use crate::types::Type;

/// Units that one rule may cost at most, for all values it is applied to.
pub const RULE_LIMIT: u64 = 10_000_000;
/// Units that all rules of a schema may cost at most.
pub const SCHEMA_LIMIT: u64 = 100_000_000;
/// Characters of an evaluated message at most.
const MAX_MESSAGE: usize = 5 << 10;

/// The rules of a schema and of all below it.
#[derive(Debug)]
pub struct Rules {
    /// What values are, for the rules here.
    ty: Type,
    /// The schema's word for it, which messages have in place of the value.
    word: String,
    rules: Vec<Rule>,
    properties: BTreeMap<String, Rules>,
    items: Option<Box<Rules>>,
    additional: Option<Box<Rules>>,
    all_of: Vec<Rules>,
    /// The fields that name an element of a list of type map.
    keys: Option<Vec<String>>,
    /// Whether the parts of an object have predecessors.
    granular: bool,
}

impl Rules {
    /// Whether there is nothing to judge.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
            && self.properties.is_empty()
            && self.items.is_none()
            && self.additional.is_none()
            && self.all_of.is_empty()
    }
}

/// A rule.
#[derive(Debug)]
struct Rule {
    source: String,
    program: Program,
    message: String,
    message_expression: Option<Program>,
    reason: Option<String>,
    /// What is added to the path of the value.
    field_path: String,
    optional_old_self: bool,
}

impl Rule {
    fn uses_old_self(&self) -> bool {
        self.program.uses("oldSelf")
    }

    /// The rule, as messages name it.
    fn shown(&self) -> &str {
        if self.message.is_empty() { self.source.trim() } else { self.message.trim() }
    }
}

/// The text of a field, empty when it is not there.
fn text<'j>(value: &'j Json, field: &str) -> &'j str {
    value[field].as_str().unwrap_or_default()
}
