//! Automatic compaction, with etcd's two modes (`--auto-compaction-mode`).

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::WriteError;
use crate::kv::Revision;
use crate::store::Store;

/// What history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// That of this time (etcd's `periodic`).
    Period(Duration),
    /// So many revisions (etcd's `revision`).
    Revisions(u64),
}

/// How often the number of revisions is looked at; etcd's interval.
const EVERY: Duration = Duration::from_secs(300);

/// Into how many steps a period is cut; etcd's number.
const STEPS: u32 = 10;

/// Periods longer than this are still compacted so often.
const LONGEST_STEP_OF: Duration = Duration::from_secs(3600);

impl AutoCompaction {
    fn every(self) -> Duration {
        match self {
            AutoCompaction::Period(period) => {
                (period.min(LONGEST_STEP_OF) / STEPS).max(Duration::from_millis(1))
            }
            AutoCompaction::Revisions(_) => EVERY,
        }
    }
}

/// The revisions that were the newest at some times.
#[derive(Debug, Default)]
struct Past(VecDeque<(Instant, Revision)>);

impl Past {
    /// The newest revision as of `now - period`, if that is known.
    fn before(&mut self, now: Instant, newest: Revision, period: Duration) -> Option<Revision> {
        self.0.push_back((now, newest));
        let old = self.0.iter().take_while(|(at, _)| now.duration_since(*at) >= period).count();
        // What is older than the answer is not needed any more.
        self.0.drain(..old.saturating_sub(1));
        (old > 0).then(|| self.0.front().map(|(_, revision)| *revision)).flatten()
    }
}

/// Compacts by itself until `shutdown`. Members that do not lead only keep themselves ready to.
pub async fn compact_automatically(store: Store, mode: AutoCompaction, shutdown: impl Future<Output = ()>) {
    let mut past = Past::default();
    let mut tick = tokio::time::interval(mode.every());
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => return,
            _ = tick.tick() => {}
        }
        let newest = store.revision();
        let until = match mode {
            AutoCompaction::Period(period) => past.before(Instant::now(), newest, period),
            AutoCompaction::Revisions(kept) => Some(newest.saturating_sub_unsigned(kept)),
        };
        let leads = store.is_leader();
        let Some(until) = until.filter(|until| leads && *until > store.compacted_revision()) else {
            continue;
        };
        match store.compact(until).await {
            Ok(()) => tracing::info!(revision = until, "compacted automatically"),
            Err(WriteError::Compacted { .. }) => {}
            Err(WriteError::Stopped) => return,
            Err(error) => tracing::warn!(%error, revision = until, "cannot compact; trying again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_keeps_what_was_the_newest_then() {
        let mut past = Past::default();
        let start = Instant::now();
        let mut look = |second, newest| {
            past.before(start + Duration::from_secs(second), newest, Duration::from_secs(10))
        };
        assert_eq!(look(0, 5), None);
        assert_eq!(look(9, 7), None, "nothing is that old");
        assert_eq!(look(10, 8), Some(5));
        assert_eq!(look(18, 9), Some(5));
        assert_eq!(look(19, 10), Some(7));
        assert_eq!(look(40, 11), Some(10));
        assert!(past.0.len() < 4, "what is not needed is forgotten");
    }
}
