//! Which images there are and what they are called, on disk and in memory.
//!
//! `images/<id>/image.json` is written once. `names.json` maps names to ids and is replaced as a whole, so that
//! a tag moves from one image to another in one step. An image's folder is made before its names are, and
//! removed after them: a name never leads nowhere.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::ImageError;
use crate::files::{io_error, write_json};
use crate::image::{Image, ImageConfig};
use crate::layers::Layers;
use crate::reference::Reference;

/// An image as it is on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) config: ImageConfig,
    /// Bottom first, as in the configuration.
    pub(crate) layers: Vec<Digest>,
    /// Sum of the layers on disk.
    pub(crate) size: u64,
    /// Whether `images/<id>/folders` is a further layer on top.
    pub(crate) folders: bool,
}

/// Names and what they mean.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Names {
    /// `registry/repository:tag`.
    tags: BTreeMap<String, Digest>,
    /// `registry/repository@sha256:…`.
    digests: BTreeMap<String, Digest>,
}

/// The images of a store.
pub(crate) struct Catalogue {
    dir: PathBuf,
    names_file: PathBuf,
    images: BTreeMap<Digest, Record>,
    names: Names,
}

impl Catalogue {
    /// Reads what is there. Images that lack a layer, or whose description is damaged, are left out: they
    /// are pulled again when they are needed, which is what a cache is for.
    pub(crate) fn open(dir: PathBuf, names_file: PathBuf, layers: &Layers) -> Result<Catalogue, ImageError> {
        fs::create_dir_all(&dir).map_err(io_error(&dir))?;
        let mut images = BTreeMap::new();
        for entry in fs::read_dir(&dir).map_err(io_error(&dir))? {
            let path = entry.map_err(io_error(&dir))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            match (Digest::from_hex(name), read_record(&path, layers)) {
                (Ok(id), Ok(record)) => {
                    images.insert(id, record);
                }
                (Err(error), _) => tracing::warn!(path = %path.display(), %error, "not an image; removed"),
                (_, Err(reason)) => {
                    tracing::warn!(path = %path.display(), reason, "a damaged image is removed")
                }
            }
            if !Digest::from_hex(name).is_ok_and(|id| images.contains_key(&id)) {
                drop(layers.discard(&path).map_err(io_error(&path))?);
            }
        }
        let mut names = read_names(&names_file)?;
        names.tags.retain(|_, id| images.contains_key(id));
        names.digests.retain(|_, id| images.contains_key(id));
        Ok(Catalogue { dir, names_file, images, names })
    }

    /// The folder of an image.
    pub(crate) fn folder(&self, id: Digest) -> PathBuf {
        self.dir.join(id.hex())
    }

    pub(crate) fn record(&self, id: Digest) -> Option<&Record> {
        self.images.get(&id)
    }

    /// Takes a complete image in; its folder, with `image.json` in it, is already in place.
    pub(crate) fn insert(&mut self, id: Digest, record: Record) {
        self.images.insert(id, record);
    }

    /// Makes names mean an image, durably.
    pub(crate) fn name(
        &mut self,
        id: Digest,
        tag: Option<String>,
        digest: Option<String>,
    ) -> Result<(), ImageError> {
        let mut names = self.names.clone();
        let changed_tag = tag.is_some_and(|tag| names.tags.insert(tag, id) != Some(id));
        let changed_digest = digest.is_some_and(|digest| names.digests.insert(digest, id) != Some(id));
        if changed_tag || changed_digest {
            write_json(&self.names_file, &names)?;
            self.names = names;
        }
        Ok(())
    }

    /// Forgets an image and its names, durably. Its folder and layers are then the caller's to remove.
    pub(crate) fn remove(&mut self, id: Digest) -> Result<(), ImageError> {
        if !self.images.contains_key(&id) {
            return Err(ImageError::NotFound(id.to_string()));
        }
        let mut names = self.names.clone();
        names.tags.retain(|_, named| *named != id);
        names.digests.retain(|_, named| *named != id);
        write_json(&self.names_file, &names)?;
        self.names = names;
        self.images.remove(&id);
        Ok(())
    }

    /// What a reference or an id means.
    pub(crate) fn resolve(&self, text: &str) -> Option<Digest> {
        if let Ok(id) = text.parse::<Digest>() {
            return self.images.contains_key(&id).then_some(id);
        }
        let reference: Reference = text.parse().ok()?;
        match reference.digest() {
            Some(digest) => self.names.digests.get(&format!("{}@{digest}", reference.name())).copied(),
            None => self.names.tags.get(&reference.to_string()).copied(),
        }
    }

    pub(crate) fn ids(&self) -> Vec<Digest> {
        self.images.keys().copied().collect()
    }

    /// The image with its names.
    pub(crate) fn image(&self, id: Digest) -> Option<Image> {
        let record = self.images.get(&id)?;
        let named = |names: &BTreeMap<String, Digest>| {
            names.iter().filter(|(_, named)| **named == id).map(|(name, _)| name.clone()).collect()
        };
        Some(Image {
            id: id.to_string(),
            references: named(&self.names.tags),
            digests: named(&self.names.digests),
            size: record.size,
            config: record.config.clone(),
        })
    }

    /// The layers that images name.
    pub(crate) fn layers_in_use(&self) -> HashSet<Digest> {
        self.images.values().flat_map(|record| record.layers.iter().copied()).collect()
    }
}

fn read_record(path: &Path, layers: &Layers) -> Result<Record, &'static str> {
    let bytes = fs::read(path.join("image.json")).map_err(|_| "its description cannot be read")?;
    let record: Record = serde_json::from_slice(&bytes).map_err(|_| "its description is damaged")?;
    let distinct: BTreeSet<Digest> = record.layers.iter().copied().collect();
    match distinct.iter().all(|layer| layers.info(*layer).is_some()) {
        true => Ok(record),
        false => Err("one of its layers is missing"),
    }
}

fn read_names(path: &Path) -> Result<Names, ImageError> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Names::default()),
        other => other.map_err(io_error(path))?,
    };
    match serde_json::from_slice(&bytes) {
        Ok(names) => Ok(names),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the names of images are damaged; images are found by id only until they are pulled again");
            Ok(Names::default())
        }
    }
}
