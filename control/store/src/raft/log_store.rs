//! The log as openraft wants it: [`SegmentLog`] with the entries that are not applied yet in memory.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{EntryPayload, LogState, OptionalSend, RaftLogReader};
use parking_lot::Mutex;

use super::convert;
use super::{Entry, LogId, RaftVote, Types};
use crate::log::{Position, Record, SyncTicket};
use crate::shared::Shared;

/// How often a write that found no space is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(100);

/// The log; clones read and write the same one.
#[derive(Clone)]
pub(super) struct LogStore {
    shared: Arc<Shared>,
    /// The newest entries, without gaps. All that are not applied are here.
    recent: Arc<Mutex<VecDeque<Entry>>>,
}

impl LogStore {
    /// The log of `shared`, whose last entries are `recent`.
    pub(super) fn new(shared: Arc<Shared>, recent: Vec<Record>) -> io::Result<LogStore> {
        let recent: VecDeque<_> = recent.into_iter().map(convert::entry).collect::<io::Result<_>>()?;
        let log = LogStore { shared, recent: Arc::default() };
        recent.iter().for_each(|entry| log.notice_membership(entry));
        *log.recent.lock() = recent;
        Ok(log)
    }

    /// Runs `write` on the log, then syncs what it wrote.
    ///
    /// The sync blocks this thread, which is Raft's own: for a single voter there is nothing else to do meanwhile,
    /// and the two thread switches that a separate thread would cost are a good part of the latency of a write.
    fn durably(
        &self,
        write: impl FnOnce(&mut crate::log::SegmentLog, &mut dyn FnMut() -> bool) -> io::Result<SyncTicket>,
    ) -> io::Result<()> {
        let shared = &*self.shared;
        let mut wait = || wait_for_space(shared);
        let ticket = write(&mut shared.log.lock(), &mut wait);
        shared.gate.set_stuck(false);
        let ticket = ticket?;
        let started = Instant::now();
        ticket.sync()?;
        shared.counters.log_sync.record(started.elapsed());
        let mut log = shared.log.lock();
        log.synced(&ticket);
        self.publish(&log);
        Ok(())
    }

    /// A new membership counts from when it is in the log, before it is applied.
    fn notice_membership(&self, entry: &Entry) {
        if let EntryPayload::Membership(members) = &entry.payload {
            self.shared.membership_index.store(entry.log_id.index(), Ordering::Release);
            if !convert::is_alone(members, self.shared.identity.member_id) {
                self.shared.alone.store(false, Ordering::Release);
            }
        }
    }

    fn publish(&self, log: &crate::log::SegmentLog) {
        self.shared.gate.set_room(log.room());
        let (disk, written) = log.sizes();
        self.shared.counters.log_disk_bytes.store(disk, Ordering::Relaxed);
        self.shared.counters.log_bytes.store(written, Ordering::Relaxed);
    }

    /// Forgets entries in memory that are applied.
    fn forget_applied(&self, recent: &mut VecDeque<Entry>) {
        let applied_next = self.shared.applied_next.load(Ordering::Acquire);
        while recent.front().is_some_and(|entry| entry.log_id.index() < applied_next) {
            recent.pop_front();
        }
    }

    fn entries(&self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let mut newest: Vec<Entry> = Vec::new();
        let first_recent = {
            let recent = self.recent.lock();
            let first = recent.front().map_or(u64::MAX, |entry| entry.log_id.index());
            let skip = usize::try_from(start.saturating_sub(first)).unwrap_or(usize::MAX);
            if first < end {
                let take = usize::try_from(end - start.max(first)).unwrap_or(usize::MAX);
                newest.extend(recent.iter().skip(skip).take(take).cloned());
            }
            first
        };
        if start >= first_recent {
            return Ok(newest);
        }
        let older = self.shared.log.lock().read(start..end.min(first_recent))?;
        let mut entries = older.into_iter().map(convert::entry).collect::<io::Result<Vec<_>>>()?;
        entries.append(&mut newest);
        Ok(entries)
    }
}

/// Space was taken in advance, and the disk is full nevertheless, as happens with copy-on-write file systems. Raft
/// must not be told, since it would stop for good; so its thread waits. Reads do not need it, and new writes are
/// refused meanwhile.
fn wait_for_space(shared: &Shared) -> bool {
    shared.gate.set_stuck(true);
    std::thread::sleep(FULL_PAUSE);
    !shared.stopping.load(Ordering::Acquire)
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        if start >= end { Ok(Vec::new()) } else { self.entries(start, end) }
    }

    async fn read_vote(&mut self) -> io::Result<Option<RaftVote>> {
        Ok(self.shared.log.lock().vote().map(convert::vote))
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let log = self.shared.log.lock();
        Ok(LogState {
            last_purged_log_id: log.purged().map(convert::log_id),
            last_log_id: log.last().map(convert::log_id),
        })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> io::Result<()> {
        self.durably(|log, wait| log.save_vote(convert::saved_vote(vote), wait))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        entries.iter().for_each(|entry| self.notice_membership(entry));
        let bodies = entries.iter().map(convert::body).collect::<io::Result<Vec<_>>>()?;
        let records = entries.iter().zip(&bodies);
        let records =
            records.map(|(entry, (kind, body))| (convert::position(&entry.log_id), *kind, body.as_ref()));
        let written = self.durably(|log, wait| log.append(records, wait));
        drop(bodies);
        {
            let mut recent = self.recent.lock();
            self.forget_applied(&mut recent);
            recent.extend(entries);
        }
        callback.io_completed(written);
        // Lets what follows from this group happen before the next one is taken up and synced.
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let after: Option<Position> = last_log_id.as_ref().map(convert::position);
        self.durably(|log, wait| log.truncate(after, wait))?;
        let keep_below = after.map_or(0, |position| position.index + 1);
        self.recent.lock().retain(|entry| entry.log_id.index() < keep_below);
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        let shared = &*self.shared;
        let mut log = shared.log.lock();
        let purged = log.purge(convert::position(&log_id), &mut || wait_for_space(shared));
        shared.gate.set_stuck(false);
        purged?;
        self.publish(&log);
        drop(log);
        self.recent.lock().retain(|entry| entry.log_id.index() > log_id.index());
        Ok(())
    }
}
