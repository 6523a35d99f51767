//! A small OCI image made on the spot from Debian's static busybox.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Where Debian's package busybox-static has it.
pub const BUSYBOX: &str = "/bin/busybox";

/// A piece of an image with its digest.
#[derive(Clone)]
pub struct Blob {
    pub digest: String,
    pub bytes: Vec<u8>,
}

impl Blob {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { digest: digest(&bytes), bytes }
    }
}

pub fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// An image: what a registry is given.
#[derive(Clone)]
pub struct Image {
    pub manifest: Blob,
    pub config: Blob,
    pub layers: Vec<Blob>,
}

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

impl Image {
    /// From layers (each the bytes of a plain tar) and the part of the configuration that says what to run.
    pub fn new(layers: Vec<Vec<u8>>, run: Value) -> Result<Self> {
        let diff_ids: Vec<String> = layers.iter().map(|tar| digest(tar)).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": run,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = Blob::new(serde_json::to_vec(&config)?);
        let layers = layers.iter().map(|tar| gzip(tar).map(Blob::new)).collect::<Result<Vec<_>>>()?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": describe("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers.iter().map(|l| describe("application/vnd.oci.image.layer.v1.tar+gzip", l)).collect::<Vec<_>>(),
        });
        Ok(Self { manifest: Blob::new(serde_json::to_vec(&manifest)?), config, layers })
    }

    /// Busybox with its commands, in two layers.
    pub fn busybox() -> Result<Self> {
        Self::new(Self::layers()?, json!({ "Env": [PATH], "Cmd": ["sh"] }))
    }

    /// The same layers with the variable MARK: another image.
    pub fn marked(mark: &str) -> Result<Self> {
        Self::new(Self::layers()?, json!({ "Env": [PATH, format!("MARK={mark}")], "Cmd": ["sh"] }))
    }

    fn layers() -> Result<Vec<Vec<u8>>> {
        let base = busybox_layer(Path::new(BUSYBOX))?;
        let mut top = tar::Builder::new(Vec::new());
        text(&mut top, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000:web:/:/bin/sh\n")?;
        text(&mut top, "etc/group", "root:x:0:\nweb:x:1000:\n")?;
        for dir in ["tmp", "root", "www", "config"] {
            folder(&mut top, dir, if dir == "tmp" { 0o1777 } else { 0o755 })?;
        }
        Ok(vec![base, top.into_inner()?])
    }
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn describe(media: &str, blob: &Blob) -> Value {
    json!({ "mediaType": media, "digest": blob.digest, "size": blob.bytes.len() })
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

const COMMANDS: [&str; 37] = [
    "sh", "ash", "cat", "ls", "echo", "sleep", "httpd", "wget", "nslookup", "true", "false", "id", "env",
    "ps", "kill", "mkdir", "touch", "rm", "dd", "head", "tail", "grep", "sed", "awk", "nc", "ping", "ip",
    "hostname", "stat", "date", "seq", "tee", "test", "mount", "yes", "tty", "tar",
];

fn busybox_layer(busybox: &Path) -> Result<Vec<u8>> {
    let bytes = std::fs::read(busybox)
        .with_context(|| format!("{}: install busybox-static (cargo xtask setup)", busybox.display()))?;
    let mut layer = tar::Builder::new(Vec::new());
    folder(&mut layer, "bin", 0o755)?;
    folder(&mut layer, "etc", 0o755)?;
    file(&mut layer, "bin/busybox", &bytes, 0o755)?;
    for name in COMMANDS {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        layer.append_link(&mut header, format!("bin/{name}"), "busybox")?;
    }
    Ok(layer.into_inner()?)
}

fn folder(layer: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_size(0);
    header.set_mode(mode);
    Ok(layer.append_data(&mut header, format!("{path}/"), std::io::empty())?)
}

fn text(layer: &mut tar::Builder<Vec<u8>>, path: &str, text: &str) -> Result<()> {
    file(layer, path, text.as_bytes(), 0o644)
}

pub fn file(layer: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8], mode: u32) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    Ok(layer.append_data(&mut header, path, bytes)?)
}
