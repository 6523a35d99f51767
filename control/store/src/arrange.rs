//! The order of a read's answer, and what it leaves out.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::kv::{KeyValue, Revision};
use crate::txn::{Range, RangeResponse};

/// An order of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sort {
    /// By which field. Equal ones stay in the order of their keys.
    pub by: SortBy,
    /// The greatest first.
    pub descending: bool,
}

/// A field to sort by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SortBy {
    /// The key.
    Key,
    /// How many times the key was put.
    Version,
    /// When the key came to be.
    CreateRevision,
    /// When the key was last changed.
    ModRevision,
    /// The value, as bytes.
    Value,
}

/// Which revisions an answer is about, both ends included; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The oldest last change.
    pub min_mod_revision: Revision,
    /// The newest last change.
    pub max_mod_revision: Revision,
    /// The oldest creation.
    pub min_create_revision: Revision,
    /// The newest creation.
    pub max_create_revision: Revision,
}

impl Limits {
    fn admit(&self, kv: &KeyValue) -> bool {
        let within = |min, max, at| (min == 0 || at >= min) && (max == 0 || at <= max);
        within(self.min_mod_revision, self.max_mod_revision, kv.mod_revision)
            && within(self.min_create_revision, self.max_create_revision, kv.create_revision)
    }
}

impl Range {
    /// Whether all keys have to be looked at, with their values, before the answer is known.
    fn arranges(&self) -> bool {
        !self.count_only && (self.sort.is_some() || self.limits != Limits::default())
    }

    /// What has to be fetched to answer this.
    pub(crate) fn to_fetch(&self) -> Cow<'_, Range> {
        if !self.arranges() {
            return Cow::Borrowed(self);
        }
        let plain =
            Range { sort: None, limits: Limits::default(), limit: 0, keys_only: false, ..self.clone() };
        Cow::Owned(plain)
    }

    /// Makes the answer of what was fetched.
    pub(crate) fn arrange(&self, response: &mut RangeResponse) {
        if !self.arranges() {
            return;
        }
        let kvs = &mut response.kvs;
        kvs.retain(|kv| self.limits.admit(kv));
        if let Some(sort) = self.sort {
            // Stable, also the other way round.
            kvs.sort_by(|a, b| if sort.descending { order(sort.by, b, a) } else { order(sort.by, a, b) });
        }
        if self.limit > 0 && kvs.len() > self.limit {
            kvs.truncate(self.limit);
            response.more = true;
        }
        if self.keys_only {
            kvs.iter_mut().for_each(|kv| *kv = Arc::new(kv.without_value()));
        }
    }
}

fn order(by: SortBy, a: &KeyValue, b: &KeyValue) -> Ordering {
    match by {
        SortBy::Key => a.key.cmp(&b.key),
        SortBy::Version => a.version.cmp(&b.version),
        SortBy::CreateRevision => a.create_revision.cmp(&b.create_revision),
        SortBy::ModRevision => a.mod_revision.cmp(&b.mod_revision),
        SortBy::Value => a.value.cmp(&b.value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(change: impl FnOnce(&mut Range)) -> (String, bool) {
        let mut range = Range::prefix("");
        change(&mut range);
        let kv = |key: &'static str, value: &'static str, create, modified, version| {
            Arc::new(KeyValue::new(key, value, create, modified, version, 0))
        };
        let kvs =
            vec![kv("a", "z", 2, 9, 3), kv("b", "y", 3, 3, 1), kv("c", "x", 4, 5, 2), kv("d", "x", 6, 6, 1)];
        let mut response = RangeResponse { revision: 9, count: 4, kvs, more: false };
        range.arrange(&mut response);
        assert_eq!(response.count, 4, "counts are about the range alone");
        let keys = response.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect();
        (keys, response.more)
    }

    #[test]
    fn answers_are_sorted_then_cut() {
        let sorted = |by, descending, limit| {
            read(|range| {
                range.sort = Some(Sort { by, descending });
                range.limit = limit;
            })
        };
        assert_eq!(sorted(SortBy::Key, true, 0), ("dcba".into(), false));
        assert_eq!(sorted(SortBy::Value, false, 0), ("cdba".into(), false));
        assert_eq!(sorted(SortBy::Value, true, 0), ("abcd".into(), false));
        assert_eq!(sorted(SortBy::Version, false, 3), ("bdc".into(), true));
        assert_eq!(sorted(SortBy::ModRevision, true, 1), ("a".into(), true));
        assert_eq!(sorted(SortBy::CreateRevision, true, 4), ("dcba".into(), false));
    }

    #[test]
    fn limits_leave_keys_out_before_the_cut() {
        let limited = |limits, limit| {
            read(|range| {
                range.limits = limits;
                range.limit = limit;
            })
        };
        let none = Limits::default();
        assert_eq!(limited(Limits { min_mod_revision: 5, ..none }, 0), ("acd".into(), false));
        assert_eq!(limited(Limits { max_mod_revision: 5, ..none }, 1), ("b".into(), true));
        let between = Limits { min_create_revision: 3, max_create_revision: 4, ..none };
        assert_eq!(limited(between, 2), ("bc".into(), false));
    }
}
