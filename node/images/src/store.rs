//! The image store: one directory, and the operations on it.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::catalogue::{Catalogue, Record};
use crate::credential::Credential;
use crate::digest::Digest;
use crate::error::{ImageError, ImportError, PullError};
use crate::files::{io_error, sync_all, write_json};
use crate::image::Image;
use crate::import;
use crate::layers::Layers;
use crate::manifest::Configuration;
use crate::merge::{MergeLayer, describe_folders};
use crate::pull::{self, Pulls};
use crate::unpack::Limits;

/// Receives the progress of a pull; called often, so it should return at once.
pub type ProgressCallback = Arc<dyn Fn(&Progress) + Send + Sync>;

/// How far a pull is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The normalised reference.
    pub reference: String,
    /// Layers that are in the store.
    pub layers_done: usize,
    /// Layers of the image.
    pub layers: usize,
    /// Compressed bytes that have arrived, of layers that were not in the store yet.
    pub bytes_done: u64,
    /// Compressed bytes of the layers that were not in the store yet.
    pub bytes: u64,
}

/// How to pull.
#[derive(Clone, Default)]
pub struct PullOptions {
    /// Registries (`host[:port]`) that may be talked to over plain HTTP. Loopback registries always may,
    /// as with docker.
    pub insecure: Vec<String>,
    /// Told about progress.
    pub progress: Option<ProgressCallback>,
}

/// How a store works.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// What a layer may unpack to.
    pub limits: Limits,
    /// Folders with further CA certificates for single registries, laid out as docker's and containerd's: PEM files
    /// `<folder>/<host[:port]>/*.crt`. They are read when a pull begins.
    pub certificates: Vec<PathBuf>,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        let certificates = ["/etc/containerd/certs.d", "/etc/docker/certs.d"].map(PathBuf::from).into();
        StoreOptions { limits: Limits::default(), certificates }
    }
}

/// The images of a node, in one directory that one process uses at a time. Clones share it.
#[derive(Clone)]
pub struct ImageStore {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) layers: Arc<Layers>,
    catalogue: Mutex<Catalogue>,
    pub(crate) pulls: Pulls,
    /// Held open: the lock lasts as long as the file.
    _lock: File,
}

impl ImageStore {
    /// Opens the store, makes it if it is not there, and removes what an interrupted pull left.
    pub fn open(dir: &Path) -> Result<ImageStore, ImageError> {
        ImageStore::open_with(dir, StoreOptions::default())
    }

    /// Opens the store with options of its own.
    pub fn open_with(dir: &Path, options: StoreOptions) -> Result<ImageStore, ImageError> {
        fs::create_dir_all(dir).map_err(io_error(dir))?;
        // Images hold set-id programs of strangers; nobody but root may reach them.
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(io_error(dir))?;
        let lock = lock(dir)?;
        let layers = Arc::new(Layers::open(dir.join("layers"), dir.join("tmp"), options.limits)?);
        let catalogue = Catalogue::open(dir.join("images"), dir.join("names.json"), &layers)?;
        let in_use = catalogue.layers_in_use();
        layers.sweep(|layer| in_use.contains(&layer))?;
        let pulls = Pulls::new(options.certificates);
        Ok(ImageStore {
            inner: Arc::new(Inner { layers, catalogue: Mutex::new(catalogue), pulls, _lock: lock }),
        })
    }

    /// Pulls an image for linux/amd64, or finds that all of it is there and the registry's tag still means it.
    ///
    /// The registry is always asked, so that a changed tag and withdrawn rights are noticed; a caller whose
    /// policy is `IfNotPresent` asks [`ImageStore::resolve`] first. Credentials that match the reference are
    /// tried in the order of how closely they match, then none.
    pub async fn pull(
        &self,
        reference: &str,
        credentials: &[Credential],
        options: &PullOptions,
    ) -> Result<Image, PullError> {
        pull::pull(self, reference, credentials, options).await
    }

    /// Imports an OCI layout or a `docker save` archive, plain or compressed. Gives the images in it.
    pub async fn import(&self, archive: &Path) -> Result<Vec<Image>, ImportError> {
        let (store, path) = (self.clone(), archive.to_owned());
        let work = tokio::task::spawn_blocking(move || import::import(&store, &path));
        work.await.unwrap_or_else(|error| {
            Err(ImportError::Malformed(format!("the import was interrupted: {error}")))
        })
    }

    /// The image that a reference, `name@sha256:…` or an id (`sha256:…`) means, if it is in the store.
    pub fn resolve(&self, reference: &str) -> Option<Image> {
        let catalogue = self.inner.catalogue.lock();
        catalogue.image(catalogue.resolve(reference)?)
    }

    /// All images, by id.
    pub fn list(&self) -> Vec<Image> {
        let catalogue = self.inner.catalogue.lock();
        catalogue.ids().into_iter().filter_map(|id| catalogue.image(id)).collect()
    }

    /// Removes an image and the layers that no other image shares. Gives the bytes freed. A container that
    /// still uses the image loses its files: the caller knows which ones do.
    pub fn remove(&self, id: &str) -> Result<u64, ImageError> {
        let known = id.parse().map_err(|_| ImageError::NotFound(id.to_owned()))?;
        self.forget(known)?;
        self.sweep()
    }

    /// Removes all images whose id is not in `in_use`. Gives the bytes freed.
    pub fn collect(&self, in_use: &HashSet<String>) -> Result<u64, ImageError> {
        let ids = self.inner.catalogue.lock().ids();
        for id in ids.into_iter().filter(|id| !in_use.contains(&id.to_string())) {
            match self.forget(id) {
                // Somebody else removed it meanwhile.
                Err(ImageError::NotFound(_)) => {}
                other => other?,
            }
        }
        self.sweep()
    }

    /// The layers' folders as overlayfs wants its lower directories: topmost first, none twice, at least one.
    /// The paths are long; many of them need `fsconfig("lowerdir+")` rather than one option string.
    pub fn layers(&self, image: &Image) -> Vec<PathBuf> {
        let catalogue = self.inner.catalogue.lock();
        let found = image.id.parse().ok().and_then(|id| Some((id, catalogue.record(id)?)));
        let Some((id, record)) = found else { return Vec::new() };
        let folders = record.folders.then(|| catalogue.folder(id).join("folders"));
        let files = topmost_first(&record.layers).into_iter().map(|layer| self.inner.layers.files(layer));
        folders.into_iter().chain(files).collect()
    }

    /// Makes an image of layers that are in the store and pinned. Blocks.
    pub(crate) fn add_image(
        &self,
        id: Digest,
        configuration: &Configuration,
        tag: Option<String>,
        digest: Option<String>,
    ) -> Result<Image, ImageError> {
        let mut catalogue = self.inner.catalogue.lock();
        if catalogue.record(id).is_none() {
            let record = self.write_image(&catalogue.folder(id), configuration)?;
            catalogue.insert(id, record);
        }
        catalogue.name(id, tag, digest)?;
        catalogue.image(id).ok_or_else(|| ImageError::NotFound(id.to_string()))
    }

    fn write_image(&self, place: &Path, configuration: &Configuration) -> Result<Record, ImageError> {
        let layers = &self.inner.layers;
        let work = layers.temporary().map_err(io_error(place))?;
        let complete = work.path().join("image");
        let folders = complete.join("folders");
        fs::create_dir_all(&folders).map_err(io_error(place))?;
        fs::set_permissions(&folders, fs::Permissions::from_mode(0o755)).map_err(io_error(place))?;
        let mut size = 0;
        let mut merge = Vec::new();
        for layer in topmost_first(&configuration.diff_ids) {
            let info = layers.info(layer).ok_or_else(|| ImageError::NotFound(layer.to_string()))?;
            size += info.disk_bytes;
            let implicit = info.implicit.into_iter().collect();
            merge.push(MergeLayer { files: layers.files(layer), implicit });
        }
        let described = describe_folders(&merge, &folders).map_err(io_error(place))?;
        let record = Record {
            config: configuration.config.clone(),
            layers: configuration.diff_ids.clone(),
            size,
            // An image without layers needs a lower folder all the same.
            folders: described || merge.is_empty(),
        };
        write_json(&complete.join("image.json"), &record)?;
        sync_all(&complete).map_err(io_error(place))?;
        // A folder in the way belongs to an image that was forgotten, not removed, before a crash.
        drop(layers.discard(place).map_err(io_error(place))?);
        fs::rename(&complete, place)
            .and_then(|()| carrack_files::sync_parent(place))
            .map_err(io_error(place))?;
        Ok(record)
    }

    fn forget(&self, id: Digest) -> Result<(), ImageError> {
        let mut catalogue = self.inner.catalogue.lock();
        let folder = catalogue.folder(id);
        catalogue.remove(id)?;
        let grave = self.inner.layers.discard(&folder).map_err(io_error(&folder))?;
        drop(catalogue);
        drop(grave);
        Ok(())
    }

    fn sweep(&self) -> Result<u64, ImageError> {
        // Asked anew for each layer, under the lock that pins take: an image that is being added holds pins
        // until the catalogue knows it, so its layers are seen by one or the other.
        self.inner.layers.sweep(|layer| self.inner.catalogue.lock().layers_in_use().contains(&layer))
    }
}

/// Overlayfs refuses a folder that is named twice. Of a layer that an image has twice the upper one shows all
/// that the lower one could.
fn topmost_first(bottom_first: &[Digest]) -> Vec<Digest> {
    let mut seen = BTreeSet::new();
    bottom_first.iter().rev().copied().filter(|layer| seen.insert(*layer)).collect()
}

fn lock(dir: &Path) -> Result<File, ImageError> {
    let path = dir.join("lock");
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(io_error(&path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(ImageError::InUse(dir.to_owned())),
        Err(error) => Err(io_error(&path)(error.into())),
    }
}
