//! Header blocks of SPDY/3: names and values, compressed by zlib with a dictionary that both sides know.
//!
//! All blocks of one direction are one zlib stream, so that each one has to be read, in order. What is written here is not
//! compressed: zlib has blocks that are stored as they are, and a reader takes a stream that names no dictionary.

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use super::SpdyError;

/// The dictionary of SPDY/3 (draft 3.1, 2.6.10.1).
const DICTIONARY: &[u8] = include_bytes!("dictionary.bin");
/// Its checksum, by which zlib streams name it.
const DICTIONARY_ID: [u8; 4] = [0xe3, 0xc6, 0xa7, 0xc2];
/// How far back compressed text may refer.
const WINDOW: usize = 32 << 10;
/// The largest block, as it is read and as it is written.
const MAX_BLOCK: usize = 32 << 10;
/// The most names in one block.
const MAX_NAMES: usize = 100;

/// Names in lower case with their values; several values of a name are separated by zeros.
pub(super) type Headers = BTreeMap<String, String>;

/// Reads the blocks of one connection.
pub(super) struct HeaderReader {
    inflate: Box<DecompressorOxide>,
    window: Vec<u8>,
    at: usize,
    /// What is still missing of the stream's head.
    head: Vec<u8>,
}

impl HeaderReader {
    pub(super) fn new() -> Self {
        let mut window = vec![0; WINDOW];
        window[..DICTIONARY.len()].copy_from_slice(DICTIONARY);
        HeaderReader { inflate: Box::default(), window, at: DICTIONARY.len(), head: Vec::new() }
    }

    /// Reads one block.
    pub(super) fn read(&mut self, block: &[u8]) -> Result<Headers, SpdyError> {
        let mut input = block;
        // Two bytes of method and flags, and the dictionary's name: only once.
        while self.head.len() < 6 {
            let Some((first, rest)) = input.split_first() else { return Err(SpdyError::Headers) };
            self.head.push(*first);
            input = rest;
        }
        if self.head[0] & 0x0f != 8 || self.head[1] & 0x20 == 0 || self.head[2..] != DICTIONARY_ID {
            return Err(SpdyError::Headers);
        }
        parse(&self.inflate(input)?)
    }

    fn inflate(&mut self, mut input: &[u8]) -> Result<Vec<u8>, SpdyError> {
        let mut out = Vec::new();
        loop {
            let (status, read, written) =
                decompress(&mut self.inflate, input, &mut self.window, self.at, TINFL_FLAG_HAS_MORE_INPUT);
            out.extend_from_slice(&self.window[self.at..self.at + written]);
            self.at = (self.at + written) % WINDOW;
            input = input.get(read..).unwrap_or_default();
            if out.len() > MAX_BLOCK {
                return Err(SpdyError::TooLarge);
            }
            match status {
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput if input.is_empty() => return Ok(out),
                _ => return Err(SpdyError::Headers),
            }
        }
    }
}

/// Takes a number off the front.
fn number(text: &mut &[u8]) -> Result<usize, SpdyError> {
    let (first, rest) = text.split_first_chunk::<4>().ok_or(SpdyError::Headers)?;
    *text = rest;
    usize::try_from(u32::from_be_bytes(*first)).map_err(|_| SpdyError::Headers)
}

fn parse(mut text: &[u8]) -> Result<Headers, SpdyError> {
    let count = number(&mut text)?;
    if count > MAX_NAMES {
        return Err(SpdyError::TooLarge);
    }
    let mut word = || -> Result<String, SpdyError> {
        let length = number(&mut text)?;
        let (word, rest) = text.split_at_checked(length).ok_or(SpdyError::Headers)?;
        text = rest;
        String::from_utf8(word.to_vec()).map_err(|_| SpdyError::Headers)
    };
    let mut headers = Headers::new();
    for _ in 0..count {
        let (name, value) = (word()?, word()?);
        headers.insert(name.to_ascii_lowercase(), value);
    }
    Ok(headers)
}

/// Writes the blocks of one connection.
#[derive(Default)]
pub(super) struct HeaderWriter {
    begun: bool,
}

impl HeaderWriter {
    /// A block without names, which is all that a server has to say.
    pub(super) fn empty(&mut self) -> BytesMut {
        let mut out = BytesMut::with_capacity(16);
        if !std::mem::replace(&mut self.begun, true) {
            // Deflate with a window of 32 KiB, no dictionary.
            out.put_slice(&[0x78, 0x01]);
        }
        // A stored block that is not the last: its length, the length's complement, the text.
        out.put_u8(0);
        out.put_u16_le(4);
        out.put_u16_le(!4);
        out.put_u32(0);
        // An empty one brings what was written to the reader.
        out.put_slice(&[0, 0, 0, 0xff, 0xff]);
        out
    }
}

#[cfg(test)]
pub(super) mod samples {
    /// What Python's `zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, 8, 0, dictionary)` makes of two blocks: the streams
    /// of one forwarded connection, `error` and then `data`, each flushed with `Z_SYNC_FLUSH`.
    pub(crate) const FIRST: [u8; 50] = [
        120, 249, 227, 198, 167, 194, 2, 37, 58, 112, 58, 43, 41, 74, 77, 204, 133, 22, 37, 172, 169, 160,
        128, 134, 20, 203, 69, 160, 36, 204, 100, 97, 0, 36, 57, 139, 32, 145, 152, 9, 74, 220, 140, 6, 0, 0,
        0, 0, 255, 255,
    ];
    /// The second one.
    pub(crate) const SECOND: [u8; 14] = [194, 170, 21, 84, 10, 37, 18, 210, 9, 0, 0, 0, 255, 255];
}

#[cfg(test)]
mod tests {
    use super::samples::{FIRST, SECOND};
    use super::*;

    #[test]
    fn reads_blocks_that_go_on_from_each_other() {
        let mut reader = HeaderReader::new();
        let wanted = |pairs: &[(&str, &str)]| -> Headers {
            pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
        };
        let first = reader.read(&FIRST).unwrap();
        assert_eq!(first, wanted(&[("port", "80"), ("requestid", "0"), ("streamtype", "error")]));
        let second = reader.read(&SECOND).unwrap();
        assert_eq!(second, wanted(&[("port", "80"), ("requestid", "0"), ("streamtype", "data")]));
    }

    #[test]
    fn what_is_no_block_is_refused() {
        assert_eq!(HeaderReader::new().read(&SECOND[..2]), Err(SpdyError::Headers));
        assert_eq!(HeaderReader::new().read(b"\x78\x01\x00\x00\x00\x00"), Err(SpdyError::Headers));
        let mut torn = FIRST.to_vec();
        torn.truncate(FIRST.len() - 9);
        assert!(HeaderReader::new().read(&torn).is_err());
        for at in 6..FIRST.len() {
            let mut broken = FIRST.to_vec();
            broken[at] ^= 0x55;
            // Whatever comes of it, it ends.
            let _ = HeaderReader::new().read(&broken);
        }
    }

    #[test]
    fn what_is_written_can_be_inflated() {
        let mut writer = HeaderWriter::default();
        let (first, second) = (writer.empty(), writer.empty());
        let mut inflate =
            miniz_oxide::inflate::stream::InflateState::new_boxed(miniz_oxide::DataFormat::Zlib);
        for block in [first, second] {
            let mut out = [1; 16];
            let flush = miniz_oxide::MZFlush::Sync;
            let result = miniz_oxide::inflate::stream::inflate(&mut inflate, &block, &mut out, flush);
            assert_eq!((result.bytes_consumed, result.bytes_written), (block.len(), 4));
            assert_eq!(out[..4], [0; 4]);
        }
    }
}
