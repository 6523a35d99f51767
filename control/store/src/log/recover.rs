//! Opening a log: reading all segments, cutting a torn tail, refusing damage.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::Disk;
use crate::error::OpenError;
use crate::log::frame::{self, ALIGN, Item};
use crate::log::segment::{Header, HeaderError, Segment};
use crate::log::{FrameRef, Record, SegmentLog};
use crate::random::Random;

impl SegmentLog {
    /// Opens the log in `dir`, or makes one. Entries have bodies of up to `largest_body` bytes. Also gives the
    /// entries behind index `keep_after` (all, if `None`), which the caller is going to need.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        random: &Random,
        dir: PathBuf,
        segment_bytes: u64,
        largest_body: usize,
        keep_after: Option<u64>,
    ) -> Result<(SegmentLog, Vec<Record>), OpenError> {
        let segments = find_segments(disk.as_ref(), &dir)?;
        let log = SegmentLog {
            disk,
            random: random.clone(),
            dir,
            segment_bytes,
            largest_body,
            segments: VecDeque::new(),
            spare: None,
            frames: VecDeque::new(),
            next_frame: 1,
            durable_frame: 0,
            vote: None,
            purged: None,
            last: None,
            bytes_written: 0,
        };
        let mut recovery = Recovery { log, keep_after, kept: Vec::new() };
        for (nth, (seq, path)) in segments.iter().enumerate() {
            recovery.segment(*seq, path, nth + 1 == segments.len())?;
        }
        let Recovery { mut log, kept, .. } = recovery;
        let made = match log.segments.back() {
            None => log.rotate(),
            // What was found counts from now on, so it has to be durable even if its sync never happened.
            Some(segment) => segment.file.sync().and_then(|()| log.reserve_if_possible()),
        };
        made.map_err(|source| OpenError::Io { what: "preparing the log in", path: log.dir.clone(), source })?;
        log.durable_frame = log.next_frame - 1;
        Ok((log, kept))
    }

    /// A full disk is no reason not to open: reads work, and writes are refused until there is space.
    fn reserve_if_possible(&mut self) -> io::Result<()> {
        match self.reserve() {
            Err(error) if crate::disk::is_full(&error) => Ok(()),
            other => other,
        }
    }
}

/// The segments of a directory in order.
fn find_segments(disk: &dyn Disk, dir: &Path) -> Result<Vec<(u64, PathBuf)>, OpenError> {
    let failed = |source| OpenError::Io { what: "reading the directory", path: dir.to_owned(), source };
    let files = disk.list(dir).map_err(failed)?;
    let mut segments: Vec<_> =
        files.into_iter().filter_map(|path| Some((Segment::seq_of(&path)?, path))).collect();
    segments.sort();
    for pair in segments.windows(2) {
        if pair[0].0 + 1 != pair[1].0 {
            let detail = format!("segment {:016x} of the log is missing", pair[0].0 + 1);
            return Err(OpenError::Corrupt { path: dir.to_owned(), detail });
        }
    }
    Ok(segments)
}

struct Recovery {
    log: SegmentLog,
    keep_after: Option<u64>,
    kept: Vec<Record>,
}

impl Recovery {
    fn segment(&mut self, seq: u64, path: &Path, newest: bool) -> Result<(), OpenError> {
        let failed = |source| OpenError::Io { what: "reading", path: path.to_owned(), source };
        let corrupt = |detail| OpenError::Corrupt { path: path.to_owned(), detail };
        let file = self.log.disk.open(path, false).map_err(failed)?;
        let len = file.len().map_err(failed)?;
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        file.read_at(&mut bytes, 0).map_err(failed)?;

        let header = match Header::decode(&bytes) {
            Ok(header) if header.seq == seq && bytes.len() >= ALIGN => header,
            Ok(_) | Err(HeaderError::Damaged) => return Err(corrupt("the header is damaged".to_owned())),
            Err(HeaderError::Newer(found)) => {
                let (found, known) = (found.into(), Header::FORMAT.into());
                return Err(OpenError::Format { path: path.to_owned(), found, known });
            }
        };
        self.start_segment(&header).map_err(corrupt)?;
        let end = self.frames(&header, &bytes).map_err(corrupt)?;
        let mut segment = Segment {
            seq,
            salt: header.salt,
            path: path.to_owned(),
            file: Arc::from(file),
            end: end as u64,
            len: len.max(end as u64),
        };
        if end > bytes.len() {
            if !newest {
                return Err(corrupt(format!("byte {len}: the end of its last frame is missing")));
            }
            fill_frame(&segment, len).map_err(failed)?;
        }
        if newest {
            check_tail(&bytes, end, header.salt, self.log.next_frame).map_err(corrupt)?;
            clear_tail(&segment, &bytes, end).map_err(failed)?;
        } else {
            // Nothing is ever written to it again.
            segment.end = segment.len;
        }
        self.log.segments.push_back(segment);
        Ok(())
    }

    /// Compares a segment's header with what the segments before it said.
    fn start_segment(&mut self, header: &Header) -> Result<(), String> {
        let log = &mut self.log;
        if log.segments.is_empty() {
            log.next_frame = header.first_frame;
            (log.last, log.purged, log.vote) = (header.last, header.purged, header.vote);
        } else if header.first_frame != log.next_frame {
            let missing = format!("{} to {}", log.next_frame, header.first_frame.saturating_sub(1));
            return Err(format!("the segment before it lacks the frames {missing}, which were durable"));
        } else if header.last != log.last || header.vote != log.vote {
            return Err("it does not continue the segment before it".to_owned());
        }
        Ok(())
    }

    /// Takes in the frames of a segment; gives where they end.
    fn frames(&mut self, header: &Header, bytes: &[u8]) -> Result<usize, String> {
        let mut at = ALIGN;
        while let Some(found) = bytes.get(at..).and_then(|rest| frame::parse(rest, header.salt)) {
            if found.number != self.log.next_frame {
                return Err(format!(
                    "byte {at}: frame {} where {} belongs",
                    found.number, self.log.next_frame
                ));
            }
            let items = frame::items(found.payload).map_err(|error| format!("byte {at}: {error}"))?;
            let place = (header.seq, at as u64, found.size());
            self.items(items, place).map_err(|error| format!("byte {at}: {error}"))?;
            self.log.next_frame += 1;
            at += found.size();
        }
        Ok(at)
    }

    fn items(&mut self, items: Vec<Item>, (segment, offset, size): (u64, u64, usize)) -> Result<(), String> {
        let mut span: Option<(u64, u64)> = None;
        for item in items {
            match item {
                Item::Vote(vote) => self.log.vote = Some(vote),
                Item::Purge(upto) => {
                    self.log.forget_up_to(upto);
                    self.kept.retain(|record| record.at.index > upto.index);
                }
                Item::Truncate(after) => {
                    self.log.forget_behind(after);
                    let keep_below = after.map_or(0, |position| position.index.saturating_add(1));
                    self.kept.retain(|record| record.at.index < keep_below);
                }
                Item::Entry(record) => {
                    let wanted = self.log.last.map(|last| last.index.saturating_add(1));
                    let index = record.at.index;
                    if wanted.is_some_and(|wanted| wanted != index) {
                        return Err(format!("entry {index} where {} belongs", wanted.unwrap_or_default()));
                    }
                    self.log.last = Some(record.at);
                    span = Some((span.map_or(index, |(first, _)| first), index));
                    if self.keep_after.is_none_or(|known| index > known) {
                        self.kept.push(record);
                    }
                }
            }
        }
        if let Some((first, last)) = span {
            self.log.frames.push_back(FrameRef { first, last, segment, offset, size });
        }
        Ok(())
    }
}

/// Decides whether what follows the last readable frame of the newest segment is a torn write, which was never
/// acknowledged, or damage to frames that were: a later frame knows.
fn check_tail(bytes: &[u8], end: usize, salt: u64, missing: u64) -> Result<(), String> {
    for at in (end..bytes.len()).step_by(ALIGN) {
        match frame::parse(&bytes[at..], salt) {
            Some(found) if found.durable >= missing => {
                return Err(format!(
                    "byte {end}: frame {missing} is damaged; it was durable, since frame {} at byte {at} says so",
                    found.number
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Writes the zeros that fill the last frame of a file that ends at `len`. A disk that ran full keeps what a frame says
/// without them; what reads the frame reads all of its sectors.
fn fill_frame(segment: &Segment, len: u64) -> io::Result<()> {
    let missing = usize::try_from(segment.end.saturating_sub(len)).unwrap_or(ALIGN).min(ALIGN);
    segment.file.write_at(&[0; ALIGN][..missing], len)?;
    segment.file.sync()
}

/// Overwrites a torn tail with zeros, so that no frame in it can later be taken for a successor of new ones.
fn clear_tail(segment: &Segment, bytes: &[u8], end: usize) -> io::Result<()> {
    let zeros = [0u8; ALIGN];
    let mut torn = 0u64;
    for (nth, sector) in bytes.get(end..).unwrap_or_default().chunks(ALIGN).enumerate() {
        if sector != &zeros[..sector.len()] {
            segment.file.write_at(&zeros[..sector.len()], (end + nth * ALIGN) as u64)?;
            torn += 1;
        }
    }
    if torn > 0 {
        segment.file.sync()?;
        tracing::warn!(
            segment = %segment.path.display(), at = end, sectors = torn,
            "cut the torn end of the log: a write that was never acknowledged"
        );
    }
    Ok(())
}
