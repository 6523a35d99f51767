//! Imports of archives in the forms that tools write.

use std::fs;
use std::path::{Path, PathBuf};

use carrack_images::{Digest, ImageStore, ImportError, LayerError};

use crate::registry::{gzip, layer};
use crate::store;

fn configuration(layers: &[Vec<u8>]) -> Vec<u8> {
    let ids: Vec<String> = layers.iter().map(|layer| format!("\"{}\"", Digest::of(layer))).collect();
    let text = r#"{"os":"linux","architecture":"amd64","config":{"Cmd":["sh"]},"rootfs":{"diff_ids":["#;
    format!("{text}{}]}}}}", ids.join(",")).into_bytes()
}

fn write(dir: &Path, bytes: &[u8]) -> PathBuf {
    let path = dir.join("archive.tar");
    fs::write(&path, bytes).unwrap();
    path
}

/// As `docker save` of today writes it, without the OCI part.
fn docker_archive(tags: &str, layers: &[Vec<u8>]) -> Vec<u8> {
    let config = configuration(layers);
    let names: Vec<String> = (0..layers.len()).map(|index| format!("{index}/layer.tar")).collect();
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let manifest =
        format!(r#"[{{"Config":"config.json","RepoTags":{tags},"Layers":[{}]}}]"#, quoted.join(","));
    let mut files: Vec<(&str, &[u8])> = vec![("config.json", &config)];
    files.extend(names.iter().zip(layers).map(|(name, layer)| (name.as_str(), layer.as_slice())));
    files.push(("manifest.json", manifest.as_bytes()));
    layer(&files)
}

fn oci_archive(annotation: &str, layers: &[Vec<u8>], spoil: bool) -> Vec<u8> {
    let config = configuration(layers);
    let packed: Vec<Vec<u8>> = layers.iter().map(|layer| gzip(layer)).collect();
    let descriptor = |bytes: &[u8]| format!(r#""digest":"{}","size":{}"#, Digest::of(bytes), bytes.len());
    let list: Vec<String> = packed.iter().map(|layer| format!("{{{}}}", descriptor(layer))).collect();
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{{}}},"layers":[{}]}}"#,
        descriptor(&config),
        list.join(",")
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{{},"annotations":{annotation}}}]}}"#,
        descriptor(manifest.as_bytes())
    );
    let mut blobs: Vec<(String, Vec<u8>)> = [config, manifest.into_bytes()]
        .into_iter()
        .chain(packed)
        .map(|bytes| (format!("./blobs/sha256/{}", Digest::of(&bytes).hex()), bytes))
        .collect();
    if spoil {
        let last = blobs.last_mut().unwrap();
        let middle = last.1.len() / 2;
        last.1[middle] ^= 1;
    }
    let mut files: Vec<(&str, &[u8])> = vec![("index.json", index.as_bytes()), ("oci-layout", b"{}")];
    files.extend(blobs.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
    layer(&files)
}

fn some_layers() -> Vec<Vec<u8>> {
    vec![layer(&[("bin/sh", &[3; 9000])]), layer(&[("etc/motd", b"hello")])]
}

fn assert_imported(store: &ImageStore, images: &[carrack_images::Image], name: &str) {
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].references, [name]);
    assert_eq!(images[0].config.cmd, ["sh"]);
    assert_eq!(images[0].id, Digest::of(&configuration(&some_layers())).to_string());
    let layers = store.layers(&images[0]);
    assert_eq!(fs::read(layers[0].join("etc/motd")).unwrap(), b"hello");
    assert_eq!(fs::read(layers[1].join("bin/sh")).unwrap(), [3; 9000]);
    assert_eq!(store.resolve(name).as_ref(), Some(&images[0]));
}

#[tokio::test]
async fn docker_archives() {
    let (dir, store) = store();
    let plain = docker_archive(r#"["app:1","localhost:5000/app:2"]"#, &some_layers());
    let images = store.import(&write(dir.path(), &plain)).await.unwrap();
    assert_eq!(images[0].references, ["docker.io/library/app:1", "localhost:5000/app:2"]);
    let again = store.import(&write(dir.path(), &gzip(&plain))).await.unwrap();
    assert_eq!(again, images);
    let unnamed = docker_archive("null", &[layer(&[("other", b"")])]);
    let images = store.import(&write(dir.path(), &unnamed)).await.unwrap();
    assert!(images[0].references.is_empty());
    assert_eq!(store.resolve(&images[0].id).as_ref(), Some(&images[0]));
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn docker_archives_with_linked_layers() {
    let (dir, store) = store();
    let layers = some_layers();
    let config = configuration(&[layers[0].clone(), layers[0].clone(), layers[1].clone()]);
    let manifest =
        r#"[{"Config":"c.json","RepoTags":["app:1"],"Layers":["a/layer.tar","b/layer.tar","c/layer.tar"]}]"#;
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |path: &str, data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        builder.append_data(&mut header, path, data).unwrap();
    };
    add("c.json", &config);
    add("a/layer.tar", &layers[0]);
    add("c/layer.tar", &layers[1]);
    add("manifest.json", manifest.as_bytes());
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    builder.append_link(&mut link, "b/layer.tar", "../a/layer.tar").unwrap();
    let images = store.import(&write(dir.path(), &builder.into_inner().unwrap())).await.unwrap();
    assert_eq!(store.layers(&images[0]).len(), 2, "overlayfs takes no folder twice");
}

#[tokio::test]
async fn oci_layouts() {
    let layers = some_layers();
    for (annotation, name) in [
        (r#"{"io.containerd.image.name":"docker.io/library/app:1"}"#, "docker.io/library/app:1"),
        (r#"{"org.opencontainers.image.ref.name":"localhost/app:2"}"#, "localhost/app:2"),
    ] {
        let (dir, store) = store();
        let archive = oci_archive(annotation, &layers, false);
        let images = store.import(&write(dir.path(), &archive)).await.unwrap();
        assert_imported(&store, &images, name);
        let zstd = zstd::encode_all(&archive[..], 1).unwrap();
        assert_eq!(store.import(&write(dir.path(), &zstd)).await.unwrap(), images);
    }
    let (dir, store) = store();
    let tag_only = oci_archive(r#"{"org.opencontainers.image.ref.name":"latest"}"#, &layers, false);
    let images = store.import(&write(dir.path(), &tag_only)).await.unwrap();
    assert!(images[0].references.is_empty());
}

#[tokio::test]
async fn says_what_is_wrong_with_an_archive() {
    let (dir, store) = store();
    let missing = store.import(Path::new("/does/not/exist")).await;
    assert!(matches!(missing, Err(ImportError::Io { .. })));
    let other = store.import(&write(dir.path(), &layer(&[("a", b"")]))).await;
    assert!(matches!(other, Err(ImportError::UnknownFormat(_))));
    let spoiled = oci_archive("{}", &some_layers(), true);
    match store.import(&write(dir.path(), &spoiled)).await {
        Err(ImportError::Layer { cause: LayerError::DigestMismatch { .. }, .. }) => {}
        outcome => panic!("{outcome:?}"),
    }
    let whole = docker_archive(r#"["app:1"]"#, &some_layers());
    for length in [100, 700, whole.len() / 2, whole.len() - 2000] {
        let outcome = store.import(&write(dir.path(), &whole[..length])).await;
        assert!(matches!(outcome, Err(ImportError::Malformed(_))), "{length}: {outcome:?}");
    }
    for (manifest, words) in [
        ("{}", "manifest.json is malformed"),
        ("[]", "holds no image"),
        (r#"[{"Config":"x","Layers":[]}]"#, "no file \"x\""),
        (r#"[{"Config":"../../../etc/passwd","Layers":[]}]"#, "no file"),
    ] {
        let archive = layer(&[("manifest.json", manifest.as_bytes())]);
        let error = store.import(&write(dir.path(), &archive)).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let named = docker_archive(r#"["Not A Name"]"#, &some_layers());
    let outcome = store.import(&write(dir.path(), &named)).await;
    assert!(matches!(outcome, Err(ImportError::InvalidReference { .. })));
    assert!(store.list().is_empty());
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn malicious_layers_leave_nothing_behind() {
    let (dir, store) = store();
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Char);
    header.set_device_major(1).unwrap();
    header.set_device_minor(3).unwrap();
    header.set_size(0);
    builder.append_data(&mut header, "dev/mem", &b""[..]).unwrap();
    let archive = docker_archive(r#"["app:1"]"#, &[layer(&[("fine", b"")]), builder.into_inner().unwrap()]);
    let error = store.import(&write(dir.path(), &archive)).await.unwrap_err().to_string();
    assert!(error.contains("device nodes are not allowed"), "{error}");
    assert!(store.list().is_empty());
    let store = {
        drop(store);
        ImageStore::open(dir.path()).unwrap()
    };
    assert!(store.list().is_empty());
    assert_eq!(fs::read_dir(dir.path().join("layers")).unwrap().count(), 0, "the good layer was swept");
}
