//! Opening a data directory.

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
use crate::{image, install, join};

const LOG_DIR: &str = "log";

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
    let opened = blocking.run(move || {
        if new {
            identity.write(options.disk.as_ref(), &options.dir)?;
        }
        open_files(options, identity, lock)
    });
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
    lock: Lock,
) -> Result<(Arc<Shared>, Vec<Record>), OpenError> {
    let (disk, dir) = (Arc::clone(&options.disk), options.dir.clone());
    let log_dir = dir.join(LOG_DIR);
    let backend = Backend::open(Arc::clone(&disk), dir.join("history.redb"), options.cache_bytes)?;
    let mut state = Mvcc::new(Window::new(options.window_revisions, options.window_bytes));
    backend.load(&mut state)?;
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

/// Keeps other processes out of the directory.
fn lock(options: &Options) -> Result<Box<dyn DiskFile>, OpenError> {
    let path = options.dir.join("lock");
    let failed = |source| OpenError::Io { what: "locking", path: path.clone(), source };
    let file = options.disk.open(&path, true).map_err(failed)?;
    if file.try_lock().map_err(failed)? { Ok(file) } else { Err(OpenError::InUse(options.dir.clone())) }
}
