//! From a snapshot to a data directory: a new cluster, with the keys, revisions and leases of the old one.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::reader::Reader;
use super::{CHECKSUM_BYTES, COMPACTED, LEASES, LeaseRecord, META, record};
use crate::backend::{Backend, BackendError};
use crate::error::OpenError;
use crate::kv::{FIRST_REVISION, KeyValue, Revision};
use crate::mvcc::{Layer, Marks, Sealed};
use crate::options::Options;

/// Bytes of records that are written at once.
const STEP_BYTES: usize = 16 << 20;

/// What a page of a database is a multiple of; a file with a checksum behind it has that much more.
const SECTOR: u64 = 512;

/// Why a snapshot was not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The snapshot cannot be read, or is no snapshot.
    #[error("cannot read the snapshot {path}: {source}", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
    /// The checksum is not there, or wrong.
    #[error("the snapshot {path} is damaged: {detail}; use another one", path = path.display())]
    Checksum {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        detail: &'static str,
    },
    /// The directory is in use, or was.
    #[error("{path} is not empty: restore into a new directory, or move the old one away", path = .0.display())]
    NotEmpty(PathBuf),
    /// The data directory cannot be made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The data cannot be written.
    #[error("cannot write the restored data: {0}")]
    Write(String),
}

/// What is in a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotStatus {
    /// The newest revision.
    pub revision: Revision,
    /// The oldest that can be read; 0 if nothing was compacted.
    pub compacted: Revision,
    /// Records of the history.
    pub records: u64,
    /// Leases.
    pub leases: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// Checks a snapshot and says what is in it. Blocks on the disk.
pub fn status(path: &Path) -> Result<SnapshotStatus, RestoreError> {
    read(path, &mut |_| Ok(()), &mut |_| ())
}

/// Makes a data directory in `options.dir`, which is empty or does not exist, of a snapshot. Opened, it is a new
/// cluster of one member, which members of the old one have no part in. Blocks on the disk.
pub fn restore(path: &Path, options: &Options) -> Result<SnapshotStatus, RestoreError> {
    let (disk, dir) = (&options.disk, &options.dir);
    let failed = |what| move |source| OpenError::Io { what, path: options.dir.clone(), source };
    disk.create_dir(dir).map_err(failed("making the directory"))?;
    if !disk.list(dir).map_err(failed("reading the directory"))?.is_empty() {
        return Err(RestoreError::NotEmpty(dir.clone()));
    }
    // Nothing is opened that is not there as a whole: the file gets its name at the end.
    let (beside, whole) = (dir.join("restored.redb"), dir.join("history.redb"));
    let backend = Backend::open(Arc::clone(disk), beside.clone(), options.cache_bytes)?;
    let mut layer = Layer::default();
    let mut leases = Vec::new();
    let mut take = |kv: KeyValue| {
        layer.bytes += kv.key.len() + kv.value.len();
        layer.records.insert((kv.mod_revision, kv.sub), Arc::new(kv));
        if layer.bytes < STEP_BYTES {
            return Ok(());
        }
        write(&backend, std::mem::take(&mut layer), Marks::default())
    };
    let found = read(path, &mut take, &mut |lease| leases.push((lease.id, Some(lease.ttl))))?;
    layer.leases.extend(leases);
    let marks = Marks { revision: found.revision, compacted: found.compacted, ..Marks::default() };
    write(&backend, layer, marks)?;
    backend.close();
    let failed = |error: io::Error| RestoreError::Write(error.to_string());
    disk.rename(&beside, &whole).map_err(failed)?;
    disk.sync_dir(dir).map_err(failed)?;
    Ok(found)
}

fn write(backend: &Backend, layer: Layer, marks: Marks) -> Result<(), RestoreError> {
    let failed = |error: Box<BackendError>| RestoreError::Write(error.to_string());
    backend.write(&Sealed { layer, marks }).map_err(failed)
}

/// Reads a snapshot from one end to the other.
fn read(
    path: &Path,
    take: &mut dyn FnMut(KeyValue) -> Result<(), RestoreError>,
    lease: &mut dyn FnMut(LeaseRecord),
) -> Result<SnapshotStatus, RestoreError> {
    let failed = |source| RestoreError::Read { path: path.to_owned(), source };
    let bytes = check_sum(path)?;
    let reader = File::open(path).and_then(|file| Reader::open(file, bytes)).map_err(failed)?;
    let mut status = SnapshotStatus { bytes: bytes + CHECKSUM_BYTES as u64, ..SnapshotStatus::default() };
    let unreadable = || io::Error::new(io::ErrorKind::InvalidData, "a record in it means nothing");
    let mut newest = FIRST_REVISION;
    let each = |bucket, visit: Visit<'_>| {
        reader.each(bucket, visit).map_err(|error| match error {
            Either::Read(source) => failed(source),
            Either::Restore(error) => error,
        })
    };
    each(record::BUCKET, &mut |key, value| {
        let kv = record::decode(key, value).ok_or_else(unreadable)?;
        status.records += 1;
        newest = newest.max(kv.mod_revision);
        Ok(take(kv)?)
    })?;
    each(LEASES, &mut |_, value| {
        let record = prost::Message::decode(value).map_err(io::Error::other)?;
        status.leases += 1;
        lease(record);
        Ok(())
    })?;
    each(META, &mut |key, value| {
        if key == COMPACTED {
            let (main, ..) = record::split(value).ok_or_else(unreadable)?;
            // etcd begins with -1.
            status.compacted = main.max(0);
        }
        Ok(())
    })?;
    status.revision = newest.max(status.compacted);
    Ok(status)
}

/// Takes the key and the value of a record.
type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), Either>;

/// What can go wrong while records are read and taken in.
enum Either {
    Read(io::Error),
    Restore(RestoreError),
}

impl From<io::Error> for Either {
    fn from(error: io::Error) -> Either {
        Either::Read(error)
    }
}

impl From<RestoreError> for Either {
    fn from(error: RestoreError) -> Either {
        Either::Restore(error)
    }
}

/// Checks the checksum at the end; gives the length of what is before it.
fn check_sum(path: &Path) -> Result<u64, RestoreError> {
    let failed = |source| RestoreError::Read { path: path.to_owned(), source };
    let wrong = |detail| RestoreError::Checksum { path: path.to_owned(), detail };
    let mut file = File::open(path).map_err(failed)?;
    let len = file.metadata().map_err(failed)?.len();
    if len % SECTOR != CHECKSUM_BYTES as u64 || len < SECTOR {
        return Err(wrong("it has no checksum at its end, as if it were cut off"));
    }
    let mut left = len - CHECKSUM_BYTES as u64;
    let (mut sum, mut piece) = (Sha256::new(), vec![0; 1 << 16]);
    while left > 0 {
        let size = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        file.read_exact(&mut piece[..size]).map_err(failed)?;
        sum.update(&piece[..size]);
        left -= size as u64;
    }
    let mut wanted = [0; CHECKSUM_BYTES];
    file.read_exact(&mut wanted).map_err(failed)?;
    if sum.finalize().as_slice() != wanted {
        return Err(wrong("its content does not match its checksum"));
    }
    Ok(len - CHECKSUM_BYTES as u64)
}
