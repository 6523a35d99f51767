//! Unpacks a layer: decompress, hash both sides, write files, and say what came out.

mod apply;
mod limits;
mod pax;
mod tar;
mod tree;

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

pub use limits::Limits;
pub(crate) use tar::{Kind, TarReader};
pub(crate) use tree::{OPAQUE, is_whiteout};

use crate::digest::{Digest, Hashing};
use crate::error::LayerError;
use apply::Applier;
use tree::Tree;

/// What the layer must turn out to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// Digest and size of the layer as it is transported, if the manifest gives them.
    pub(crate) blob: Option<(Digest, u64)>,
    /// Digest of the uncompressed archive.
    pub(crate) diff_id: Digest,
}

/// What came out.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// Paths, relative to the layer's root, of folders that the archive has no entry for.
    pub(crate) implicit: Vec<Vec<u8>>,
    /// What the files take on disk.
    pub(crate) disk_bytes: u64,
}

/// Unpacks a layer from `source` into the empty folder `root`. On success both digests have been verified;
/// on failure the folder holds rubbish. `trash` is an empty folder on the same file system.
///
/// The bytes are written before their digest is known. That is safe because unpacking has to be safe for
/// any bytes, a digest only says who chose them; and it halves the work, since nothing is stored twice.
pub(crate) fn unpack(
    source: impl Read,
    root: &Path,
    trash: &Path,
    expected: &Expected,
    limits: Limits,
) -> Result<Unpacked, LayerError> {
    let mut blob = BufReader::with_capacity(256 << 10, Hashing::new(source));
    let outcome = unpack_blob(&mut blob, root, trash, expected.diff_id, limits);
    // Bytes that were tampered with or cut off mostly show as a damaged archive. What is really wrong is that
    // they are not the bytes that were asked for, so the rest is read to be able to tell.
    if matches!(outcome, Ok(_) | Err(LayerError::Malformed(_) | LayerError::DigestMismatch { .. })) {
        verify_blob(&mut blob, expected)?;
    }
    outcome
}

fn verify_blob<R: Read>(blob: &mut BufReader<Hashing<R>>, expected: &Expected) -> Result<(), LayerError> {
    let Some((digest, size)) = expected.blob else { return Ok(()) };
    io::copy(&mut blob.by_ref().take(size.saturating_add(1)), &mut io::sink()).map_err(tar::read_error)?;
    let found = blob.get_ref().count();
    if found < size {
        return Err(LayerError::Truncated { found, expected: size });
    }
    match blob.get_ref().digest() {
        found if found == digest => Ok(()),
        found => Err(LayerError::DigestMismatch { expected: digest, found }),
    }
}

fn unpack_blob(
    blob: &mut impl BufRead,
    root: &Path,
    trash: &Path,
    diff_id: Digest,
    limits: Limits,
) -> Result<Unpacked, LayerError> {
    let archive = decompress(blob)?;
    let mut reader = TarReader::new(Bounded { inner: Hashing::new(archive), left: limits.bytes });
    let tree = Tree::open(root, trash)
        .map_err(|source| LayerError::Io { path: root.display().to_string(), source })?;
    let mut applier = Applier::new(tree, limits);
    while let Some(entry) = reader.next_entry()? {
        applier.apply(&entry, &mut reader.data())?;
    }
    let mut rest = reader.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(tar::read_error)?;
    let (implicit, disk_bytes) = applier.finish()?;
    match rest.inner.digest() {
        found if found == diff_id => Ok(Unpacked { implicit, disk_bytes }),
        found => Err(LayerError::DigestMismatch { expected: diff_id, found }),
    }
}

/// Looks at the first bytes rather than at the media type, which registries and archives get wrong.
pub(crate) fn decompress<'a>(source: &'a mut impl BufRead) -> Result<Box<dyn Read + 'a>, LayerError> {
    let mut head = Vec::with_capacity(4);
    source.by_ref().take(4).read_to_end(&mut head).map_err(tar::read_error)?;
    let gzip = head.starts_with(&[0x1f, 0x8b]);
    let zstd = head == [0x28, 0xb5, 0x2f, 0xfd];
    let source = io::Cursor::new(head).chain(source);
    if gzip {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(source)));
    }
    if zstd {
        let decoder = zstd::stream::read::Decoder::with_buffer(source);
        return Ok(Box::new(decoder.map_err(tar::read_error)?));
    }
    Ok(Box::new(source))
}

/// Refuses to read more than a number of bytes.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => {
                return Err(io::Error::other(LayerError::TooLarge(
                    "it unpacks to too many bytes".to_owned(),
                )));
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
