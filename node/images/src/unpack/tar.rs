//! Reads tar streams: ustar, GNU and PAX, with long names, extended attributes and sparse files.
//!
//! Layers come from strangers. Everything that is kept in memory has a bound, and nothing that a header says
//! is believed before it is checked. Formats: POSIX.1-2017 `pax`, and the GNU tar manual, "Basic Tar Format"
//! and "Storing Sparse Files".

use std::io::{self, Read};

use super::limits::{MAX_EXTENSION, MAX_PATH, MAX_SPARSE_PIECES};
use super::pax::{self, Pax};
use crate::error::LayerError;

/// Tar streams are made of these.
const BLOCK: u64 = 512;

/// A numeric field of a header.
#[derive(Clone, Copy)]
struct Field {
    name: &'static str,
    start: usize,
    length: usize,
}

const MODE: Field = Field { name: "mode", start: 100, length: 8 };
const UID: Field = Field { name: "uid", start: 108, length: 8 };
const GID: Field = Field { name: "gid", start: 116, length: 8 };
const SIZE: Field = Field { name: "size", start: 124, length: 12 };
const MTIME: Field = Field { name: "mtime", start: 136, length: 12 };
const CHECKSUM: Field = Field { name: "checksum", start: 148, length: 8 };

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    Device,
    Directory,
    Fifo,
    /// Something this reader does not know, by its type flag.
    Other(u8),
}

/// A piece of data of a sparse file: where it goes, and how long it is.
pub(crate) type Piece = (u64, u64);

/// One entry, with what its extension headers said.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// Target of a link.
    pub(crate) link: Vec<u8>,
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since 1970, and nanoseconds.
    pub(crate) mtime: (i64, u32),
    /// Size of the file when it is unpacked.
    pub(crate) size: u64,
    /// Extended attributes: name and value.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the stored data goes, when the file has holes.
    pub(crate) sparse: Option<Vec<Piece>>,
}

impl Entry {
    /// The path for messages.
    pub(crate) fn name(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }
}

/// Iterates over the entries of a tar stream.
pub(crate) struct TarReader<R> {
    inner: R,
    /// Offset in the stream.
    position: u64,
    /// Stored bytes of the current entry that have not been read.
    remaining: u64,
    /// Bytes after the current entry's data up to the next block.
    padding: u64,
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(inner: R) -> TarReader<R> {
        TarReader { inner, position: 0, remaining: 0, padding: 0 }
    }

    /// Gives the underlying reader back, to read what follows the archive.
    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    /// Offset of the next byte of the current entry's data.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Stored bytes of the current entry that have not been read.
    pub(crate) fn remaining(&self) -> u64 {
        self.remaining
    }

    /// The next entry, or `None` at the end of the archive. What was not read of the entry before is skipped.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, LayerError> {
        let mut pax = Pax::default();
        let mut long_path = None;
        let mut long_link = None;
        loop {
            self.skip_rest()?;
            let Some(header) = self.read_header()? else { return Ok(None) };
            let stored = field(header.as_bytes(), SIZE)?.cast_unsigned();
            self.expect_data(stored);
            match header.as_bytes()[156] {
                b'x' => pax = pax::parse(&self.read_extension(MAX_EXTENSION)?)?,
                b'g' => self.skip_rest()?,
                b'L' => long_path = Some(until_nul(self.read_extension(MAX_PATH as u64 + 1)?)),
                b'K' => long_link = Some(until_nul(self.read_extension(MAX_PATH as u64 + 1)?)),
                _ => return self.entry(&header, pax, long_path, long_link).map(Some),
            }
        }
    }

    /// Reads the data of the current entry.
    pub(crate) fn data(&mut self) -> Data<'_, R> {
        Data { reader: self }
    }

    /// Says that the caller passes over the rest of the current entry by itself. Gives how many bytes that are.
    pub(crate) fn leave_data(&mut self) -> u64 {
        let rest = self.remaining.saturating_add(self.padding);
        self.position = self.position.saturating_add(rest);
        (self.remaining, self.padding) = (0, 0);
        rest
    }

    fn expect_data(&mut self, stored: u64) {
        self.remaining = stored;
        self.padding = stored.wrapping_neg() % BLOCK;
    }

    fn skip_rest(&mut self) -> Result<(), LayerError> {
        let rest = self.remaining.checked_add(self.padding).ok_or_else(|| malformed("size overflows"))?;
        let skipped = io::copy(&mut self.inner.by_ref().take(rest), &mut io::sink()).map_err(read_error)?;
        self.position += skipped;
        self.remaining = 0;
        self.padding = 0;
        match skipped == rest {
            true => Ok(()),
            false => Err(malformed("the archive ends inside an entry")),
        }
    }

    /// Reads one block; `None` at the end of the stream.
    fn read_block(&mut self) -> Result<Option<[u8; BLOCK as usize]>, LayerError> {
        let mut block = [0; BLOCK as usize];
        let mut filled = 0;
        while filled < block.len() {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(malformed("the archive ends inside a header")),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(read_error(error)),
            }
        }
        self.position += BLOCK;
        Ok(Some(block))
    }

    /// Reads and checks a header. A block of zeros ends the archive, and so does the end of the stream.
    fn read_header(&mut self) -> Result<Option<tar::Header>, LayerError> {
        let Some(block) = self.read_block()? else { return Ok(None) };
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = tar::Header::from_byte_slice(&block).clone();
        let sum = block.iter().enumerate().map(|(index, byte)| match index {
            148..156 => u32::from(b' '),
            _ => u32::from(*byte),
        });
        match field(&block, CHECKSUM)? == i64::from(sum.sum::<u32>()) {
            true => Ok(Some(header)),
            false => Err(malformed("a header has a wrong checksum")),
        }
    }

    /// Reads the whole data of an extension header.
    fn read_extension(&mut self, limit: u64) -> Result<Vec<u8>, LayerError> {
        if self.remaining > limit {
            return Err(LayerError::TooLarge(format!("an extension header of {} bytes", self.remaining)));
        }
        let mut bytes = Vec::new();
        self.data().read_to_end(&mut bytes).map_err(read_error)?;
        match self.remaining {
            0 => Ok(bytes),
            _ => Err(malformed("the archive ends inside an extension header")),
        }
    }

    fn entry(
        &mut self,
        header: &tar::Header,
        mut pax: Pax,
        long_path: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> Result<Entry, LayerError> {
        if let Some(stored) = pax.size {
            self.expect_data(stored);
        }
        let path = pax.path.take().or(long_path).unwrap_or_else(|| header.path_bytes().into_owned());
        let link = match pax.link.take().or(long_link) {
            Some(link) => link,
            None => header.link_name_bytes().unwrap_or_default().into_owned(),
        };
        let kind = kind(header.as_bytes()[156], &path);
        let (size, sparse) = self.sparse(header, &mut pax)?;
        // Links and directories have no data, whatever their size field says: old archives put the size of
        // a hard link's target there, and follow it with nothing.
        if matches!(kind, Kind::HardLink | Kind::Symlink | Kind::Device | Kind::Directory | Kind::Fifo) {
            self.expect_data(0);
        }
        let bytes = header.as_bytes();
        let id = |found: Option<u64>, place: Field| match found {
            Some(id) => narrow(id, place.name),
            None => narrow(field(bytes, place)?.cast_unsigned(), place.name),
        };
        Ok(Entry {
            kind,
            mode: (field(bytes, MODE)? & 0o7777) as u32,
            uid: id(pax.uid, UID)?,
            gid: id(pax.gid, GID)?,
            mtime: match pax.mtime {
                Some(mtime) => mtime,
                None => (field(bytes, MTIME)?, 0),
            },
            xattrs: pax.xattrs,
            path: pax.sparse.name.take().unwrap_or(path),
            link,
            size,
            sparse,
        })
    }

    /// The real size and the pieces of the current file, whichever way its holes are written down.
    fn sparse(
        &mut self,
        header: &tar::Header,
        pax: &mut Pax,
    ) -> Result<(u64, Option<Vec<Piece>>), LayerError> {
        let (size, pieces) = if header.as_bytes()[156] == b'S' {
            self.gnu_sparse(header)?
        } else if pax.sparse.major == Some(1) {
            let size = pax.sparse.real_size.ok_or_else(|| malformed("a sparse file without its size"))?;
            (size, self.sparse_map_in_data()?)
        } else if !pax.sparse.pieces.is_empty() || pax.sparse.real_size.is_some() {
            let size = pax.sparse.real_size.ok_or_else(|| malformed("a sparse file without its size"))?;
            (size, std::mem::take(&mut pax.sparse.pieces))
        } else {
            return Ok((self.remaining, None));
        };
        check_pieces(&pieces, size, self.remaining)?;
        Ok((size, Some(pieces)))
    }

    /// The old GNU form: four pieces in the header, and more in the blocks that follow it.
    fn gnu_sparse(&mut self, header: &tar::Header) -> Result<(u64, Vec<Piece>), LayerError> {
        let gnu = header.as_gnu().ok_or_else(|| malformed("a sparse file whose header is not GNU's"))?;
        let size = number(gnu.real_size(), "real size")?;
        let mut pieces = Vec::new();
        add_pieces(&mut pieces, &gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let block =
                self.read_block()?.ok_or_else(|| malformed("the archive ends inside a sparse map"))?;
            let mut extended = tar::GnuExtSparseHeader::new();
            extended.as_mut_bytes().copy_from_slice(&block);
            add_pieces(&mut pieces, extended.sparse())?;
            more = extended.is_extended();
        }
        Ok((size, pieces))
    }

    /// PAX form 1.0: the map stands before the data, as decimal lines, padded to a block.
    fn sparse_map_in_data(&mut self) -> Result<Vec<Piece>, LayerError> {
        let mut lines = Lines { reader: self, block: [0; BLOCK as usize], at: BLOCK as usize };
        let count = lines.number()?;
        if count > MAX_SPARSE_PIECES as u64 {
            return Err(LayerError::TooLarge(format!("a sparse file of {count} pieces")));
        }
        (0..count).map(|_| Ok((lines.number()?, lines.number()?))).collect()
    }
}

/// Decimal numbers, each on a line, read block by block.
struct Lines<'a, R> {
    reader: &'a mut TarReader<R>,
    block: [u8; BLOCK as usize],
    at: usize,
}

impl<R: Read> Lines<'_, R> {
    fn number(&mut self) -> Result<u64, LayerError> {
        let mut value: u64 = 0;
        for digits in 0.. {
            if self.at == self.block.len() {
                self.reader.data().read_exact(&mut self.block).map_err(read_error)?;
                self.at = 0;
            }
            let byte = self.block[self.at];
            self.at += 1;
            match byte {
                b'\n' if digits > 0 => break,
                b'0'..=b'9' if digits < 20 => {
                    let digit = u64::from(byte - b'0');
                    let next = value.checked_mul(10).and_then(|value| value.checked_add(digit));
                    value = next.ok_or_else(|| malformed("a sparse map with a number out of range"))?;
                }
                _ => return Err(malformed("a sparse map that is not made of numbers")),
            }
        }
        Ok(value)
    }
}

/// The data of the current entry.
pub(crate) struct Data<'a, R> {
    reader: &'a mut TarReader<R>,
}

impl<R: Read> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = usize::try_from(self.reader.remaining).unwrap_or(usize::MAX).min(buffer.len());
        if limit == 0 {
            return Ok(0);
        }
        let read = self.reader.inner.read(&mut buffer[..limit])?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends inside a file"));
        }
        self.reader.remaining -= read as u64;
        self.reader.position += read as u64;
        Ok(read)
    }
}

fn kind(flag: u8, path: &[u8]) -> Kind {
    match flag {
        b'0' | 0 | b'7' if path.ends_with(b"/") => Kind::Directory,
        b'0' | 0 | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' | b'4' => Kind::Device,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => Kind::Other(other),
    }
}

fn add_pieces(pieces: &mut Vec<Piece>, found: &[tar::GnuSparseHeader]) -> Result<(), LayerError> {
    for piece in found.iter().filter(|piece| !piece.is_empty()) {
        if pieces.len() == MAX_SPARSE_PIECES {
            return Err(LayerError::TooLarge(format!(
                "a sparse file of more than {MAX_SPARSE_PIECES} pieces"
            )));
        }
        pieces.push((number(piece.offset(), "sparse offset")?, number(piece.length(), "sparse length")?));
    }
    Ok(())
}

/// Pieces must be in order, apart, inside the file, and together as long as what is stored.
fn check_pieces(pieces: &[Piece], size: u64, stored: u64) -> Result<(), LayerError> {
    let mut end = 0;
    let mut total: u64 = 0;
    for (offset, length) in pieces {
        let next = offset.checked_add(*length).filter(|next| *offset >= end && *next <= size);
        end = next.ok_or_else(|| malformed("a sparse map with pieces out of order or out of range"))?;
        total += length;
    }
    match total == stored {
        true => Ok(()),
        false => Err(malformed("a sparse map that does not fit the stored data")),
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// Reads a number of a header: octal digits, nothing at all for zero, or GNU's base 256, which is marked by the
/// highest bit and whose next one is the sign. Only times may be negative.
fn field(header: &[u8], field: Field) -> Result<i64, LayerError> {
    let bytes = &header[field.start..field.start + field.length];
    let wrong = || malformed(&format!("a header whose {} is not a number", field.name));
    let value = if bytes[0] & 0x80 != 0 {
        let negative = bytes[0] & 0x40 != 0;
        let first = if negative { i128::from(bytes[0] | 0x80) - 0x100 } else { i128::from(bytes[0] & 0x3f) };
        let value = bytes[1..].iter().fold(first, |value, byte| (value << 8) | i128::from(*byte));
        i64::try_from(value).map_err(|_| wrong())?
    } else {
        let is_blank = |byte: &u8| matches!(byte, b' ' | 0);
        let mut digits = bytes.iter().skip_while(|byte| is_blank(byte)).take_while(|byte| !is_blank(byte));
        let add = |value: i64, digit: &u8| match digit {
            b'0'..=b'7' => Ok(value << 3 | i64::from(digit - b'0')),
            _ => Err(wrong()),
        };
        digits.try_fold(0, add)?
    };
    if value < 0 && field.start != MTIME.start { Err(wrong()) } else { Ok(value) }
}

fn number<T>(field: io::Result<T>, what: &str) -> Result<T, LayerError> {
    field.map_err(|error| malformed(&format!("{what}: {error}")))
}

fn narrow(id: u64, what: &str) -> Result<u32, LayerError> {
    // The largest number means "leave it as it is" to chown.
    let narrow = u32::try_from(id).ok().filter(|id| *id != u32::MAX);
    narrow.ok_or_else(|| malformed(&format!("{what} {id} is out of range")))
}

pub(super) fn malformed(message: &str) -> LayerError {
    LayerError::Malformed(message.to_owned())
}

/// What a failed read of the stream means. A source that knows more puts a [`LayerError`] inside.
pub(super) fn read_error(error: io::Error) -> LayerError {
    match error.downcast::<LayerError>() {
        Ok(known) => known,
        Err(error) => LayerError::Malformed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], place: Field) -> Option<i64> {
        let mut header = [0; 512];
        header[place.start..place.start + text.len()].copy_from_slice(text);
        field(&header, place).ok()
    }

    #[test]
    fn reads_numbers_in_all_their_forms() {
        assert_eq!(read(b"0000755\0", MODE), Some(0o755));
        assert_eq!(read(b"   755 \0", MODE), Some(0o755));
        assert_eq!(read(b"", UID), Some(0));
        assert_eq!(read(b"77777777777\0", SIZE), Some(0o77_777_777_777));
        assert_eq!(read(b"777777777777", SIZE), Some(0o777_777_777_777));
        assert_eq!(read(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0], SIZE), Some(2 << 32));
        assert_eq!(read(&[0xff; 12], MTIME), Some(-1));
        assert_eq!(read(&[0xff; 12], SIZE), None);
        assert_eq!(read(&[0xbf; 12], SIZE), None);
        assert_eq!(read(b"9", MODE), None);
    }
}
