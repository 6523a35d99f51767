//! Imports archives of images: OCI layouts and what `docker save` writes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use rustix::io::Errno;
use serde::Deserialize;

use crate::digest::Digest;
use crate::error::{ImageError, ImportError, LayerError};
use crate::image::Image;
use crate::layers::disk_error;
use crate::manifest::{self, Configuration, Descriptor, Document, DocumentError, MAX_DOCUMENT};
use crate::reference::Reference;
use crate::store::ImageStore;
use crate::unpack::{Expected, Kind, TarReader, decompress};

/// The most files in an archive; an image has a handful for each layer.
const MAX_FILES: usize = 100_000;
/// The most links from one name to the next.
const MAX_LINKS: usize = 8;
/// An archive that is compressed is uncompressed to a temporary file, up to this size.
const MAX_ARCHIVE: u64 = 256 << 30;

/// See [`ImageStore::import`].
pub(crate) fn import(store: &ImageStore, path: &Path) -> Result<Vec<Image>, ImportError> {
    let archive = Archive::open(store, path)?;
    let images = if archive.has("manifest.json") {
        docker_images(&archive)?
    } else if archive.has("index.json") {
        oci_images(&archive)?
    } else {
        return Err(ImportError::UnknownFormat(path.to_owned()));
    };
    if images.is_empty() {
        return Err(ImportError::Malformed("it holds no image".to_owned()));
    }
    images.into_iter().map(|image| add(store, &archive, image)).collect()
}

/// An image found in an archive.
struct Found {
    id: Digest,
    configuration: Configuration,
    layers: Vec<FoundLayer>,
    names: Vec<Reference>,
    /// Digest of the manifest, where the archive has one.
    manifest: Option<Digest>,
}

/// A layer: its file in the archive, and digest and size if the archive has a manifest that gives them.
struct FoundLayer {
    file: String,
    blob: Option<(Digest, u64)>,
}

fn add(store: &ImageStore, archive: &Archive, image: Found) -> Result<Image, ImportError> {
    if image.layers.len() != image.configuration.diff_ids.len() {
        return Err(ImportError::Malformed(
            "its manifest and its configuration differ in the number of layers".to_owned(),
        ));
    }
    let layers = &store.inner.layers;
    let pins = layers.pin(&image.configuration.diff_ids);
    for (layer, diff_id) in image.layers.iter().zip(&image.configuration.diff_ids) {
        if layers.info(*diff_id).is_some() {
            continue;
        }
        let expected = Expected { blob: layer.blob, diff_id: *diff_id };
        let failure = |cause| match cause {
            LayerError::NoSpace => ImportError::NoSpace,
            cause => ImportError::Layer { digest: layer.file.clone(), cause },
        };
        layers.add(archive.read(&layer.file)?, &expected).map_err(failure)?;
    }
    let digest = |name: &Reference| image.manifest.map(|digest| format!("{}@{digest}", name.name()));
    let mut added = store.add_image(image.id, &image.configuration, None, None).map_err(store_error)?;
    for name in &image.names {
        let tag = name.digest().is_none().then(|| name.to_string());
        added = store.add_image(image.id, &image.configuration, tag, digest(name)).map_err(store_error)?;
    }
    drop(pins);
    Ok(added)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// `manifest.json` of `docker save`: a list of images whose layers are files of the archive.
fn docker_images(archive: &Archive) -> Result<Vec<Found>, ImportError> {
    let list: Vec<DockerManifest> = manifest::json(&archive.small("manifest.json")?, "manifest.json")?;
    let image = |entry: DockerManifest| {
        let bytes = archive.small(&entry.config)?;
        let names = entry.repo_tags.unwrap_or_default();
        Ok(Found {
            id: Digest::of(&bytes),
            configuration: manifest::parse_configuration(&bytes)?,
            layers: entry.layers.into_iter().map(|file| FoundLayer { file, blob: None }).collect(),
            names: names.iter().map(|name| parse_name(name)).collect::<Result<_, ImportError>>()?,
            manifest: None,
        })
    };
    list.into_iter().map(image).collect()
}

/// `index.json` of an OCI layout. Images for other machines are passed over if there is one for this.
fn oci_images(archive: &Archive) -> Result<Vec<Found>, ImportError> {
    let Document::Index(list) = manifest::parse(&archive.small("index.json")?)? else {
        return Err(ImportError::Malformed("index.json is not an index".to_owned()));
    };
    let ours =
        |one: &Descriptor| one.platform.is_none() || manifest::choose(std::slice::from_ref(one)).is_ok();
    if !list.is_empty() && !list.iter().any(ours) {
        // Says which platforms there are.
        manifest::choose(&list)?;
    }
    list.iter().filter(|one| ours(one)).map(|one| oci_image(archive, one)).collect()
}

fn oci_image(archive: &Archive, descriptor: &Descriptor) -> Result<Found, ImportError> {
    let document = match manifest::parse(&archive.blob(descriptor)?)? {
        Document::Index(inner) => manifest::parse(&archive.blob(manifest::choose(&inner)?)?)?,
        manifest => manifest,
    };
    let Document::Manifest { config, layers } = document else {
        return Err(ImportError::Malformed("an index inside an index inside an index".to_owned()));
    };
    let layer = |layer: Descriptor| FoundLayer {
        file: blob_file(layer.digest),
        blob: Some((layer.digest, layer.size)),
    };
    Ok(Found {
        id: config.digest,
        configuration: manifest::parse_configuration(&archive.blob(&config)?)?,
        layers: layers.into_iter().map(layer).collect(),
        names: oci_name(descriptor)?.into_iter().collect(),
        manifest: Some(descriptor.digest),
    })
}

/// containerd and docker write the whole name; others write it, or only a tag, under the standard's key.
fn oci_name(descriptor: &Descriptor) -> Result<Option<Reference>, ImportError> {
    let full = descriptor.annotations.get("io.containerd.image.name");
    let standard = descriptor.annotations.get("org.opencontainers.image.ref.name");
    match full.or(standard.filter(|name| name.contains(['/', ':']))) {
        Some(name) => parse_name(name).map(Some),
        None => Ok(None),
    }
}

fn parse_name(name: &str) -> Result<Reference, ImportError> {
    name.parse().map_err(|cause| ImportError::InvalidReference { reference: name.to_owned(), cause })
}

fn blob_file(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// An archive whose files have been found.
struct Archive {
    file: File,
    path: std::path::PathBuf,
    /// Offset and length of each file, or the name that a link leads to.
    entries: HashMap<String, Place>,
}

enum Place {
    File { offset: u64, length: u64 },
    Link(String),
}

impl Archive {
    /// Uncompresses if need be, and finds the files.
    fn open(store: &ImageStore, path: &Path) -> Result<Archive, ImportError> {
        let fail = |source| ImportError::Io { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(fail)?;
        let mut head = [0; 4];
        let read = file.read(&mut head).map_err(fail)?;
        file.seek(SeekFrom::Start(0)).map_err(fail)?;
        let packed = head[..read].starts_with(&[0x1f, 0x8b]) || head[..read] == [0x28, 0xb5, 0x2f, 0xfd];
        if packed {
            file = uncompress(store, file).map_err(|error| archive_error(path, error))?;
        }
        let entries = find_files(&file).map_err(|error| archive_error(path, error))?;
        Ok(Archive { file, path: path.to_owned(), entries })
    }

    fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// Where a file is, following links inside the archive: old versions of docker link equal layers.
    fn place(&self, name: &str) -> Result<(u64, u64), ImportError> {
        let missing = || ImportError::Malformed(format!("it has no file \"{name}\""));
        let mut current = plain(name.as_bytes());
        for _ in 0..MAX_LINKS {
            match self.entries.get(&current).ok_or_else(missing)? {
                Place::File { offset, length } => return Ok((*offset, *length)),
                Place::Link(next) => current.clone_from(next),
            }
        }
        Err(ImportError::Malformed(format!("the links of \"{name}\" lead nowhere")))
    }

    /// Reads a file of the archive from its beginning.
    fn read(&self, name: &str) -> Result<impl Read, ImportError> {
        let (offset, length) = self.place(name)?;
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))
            .map_err(|source| ImportError::Io { path: self.path.clone(), source })?;
        Ok(file.take(length))
    }

    /// A small file as a whole.
    fn small(&self, name: &str) -> Result<Vec<u8>, ImportError> {
        let (_, length) = self.place(name)?;
        if length > MAX_DOCUMENT {
            return Err(ImportError::Malformed(format!("\"{name}\" has {length} bytes")));
        }
        let mut bytes = Vec::new();
        let read = self.read(name)?.read_to_end(&mut bytes);
        read.map_err(|source| ImportError::Io { path: self.path.clone(), source })?;
        Ok(bytes)
    }

    /// A small blob of an OCI layout, checked.
    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ImportError> {
        let bytes = self.small(&blob_file(descriptor.digest))?;
        match Digest::of(&bytes) {
            found if found == descriptor.digest => Ok(bytes),
            found => {
                let expected = descriptor.digest;
                Err(ImportError::Malformed(format!("blob {expected} has digest {found}: digest mismatch")))
            }
        }
    }
}

/// Unpacks a compressed archive into a file without a name beside the store's own temporary files.
fn uncompress(store: &ImageStore, file: File) -> Result<File, LayerError> {
    let work = store.inner.layers.temporary().map_err(|error| disk_error(Path::new("tmp"), error))?;
    let path = work.path();
    let mut out = tempfile::tempfile_in(path).map_err(|error| disk_error(path, error))?;
    let mut packed = BufReader::with_capacity(256 << 10, file);
    let mut plain = decompress(&mut packed)?.take(MAX_ARCHIVE + 1);
    let mut buffer = vec![0; 256 << 10];
    let mut total = 0;
    loop {
        let read = plain.read(&mut buffer).map_err(|error| LayerError::Malformed(error.to_string()))?;
        if read == 0 {
            return Ok(out);
        }
        total += read as u64;
        if total > MAX_ARCHIVE {
            return Err(LayerError::TooLarge(format!("more than {MAX_ARCHIVE} bytes when uncompressed")));
        }
        io::Write::write_all(&mut out, &buffer[..read]).map_err(|error| disk_error(path, error))?;
    }
}

fn find_files(file: &File) -> Result<HashMap<String, Place>, LayerError> {
    let mut entries = HashMap::new();
    let length = file.metadata().map_err(|error| disk_error(Path::new("archive"), error))?.len();
    let mut file = file;
    file.seek(SeekFrom::Start(0)).map_err(|error| disk_error(Path::new("archive"), error))?;
    let mut reader = TarReader::new(file);
    while let Some(entry) = reader.next_entry()? {
        if entries.len() == MAX_FILES {
            return Err(LayerError::TooLarge(format!("more than {MAX_FILES} files")));
        }
        let name = plain(&entry.path);
        let place = match entry.kind {
            Kind::File if entry.sparse.is_some() => {
                return Err(LayerError::Malformed(format!("\"{name}\" is a sparse file")));
            }
            Kind::File => {
                let (offset, size) = (reader.position(), reader.remaining());
                if offset.checked_add(size).is_none_or(|end| end > length) {
                    return Err(LayerError::Malformed(format!("the archive ends inside \"{name}\"")));
                }
                Place::File { offset, length: size }
            }
            Kind::HardLink => Place::Link(plain(&entry.link)),
            Kind::Symlink => Place::Link(join(&name, &entry.link)),
            _ => continue,
        };
        entries.insert(name, place);
        // Layers are passed over, not read. The length was checked, so the sum is in range.
        let rest = i64::try_from(reader.leave_data())
            .map_err(|_| LayerError::Malformed("a size out of range".to_owned()))?;
        file.seek(SeekFrom::Current(rest)).map_err(|error| disk_error(Path::new("archive"), error))?;
    }
    Ok(entries)
}

/// A name without `./`, double slashes and `..`: it is only ever looked up in a table.
fn plain(path: &[u8]) -> String {
    join("", path)
}

/// A link's target seen from the folder of the link.
fn join(from: &str, target: &[u8]) -> String {
    let target = String::from_utf8_lossy(target);
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = if target.starts_with('/') { Vec::new() } else { folder.split('/').collect() };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    parts.retain(|part| !part.is_empty());
    parts.join("/")
}

fn archive_error(path: &Path, error: LayerError) -> ImportError {
    match error {
        LayerError::NoSpace => ImportError::NoSpace,
        error => ImportError::Malformed(format!("{}: {error}", path.display())),
    }
}

fn store_error(error: ImageError) -> ImportError {
    match &error {
        ImageError::Io { source, .. }
            if matches!(Errno::from_io_error(source), Some(Errno::NOSPC | Errno::DQUOT)) =>
        {
            ImportError::NoSpace
        }
        _ => ImportError::Store(error),
    }
}

impl From<DocumentError> for ImportError {
    fn from(error: DocumentError) -> ImportError {
        match error {
            DocumentError::Malformed(message) => ImportError::Malformed(message),
            DocumentError::Platform(found) => ImportError::UnsupportedPlatform {
                wanted: format!("{}/{}", manifest::OS, manifest::ARCHITECTURE),
                found,
            },
        }
    }
}
