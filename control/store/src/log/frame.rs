//! The unit of writing to the log: a frame holds one or more items under one checksum.
//!
//! Frames start at multiples of [`ALIGN`], so that a later write never touches a sector that holds acknowledged
//! data, and so that recovery can find frames behind a damaged one. Each frame carries its number and the number of
//! the newest frame that was known to be durable when it was written. That tells a torn tail from damage: if a
//! frame can be read that says "frame 7 is durable" and frame 7 cannot, acknowledged data is gone.
//!
//! ```text
//!  0  magic u32    4  crc32 of all that follows   8  salt u64 of the segment   16  number u64
//! 24  durable u64  32  payload length u32         36  0 u32                    40  payload, then zeros to ALIGN
//! ```

use crate::codec::{DecodeError, Reader, Writer};
use crate::log::{Position, Record, RecordKind, SavedVote};

/// Alignment of frames and of the segment header: a disk sector.
pub(super) const ALIGN: usize = 512;
/// Bytes of a frame in front of its payload.
pub(super) const HEADER: usize = 40;
/// A frame takes no further item once its payload has this many bytes.
pub(super) const TARGET: usize = 256 << 10;

const MAGIC: u32 = 0x4d52_4643; // "CFRM"

/// Something that the log remembers.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    /// An entry of the Raft log.
    Entry(Record),
    /// The newest vote.
    Vote(SavedVote),
    /// Entries behind this position are gone; `None`: all.
    Truncate(Option<Position>),
    /// Entries up to this position are gone.
    Purge(Position),
}

/// A frame that was read and whose checksum is right.
pub(super) struct Frame<'a> {
    pub(super) number: u64,
    pub(super) durable: u64,
    pub(super) payload: &'a [u8],
}

impl Frame<'_> {
    /// Bytes it takes in the file.
    pub(super) fn size(&self) -> usize {
        padded(HEADER + self.payload.len())
    }
}

/// `len` rounded up to the alignment.
pub(super) fn padded(len: usize) -> usize {
    len.next_multiple_of(ALIGN)
}

/// Bytes that an entry with a body of `len` bytes takes in the worst case: alone in its frame.
pub(super) fn worst_case(len: usize) -> u64 {
    padded(HEADER + ENTRY_OVERHEAD + len) as u64
}

/// Bytes of an entry besides its body.
const ENTRY_OVERHEAD: usize = 1 + 8 + 8 + 4;

/// Collects the payload of a frame.
pub(super) struct Builder(Writer);

impl Builder {
    pub(super) fn new() -> Builder {
        Builder(Writer(vec![0; HEADER]))
    }

    pub(super) fn payload_len(&self) -> usize {
        self.0.0.len() - HEADER
    }

    /// Adds an entry without taking its body over.
    pub(super) fn entry(&mut self, at: Position, kind: RecordKind, body: &[u8]) {
        self.0.u8(kind.code());
        self.0.u64(at.term);
        self.0.u64(at.index);
        self.0.bytes(body);
    }

    pub(super) fn vote(&mut self, vote: SavedVote) {
        self.0.u8(16);
        vote.write(&mut self.0);
    }

    pub(super) fn truncate(&mut self, after: Option<Position>) {
        self.0.u8(17);
        Position::write_option(after, &mut self.0);
    }

    pub(super) fn purge(&mut self, upto: Position) {
        self.0.u8(18);
        Position::write_option(Some(upto), &mut self.0);
    }

    /// The bytes to write, padded to the alignment.
    pub(super) fn seal(self, salt: u64, number: u64, durable: u64) -> Vec<u8> {
        let mut bytes = self.0.0;
        let payload = (bytes.len() - HEADER) as u32;
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[8..16].copy_from_slice(&salt.to_le_bytes());
        bytes[16..24].copy_from_slice(&number.to_le_bytes());
        bytes[24..32].copy_from_slice(&durable.to_le_bytes());
        bytes[32..36].copy_from_slice(&payload.to_le_bytes());
        let crc = crc32fast::hash(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes.resize(padded(bytes.len()), 0);
        bytes
    }
}

/// The frame at the start of `bytes`, if there is a whole one of this segment.
pub(super) fn parse(bytes: &[u8], salt: u64) -> Option<Frame<'_>> {
    let mut header = Reader { bytes, at: 0 };
    let (magic, crc) = (header.u32().ok()?, header.u32().ok()?);
    let (found_salt, number, durable) = (header.u64().ok()?, header.u64().ok()?, header.u64().ok()?);
    let len = header.u32().ok()? as usize;
    if magic != MAGIC || found_salt != salt {
        return None;
    }
    let checked = bytes.get(8..HEADER.checked_add(len)?)?;
    let payload = bytes.get(HEADER..HEADER + len)?;
    (crc32fast::hash(checked) == crc).then_some(Frame { number, durable, payload })
}

/// The items of a payload.
pub(super) fn items(payload: &[u8]) -> Result<Vec<Item>, DecodeError> {
    let mut input = Reader { bytes: payload, at: 0 };
    let mut items = Vec::new();
    while input.end().is_err() {
        let code = input.u8()?;
        items.push(match code {
            16 => Item::Vote(SavedVote::read(&mut input)?),
            17 => Item::Truncate(Position::read_option(&mut input)?),
            18 => Item::Purge(Position::read_option(&mut input)?.unwrap_or_default()),
            _ => {
                let at = Position { term: input.u64()?, index: input.u64()? };
                let body = input.slice()?.to_vec();
                Item::Entry(Record { at, kind: RecordKind::of_code(code), body })
            }
        });
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_survives_and_any_flipped_bit_is_noticed() {
        let mut builder = Builder::new();
        let at = Position { term: 3, index: 9 };
        builder.entry(at, RecordKind::Normal, b"body");
        builder.vote(SavedVote { term: 4, node: 7, committed: true });
        builder.truncate(None);
        builder.purge(at);
        let used = HEADER + builder.payload_len();
        let mut bytes = builder.seal(11, 5, 4);
        assert_eq!(bytes.len() % ALIGN, 0);
        let frame = parse(&bytes, 11).expect("whole frame");
        assert_eq!((frame.number, frame.durable, frame.size()), (5, 4, bytes.len()));
        let wanted = vec![
            Item::Entry(Record { at, kind: RecordKind::Normal, body: b"body".to_vec() }),
            Item::Vote(SavedVote { term: 4, node: 7, committed: true }),
            Item::Truncate(None),
            Item::Purge(at),
        ];
        assert_eq!(items(frame.payload).expect("items"), wanted);
        assert!(parse(&bytes, 12).is_none(), "a frame of another segment");
        for byte in 0..used {
            bytes[byte] ^= 0x10;
            assert!(parse(&bytes, 11).is_none(), "flipped bit in byte {byte}");
            bytes[byte] ^= 0x10;
        }
        assert!(parse(&bytes[..used - 1], 11).is_none(), "cut short");
    }
}
