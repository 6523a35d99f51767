//! The Raft log on disk: preallocated, append-only segment files; one sync for each group of entries.
//!
//! Nothing here knows openraft. The log keeps entries, the vote, and how far it was truncated and purged, all as
//! items in frames, so that the order of writing is the order of taking effect and one sync makes all of it durable.
//!
//! Writing and syncing are apart: [`SegmentLog::append`] gives a [`SyncTicket`], and entries are durable once it is
//! redeemed. Whoever holds the log decides on which thread that happens.

mod frame;
mod recover;
mod segment;

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::codec::{DecodeError, Reader, Writer};
use crate::disk::{Disk, DiskFile, is_full};
use crate::random::Random;
use frame::{ALIGN, Builder, Item};
use segment::{Header, Segment, Spare};

/// Bytes at the end of the space taken in advance that clients' entries never use: Raft's own entries, votes, and
/// purges must always find room.
const RESERVE: u64 = 256 << 10;

/// Term and index of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The term of the leader that made it.
    pub term: u64,
    /// Its number.
    pub index: u64,
}

impl Position {
    fn write_option(position: Option<Position>, out: &mut Writer) {
        let Position { term, index } = position.unwrap_or_default();
        out.u8(position.is_some().into());
        out.u64(term);
        out.u64(index);
    }

    fn read_option(input: &mut Reader<'_>) -> Result<Option<Position>, DecodeError> {
        let some = input.u8()? != 0;
        let position = Position { term: input.u64()?, index: input.u64()? };
        Ok(some.then_some(position))
    }
}

/// Raft's vote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedVote {
    /// The term.
    pub term: u64,
    /// Who has the vote.
    pub node: u64,
    /// Whether a majority granted it.
    pub committed: bool,
}

impl SavedVote {
    fn write(self, out: &mut Writer) {
        out.u64(self.term);
        out.u64(self.node);
        out.u8(self.committed.into());
    }

    fn read(input: &mut Reader<'_>) -> Result<SavedVote, DecodeError> {
        Ok(SavedVote { term: input.u64()?, node: input.u64()?, committed: input.u8()? != 0 })
    }
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    /// A leader's first, empty entry.
    Blank,
    /// A command.
    Normal,
    /// Who belongs to the cluster.
    Membership,
    /// Written by a newer version.
    Other(u8),
}

impl RecordKind {
    pub(crate) fn code(self) -> u8 {
        match self {
            RecordKind::Blank => 1,
            RecordKind::Normal => 2,
            RecordKind::Membership => 3,
            RecordKind::Other(code) => code,
        }
    }

    pub(crate) fn of_code(code: u8) -> RecordKind {
        match code {
            1 => RecordKind::Blank,
            2 => RecordKind::Normal,
            3 => RecordKind::Membership,
            other => RecordKind::Other(other),
        }
    }
}

/// An entry as bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub(crate) at: Position,
    pub(crate) kind: RecordKind,
    pub(crate) body: Vec<u8>,
}

/// Bytes of log that a command of `len` bytes may need.
pub(crate) fn space_for(len: usize) -> u64 {
    frame::worst_case(len)
}

/// Where the entries `first..=last` are. `last` shrinks when the log is truncated in the middle of a frame.
#[derive(Debug)]
struct FrameRef {
    first: u64,
    last: u64,
    segment: u64,
    offset: u64,
    size: usize,
}

/// Makes what was written durable.
#[must_use = "what was written is durable only after the sync"]
pub(crate) struct SyncTicket {
    file: Arc<dyn DiskFile>,
    upto: u64,
}

impl SyncTicket {
    /// Syncs; then [`SegmentLog::synced`] is to be told.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

/// The log.
pub(crate) struct SegmentLog {
    disk: Arc<dyn Disk>,
    random: Random,
    dir: PathBuf,
    segment_bytes: u64,
    largest_body: usize,
    /// Oldest first; the last one is written to.
    segments: VecDeque<Segment>,
    spare: Option<Spare>,
    frames: VecDeque<FrameRef>,
    next_frame: u64,
    durable_frame: u64,
    vote: Option<SavedVote>,
    purged: Option<Position>,
    last: Option<Position>,
    bytes_written: u64,
}

impl SegmentLog {
    /// The newest vote.
    pub(crate) fn vote(&self) -> Option<SavedVote> {
        self.vote
    }

    /// Up to which entry the log was purged.
    pub(crate) fn purged(&self) -> Option<Position> {
        self.purged
    }

    /// The last entry, or the last purged one if there is none.
    pub(crate) fn last(&self) -> Option<Position> {
        self.last
    }

    /// Up to which entry the log can be purged, if entries up to `applied` are in the history: `entries` of them
    /// stay, as far as they have less than `bytes` in whole files.
    pub(crate) fn purgeable(&self, applied: u64, entries: u64, bytes: u64) -> u64 {
        let mut kept = 0;
        let fits = self.segments.iter().rev().take_while(|segment| {
            kept += segment.len;
            kept <= bytes
        });
        let oldest = fits.last().map_or(u64::MAX, |segment| segment.seq);
        let first =
            self.frames.iter().find(|frame| frame.segment >= oldest).map_or(u64::MAX, |frame| frame.first);
        let few = applied.saturating_sub(entries);
        few.max(first.saturating_sub(1)).min(applied)
    }

    /// Bytes that clients' entries can still take without new disk space.
    pub(crate) fn room(&self) -> u64 {
        // The last bytes of a segment go to waste when the next frame does not fit.
        let waste = frame::worst_case(self.largest_body).max(2 * frame::TARGET as u64);
        let current =
            self.segments.back().map_or(0, |segment| segment.len.saturating_sub(segment.end + waste));
        let spare = self.spare.as_ref().map_or(0, |spare| spare.len - ALIGN as u64);
        (current + spare).saturating_sub(RESERVE)
    }

    /// Bytes of all files, and bytes written since the start.
    pub(crate) fn sizes(&self) -> (u64, u64) {
        let spare = self.spare.as_ref().map_or(0, |spare| spare.len);
        (self.segments.iter().map(|segment| segment.len).sum::<u64>() + spare, self.bytes_written)
    }

    /// Takes the disk space for the next segment, if that is not done yet.
    pub(crate) fn reserve(&mut self) -> io::Result<()> {
        if self.spare.is_none() {
            self.spare = Some(Segment::reserve(self.disk.as_ref(), &self.dir, self.segment_bytes)?);
        }
        Ok(())
    }

    /// Writes entries, which must follow the last one. If the disk is full in the middle, the first ones are in the
    /// log, up to [`SegmentLog::last`], and the others are not.
    pub(crate) fn append<'a>(
        &mut self,
        entries: impl IntoIterator<Item = (Position, RecordKind, &'a [u8])>,
    ) -> io::Result<SyncTicket> {
        let mut builder = Builder::new();
        let mut span: Option<(Position, Position)> = None;
        for (at, kind, body) in entries {
            if builder.payload_len() > 0 && builder.payload_len() + body.len() > frame::TARGET {
                self.write(std::mem::replace(&mut builder, Builder::new()), span.take())?;
            }
            builder.entry(at, kind, body);
            span = Some((span.map_or(at, |(first, _)| first), at));
        }
        if builder.payload_len() > 0 {
            self.write(builder, span)?;
        }
        self.ticket()
    }

    /// Writes a vote.
    pub(crate) fn save_vote(&mut self, vote: SavedVote) -> io::Result<SyncTicket> {
        let mut builder = Builder::new();
        builder.vote(vote);
        self.write(builder, None)?;
        self.vote = Some(vote);
        self.ticket()
    }

    /// Forgets entries behind `after`; `None`: all.
    pub(crate) fn truncate(&mut self, after: Option<Position>) -> io::Result<SyncTicket> {
        let mut builder = Builder::new();
        builder.truncate(after);
        self.write(builder, None)?;
        self.forget_behind(after);
        self.ticket()
    }

    /// Forgets entries up to `upto`, and removes the files that hold no others.
    pub(crate) fn purge(&mut self, upto: Position) -> io::Result<()> {
        let mut builder = Builder::new();
        builder.purge(upto);
        self.write(builder, None)?;
        self.forget_up_to(upto);
        let oldest_needed = self.frames.front().map(|frame| frame.segment);
        let current = self.segments.back().map_or(0, |segment| segment.seq);
        let keep_from = oldest_needed.unwrap_or(current).min(current);
        if self.segments.front().is_some_and(|segment| segment.seq < keep_from) {
            // That the entries were purged must be durable before they are gone.
            let ticket = self.ticket()?;
            ticket.sync()?;
            self.synced(&ticket);
            while let Some(segment) = self.segments.front().filter(|segment| segment.seq < keep_from) {
                self.disk.remove(&segment.path)?;
                self.segments.pop_front();
            }
            self.disk.sync_dir(&self.dir)?;
        }
        Ok(())
    }

    /// What is written and may not be durable yet.
    pub(crate) fn unsynced(&self) -> io::Result<Option<SyncTicket>> {
        self.ticket().map(|ticket| Some(ticket).filter(|ticket| ticket.upto > self.durable_frame))
    }

    /// Says that what the ticket stands for is durable.
    pub(crate) fn synced(&mut self, ticket: &SyncTicket) {
        self.durable_frame = self.durable_frame.max(ticket.upto);
    }

    /// Reads entries from disk; those of the range that the log holds.
    pub(crate) fn read(&self, range: Range<u64>) -> io::Result<Vec<Record>> {
        let mut found = Vec::new();
        let from = self.frames.partition_point(|frame| frame.last < range.start);
        for at in self.frames.range(from..).take_while(|frame| frame.first < range.end) {
            let wanted = range.start.max(at.first)..range.end.min(at.last.saturating_add(1));
            for item in self.read_frame(at)? {
                match item {
                    Item::Entry(record) if wanted.contains(&record.at.index) => found.push(record),
                    _ => {}
                }
            }
        }
        Ok(found)
    }

    fn read_frame(&self, at: &FrameRef) -> io::Result<Vec<Item>> {
        let damaged = |what: String| {
            let place = format!("segment {:016x}, byte {}: {what}", at.segment, at.offset);
            io::Error::new(io::ErrorKind::InvalidData, place)
        };
        let segment = self.segments.iter().find(|segment| segment.seq == at.segment);
        let segment = segment.ok_or_else(|| damaged("the segment is gone".to_owned()))?;
        let mut bytes = vec![0; at.size];
        segment.file.read_at(&mut bytes, at.offset)?;
        let frame =
            frame::parse(&bytes, segment.salt).ok_or_else(|| damaged("the frame is damaged".to_owned()))?;
        frame::items(frame.payload).map_err(|error| damaged(error.to_string()))
    }

    /// Writes a frame, in a new segment if it does not fit into the current one. After an error nothing has changed:
    /// the next frame goes to the same place.
    fn write(&mut self, builder: Builder, span: Option<(Position, Position)>) -> io::Result<()> {
        let size = frame::padded(frame::HEADER + builder.payload_len());
        let fits = self.segments.back().is_some_and(|segment| segment.end + size as u64 <= segment.len);
        if !fits {
            self.rotate()?;
        }
        let Some(segment) = self.segments.back_mut() else {
            return Err(io::Error::other("the log has no segment"));
        };
        let bytes = builder.seal(segment.salt, self.next_frame, self.durable_frame);
        segment.file.write_at(&bytes, segment.end)?;
        if let Some((first, last)) = span {
            let at = (segment.seq, segment.end);
            self.frames.push_back(FrameRef {
                first: first.index,
                last: last.index,
                segment: at.0,
                offset: at.1,
                size: bytes.len(),
            });
            self.last = Some(last);
        }
        segment.end += bytes.len() as u64;
        self.next_frame += 1;
        self.bytes_written += bytes.len() as u64;
        Ok(())
    }

    /// Goes on in a new segment.
    fn rotate(&mut self) -> io::Result<()> {
        // All frames of earlier segments are durable before a later segment exists: recovery relies on it.
        if let Some(segment) = self.segments.back() {
            segment.file.sync()?;
            self.durable_frame = self.next_frame - 1;
        }
        self.reserve()?;
        let header = Header {
            seq: self.segments.back().map_or(1, |segment| segment.seq + 1),
            salt: self.random.number(),
            first_frame: self.next_frame,
            last: self.last,
            purged: self.purged,
            vote: self.vote,
        };
        let Some(spare) = &self.spare else {
            return Err(io::Error::other("no space was reserved"));
        };
        let segment = spare.become_segment(self.disk.as_ref(), &self.dir, &header)?;
        self.spare = None;
        self.segments.push_back(segment);
        // Space for the one after it. If there is none now, the gate in front of Raft notices.
        match self.reserve() {
            Err(error) if !is_full(&error) => Err(error),
            _ => Ok(()),
        }
    }

    fn ticket(&self) -> io::Result<SyncTicket> {
        let segment = self.segments.back().ok_or_else(|| io::Error::other("the log has no segment"))?;
        Ok(SyncTicket { file: Arc::clone(&segment.file), upto: self.next_frame - 1 })
    }

    fn forget_behind(&mut self, after: Option<Position>) {
        let keep_below = after.map_or(0, |position| position.index.saturating_add(1));
        while self.frames.back().is_some_and(|frame| frame.first >= keep_below) {
            self.frames.pop_back();
        }
        if let Some(frame) = self.frames.back_mut() {
            frame.last = frame.last.min(keep_below - 1);
        }
        self.last = after.max(self.purged);
    }

    fn forget_up_to(&mut self, upto: Position) {
        while self.frames.front().is_some_and(|frame| frame.last <= upto.index) {
            self.frames.pop_front();
        }
        if let Some(frame) = self.frames.front_mut() {
            frame.first = frame.first.max(upto.index.saturating_add(1));
        }
        self.purged = self.purged.max(Some(upto));
        if self.last.is_none_or(|last| last.index < upto.index) {
            self.last = Some(upto);
        }
    }
}

#[cfg(test)]
mod damage;
#[cfg(test)]
mod tests;
