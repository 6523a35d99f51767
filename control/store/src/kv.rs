//! Keys, values and the ranges of keys that reads, deletes and watches are about.

use std::any::Any;
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A point in the history of the store. An empty store is at 1; each transaction that changes anything adds one.
pub type Revision = i64;

/// Names a lease. 0 means "no lease".
pub type LeaseId = i64;

/// The revision of a store that was never written to, as in etcd: so the first change has revision 2, and no
/// object ever has the revision 0, which clients take for "any".
pub(crate) const FIRST_REVISION: Revision = 1;

/// One key at one revision. Immutable: the current key space, the event window and every reader share it.
#[derive(Clone, Serialize, Deserialize)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// The bytes that were put; empty for the mark of a deletion.
    pub value: Bytes,
    /// The revision in which the key came to be (again, after a deletion).
    pub create_revision: Revision,
    /// The revision of this change.
    pub mod_revision: Revision,
    /// How many times the key was put since it came to be; 1 for the first, 0 for the mark of a deletion.
    pub version: i64,
    /// The lease that the key goes away with; 0 if none.
    pub lease: LeaseId,
    /// Order among the changes of one revision.
    pub(crate) sub: u32,
    #[serde(skip)]
    decoded: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl KeyValue {
    /// A key at a revision, with nothing decoded yet.
    pub fn new(
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        create_revision: Revision,
        mod_revision: Revision,
        version: i64,
        lease: LeaseId,
    ) -> KeyValue {
        KeyValue {
            key: key.into(),
            value: value.into(),
            create_revision,
            mod_revision,
            version,
            lease,
            sub: 0,
            decoded: OnceLock::new(),
        }
    }

    /// The same at a place among the changes of its revision.
    pub(crate) fn numbered(self, sub: u32) -> KeyValue {
        KeyValue { sub, ..self }
    }

    /// The mark that `key` was deleted in `revision`.
    pub(crate) fn tombstone(key: Bytes, revision: Revision, sub: u32) -> KeyValue {
        KeyValue::new(key, Bytes::new(), 0, revision, 0, 0).numbered(sub)
    }

    /// Whether this marks a deletion.
    pub(crate) fn is_tombstone(&self) -> bool {
        self.version == 0
    }

    /// What `make` says about the value, computed by whoever asks first and shared by all later callers, readers
    /// and watchers alike, since they hold the same `KeyValue`.
    ///
    /// There is one slot. A caller that asks for another type than the first one did gets its own, unshared, result.
    pub fn decoded<T: Send + Sync + 'static>(&self, make: impl FnOnce(&Bytes) -> T) -> Arc<T> {
        if let Some(known) = self.decoded.get() {
            return match Arc::clone(known).downcast::<T>() {
                Ok(shared) => shared,
                Err(_) => Arc::new(make(&self.value)),
            };
        }
        let made = Arc::new(make(&self.value));
        let stored = self.decoded.get_or_init(|| made.clone());
        Arc::clone(stored).downcast::<T>().unwrap_or(made)
    }

    /// What [`KeyValue::decoded`] gave to the first who asked, if that was a `T`.
    pub(crate) fn known<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        Arc::clone(self.decoded.get()?).downcast().ok()
    }

    /// A copy with another value.
    pub(crate) fn with_value(&self, value: Bytes) -> KeyValue {
        KeyValue { value, decoded: OnceLock::new(), ..self.clone() }
    }

    /// A copy without the value, for reads that want keys only.
    pub(crate) fn without_value(&self) -> KeyValue {
        KeyValue { value: Bytes::new(), decoded: OnceLock::new(), ..self.clone() }
    }
}

impl PartialEq for KeyValue {
    fn eq(&self, other: &KeyValue) -> bool {
        self.key == other.key
            && self.value == other.value
            && self.create_revision == other.create_revision
            && self.mod_revision == other.mod_revision
            && self.version == other.version
            && self.lease == other.lease
    }
}

impl Eq for KeyValue {}

impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyValue")
            .field("key", &self.key)
            .field("value_bytes", &self.value.len())
            .field("create_revision", &self.create_revision)
            .field("mod_revision", &self.mod_revision)
            .field("version", &self.version)
            .field("lease", &self.lease)
            .finish()
    }
}

/// A lease as its holder sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its name.
    pub id: LeaseId,
    /// How long it lives after each keep-alive, in seconds.
    pub granted_ttl: i64,
    /// Seconds left, rounded down; never negative. Equal to `granted_ttl` right after a grant or a keep-alive.
    pub remaining_ttl: i64,
}

/// The bounds of a range in an ordered map.
type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// A set of neighbouring keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyRange {
    /// Exactly one key.
    One(Bytes),
    /// Keys from `start` (included) to `end` (excluded). Empty if `start >= end`.
    Span {
        /// The first key.
        start: Bytes,
        /// The first key behind the range.
        end: Bytes,
    },
    /// All keys from this one on.
    From(Bytes),
}

impl KeyRange {
    /// Exactly `key`.
    pub fn key(key: impl Into<Bytes>) -> KeyRange {
        KeyRange::One(key.into())
    }

    /// Keys from `start` (included) to `end` (excluded).
    pub fn span(start: impl Into<Bytes>, end: impl Into<Bytes>) -> KeyRange {
        KeyRange::Span { start: start.into(), end: end.into() }
    }

    /// Keys from `start` on.
    pub fn from_key(start: impl Into<Bytes>) -> KeyRange {
        KeyRange::From(start.into())
    }

    /// Every key.
    pub fn all() -> KeyRange {
        KeyRange::From(Bytes::new())
    }

    /// Keys that begin with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> KeyRange {
        let start = prefix.into();
        // The first key behind all keys with the prefix: its last byte that can grow, grown by one.
        match start.iter().rposition(|byte| *byte != 0xff) {
            None => KeyRange::From(start),
            Some(last) => {
                let mut end = start[..=last].to_vec();
                end[last] += 1;
                KeyRange::Span { start, end: end.into() }
            }
        }
    }

    /// Whether `key` is in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::One(one) => one == key,
            KeyRange::Span { start, end } => start.as_ref() <= key && key < end.as_ref(),
            KeyRange::From(start) => start.as_ref() <= key,
        }
    }

    /// The bounds for a look into an ordered map; `None` if the range is empty (a map would panic).
    pub(crate) fn bounds(&self) -> Option<Bounds<'_>> {
        match self {
            KeyRange::One(one) => Some((Bound::Included(one.as_ref()), Bound::Included(one.as_ref()))),
            KeyRange::Span { start, end } if start < end => {
                Some((Bound::Included(start.as_ref()), Bound::Excluded(end.as_ref())))
            }
            KeyRange::Span { .. } => None,
            KeyRange::From(start) => Some((Bound::Included(start.as_ref()), Bound::Unbounded)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_first_key_that_does_not_have_it() {
        let pods = KeyRange::prefix("/registry/pods/");
        assert!(pods.contains(b"/registry/pods/"));
        assert!(pods.contains(b"/registry/pods/\xff\xff"));
        assert!(!pods.contains(b"/registry/pods0"));
        assert!(!pods.contains(b"/registry/pods"));
        assert_eq!(KeyRange::prefix(&b"a\xff"[..]), KeyRange::span(&b"a\xff"[..], "b"));
        assert_eq!(KeyRange::prefix(&b"\xff\xff"[..]), KeyRange::from_key(&b"\xff\xff"[..]));
        assert_eq!(KeyRange::prefix(""), KeyRange::all());
    }

    #[test]
    fn decoding_happens_once_and_is_shared() {
        let kv = KeyValue::new("k", "12", 2, 2, 1, 0);
        let mut calls = 0;
        let parse = |bytes: &Bytes| String::from_utf8_lossy(bytes).len();
        let first = kv.decoded(|bytes| {
            calls += 1;
            parse(bytes)
        });
        let second = kv.decoded(|_| -> usize { unreachable!("decoded before") });
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!((calls, *first), (1, 2));
        // Another type has to be computed, and leaves the shared one alone.
        assert_eq!(*kv.decoded(|bytes| format!("{bytes:?}")), "b\"12\"");
        assert!(Arc::ptr_eq(&first, &kv.decoded(|_| -> usize { unreachable!("decoded before") })));
    }
}
