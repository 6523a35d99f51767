//! The image store: what is on disk and the operations on it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::credential::Credential;
use crate::error::{ImageError, ImportError, PullError};
use crate::image::Image;

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

/// The images of a node, in one directory that one process uses at a time. Clones share it.
#[derive(Clone)]
pub struct ImageStore {
    dir: Arc<PathBuf>,
}

impl ImageStore {
    /// Opens the store, makes it if it is not there, and removes what an interrupted pull left.
    pub fn open(dir: &Path) -> Result<ImageStore, ImageError> {
        Ok(ImageStore { dir: Arc::new(dir.to_owned()) })
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
        let _ = (reference, credentials, options);
        Err(PullError::Failed {
            reference: reference.to_owned(),
            cause: crate::PullFailure::Protocol("not built yet".into()),
        })
    }

    /// Imports an OCI layout or a `docker save` archive, plain or compressed. Gives the images in it.
    pub async fn import(&self, archive: &Path) -> Result<Vec<Image>, ImportError> {
        Err(ImportError::Malformed(format!("{}: not built yet", archive.display())))
    }

    /// The image that a reference, `name@sha256:…` or an id (`sha256:…`) means, if it is in the store.
    pub fn resolve(&self, reference: &str) -> Option<Image> {
        let _ = reference;
        None
    }

    /// All images, by id.
    pub fn list(&self) -> Vec<Image> {
        Vec::new()
    }

    /// Removes an image and the layers that no other image shares. Gives the bytes freed.
    pub fn remove(&self, id: &str) -> Result<u64, ImageError> {
        Err(ImageError::NotFound(id.to_owned()))
    }

    /// Removes all images whose id is not in `in_use`. Gives the bytes freed.
    pub fn collect(&self, in_use: &HashSet<String>) -> Result<u64, ImageError> {
        let _ = in_use;
        Ok(0)
    }

    /// The layers' folders as overlayfs wants its lower directories: topmost first.
    pub fn layers(&self, image: &Image) -> Vec<PathBuf> {
        let _ = (image, &self.dir);
        Vec::new()
    }
}
