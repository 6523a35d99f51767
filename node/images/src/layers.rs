//! The layers on disk: `layers/<diff id>/` holds the files in `fs` and what is known about them in
//! `layer.json`. A folder appears there under its name when it is complete, verified and durable.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{ImageError, LayerError};
use crate::files::{self, io_error};
use crate::unpack::{self, Expected, Limits};

/// What is known about a layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LayerInfo {
    /// What its files take on disk.
    pub(crate) disk_bytes: u64,
    /// Folders that the layer puts things into without saying anything about them.
    pub(crate) implicit: Vec<OsString>,
}

/// The layers of a store.
pub(crate) struct Layers {
    dir: PathBuf,
    temporary: PathBuf,
    limits: Limits,
    /// How many pulls and imports rely on a layer that no image may name yet.
    pins: Mutex<HashMap<Digest, usize>>,
    /// Held by the one that fetches a layer.
    busy: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
}

/// Keeps layers from being removed while an image is put together.
pub(crate) struct Pins {
    layers: Arc<Layers>,
    ids: Vec<Digest>,
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut pins = self.layers.pins.lock();
        for id in &self.ids {
            if let Some(count) = pins.get_mut(id) {
                *count -= 1;
                if *count == 0 {
                    pins.remove(id);
                }
            }
        }
    }
}

impl Layers {
    /// `dir` and `temporary` must be on one file system; `temporary` is emptied.
    pub(crate) fn open(dir: PathBuf, temporary: PathBuf, limits: Limits) -> Result<Layers, ImageError> {
        carrack_files::remove_tree(&temporary).map_err(io_error(&temporary))?;
        for path in [&dir, &temporary] {
            fs::create_dir_all(path).map_err(io_error(path))?;
        }
        Ok(Layers { dir, temporary, limits, pins: Mutex::default(), busy: Mutex::default() })
    }

    /// The layer's files.
    pub(crate) fn files(&self, id: Digest) -> PathBuf {
        self.dir.join(id.hex()).join("fs")
    }

    /// What is known about a layer, or `None` if the store does not have it.
    pub(crate) fn info(&self, id: Digest) -> Option<LayerInfo> {
        let path = self.dir.join(id.hex()).join("layer.json");
        let bytes = fs::read(&path).ok()?;
        match serde_json::from_slice(&bytes) {
            Ok(info) => Some(info),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a layer's description cannot be read; the layer is not used");
                None
            }
        }
    }

    /// Keeps the layers from being removed until the result is dropped.
    pub(crate) fn pin(self: &Arc<Self>, ids: &[Digest]) -> Pins {
        let mut pins = self.pins.lock();
        for id in ids {
            *pins.entry(*id).or_default() += 1;
        }
        Pins { layers: self.clone(), ids: ids.to_vec() }
    }

    /// Waits until nobody else fetches the layer.
    pub(crate) async fn claim(&self, id: Digest) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut busy = self.busy.lock();
            busy.retain(|_, lock| Arc::strong_count(lock) > 1);
            busy.entry(id).or_default().clone()
        };
        lock.lock_owned().await
    }

    /// Unpacks a layer and puts it in its place. Blocks.
    pub(crate) fn add(&self, source: impl Read, expected: &Expected) -> Result<LayerInfo, LayerError> {
        let work = self.temporary().map_err(|error| disk_error(&self.temporary, error))?;
        let io = |error| disk_error(work.path(), error);
        let (root, trash) = (work.path().join("layer/fs"), work.path().join("trash"));
        fs::create_dir_all(&root).map_err(io)?;
        fs::create_dir(&trash).map_err(io)?;
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).map_err(io)?;
        let unpacked = unpack::unpack(source, &root, &trash, expected, self.limits)?;
        let implicit = unpacked.implicit.into_iter().map(OsString::from_vec).collect();
        let info = LayerInfo { disk_bytes: unpacked.disk_bytes, implicit };
        let json = serde_json::to_vec(&info).map_err(|error| io(error.into()))?;
        fs::write(work.path().join("layer/layer.json"), json).map_err(io)?;
        self.publish(&work.path().join("layer"), expected.diff_id).map_err(io)?;
        Ok(info)
    }

    fn publish(&self, complete: &Path, id: Digest) -> io::Result<()> {
        files::sync_all(complete)?;
        let place = self.dir.join(id.hex());
        match fs::rename(complete, &place) {
            // Only a layer whose description was damaged can be in the way.
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOTEMPTY | Errno::EXIST)) => {
                drop(self.discard(&place)?);
                fs::rename(complete, &place)?;
            }
            other => other?,
        }
        carrack_files::sync_parent(&place)
    }

    /// A folder for half-done work, on the same file system, that is removed when it is dropped.
    pub(crate) fn temporary(&self) -> io::Result<Temporary> {
        // The unpacked files keep their owners and set-id bits, so nobody else may look in.
        let dir = tempfile::Builder::new().prefix("w").tempdir_in(&self.temporary)?;
        Ok(Temporary { path: dir.keep() })
    }

    /// Takes a folder, if it is there, out of its place, durably. It is emptied when the result is dropped, which
    /// takes its time and so is best done without locks.
    pub(crate) fn discard(&self, path: &Path) -> io::Result<Temporary> {
        let grave = self.temporary()?;
        match fs::rename(path, grave.path().join("gone")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(grave),
            Err(error) => Err(error),
            Ok(()) => carrack_files::sync_parent(path).map(|()| grave),
        }
    }

    /// Removes the layers that are neither pinned nor kept. Gives the bytes freed.
    ///
    /// `kept` is asked under the lock that pins take, so that a pull either sees the layer gone or keeps it.
    pub(crate) fn sweep(&self, kept: impl Fn(Digest) -> bool) -> Result<u64, ImageError> {
        let mut freed = 0;
        for entry in fs::read_dir(&self.dir).map_err(io_error(&self.dir))? {
            let path = entry.map_err(io_error(&self.dir))?.path();
            let id =
                path.file_name().and_then(|name| name.to_str()).and_then(|name| Digest::from_hex(name).ok());
            let Some(id) = id else { continue };
            let pins = self.pins.lock();
            if pins.contains_key(&id) || kept(id) {
                continue;
            }
            freed += self.info(id).map_or(0, |info| info.disk_bytes);
            let grave = self.discard(&path).map_err(io_error(&path))?;
            drop(pins);
            drop(grave);
        }
        Ok(freed)
    }
}

/// A folder that is removed, however deep, when it is dropped.
pub(crate) struct Temporary {
    path: PathBuf,
}

impl Temporary {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Err(error) = carrack_files::remove_tree(&self.path) {
            // What stays is removed when the store is opened next.
            tracing::warn!(path = %self.path.display(), %error, "a temporary folder could not be removed");
        }
    }
}

/// Tells a full disk from other errors.
pub(crate) fn disk_error(path: &Path, source: io::Error) -> LayerError {
    match Errno::from_io_error(&source) {
        Some(Errno::NOSPC | Errno::DQUOT) => LayerError::NoSpace,
        _ => LayerError::Io { path: path.display().to_string(), source },
    }
}
