//! Pulling an image: manifest, configuration, layers, names.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures::stream::{self, TryStreamExt};
use parking_lot::Mutex;
use rustix::io::Errno;
use tokio::sync::Semaphore;

use crate::credential::Credential;
use crate::digest::Digest;
use crate::error::{ImageError, LayerError, PullError, PullFailure};
use crate::image::Image;
use crate::manifest::{self, Configuration, Descriptor, Document, DocumentError, MAX_DOCUMENT};
use crate::reference::Reference;
use crate::registry::{Registry, Transports};
use crate::store::{ImageStore, Progress, ProgressCallback, PullOptions};
use crate::unpack::Expected;

/// Layers of one image that are fetched at a time, as docker does.
const LAYERS_AT_ONCE: usize = 3;
/// Layers that are fetched at a time on this node, whatever the number of pulls: each one takes a thread,
/// a decompressor and a few megabytes.
const LAYERS_AT_ONCE_IN_ALL: usize = 8;

/// What pulls share.
pub(crate) struct Pulls {
    /// Held by the one that pulls a reference.
    busy: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    fetching: Arc<Semaphore>,
    transports: Transports,
}

impl Pulls {
    /// `certificates` are the folders of [`crate::StoreOptions`].
    pub(crate) fn new(certificates: Vec<PathBuf>) -> Pulls {
        let fetching = Arc::new(Semaphore::new(LAYERS_AT_ONCE_IN_ALL));
        Pulls { busy: Mutex::default(), fetching, transports: Transports::new(certificates) }
    }

    /// Waits until nobody else pulls the reference. Whoever waited asks the registry again, with its own
    /// credentials, which is cheap since the layers are there.
    async fn claim(&self, reference: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut busy = self.busy.lock();
            busy.retain(|_, lock| Arc::strong_count(lock) > 1);
            busy.entry(reference.to_owned()).or_default().clone()
        };
        lock.lock_owned().await
    }
}

/// See [`ImageStore::pull`].
pub(crate) async fn pull(
    store: &ImageStore,
    text: &str,
    credentials: &[Credential],
    options: &PullOptions,
) -> Result<Image, PullError> {
    let reference: Reference =
        text.parse().map_err(|cause| PullError::InvalidReference { reference: text.to_owned(), cause })?;
    let name = reference.to_string();
    let _claim = store.inner.pulls.claim(&name).await;
    let pulled = pull_reference(store, &reference, credentials, options).await;
    pulled.map_err(|cause| PullError::Failed { reference: name, cause })
}

async fn pull_reference(
    store: &ImageStore,
    reference: &Reference,
    credentials: &[Credential],
    options: &PullOptions,
) -> Result<Image, PullFailure> {
    let registry =
        Registry::connect(&store.inner.pulls.transports, reference, credentials, &options.insecure).await?;
    let resolved = resolve(&registry, reference).await?;
    let configuration = fetch_configuration(&registry, &resolved.config).await?;
    if configuration.diff_ids.len() != resolved.layers.len() {
        let (layers, ids) = (resolved.layers.len(), configuration.diff_ids.len());
        return Err(PullFailure::Protocol(format!(
            "the manifest has {layers} layers, its configuration {ids}"
        )));
    }
    let pins = store.inner.layers.pin(&configuration.diff_ids);
    let watch = Watch::new(reference.to_string(), &resolved.layers, options.progress.clone());
    let pairs = resolved.layers.iter().zip(&configuration.diff_ids);
    stream::iter(pairs.map(Ok))
        .try_for_each_concurrent(LAYERS_AT_ONCE, |(layer, diff_id)| {
            fetch_layer(store, &registry, layer, *diff_id, &watch)
        })
        .await?;
    let tag = reference.digest().is_none().then(|| reference.to_string());
    let digest = format!("{}@{}", reference.name(), resolved.digest);
    let (store, id) = (store.clone(), resolved.config.digest);
    let add = tokio::task::spawn_blocking(move || {
        let added = store.add_image(id, &configuration, tag, Some(digest));
        drop(pins);
        added
    });
    add.await.map_err(|error| PullFailure::Protocol(format!("interrupted: {error}")))?.map_err(store_failure)
}

/// What a reference leads to.
struct Resolved {
    /// Digest of the manifest or index that the reference names.
    digest: Digest,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// Follows an index, once: an index inside an index is allowed by nobody's tools.
async fn resolve(registry: &Registry, reference: &Reference) -> Result<Resolved, PullFailure> {
    let first = registry.manifest(&reference.manifest()).await?;
    let document = match manifest::parse(&first.bytes)? {
        Document::Index(manifests) => {
            let chosen = manifest::choose(&manifests)?;
            manifest::parse(&registry.manifest(&chosen.digest.to_string()).await?.bytes)?
        }
        manifest => manifest,
    };
    match document {
        Document::Manifest { config, layers } => Ok(Resolved { digest: first.digest, config, layers }),
        Document::Index(_) => Err(PullFailure::Protocol("an index inside an index".to_owned())),
    }
}

async fn fetch_configuration(registry: &Registry, config: &Descriptor) -> Result<Configuration, PullFailure> {
    if config.size > MAX_DOCUMENT {
        return Err(PullFailure::Protocol(format!("a configuration of {} bytes", config.size)));
    }
    // Artifacts that are not images (charts, signatures) have configurations of other types.
    let known =
        ["", "application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
    if !known.contains(&config.media_type.as_str()) {
        return Err(PullFailure::Protocol(format!("\"{}\" is not a container image", config.media_type)));
    }
    let bytes = registry.small_blob(config.digest, "configuration").await?;
    Ok(manifest::parse_configuration(&bytes)?)
}

/// Brings one layer into the store, unless it is there.
async fn fetch_layer(
    store: &ImageStore,
    registry: &Registry,
    layer: &Descriptor,
    diff_id: Digest,
    watch: &Watch,
) -> Result<(), PullFailure> {
    let _claim = store.inner.layers.claim(diff_id).await;
    if store.inner.layers.info(diff_id).is_some() {
        watch.skip(layer.size);
        return Ok(());
    }
    let failure = |cause| match cause {
        LayerError::NoSpace => PullFailure::NoSpace,
        cause => PullFailure::Layer { digest: layer.digest.to_string(), cause },
    };
    // Held until the thread is done, which may be after this pull was dropped.
    let permit = store.inner.pulls.fetching.clone().acquire_owned().await;
    let (reader, fetch) = registry.blob(layer.digest, layer.size, |bytes| watch.arrived(bytes));
    let expected = Expected { blob: Some((layer.digest, layer.size)), diff_id };
    let layers = store.inner.layers.clone();
    let unpack = tokio::task::spawn_blocking(move || {
        let added = layers.add(reader, &expected);
        drop(permit);
        added
    });
    let (fetched, unpacked) = tokio::join!(fetch, unpack);
    fetched?;
    unpacked
        .unwrap_or_else(|error| Err(LayerError::Fetch(format!("interrupted: {error}"))))
        .map_err(failure)?;
    watch.layer_done();
    Ok(())
}

/// Adds up progress.
struct Watch {
    reference: String,
    layers: usize,
    layers_done: AtomicUsize,
    bytes: AtomicU64,
    bytes_done: AtomicU64,
    callback: Option<ProgressCallback>,
}

impl Watch {
    fn new(reference: String, layers: &[Descriptor], callback: Option<ProgressCallback>) -> Watch {
        Watch {
            reference,
            layers: layers.len(),
            layers_done: AtomicUsize::new(0),
            bytes: AtomicU64::new(layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add)),
            bytes_done: AtomicU64::new(0),
            callback,
        }
    }

    fn arrived(&self, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
        self.tell();
    }

    fn layer_done(&self) {
        self.layers_done.fetch_add(1, Ordering::Relaxed);
        self.tell();
    }

    /// A layer of this many bytes is in the store already.
    fn skip(&self, bytes: u64) {
        let less = |total: u64| Some(total.saturating_sub(bytes));
        // Always succeeds: the closure always gives a value.
        _ = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        self.layer_done();
    }

    fn tell(&self) {
        if let Some(callback) = &self.callback {
            callback(&Progress {
                reference: self.reference.clone(),
                layers_done: self.layers_done.load(Ordering::Relaxed),
                layers: self.layers,
                bytes_done: self.bytes_done.load(Ordering::Relaxed),
                bytes: self.bytes.load(Ordering::Relaxed),
            });
        }
    }
}

impl From<DocumentError> for PullFailure {
    fn from(error: DocumentError) -> PullFailure {
        match error {
            DocumentError::Malformed(message) => PullFailure::Protocol(message),
            DocumentError::Platform(found) => PullFailure::UnsupportedPlatform {
                wanted: format!("{}/{}", manifest::OS, manifest::ARCHITECTURE),
                found,
            },
        }
    }
}

fn store_failure(error: ImageError) -> PullFailure {
    match &error {
        ImageError::Io { source, .. }
            if matches!(Errno::from_io_error(source), Some(Errno::NOSPC | Errno::DQUOT)) =>
        {
            PullFailure::NoSpace
        }
        _ => PullFailure::Store(error),
    }
}
