//! What `cargo xtask fuzz` feeds to this package, and where it begins.

#![allow(clippy::expect_used, clippy::panic, reason = "whatever is wrong is to be seen")]

use std::fs;
use std::path::{Path, PathBuf};

use crate::credential::Credential;
use crate::digest::Digest;
use crate::import::import;
use crate::manifest::{self, Document};
use crate::reference::Reference;
use crate::registry::fuzzing as registry;
use crate::store::ImageStore;
use crate::unpack::{Expected, Limits, unpack};

/// A name, a function that takes anything and never panics, and what it is fed first.
pub type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

/// All of this package's.
pub const TARGETS: &[Target] = &[
    ("images-document", document, || texts(&[MANIFEST, INDEX, CONFIGURATION])),
    ("images-reference", reference, || {
        texts(&["localhost:5000/a/b_c:V1@sha256:00", "[::1]:5000/a", "busybox"])
    }),
    ("images-registry", registry::answer, registry::answers),
    ("images-credential", credential, || texts(&[CREDENTIALS])),
    ("images-layer", layer, layers),
    ("images-archive", archive, archives),
];

const HASH: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"digest":
"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":1},"layers":[{"digest":
"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":18446744073709551615}]}"#;

const INDEX: &str = r#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":
"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":1,"platform":{"os":"linux","architecture":"amd64",
"variant":"v1"},"annotations":{"org.opencontainers.image.ref.name":"a"}}]}"#;

const CONFIGURATION: &str = r#"{"os":"linux","architecture":"amd64","config":{"Cmd":["sh"],"Entrypoint":null,"Env":["A=b"],"User":"1:2",
"WorkingDir":"/","Volumes":{"/data":{}},"Labels":{"a":"b"},"StopSignal":"TERM","ExposedPorts":{"80/tcp":{}}},"rootfs":{"type":"layers",
"diff_ids":["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}}"#;

const CREDENTIALS: &str = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},"*.a.example/b":{"username":"u","password":"p"}}}"#;

/// What a layer may unpack to: little, since each is unpacked into memory.
const LIMITS: Limits = Limits { entries: 100, bytes: 1 << 20, file: 1 << 30 };

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn document(data: &[u8]) {
    if let Ok(Document::Index(list)) = manifest::parse(data) {
        let _ = manifest::choose(&list);
    }
    let _ = manifest::parse_configuration(data);
}

/// What is read of a reference is written as the same one.
fn reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string().parse(), Ok(reference), "{text:?}");
    }
}

fn credential(data: &[u8]) {
    let all = [Credential::from_docker_config(data), Credential::from_docker_cfg(data)];
    let reference: Reference = "b.a.example/b/c".parse().expect("a reference");
    for credential in all.into_iter().filter_map(Result::ok).flatten() {
        let _ = credential.matches(&reference);
    }
}

/// A folder in memory, where there is some.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("carrack-fuzz-").tempdir_in(base).expect("a folder")
}

/// Writes the right checksum into each header, which no change by chance would get past.
fn mended(tar: &[u8]) -> Vec<u8> {
    let mut tar = tar.to_vec();
    let mut at = 0_usize;
    while let Some(header) = tar.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<512>()) {
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:07o}\0").as_bytes());
        let size = header[124..135].iter().take_while(|byte| matches!(byte, b'0'..=b'7'));
        let size = size.fold(0, |size, digit| size * 8 + usize::from(digit - b'0'));
        at = at.saturating_add(512).saturating_add(size.next_multiple_of(512));
    }
    tar
}

/// Unpacks a layer, whose first byte says whether it is taken as it is. Nothing beside its folder changes.
fn layer(data: &[u8]) {
    let [which, tar @ ..] = data else { return };
    let tar = if which & 1 == 0 { mended(tar) } else { tar.to_vec() };
    let dir = scratch();
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    for name in ["root", "trash", "outside"] {
        fs::create_dir(at(name)).expect("a folder");
    }
    fs::write(at("outside/kept"), "as it was").expect("a file");
    let expected = Expected { blob: None, diff_id: Digest::of(&tar) };
    let _ = unpack(tar.as_slice(), &at("root"), &at("trash"), &expected, LIMITS);
    assert_eq!(fs::read(at("outside/kept")).expect("it is there"), b"as it was");
    for (name, entries) in [("outside", 1), ("", 3)] {
        assert_eq!(fs::read_dir(at(name)).expect("a folder").count(), entries, "something is in {name:?}");
    }
}

/// Imports an archive of images, likewise.
fn archive(data: &[u8]) {
    let [which, tar @ ..] = data else { return };
    let tar = if which & 1 == 0 { mended(tar) } else { tar.to_vec() };
    let dir = scratch();
    let path = dir.path().join("archive");
    fs::write(&path, tar).expect("a file");
    let store = ImageStore::open(&dir.path().join("store")).expect("an empty store");
    if let Ok(images) = import(&store, &path) {
        assert!(!images.is_empty(), "an archive without images is refused");
    }
}

/// A tar of entries: type, path, target of a link, data.
fn tar(entries: &[(u8, &str, &str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, path, link, data) in entries {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(tar::EntryType::new(*kind));
        header.set_mode(0o4755);
        header.set_uid(1000);
        header.set_gid(1000);
        header.set_mtime(1_500_000_000);
        header.set_size(data.len() as u64);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn layers() -> Vec<Vec<u8>> {
    let links = tar(&[
        (b'5', "a/", "", b""),
        (b'2', "a/out", "../../outside", b""),
        (b'0', "a/out/kept", "", b"changed"),
        (b'1', "a/hard", "a/out/kept", b""),
        (b'2', "abs", "/", b""),
        (b'0', "a/.wh.out", "", b""),
        (b'0', "b/.wh..wh..opq", "", b""),
    ]);
    let special = tar(&[
        (b'x', "pax", "", b"20 path=a/long/path\n30 SCHILY.xattr.user.a=value\0\n19 mtime=1500000.5\n"),
        (b'0', "short", "", b"data"),
        (b'L', "././@LongLink", "", b"long/name\0"),
        (b'0', "cut", "", b"data"),
        (b'3', "device", "", b""),
        (b'6', "fifo", "", b""),
    ]);
    let sparse = tar(&[
        (b'x', "pax", "", b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n25 GNU.sparse.name=holes\n30 GNU.sparse.realsize=100000\n"),
        (b'0', "GNUSparseFile.0/holes", "", &[b"1\n4096\n4\n".as_slice(), &[0; 503], b"data"].concat()),
    ]);
    [links, special, sparse].into_iter().map(|tar| [&[0], tar.as_slice()].concat()).collect()
}

fn archives() -> Vec<Vec<u8>> {
    let layer = tar(&[(b'0', "f", "", b"data")]);
    let configuration = CONFIGURATION.replace(HASH, &Digest::of(&layer).to_string());
    let docker = tar(&[
        (b'0', "manifest.json", "", br#"[{"Config":"c.json","RepoTags":["a:b"],"Layers":["l/layer.tar"]}]"#),
        (b'0', "c.json", "", configuration.as_bytes()),
        (b'2', "l/layer.tar", "../layer", b""),
        (b'0', "layer", "", &layer),
    ]);
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
    let described = |bytes: &[u8]| format!(r#"{{"digest":"{}","size":{}}}"#, Digest::of(bytes), bytes.len());
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
        described(configuration.as_bytes()),
        described(&layer)
    );
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, described(manifest.as_bytes()));
    let oci = tar(&[
        (b'0', "index.json", "", index.as_bytes()),
        (b'0', &blob(manifest.as_bytes()), "", manifest.as_bytes()),
        (b'0', &blob(configuration.as_bytes()), "", configuration.as_bytes()),
        (b'0', &blob(&layer), "", &layer),
    ]);
    [docker, oci].into_iter().map(|tar| [&[0], tar.as_slice()].concat()).collect()
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[test]
fn nothing_that_once_went_wrong_does_so_again() {
    replay::replay("images", TARGETS);
}

/// What is fed first is taken, or it would not get far.
#[test]
fn layers_and_archives_to_begin_with_are_good() {
    for seed in archives() {
        let dir = scratch();
        let path = dir.path().join("archive");
        fs::write(&path, &seed[1..]).unwrap();
        let store = ImageStore::open(&dir.path().join("store")).unwrap();
        assert_eq!(import(&store, &path).unwrap().len(), 1);
    }
    assert!(mended(&layers()[0][1..]) == layers()[0][1..], "right checksums stay as they are");
}
