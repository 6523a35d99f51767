//! Bounds on what an archive may ask for, each with its reason.

/// The longest path: the kernel's PATH_MAX.
pub(super) const MAX_PATH: usize = 4096;

/// The largest PAX header. Extended attributes are at most 64 KiB each.
pub(super) const MAX_EXTENSION: u64 = 1 << 20;

/// The most pieces a sparse file may be made of; 16 MiB of memory.
pub(super) const MAX_SPARSE_PIECES: usize = 1 << 20;

/// How much one layer may unpack to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries in the archive. The largest images in use have about half a million files.
    pub entries: u64,
    /// Bytes of the uncompressed archive, and so of the files; holes of sparse files do not count.
    pub bytes: u64,
    /// The size of one file, holes included.
    pub file: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { entries: 2_000_000, bytes: 128 << 30, file: 1 << 40 }
    }
}
