//! The work queue of one controller: each key at most once, never two workers on one key, failures backed off.
//!
//! It holds at most one entry for each object of the kind that feeds it, so that it is bounded by what the caches
//! hold.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use carrack_client::Key;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The delay after a first failure; it doubles with each further one …
const FIRST_DELAY: Duration = Duration::from_millis(5);
/// … up to this.
const LONGEST_DELAY: Duration = Duration::from_secs(1000);
/// Retries of all keys together: this many a second …
const RETRIES_PER_SECOND: f64 = 10.0;
/// … after a burst of this many.
const RETRY_BURST: f64 = 100.0;

#[derive(Default)]
struct State {
    ready: VecDeque<Key>,
    /// Keys in `ready`, and keys to be put there when their worker is done.
    dirty: HashSet<Key>,
    working: HashSet<Key>,
    timers: BTreeSet<(Instant, Key)>,
    due: HashMap<Key, Instant>,
    failures: HashMap<Key, u32>,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

/// A queue of keys; share it between the handlers that add and the driver that works.
pub struct Queue {
    state: Mutex<State>,
    bucket: Mutex<Bucket>,
    wake: Notify,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            bucket: Mutex::new(Bucket { tokens: RETRY_BURST, at: Instant::now() }),
            wake: Notify::new(),
        }
    }
}

impl Queue {
    /// Adds `key` unless it waits already; a key that is being worked on comes again when its worker is done.
    pub fn add(&self, key: Key) {
        self.state.lock().add(key);
        self.wake.notify_one();
    }

    /// Adds `key` after `delay`, or sooner when an earlier time is set already.
    pub fn add_after(&self, key: Key, delay: Duration) {
        self.state.lock().schedule(key, Instant::now() + delay);
        self.wake.notify_one();
    }

    /// Adds `key` after the delay that its failures so far, and those of all keys, ask for.
    pub fn retry(&self, key: Key) {
        let shared = self.bucket.lock().take();
        let mut state = self.state.lock();
        let failures = state.failures.entry(key.clone()).or_insert(0);
        let own = own_delay(*failures);
        *failures = failures.saturating_add(1);
        state.schedule(key, Instant::now() + own.max(shared));
        drop(state);
        self.wake.notify_one();
    }

    /// Forgets the failures of `key`.
    pub fn forget(&self, key: &Key) {
        self.state.lock().failures.remove(key);
    }

    /// Waits for a key to work on; [`Queue::done`] must follow. Safe to cancel.
    pub async fn next(&self) -> Key {
        loop {
            let timer = {
                let mut state = self.state.lock();
                state.fire(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.dirty.remove(&key);
                    state.working.insert(key.clone());
                    return key;
                }
                state.timers.first().map(|(at, _)| *at)
            };
            match timer {
                Some(at) => {
                    // Either ends the wait: a timer is due, or something was added.
                    let _ = tokio::time::timeout_at(at, self.wake.notified()).await;
                }
                None => self.wake.notified().await,
            }
        }
    }

    /// Says that the work on `key` is over.
    pub fn done(&self, key: &Key) {
        let mut state = self.state.lock();
        state.working.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.wake.notify_one();
        }
    }
}

impl State {
    fn add(&mut self, key: Key) {
        if self.dirty.contains(&key) {
            return;
        }
        self.dirty.insert(key.clone());
        if !self.working.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn schedule(&mut self, key: Key, at: Instant) {
        if let Some(earlier) = self.due.get(&key) {
            if *earlier <= at {
                return;
            }
            self.timers.remove(&(*earlier, key.clone()));
        }
        self.due.insert(key.clone(), at);
        self.timers.insert((at, key));
    }

    fn fire(&mut self, now: Instant) {
        while self.timers.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, key)) = self.timers.pop_first() {
                self.due.remove(&key);
                self.add(key);
            }
        }
    }
}

impl Bucket {
    /// How long the next retry has to wait so that retries stay within their rate.
    fn take(&mut self) -> Duration {
        let now = Instant::now();
        let refill = now.duration_since(self.at).as_secs_f64() * RETRIES_PER_SECOND;
        self.tokens = (self.tokens + refill).min(RETRY_BURST) - 1.0;
        self.at = now;
        if self.tokens >= 0.0 {
            Duration::ZERO
        } else {
            Duration::from_secs_f64(-self.tokens / RETRIES_PER_SECOND)
        }
    }
}

fn own_delay(failures: u32) -> Duration {
    let factor = 1_u32.checked_shl(failures.min(31)).unwrap_or(u32::MAX);
    FIRST_DELAY.saturating_mul(factor).min(LONGEST_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new("ns", name)
    }

    async fn idle(queue: &Queue) -> bool {
        tokio::time::timeout(Duration::from_millis(1), queue.next()).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_once_and_is_worked_on_by_one() {
        let queue = Queue::default();
        queue.add(key("a"));
        queue.add(key("a"));
        assert_eq!(queue.next().await, key("a"));
        assert!(idle(&queue).await);
        queue.add(key("a"));
        assert!(idle(&queue).await, "a second worker got the key");
        queue.done(&key("a"));
        assert_eq!(queue.next().await, key("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_of_two_timers_counts() {
        let queue = Queue::default();
        let start = Instant::now();
        queue.add_after(key("a"), Duration::from_secs(9));
        queue.add_after(key("a"), Duration::from_secs(3));
        queue.add_after(key("a"), Duration::from_secs(5));
        assert_eq!(queue.next().await, key("a"));
        assert_eq!(start.elapsed().as_secs(), 3);
        queue.done(&key("a"));
        assert!(idle(&queue).await);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_double_the_delay_until_forgotten() {
        let queue = Queue::default();
        let mut delays = Vec::new();
        for _ in 0..4 {
            let start = Instant::now();
            queue.retry(key("a"));
            queue.next().await;
            queue.done(&key("a"));
            delays.push(start.elapsed().as_millis());
        }
        assert_eq!(delays, [5, 10, 20, 40]);
        queue.forget(&key("a"));
        let start = Instant::now();
        queue.retry(key("a"));
        queue.next().await;
        assert_eq!(start.elapsed().as_millis(), 5);
    }

    #[test]
    fn the_delay_has_a_limit() {
        assert_eq!(own_delay(30), LONGEST_DELAY);
        assert_eq!(own_delay(u32::MAX), LONGEST_DELAY);
    }

    #[tokio::test(start_paused = true)]
    async fn retries_of_all_keys_share_a_rate() {
        let queue = Queue::default();
        let start = Instant::now();
        for n in 0..120 {
            queue.retry(key(&n.to_string()));
        }
        for _ in 0..120 {
            queue.next().await;
        }
        assert_eq!(start.elapsed().as_secs(), 2);
    }
}
