//! Where rules of `x-kubernetes-validations` are kept: with the version whose schema has them.
//!
//! What they mean is known above this crate. Whoever judges objects gives [`Version::rules`] the compiler, which runs
//! at the first use; the result lives as long as the version's rows.

use std::fmt::Debug;
use std::sync::OnceLock;

use serde_json::Value;

use super::Version;
use crate::status::FieldError;

/// The compiled rules of a version's schema.
pub trait Rules: Debug + Send + Sync {
    /// Judges `new`, an object in the form of the version, which replaces `old`, if anything.
    fn judge(&self, new: &Value, old: Option<&Value>) -> Judged;
}

/// What rules say of an object.
#[derive(Debug, Default)]
pub struct Judged {
    /// What refuses it.
    pub errors: Vec<FieldError>,
    /// What was as wrong before, for the client to know.
    pub warnings: Vec<String>,
}

/// Rules that are compiled when they are asked for; `None` where the schema has none.
pub(super) type Slot = OnceLock<Option<Box<dyn Rules>>>;

impl Version {
    /// Whether somebody asked for the rules, so that asking again costs nothing.
    pub fn has_compiled(&self) -> bool {
        self.rules.get().is_some()
    }

    /// The rules of the schema, by `compile` when nobody asked before. It gets the schema as the definition has it, and
    /// answers `None` when there are no rules in it.
    pub fn rules(&self, compile: fn(&Value) -> Option<Box<dyn Rules>>) -> Option<&dyn Rules> {
        self.rules.get_or_init(|| compile(&self.source)).as_deref()
    }
}
