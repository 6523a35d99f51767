//! Quotas of namespaces: what an object takes of them, which objects a quota is about, and what a write comes to.
//!
//! The API server charges by [`Quota::charge`] when it writes an object, the controller counts anew by
//! [`Quota::recount`]; both are sums of the same [`usage`], so that they agree.

mod charge;
mod limited;
mod pod;
mod scope;
#[cfg(test)]
mod tests;
mod usage;

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

pub use charge::{Change, Refusal};
pub use limited::{Demand, Insufficient, Limited};
pub use pod::overdue_at;
pub use usage::{Kind, kind_of, usage};

use crate::footprint::{self, Amounts};
use crate::quantity::Quantity;

/// A ResourceQuota, as far as counting needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    /// Its name.
    pub name: String,
    /// The most there may be: `spec.hard`.
    pub hard: Amounts,
    /// What there is: `status.used`. A name that is missing was not counted yet.
    pub used: Amounts,
    scopes: Vec<scope::Requirement>,
}

impl Quota {
    /// Reads the object.
    pub fn read(object: &Value) -> Self {
        Quota {
            name: crate::meta::name(object).to_owned(),
            hard: footprint::amounts(object.pointer("/spec/hard")),
            used: footprint::amounts(object.pointer("/status/used")),
            scopes: scope::read(object),
        }
    }

    /// Whether it limits anything that objects of the kind take, and this object is in its scopes.
    pub fn matches(&self, kind: Kind<'_>, object: &Value) -> bool {
        self.limits(kind) && self.scopes.iter().all(|scope| scope.matches(kind, object))
    }

    /// Whether it limits anything that objects of the kind take.
    pub fn limits(&self, kind: Kind<'_>) -> bool {
        self.hard.keys().any(|name| kind.takes(name))
    }

    /// The kinds whose objects have to be looked at to count everything, each once, as (group, plural).
    pub fn kinds(&self) -> BTreeSet<(String, String)> {
        let names = self.hard.keys().filter_map(|name| kind_of(name));
        names.map(|(group, plural)| (group.to_owned(), plural.to_owned())).collect()
    }

    /// What `object` takes of this quota as of `now`.
    fn taken(&self, kind: Kind<'_>, object: Option<&Value>, now: Timestamp) -> Amounts {
        let Some(object) = object.filter(|object| self.matches(kind, object)) else {
            return Amounts::new();
        };
        let mut taken = usage(kind, object, now);
        taken.retain(|name, _| self.hard.contains_key(name) && kind.takes(name));
        taken
    }

    /// What all these objects take, 0 for what is not taken at all: the `used` of the status.
    pub fn recount<'a>(
        &self,
        objects: impl IntoIterator<Item = (Kind<'a>, &'a Value)>,
        now: Timestamp,
    ) -> Amounts {
        let mut sum: Amounts = self.hard.keys().map(|name| (name.clone(), Quantity::ZERO)).collect();
        for (kind, object) in objects {
            footprint::add(&mut sum, &self.taken(kind, Some(object), now));
        }
        sum
    }
}

/// Amounts as a JSON object, in the canonical form.
pub fn to_value(amounts: &Amounts) -> Value {
    amounts.iter().map(|(name, amount)| (name.clone(), json!(amount.to_string()))).collect()
}
