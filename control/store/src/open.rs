//! Opening a data directory.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::backend::Backend;
use crate::checkpoint::Trigger;
use crate::cluster::InitialClusterState;
use crate::disk::DiskFile;
use crate::error::OpenError;
use crate::identity::Identity;
use crate::lease::Lessor;
use crate::log::{Record, SegmentLog};
use crate::metrics::Counters;
use crate::mvcc::{Mvcc, Window};
use crate::options::Options;
use crate::shared::{Progress, Shared};
use crate::space::Gate;
use crate::{image, install, join, verify};

const LOG_DIR: &str = "log";
const HISTORY: &str = "history.redb";

/// Opens everything in the data directory. A member that joins a cluster finds out first who it is.
pub(crate) async fn open(options: Options) -> Result<(Arc<Shared>, Vec<Record>), OpenError> {
    let blocking = options.blocking;
    let to_do = options.clone();
    let found = blocking.run(move || prepare(&to_do)).await;
    let (lock, found) = found.map_err(OpenError::NotReady)??;
    let (identity, new) = match found {
        Some(identity) => (identity, false),
        None if options.initial_cluster_state == InitialClusterState::Existing => {
            (join::identify(&options).await?, true)
        }
        None => (Identity::founding(&options)?, true),
    };
    let opened = blocking.run(move || open_files(options, identity, new, lock));
    opened.await.map_err(OpenError::NotReady)?
}

type Lock = Box<dyn DiskFile>;

/// Makes the directories, keeps others out, and looks who this member is.
fn prepare(options: &Options) -> Result<(Lock, Option<Identity>), OpenError> {
    let (disk, dir) = (&options.disk, &options.dir);
    for dir in [dir, &dir.join(LOG_DIR)] {
        let failed = |source| OpenError::Io { what: "making the directory", path: dir.clone(), source };
        disk.create_dir(dir).map_err(failed)?;
    }
    let lock = lock(options)?;
    let received = dir.join(image::RECEIVED);
    let failed = |source| OpenError::Io { what: "removing", path: received.clone(), source };
    image::remove(disk.as_ref(), &received).map_err(failed)?;
    Ok((lock, Identity::read(disk.as_ref(), dir, &options.cluster_name)?))
}

/// Opens the files and puts the parts together.
fn open_files(
    options: Options,
    identity: Identity,
    new: bool,
    lock: Lock,
) -> Result<(Arc<Shared>, Vec<Record>), OpenError> {
    let (disk, dir) = (Arc::clone(&options.disk), options.dir.clone());
    let log_dir = dir.join(LOG_DIR);
    if new {
        make_history(&options)?;
    }
    let (backend, state, found) = verify::whole(&dir.join(HISTORY), || {
        let backend = Backend::open(Arc::clone(&disk), dir.join(HISTORY), options.cache_bytes)?;
        backend.verify()?;
        let mut state = Mvcc::new(Window::new(options.window_revisions, options.window_bytes));
        let found = backend.load(&mut state)?;
        Ok((backend, state, found))
    })?;
    if !found {
        return Err(lost(&dir, "there is nothing in it".to_owned()));
    }
    if new {
        // Last, since a directory with an identity has to have all the rest.
        identity.write(options.disk.as_ref(), &options.dir)?;
    }
    let marks = state.marks().clone();
    let applied = marks.applied.map(|at| at.index);
    let (mut log, mut recent) = SegmentLog::open(
        disk,
        &options.random,
        log_dir.clone(),
        options.segment_bytes,
        options.max_request_bytes,
        applied,
    )?;
    let failed = |source| OpenError::Io {
        what: "finishing the installation of a snapshot in",
        path: log_dir.clone(),
        source,
    };
    if install::finish(&mut log, &marks).map_err(failed)? {
        recent.clear();
    }
    if let Some(at) = marks.applied.filter(|at| log.last().is_none_or(|last| last.index < at.index)) {
        let last = log.last().map_or("nothing".to_owned(), |last| format!("entry {}", last.index));
        let detail = format!("the log ends with {last}, but the history has entry {} already", at.index);
        return Err(OpenError::Corrupt { path: log_dir, detail });
    }
    if let Some(purged) = log.purged().filter(|purged| applied.is_none_or(|applied| applied < purged.index)) {
        let last = applied.map_or("nothing".to_owned(), |applied| format!("entry {applied}"));
        let detail = format!("it ends with {last}, but the log begins behind entry {} already", purged.index);
        return Err(lost(&dir, detail));
    }
    let gate = Gate::new(options.segment_bytes);
    gate.set_room(log.room());
    let counters = Counters::default();
    counters.log_disk_bytes.store(log.sizes().0, Ordering::Relaxed);
    let shared = Shared {
        identity,
        progress: watch::Sender::new(Progress { revision: state.revision(), closed: false }),
        state: RwLock::new(state),
        backend,
        log: Mutex::new(log),
        counters,
        lessor: Lessor::default(),
        gate,
        trigger: Trigger::new(),
        checkpointing: Mutex::default(),
        exporting: Mutex::default(),
        incoming: Arc::default(),
        hashing: tokio::sync::Mutex::default(),
        removed: watch::Sender::new(marks.removed.clone()),
        checkpointed: Mutex::new(marks),
        applied_next: AtomicU64::new(applied.map_or(0, |index| index + 1)),
        applied: watch::Sender::new(applied.map_or(0, |index| index + 1)),
        addresses: RwLock::default(),
        alone: AtomicBool::new(false),
        membership_index: AtomicU64::new(0),
        stopping: AtomicBool::new(false),
        failed: watch::Sender::new(None),
        lock: Mutex::new(Some(lock)),
        options,
    };
    Ok((Arc::new(shared), recent))
}

/// Makes an empty history, unless there is one, of a member that was restored. It gets its name once it is whole: redb refuses a
/// file whose making was cut off. That it says that there is nothing tells a history that is lost from one that never was.
fn make_history(options: &Options) -> Result<(), OpenError> {
    let (disk, dir) = (&options.disk, &options.dir);
    let (beside, whole) = (dir.join("history.redb.first"), dir.join(HISTORY));
    let failed = |source| OpenError::Io { what: "making the history in", path: dir.clone(), source };
    if disk.list(dir).map_err(failed)?.contains(&whole) {
        return Ok(());
    }
    image::remove(disk.as_ref(), &beside).map_err(failed)?;
    let backend = Backend::open(Arc::clone(disk), beside.clone(), options.cache_bytes)?;
    backend.begin(&Mvcc::new(Window::new(options.window_revisions, options.window_bytes)))?;
    backend.close();
    disk.rename(&beside, &whole).and_then(|()| disk.sync_dir(dir)).map_err(failed)
}

/// A history that is not what the rest of the directory says it is.
fn lost(dir: &Path, detail: String) -> OpenError {
    OpenError::Corrupt { path: dir.join(HISTORY), detail }
}

/// Keeps other processes out of the directory.
fn lock(options: &Options) -> Result<Box<dyn DiskFile>, OpenError> {
    let path = options.dir.join("lock");
    let failed = |source| OpenError::Io { what: "locking", path: path.clone(), source };
    let file = options.disk.open(&path, true).map_err(failed)?;
    if file.try_lock().map_err(failed)? { Ok(file) } else { Err(OpenError::InUse(options.dir.clone())) }
}
