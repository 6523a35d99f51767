//! The durable history: a redb database, written by checkpoints only.
//!
//! Records have their revision as the key, so that they are written in order, at the end. What is here may lag behind
//! the log, never lead it: each commit says up to which entry of the log it goes.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock, RwLockWriteGuard};
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

use crate::alarm::{Alarm, AlarmKind};
use crate::codec;
use crate::disk::{Disk, DiskFile, is_full};
use crate::error::OpenError;
use crate::image::Item;
use crate::kv::{KeyValue, Revision};
use crate::log::Position;
use crate::mvcc::{Layer, Marks, Mvcc, RecordKey, Sealed};

/// (revision, place in it) to an encoded version of a key.
pub(crate) const HISTORY: TableDefinition<'static, (i64, u32), &[u8]> = TableDefinition::new("history");
/// Lease to TTL in seconds.
pub(crate) const LEASES: TableDefinition<'static, i64, i64> = TableDefinition::new("leases");
/// The marks, by name.
pub(crate) const MARKS: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("marks");

const FORMAT: u64 = 1;

/// Why the history could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackendError {
    /// The disk is full.
    #[error("the disk is full")]
    Full,
    /// redb, or the disk below it, failed.
    #[error(transparent)]
    Database(#[from] redb::Error),
    /// A record does not mean anything.
    #[error("record {at:?} is damaged: {source}")]
    Record { at: RecordKey, source: codec::DecodeError },
}

impl BackendError {
    /// Whether the store is shut down, which is no fault of its history.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, BackendError::Database(redb::Error::DatabaseClosed))
    }
}

impl From<redb::Error> for Box<BackendError> {
    fn from(error: redb::Error) -> Box<BackendError> {
        Box::new(match error {
            redb::Error::Io(error) if is_full(&error) => BackendError::Full,
            other => BackendError::Database(other),
        })
    }
}

pub(crate) type Result<T> = std::result::Result<T, Box<BackendError>>;

/// Turns each of redb's error types into one.
pub(crate) fn db<T, E: Into<redb::Error>>(result: std::result::Result<T, E>) -> Result<T> {
    result.map_err(|error| error.into().into())
}

/// The database, opened anew after a failed write: redb gives up for good on the first I/O error.
pub(crate) struct Backend {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) path: PathBuf,
    pub(crate) cache_bytes: usize,
    /// Held by who changes the file.
    pub(crate) writing: Mutex<()>,
    database: RwLock<Option<Arc<Database>>>,
    /// Closed for good. Set under the lock of `database`.
    ended: AtomicBool,
    file_bytes: Arc<AtomicU64>,
}

impl Backend {
    /// Opens the database at `path`, or makes one.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        cache_bytes: usize,
    ) -> std::result::Result<Backend, OpenError> {
        let backend = Backend {
            disk,
            path,
            cache_bytes,
            writing: Mutex::new(()),
            database: RwLock::new(None),
            ended: AtomicBool::new(false),
            file_bytes: Arc::default(),
        };
        // Left by a defragmentation that did not end.
        let beside = backend.beside();
        let files = beside.parent().map_or(Ok(Vec::new()), |dir| backend.disk.list(dir));
        if files.is_ok_and(|files| files.contains(&beside)) {
            let what = "removing an unfinished copy of the history";
            backend.disk.remove(&beside).map_err(|source| OpenError::Io { what, path: beside, source })?;
        }
        backend.database().map_err(|error| backend.open_error(*error))?;
        Ok(backend)
    }

    /// Where a new file is made.
    pub(crate) fn beside(&self) -> PathBuf {
        self.path.with_extension("redb.new")
    }

    /// Keeps everyone from opening the file.
    pub(crate) fn slot(&self) -> RwLockWriteGuard<'_, Option<Arc<Database>>> {
        self.database.write()
    }

    /// Bytes of the file.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes.load(Ordering::Relaxed)
    }

    /// Closes the database. Later uses open it again.
    pub(crate) fn close(&self) {
        *self.database.write() = None;
    }

    /// Closes the database for good. Who comes late must not open it again: by then the directory may be another store's,
    /// and two databases on one file destroy it.
    pub(crate) fn end(&self) {
        let mut slot = self.database.write();
        self.ended.store(true, Ordering::Release);
        *slot = None;
    }

    fn open_error(&self, error: BackendError) -> OpenError {
        let path = self.path.clone();
        match error {
            // What redb says of a file that is none of its own, or ends early.
            BackendError::Database(redb::Error::Io(source))
                if matches!(source.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                OpenError::Corrupt { path, detail: source.to_string() }
            }
            BackendError::Database(redb::Error::Io(source)) => {
                OpenError::Io { what: "opening the history in", path, source }
            }
            BackendError::Full => OpenError::Io {
                what: "opening the history in",
                path,
                source: io::ErrorKind::StorageFull.into(),
            },
            other => OpenError::Corrupt { path, detail: other.to_string() },
        }
    }

    pub(crate) fn database(&self) -> Result<Arc<Database>> {
        if let Some(open) = self.database.read().as_ref() {
            return Ok(Arc::clone(open));
        }
        let mut slot = self.database.write();
        if let Some(open) = slot.as_ref() {
            return Ok(Arc::clone(open));
        }
        if self.ended.load(Ordering::Acquire) {
            return Err(redb::Error::DatabaseClosed.into());
        }
        let file = self.disk.open(&self.path, true).map_err(redb::Error::Io)?;
        let file = RedbFile { file, bytes: Arc::clone(&self.file_bytes) };
        file.bytes.store(file.file.len().map_err(redb::Error::Io)?, Ordering::Relaxed);
        let mut builder = Database::builder();
        let opened = db(builder.set_cache_size(self.cache_bytes).create_with_backend(file))?;
        Ok(Arc::clone(slot.insert(Arc::new(opened))))
    }

    /// Fills an empty state with all that is here; false if nothing was ever written.
    pub(crate) fn load(&self, state: &mut Mvcc) -> std::result::Result<bool, OpenError> {
        let loaded = self.load_tables(state).map_err(|error| self.open_error(*error))?;
        match loaded {
            Loaded::Empty => Ok(false),
            Loaded::All => Ok(true),
            Loaded::Newer(found) => Err(OpenError::Format { path: self.path.clone(), found, known: FORMAT }),
        }
    }

    fn load_tables(&self, state: &mut Mvcc) -> Result<Loaded> {
        let read = db(self.database()?.begin_read())?;
        let marks = match read.open_table(MARKS) {
            // Nothing was ever checkpointed: tables come with the first checkpoint.
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Loaded::Empty),
            other => db(other)?,
        };
        let loaded = match read_marks(&marks)? {
            Ok(loaded) => loaded,
            Err(newer) => return Ok(Loaded::Newer(newer)),
        };
        for entry in db(db(read.open_table(HISTORY))?.iter())? {
            let (key, value) = db(entry)?;
            state.load_record(decode(key.value(), value.value())?);
        }
        let mut leases = Vec::new();
        for entry in db(db(read.open_table(LEASES))?.iter())? {
            let (id, ttl) = db(entry)?;
            leases.push((id.value(), ttl.value()));
        }
        state.load_marks(loaded, leases);
        Ok(Loaded::All)
    }

    /// Writes that there is nothing yet.
    pub(crate) fn begin(&self, state: &Mvcc) -> std::result::Result<(), OpenError> {
        let nothing = Sealed { layer: Layer::default(), marks: state.marks().clone() };
        self.write(&nothing).map_err(|error| self.open_error(*error))
    }

    /// Makes a sealed layer durable.
    pub(crate) fn write(&self, sealed: &Sealed) -> Result<()> {
        let _writing = self.writing.lock();
        let written = self.write_tables(sealed);
        if written.is_err() {
            // redb refuses everything after an I/O error until it is opened again.
            self.close();
        }
        written
    }

    fn write_tables(&self, Sealed { layer, marks }: &Sealed) -> Result<()> {
        let mut write = db(self.database()?.begin_write())?;
        // Without it, opening after a crash repairs the file, which reads all of it. It is two commits in one, too: damage is then
        // told from a write that was cut off, and never mended by going back.
        write.set_quick_repair(true);
        {
            let mut history = db(write.open_table(HISTORY))?;
            for (key, kv) in &layer.records {
                db(history.insert(*key, codec::encode_record(kv).as_slice()))?;
            }
            for key in &layer.removed {
                db(history.remove(*key))?;
            }
            let mut leases = db(write.open_table(LEASES))?;
            for (id, ttl) in &layer.leases {
                match ttl {
                    Some(ttl) => db(leases.insert(*id, *ttl))?,
                    None => db(leases.remove(*id))?,
                };
            }
            let mut table = db(write.open_table(MARKS))?;
            write_marks(&mut table, marks)?;
        }
        db(write.commit())
    }

    /// Writes a part of a snapshot.
    pub(crate) fn import(&self, items: &[Item]) -> Result<()> {
        let mut write = db(self.database()?.begin_write())?;
        // As checkpoints do.
        write.set_two_phase_commit(true);
        {
            let mut history = db(write.open_table(HISTORY))?;
            let mut leases = db(write.open_table(LEASES))?;
            let mut marks = db(write.open_table(MARKS))?;
            for item in items {
                match item {
                    Item::Lease(id, ttl) => drop(db(leases.insert(*id, *ttl))?),
                    Item::Record(key, record) => drop(db(history.insert(*key, record.as_slice()))?),
                    Item::Marks(theirs) => {
                        let installed = theirs.applied;
                        write_marks(&mut marks, &Marks { installed, ..theirs.clone() })?;
                    }
                }
            }
        }
        db(write.commit())
    }

    /// Puts the database file `new` in place of this one, which is closed. Readers that have it open keep it.
    pub(crate) fn replace(&self, new: &std::path::Path) -> io::Result<()> {
        let mut slot = self.database.write();
        *slot = None;
        self.disk.rename(new, &self.path)?;
        self.disk.sync_dir(self.path.parent().unwrap_or(std::path::Path::new(".")))
    }

    /// Reads records by their keys; `None` for those that are not there.
    pub(crate) fn get(&self, keys: &[RecordKey]) -> Result<Vec<Option<KeyValue>>> {
        let read = db(self.database()?.begin_read())?;
        let history = match read.open_table(HISTORY) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(vec![None; keys.len()]),
            other => db(other)?,
        };
        keys.iter()
            .map(|key| db(history.get(*key))?.map(|value| decode(*key, value.value())).transpose())
            .collect()
    }

    /// Reads the records of revisions `from..=upto`, in order.
    pub(crate) fn between(&self, from: Revision, upto: Revision) -> Result<Vec<KeyValue>> {
        let read = db(self.database()?.begin_read())?;
        let history = match read.open_table(HISTORY) {
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            other => db(other)?,
        };
        let records = db(history.range((from, 0)..=(upto, u32::MAX)))?;
        records
            .map(|entry| {
                let (key, value) = db(entry)?;
                decode(key.value(), value.value())
            })
            .collect()
    }
}

type MarksTable<'a> = redb::Table<'a, &'static str, &'static [u8]>;

fn write_marks(table: &mut MarksTable<'_>, marks: &Marks) -> Result<()> {
    let mut set = |name: &str, value: &[u8]| db(table.insert(name, value)).map(drop);
    set("format", &FORMAT.to_le_bytes())?;
    set("revision", &marks.revision.to_le_bytes())?;
    set("compacted", &marks.compacted.to_le_bytes())?;
    let mut set_position = |prefix: &str, at: Position| -> Result<()> {
        set(&format!("{prefix}_term"), &at.term.to_le_bytes())?;
        set(&format!("{prefix}_index"), &at.index.to_le_bytes())
    };
    for (prefix, at) in [("applied", marks.applied), ("installed", marks.installed)] {
        if let Some(at) = at {
            set_position(prefix, at)?;
        }
    }
    if let Some((at, members)) = &marks.membership {
        set_position("membership", *at)?;
        set("membership", members)?;
    }
    set("alarms", &from_alarms(&marks.alarms))?;
    let removed: Vec<u8> = marks.removed.iter().flat_map(|id| id.to_le_bytes()).collect();
    db(table.insert("removed", removed.as_slice()))?;
    Ok(())
}

/// The marks, or the format if it is a newer one.
pub(crate) fn read_marks(
    marks: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<std::result::Result<Marks, u64>> {
    let mark = |name: &str| -> Result<Option<Vec<u8>>> {
        Ok(db(marks.get(name))?.map(|value| value.value().to_vec()))
    };
    let number = |name: &str| -> Result<Option<u64>> { Ok(mark(name)?.as_deref().and_then(to_number)) };
    if let Some(newer) = number("format")?.filter(|format| *format != FORMAT) {
        return Ok(Err(newer));
    }
    let position = |prefix: &str| -> Result<Option<Position>> {
        let (term, index) = (number(&format!("{prefix}_term"))?, number(&format!("{prefix}_index"))?);
        Ok(term.zip(index).map(|(term, index)| Position { term, index }))
    };
    let membership = position("membership")?.zip(mark("membership")?);
    Ok(Ok(Marks {
        revision: number("revision")?.unwrap_or_default() as Revision,
        compacted: number("compacted")?.unwrap_or_default() as Revision,
        applied: position("applied")?,
        membership,
        removed: mark("removed")?.iter().flat_map(|ids| ids.chunks(8)).filter_map(to_number).collect(),
        installed: position("installed")?,
        alarms: mark("alarms")?.map_or_else(Default::default, |bytes| to_alarms(&bytes)),
    }))
}

enum Loaded {
    Empty,
    All,
    Newer(u64),
}

pub(crate) fn decode(at: RecordKey, bytes: &[u8]) -> Result<KeyValue> {
    codec::decode_record(at.0, at.1, bytes).map_err(|source| Box::new(BackendError::Record { at, source }))
}

fn to_number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// Bytes that an alarm takes: the member, then its kind.
const ALARM_BYTES: usize = 9;

fn from_alarms(alarms: &BTreeSet<Alarm>) -> Vec<u8> {
    alarms
        .iter()
        .flat_map(|alarm| alarm.member.to_le_bytes().into_iter().chain([alarm.kind.code()]))
        .collect()
}

fn to_alarms(bytes: &[u8]) -> BTreeSet<Alarm> {
    let alarms = bytes.chunks_exact(ALARM_BYTES).filter_map(|chunk| {
        let (member, kind) = chunk.split_at(ALARM_BYTES - 1);
        Some(Alarm { member: to_number(member)?, kind: AlarmKind::from_code(*kind.first()?)? })
    });
    alarms.collect()
}

/// redb's file, on the store's disk.
pub(crate) struct RedbFile {
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) bytes: Arc<AtomicU64>,
}

impl fmt::Debug for RedbFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.file, f)
    }
}

impl StorageBackend for RedbFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.bytes.store(len, Ordering::Relaxed);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(data, offset)
    }
}
