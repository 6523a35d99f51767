//! One file of the log: a header, then frames. Its disk space is taken when it is made.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::codec::{Reader, Writer};
use crate::disk::{Disk, DiskFile};
use crate::log::frame::ALIGN;
use crate::log::{Position, SavedVote};

const MAGIC: u64 = 0x474f_4c4b_4341_5243; // "CRACKLOG"
const FORMAT: u32 = 1;
/// Bytes of the header that mean something.
const USED: usize = 128;

/// What the first sector of a segment says: all that must be known when older segments are gone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Header {
    /// Number of the segment; they follow each other without gaps.
    pub(super) seq: u64,
    /// Random; frames carry it, so that no bytes of an earlier life of the disk blocks pass for frames.
    pub(super) salt: u64,
    /// Number of its first frame. All earlier frames were durable when it was made.
    pub(super) first_frame: u64,
    /// The last entry before it.
    pub(super) last: Option<Position>,
    /// Up to which entry the log was purged.
    pub(super) purged: Option<Position>,
    /// The newest vote.
    pub(super) vote: Option<SavedVote>,
}

/// Why a header cannot be used.
pub(super) enum HeaderError {
    Damaged,
    Newer(u32),
}

impl Header {
    fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(ALIGN));
        out.u64(MAGIC);
        out.u32(FORMAT);
        out.u32(0);
        out.u64(self.seq);
        out.u64(self.salt);
        out.u64(self.first_frame);
        Position::write_option(self.last, &mut out);
        Position::write_option(self.purged, &mut out);
        out.u8(self.vote.is_some().into());
        self.vote.unwrap_or_default().write(&mut out);
        let mut bytes = out.0;
        bytes.resize(USED, 0);
        let crc = crc32fast::hash(&bytes[16..]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes.resize(ALIGN, 0);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Header, HeaderError> {
        let bytes = bytes.get(..USED).ok_or(HeaderError::Damaged)?;
        Self::fields(bytes).unwrap_or(Err(HeaderError::Damaged))
    }

    fn fields(bytes: &[u8]) -> Result<Result<Header, HeaderError>, crate::codec::DecodeError> {
        let mut input = Reader { bytes, at: 0 };
        let (magic, format, crc) = (input.u64()?, input.u32()?, input.u32()?);
        if magic != MAGIC || crc != crc32fast::hash(&bytes[16..]) {
            return Ok(Err(HeaderError::Damaged));
        }
        if format > FORMAT {
            return Ok(Err(HeaderError::Newer(format)));
        }
        let (seq, salt, first_frame) = (input.u64()?, input.u64()?, input.u64()?);
        let (last, purged) = (Position::read_option(&mut input)?, Position::read_option(&mut input)?);
        let voted = input.u8()? != 0;
        let vote = SavedVote::read(&mut input)?;
        Ok(Ok(Header { seq, salt, first_frame, last, purged, vote: voted.then_some(vote) }))
    }

    /// The newest format that this version reads.
    pub(super) const FORMAT: u32 = FORMAT;
}

/// An open segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) seq: u64,
    pub(super) salt: u64,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
    /// Where the next frame goes.
    pub(super) end: u64,
    /// Bytes of the file.
    pub(super) len: u64,
}

impl Segment {
    /// The name of segment `seq` in `dir`.
    pub(super) fn path(dir: &Path, seq: u64) -> PathBuf {
        dir.join(format!("{seq:016x}.seg"))
    }

    /// The number in a segment's name; `None` for other files.
    pub(super) fn seq_of(path: &Path) -> Option<u64> {
        let name = path.file_name()?.to_str()?.strip_suffix(".seg")?;
        (name.len() == 16).then(|| u64::from_str_radix(name, 16).ok()).flatten()
    }

    /// Takes the disk space for a segment that will be needed. It has no number yet.
    pub(super) fn reserve(disk: &dyn Disk, dir: &Path, len: u64) -> io::Result<Spare> {
        let path = dir.join("spare");
        let made = disk.open(&path, true).and_then(|file| {
            // A spare of another size, or one that a crash left half made.
            if file.len()? != len {
                file.set_len(0)?;
            }
            file.allocate(len)?;
            file.sync()?;
            Ok(file)
        });
        match made {
            Ok(file) => Ok(Spare { path, file: Arc::from(file), len }),
            Err(error) => {
                // Do not sit on half a segment when space is short.
                let _ = disk.remove(&path);
                Err(error)
            }
        }
    }
}

/// Disk space for the next segment.
#[derive(Debug)]
pub(super) struct Spare {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    pub(super) len: u64,
}

impl Spare {
    /// Makes it the segment that `header` describes, durably.
    pub(super) fn become_segment(&self, disk: &dyn Disk, dir: &Path, header: &Header) -> io::Result<Segment> {
        self.file.write_at(&header.encode(), 0)?;
        // The header first, then the name: a file with a segment's name always has a header.
        self.file.sync()?;
        let path = Segment::path(dir, header.seq);
        disk.rename(&self.path, &path)?;
        disk.sync_dir(dir)?;
        Ok(Segment {
            seq: header.seq,
            salt: header.salt,
            path,
            file: Arc::clone(&self.file),
            end: ALIGN as u64,
            len: self.len,
        })
    }
}
