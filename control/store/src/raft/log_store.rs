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
use tokio::sync::mpsc;

use super::convert;
use super::{Entry, LogId, RaftVote, Types};
use crate::disk::is_full;
use crate::log::{Position, Record, SegmentLog, SyncTicket};
use crate::shared::Shared;

/// How often a write that found no space is tried again.
const FULL_PAUSE: Duration = Duration::from_millis(100);

/// Bytes of applied entries that stay in memory for followers that are a little behind.
const KEEP_RECENT: usize = 4 << 20;

/// Bytes of entries in one message to a follower; a larger entry goes alone.
const MESSAGE_BYTES: usize = 1 << 20;

/// Groups of entries that wait for their sync. openraft has fewer under way.
const SYNC_QUEUE: usize = 4096;

/// A group of entries that is written but not synced, and whom to tell.
type Unsynced = (SyncTicket, IOFlushed<Types>);

/// The log; clones read and write the same one.
#[derive(Clone)]
pub(super) struct LogStore {
    shared: Arc<Shared>,
    recent: Arc<Mutex<Recent>>,
    unsynced: mpsc::Sender<Unsynced>,
}

/// The newest entries, without gaps. All that are not applied are here.
#[derive(Default)]
struct Recent {
    entries: VecDeque<Entry>,
    bytes: usize,
}

/// Roughly the memory of an entry.
fn size(entry: &Entry) -> usize {
    const FIXED: usize = 128;
    match &entry.payload {
        EntryPayload::Normal(proposal) => FIXED + proposal.encoded().len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => FIXED,
    }
}

impl Recent {
    fn extend(&mut self, entries: Vec<Entry>) {
        self.bytes += entries.iter().map(size).sum::<usize>();
        self.entries.extend(entries);
    }

    fn retain(&mut self, keep: impl Fn(u64) -> bool) {
        self.entries.retain(|entry| keep(entry.log_id.index()));
        self.bytes = self.entries.iter().map(size).sum();
    }

    /// Forgets entries that are applied, but keeps `bytes` of all.
    fn forget(&mut self, applied_next: u64, bytes: usize) {
        while let Some(first) = self.entries.front() {
            if first.log_id.index() >= applied_next || self.bytes <= bytes {
                return;
            }
            self.bytes -= size(first);
            self.entries.pop_front();
        }
    }
}

impl LogStore {
    /// The log of `shared`, whose last entries are `recent`.
    pub(super) fn new(shared: Arc<Shared>, recent: Vec<Record>) -> io::Result<LogStore> {
        let recent: Vec<_> = recent.into_iter().map(convert::entry).collect::<io::Result<_>>()?;
        let (unsynced, waiting) = mpsc::channel(SYNC_QUEUE);
        tokio::spawn(sync_groups(Arc::clone(&shared), waiting));
        if let Some(members) = convert::members(shared.state.read().marks().membership.as_ref())? {
            *shared.addresses.write() = convert::addresses(&members);
        }
        let log = LogStore { shared, recent: Arc::default(), unsynced };
        recent.iter().for_each(|entry| log.notice_membership(entry));
        log.recent.lock().extend(recent);
        Ok(log)
    }

    /// Takes a step on the log, again and again as long as the disk is full. That happens although space was taken in
    /// advance: on copy-on-write file systems, and when others count on what the [gate](crate::space) promised to
    /// them. Raft must not be told, since it would stop for good; so it waits, and with it all that goes through it:
    /// others take over from a leader that waits. What runs beside Raft goes on, reads too.
    async fn as_space_allows<T>(
        &self,
        mut step: impl FnMut(&mut SegmentLog) -> io::Result<T>,
    ) -> io::Result<T> {
        let shared = &*self.shared;
        loop {
            let done = step(&mut shared.log.lock());
            let full = done.as_ref().err().is_some_and(is_full) && !shared.stopping.load(Ordering::Acquire);
            shared.gate.set_stuck(full);
            if !full {
                return done;
            }
            tokio::time::sleep(FULL_PAUSE).await;
        }
    }

    /// Takes a step on the log, then syncs what it wrote.
    async fn durably(&self, step: impl FnMut(&mut SegmentLog) -> io::Result<SyncTicket>) -> io::Result<()> {
        let ticket = self.as_space_allows(step).await?;
        if self.syncs_here() {
            return sync(&self.shared, &ticket);
        }
        let shared = Arc::clone(&self.shared);
        let done = self.shared.options.blocking.run(move || sync(&shared, &ticket)).await;
        done.map_err(io::Error::other)?
    }

    /// Writes entries. After the disk was full in the middle, goes on behind what was written.
    async fn write(&self, entries: &[Entry]) -> io::Result<SyncTicket> {
        let bodies = entries.iter().map(convert::body).collect::<io::Result<Vec<_>>>()?;
        let records = entries.iter().zip(&bodies);
        let records: Vec<_> = records
            .map(|(entry, (kind, body))| (convert::position(&entry.log_id), *kind, body.as_ref()))
            .collect();
        let mut tried = false;
        self.as_space_allows(|log| {
            let written = log.last().filter(|_| std::mem::replace(&mut tried, true));
            let next = written.map_or(0, |last| last.index + 1);
            log.append(records.iter().copied().filter(|(at, ..)| at.index >= next))
        })
        .await
    }

    /// Whether Raft's thread itself syncs: for a single voter there is nothing else to do meanwhile, and the two
    /// thread switches that a separate thread costs are a good part of the latency of a write.
    fn syncs_here(&self) -> bool {
        self.shared.alone.load(Ordering::Acquire)
    }

    /// A new membership counts from when it is in the log, before it is applied.
    fn notice_membership(&self, entry: &Entry) {
        if let EntryPayload::Membership(members) = &entry.payload {
            self.shared.membership_index.store(entry.log_id.index(), Ordering::Release);
            *self.shared.addresses.write() = convert::addresses(members);
            if !convert::is_alone(members, self.shared.identity.member_id) {
                self.shared.alone.store(false, Ordering::Release);
            }
        }
    }

    /// Keeps new entries in memory, and forgets those that nobody is going to need.
    fn remember(&self, entries: Vec<Entry>) {
        let applied_next = self.shared.applied_next.load(Ordering::Acquire);
        let keep = if self.shared.alone.load(Ordering::Acquire) { 0 } else { KEEP_RECENT };
        let mut recent = self.recent.lock();
        recent.forget(applied_next, keep);
        recent.extend(entries);
    }

    fn entries(&self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let mut newest: Vec<Entry> = Vec::new();
        let first_recent = {
            let recent = self.recent.lock();
            let first = recent.entries.front().map_or(u64::MAX, |entry| entry.log_id.index());
            let skip = usize::try_from(start.saturating_sub(first)).unwrap_or(usize::MAX);
            if first < end {
                let take = usize::try_from(end - start.max(first)).unwrap_or(usize::MAX);
                newest.extend(recent.entries.iter().skip(skip).take(take).cloned());
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

/// Makes a group durable. Blocks on the disk.
fn sync(shared: &Shared, ticket: &SyncTicket) -> io::Result<()> {
    let started = Instant::now();
    ticket.sync()?;
    shared.counters.log_sync.record(started.elapsed());
    let mut log = shared.log.lock();
    log.synced(ticket);
    publish(shared, &log);
    Ok(())
}

fn publish(shared: &Shared, log: &SegmentLog) {
    shared.gate.set_room(log.room());
    let (disk, written) = log.sizes();
    shared.counters.log_disk_bytes.store(disk, Ordering::Relaxed);
    shared.counters.log_bytes.store(written, Ordering::Relaxed);
}

/// Syncs while Raft's thread sends the same entries to peers; one sync for all groups that gathered meanwhile.
async fn sync_groups(shared: Arc<Shared>, mut waiting: mpsc::Receiver<Unsynced>) {
    let mut groups = Vec::new();
    while waiting.recv_many(&mut groups, SYNC_QUEUE).await > 0 {
        let mut told = Vec::with_capacity(groups.len());
        let mut newest = None;
        for (ticket, callback) in groups.drain(..) {
            // A later ticket stands for all earlier ones: a segment is synced before the next one begins.
            newest = Some(ticket);
            told.push(callback);
        }
        let Some(ticket) = newest else { continue };
        let to_do = Arc::clone(&shared);
        let done = shared.options.blocking.run(move || sync(&to_do, &ticket)).await;
        let done = done.map_err(io::Error::other).and_then(|done| done);
        for callback in told {
            callback.io_completed(match &done {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            });
        }
    }
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

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        // In steps, so that a follower far behind costs no more memory than one message.
        const STEP: u64 = 64;
        let mut entries: Vec<Entry> = Vec::new();
        let (mut next, mut bytes) = (start, 0);
        while next < end && bytes < MESSAGE_BYTES {
            let some = self.entries(next, end.min(next + STEP))?;
            if some.is_empty() {
                break;
            }
            next += some.len() as u64;
            for entry in some {
                if !entries.is_empty() && bytes + size(&entry) > MESSAGE_BYTES {
                    return Ok(entries);
                }
                bytes += size(&entry);
                entries.push(entry);
            }
        }
        Ok(entries)
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
        self.durably(|log| log.save_vote(convert::saved_vote(vote))).await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        entries.iter().for_each(|entry| self.notice_membership(entry));
        let written = self.write(&entries).await;
        // Before the sync: peers get them meanwhile.
        self.remember(entries);
        match written {
            Ok(ticket) if !self.syncs_here() => {
                let waits = self.unsynced.send((ticket, callback)).await;
                return waits.map_err(|_| io::Error::other("nobody syncs the log any more"));
            }
            Ok(ticket) => callback.io_completed(sync(&self.shared, &ticket)),
            Err(error) => callback.io_completed(Err(error)),
        }
        // Lets what follows from this group happen before the next one is taken up and synced.
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let after: Option<Position> = last_log_id.as_ref().map(convert::position);
        // At once, so that nothing reads them between the write and its sync.
        let keep_below = after.map_or(0, |position| position.index + 1);
        self.recent.lock().retain(|index| index < keep_below);
        self.durably(|log| log.truncate(after)).await?;
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        self.as_space_allows(|log| log.purge(convert::position(&log_id))).await?;
        publish(&self.shared, &self.shared.log.lock());
        self.recent.lock().retain(|index| index > log_id.index());
        Ok(())
    }
}
