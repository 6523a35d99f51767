//! A map whose entries hold for a while, and that stays small.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Remembers values for a time that each brings along.
pub(crate) struct TtlCache<K, V> {
    entries: Mutex<HashMap<K, (Instant, V)>>,
    most: usize,
}

impl<K: Eq + Hash, V: Clone> TtlCache<K, V> {
    /// Holds at most `most` entries; when it is full, those that have run out go first, then all do.
    pub(crate) fn new(most: usize) -> Self {
        Self { entries: Mutex::default(), most }
    }

    /// The value, if it still holds.
    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let entries = self.entries.lock();
        entries.get(key).filter(|(until, _)| *until > Instant::now()).map(|(_, value)| value.clone())
    }

    /// Remembers a value for `ttl`.
    pub(crate) fn put(&self, key: K, value: V, ttl: Duration) {
        if ttl.is_zero() {
            return;
        }
        let now = Instant::now();
        let mut entries = self.entries.lock();
        if entries.len() >= self.most {
            entries.retain(|_, (until, _)| *until > now);
        }
        if entries.len() >= self.most {
            entries.clear();
        }
        entries.insert(key, (now + ttl, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_run_out_and_are_few() {
        let cache = TtlCache::new(2);
        cache.put("gone", 0, Duration::ZERO);
        assert_eq!(cache.get(&"gone"), None);
        for (index, key) in ["a", "b", "c"].into_iter().enumerate() {
            cache.put(key, index, Duration::from_secs(60));
        }
        assert_eq!((cache.get(&"a"), cache.get(&"c")), (None, Some(2)));
        cache.put("short", 9, Duration::from_millis(1));
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(cache.get(&"short"), None);
    }
}
