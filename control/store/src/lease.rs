//! When leases run out. Only the leader keeps time: deadlines are not replicated, and start anew, with the full TTL,
//! when a member starts to lead, so that no lease ends early.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::command::Command;
use crate::error::WriteError;
use crate::kv::LeaseId;
use crate::raft::Node;
use crate::shared::{Shared, until};

/// When to try again to end a lease whose end could not be written.
const RETRY: Duration = Duration::from_secs(1);

/// The deadlines of all leases.
#[derive(Debug, Default)]
pub(crate) struct Lessor {
    deadlines: Mutex<Deadlines>,
    earlier: Notify,
}

#[derive(Debug, Default)]
struct Deadlines {
    of: HashMap<LeaseId, Deadline>,
    queue: BTreeSet<(Instant, LeaseId)>,
    /// Whether this member keeps time.
    runs: bool,
}

#[derive(Clone, Copy, Debug)]
struct Deadline {
    at: Instant,
    ttl: i64,
}

impl Deadlines {
    fn set(&mut self, id: LeaseId, ttl: i64, at: Instant) {
        self.remove(id);
        self.of.insert(id, Deadline { at, ttl });
        self.queue.insert((at, id));
    }

    fn remove(&mut self, id: LeaseId) {
        if let Some(old) = self.of.remove(&id) {
            self.queue.remove(&(old.at, id));
        }
    }
}

/// `ttl` seconds from `now`. TTLs are limited, so it cannot overflow what an `Instant` holds.
fn after(now: Instant, ttl: i64) -> Instant {
    now + Duration::from_secs(ttl.unsigned_abs())
}

impl Lessor {
    /// This member leads from now on. All leases are to be said with [`Lessor::granted`] after this.
    pub(crate) fn start(&self) {
        *self.deadlines.lock() = Deadlines { runs: true, ..Deadlines::default() };
    }

    /// This member does not lead any more: what it knows of times is void.
    pub(crate) fn stop(&self) {
        *self.deadlines.lock() = Deadlines::default();
    }

    /// Whether this member keeps time.
    pub(crate) fn runs(&self) -> bool {
        self.deadlines.lock().runs
    }

    /// Starts the time of a new lease.
    pub(crate) fn granted(&self, id: LeaseId, ttl: i64, now: Instant) {
        let mut deadlines = self.deadlines.lock();
        if !deadlines.runs {
            return;
        }
        let first = deadlines.queue.first().map(|(at, _)| *at);
        let at = after(now, ttl);
        deadlines.set(id, ttl, at);
        if first.is_none_or(|first| at < first) {
            self.earlier.notify_one();
        }
    }

    /// Forgets a lease that ended.
    pub(crate) fn revoked(&self, id: LeaseId) {
        self.deadlines.lock().remove(id);
    }

    /// Starts the time of a lease anew; gives its TTL, or `None` if there is no such lease (any more).
    pub(crate) fn keep_alive(&self, id: LeaseId, now: Instant) -> Option<i64> {
        let mut deadlines = self.deadlines.lock();
        let old = deadlines.of.get(&id).copied()?;
        // One that ran out is about to be revoked: nobody may count on it again.
        if old.at <= now {
            return None;
        }
        deadlines.set(id, old.ttl, after(now, old.ttl));
        Some(old.ttl)
    }

    /// Whole seconds that a lease has left.
    pub(crate) fn remaining(&self, id: LeaseId, now: Instant) -> Option<i64> {
        let deadlines = self.deadlines.lock();
        let left = deadlines.of.get(&id)?.at.saturating_duration_since(now);
        Some(left.as_secs() as i64)
    }

    /// The leases that have run out.
    fn expired(&self, now: Instant) -> Vec<LeaseId> {
        let deadlines = self.deadlines.lock();
        deadlines.queue.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id).collect()
    }

    fn first(&self) -> Option<Instant> {
        self.deadlines.lock().queue.first().map(|(at, _)| *at)
    }
}

/// Ends leases that run out, until `stop`.
pub(crate) async fn run(shared: Arc<Shared>, node: Node, mut stop: watch::Receiver<bool>) {
    let mut not_before = Instant::now();
    loop {
        let first = shared.lessor.first().map(|first| first.max(not_before));
        tokio::select! {
            biased;
            () = until(&mut stop) => return,
            () = shared.lessor.earlier.notified() => {}
            () = sleep_until(first) => {
                if !end_expired(&shared, &node).await {
                    not_before = Instant::now() + RETRY;
                }
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Says whether all of them could be ended.
async fn end_expired(shared: &Shared, node: &Node) -> bool {
    for id in shared.lessor.expired(Instant::now()) {
        // Not forwarded: a new leader gives every lease its full time.
        match node.write_as_leader(Command::LeaseRevoke { id }).await {
            Ok(_) => tracing::debug!(lease = id, "lease ran out"),
            Err(WriteError::LeaseNotFound(_)) => shared.lessor.revoked(id),
            Err(WriteError::NotLeader { .. } | WriteError::Corrupt) => return false,
            Err(error) => {
                tracing::warn!(lease = id, %error, "cannot end a lease that ran out; trying again");
                return false;
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_lives_from_its_last_keep_alive() {
        let lessor = Lessor::default();
        lessor.start();
        let start = Instant::now();
        let second = |n| start + Duration::from_secs(n);
        lessor.granted(1, 10, start);
        lessor.granted(2, 5, start);
        assert_eq!(lessor.first(), Some(second(5)));
        assert_eq!(lessor.keep_alive(2, second(4)), Some(5));
        assert_eq!(lessor.remaining(2, second(6)), Some(3));
        assert!(lessor.expired(second(8)).is_empty());
        assert_eq!(lessor.expired(second(9)), [2]);
        assert_eq!(lessor.keep_alive(2, second(9)), None, "it ran out");
        assert_eq!(lessor.expired(second(10)), [2, 1]);
        lessor.revoked(2);
        assert_eq!(lessor.expired(second(10)), [1]);
        assert_eq!(lessor.keep_alive(7, start), None);
    }
}
