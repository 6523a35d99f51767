//! What a write comes to for one quota: its new usage, or a refusal.

use jiff::Timestamp;
use serde_json::Value;

use super::usage::Kind;
use super::{Quota, pod};
use crate::footprint::Amounts;
use crate::quantity::Quantity;

/// A write of an object.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The kind of the object.
    pub kind: Kind<'a>,
    /// The object before; absent for creations.
    pub old: Option<&'a Value>,
    /// The object afterwards; absent for removals.
    pub new: Option<&'a Value>,
    /// Whether it is never refused: what the system finds out, such as a status, is so whether there is quota or not.
    pub fact: bool,
    /// When.
    pub now: Timestamp,
}

/// Why a write is refused, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Containers do not say what the quota counts.
    #[error("failed quota: {quota}: must specify {unsaid}")]
    Unsaid {
        /// The quota.
        quota: String,
        /// What, and for which containers.
        unsaid: String,
    },
    /// Nobody counted yet what the quota limits.
    #[error("status unknown for quota: {quota}, resources: {names}")]
    Unknown {
        /// The quota.
        quota: String,
        /// Names of what it limits.
        names: String,
    },
    /// An object that takes less than nothing.
    #[error("quota usage is negative for resource(s): {0}")]
    Negative(String),
    /// It is more than there may be.
    #[error("exceeded quota: {quota}, requested: {requested}, used: {used}, limited: {limited}")]
    Exceeded {
        /// The quota.
        quota: String,
        /// What the write wants more.
        requested: String,
        /// What is used.
        used: String,
        /// What may be used.
        limited: String,
    },
}

impl Quota {
    /// The usage after the change; `None` when it stays as it is.
    pub fn charge(&self, change: &Change<'_>) -> Result<Option<Amounts>, Refusal> {
        if !self.limits(change.kind) {
            return Ok(None);
        }
        let before = self.taken(change.kind, change.old, change.now);
        let after = self.taken(change.kind, change.new, change.now);
        let asks = !change.fact && change.new.is_some_and(|new| self.matches(change.kind, new));
        let difference = difference(&before, &after);
        if asks && (change.old.is_none() || !difference.is_empty()) {
            self.check_said(change)?;
            self.check_known(change.kind)?;
            let negative: Vec<&str> =
                after.iter().filter(|(_, a)| a.is_negative()).map(|(name, _)| name.as_str()).collect();
            if !negative.is_empty() {
                return Err(Refusal::Negative(negative.join(",")));
            }
        }
        let mut used = self.used.clone();
        let mut exceeded = Vec::new();
        for (name, more) in &difference {
            // What nobody counted yet, the count will show.
            let Some(sum) = used.get_mut(name) else { continue };
            let (had, limit) = (*sum, self.hard.get(name).copied().unwrap_or(Quantity::ZERO));
            *sum = had.plus(*more).max(Quantity::ZERO);
            if asks && !more.is_negative() && *sum > limit {
                exceeded.push((name, *more, had, limit));
            }
        }
        if !exceeded.is_empty() {
            return Err(self.exceeded(&exceeded));
        }
        Ok((used != self.used).then_some(used))
    }

    fn check_said(&self, change: &Change<'_>) -> Result<(), Refusal> {
        let Some(pod) = change.new.filter(|_| change.kind.is_core("pods")) else { return Ok(()) };
        let unsaid = pod::unsaid(pod, self.hard.keys());
        if unsaid.is_empty() {
            return Ok(());
        }
        let list = |(name, containers): (&String, &std::collections::BTreeSet<String>)| {
            let containers: Vec<&str> = containers.iter().map(String::as_str).collect();
            format!("{name} for: {}", containers.join(","))
        };
        let unsaid = unsaid.iter().map(list).collect::<Vec<_>>().join("; ");
        Err(Refusal::Unsaid { quota: self.name.clone(), unsaid })
    }

    fn check_known(&self, kind: Kind<'_>) -> Result<(), Refusal> {
        let names: Vec<&str> = self.hard.keys().filter(|name| kind.takes(name)).map(String::as_str).collect();
        if names.iter().all(|name| self.used.contains_key(*name)) {
            return Ok(());
        }
        Err(Refusal::Unknown { quota: self.name.clone(), names: names.join(",") })
    }

    fn exceeded(&self, all: &[(&String, Quantity, Quantity, Quantity)]) -> Refusal {
        let list = |amount: fn(&(&String, Quantity, Quantity, Quantity)) -> Quantity| {
            let entries = all.iter().map(|entry| format!("{}={}", entry.0, amount(entry)));
            entries.collect::<Vec<_>>().join(",")
        };
        Refusal::Exceeded {
            quota: self.name.clone(),
            requested: list(|entry| entry.1),
            used: list(|entry| entry.2),
            limited: list(|entry| entry.3),
        }
    }
}

/// What is more (or less, below 0) in `after` than in `before`; nothing for what is equal.
fn difference(before: &Amounts, after: &Amounts) -> Amounts {
    let get = |amounts: &Amounts, name: &String| amounts.get(name).copied().unwrap_or(Quantity::ZERO);
    let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
    let all = names.map(|name| (name.clone(), get(after, name).minus(get(before, name))));
    all.filter(|(_, amount)| !amount.is_zero()).collect()
}
