//! Pulls from a registry in this process: the good way, and every bad way.

use std::collections::HashSet;
use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::registry::{self, Auth, Registry, layer};
use crate::store;
use carrack_images::{Credential, Digest, ImageStore, LayerError, PullError, PullFailure, PullOptions};

fn credential(password: &str) -> Vec<Credential> {
    let (registry, username) = ("127.0.0.1:*".to_owned(), "user".to_owned());
    let mut credential =
        Credential { registry, username, password: password.to_owned(), identity_token: None };
    credential.registry = String::new();
    vec![credential]
}

async fn pull(store: &ImageStore, reference: &str) -> Result<carrack_images::Image, PullError> {
    store.pull(reference, &[], &PullOptions::default()).await
}

#[track_caller]
fn failure(outcome: Result<carrack_images::Image, PullError>) -> PullFailure {
    match outcome {
        Err(PullError::Failed { cause, .. }) => cause,
        other => panic!("{other:?}"),
    }
}

fn assert_nothing_left(dir: &Path) {
    for folder in ["layers", "images", "tmp"] {
        let left: Vec<_> = fs::read_dir(dir.join(folder)).unwrap().collect();
        assert!(left.is_empty(), "{folder}: {left:?}");
    }
}

#[tokio::test]
async fn pulls_an_image_and_finds_it_again() {
    let registry = Registry::start(Auth::None).await;
    let layers = [layer(&[("bin/sh", b"shell"), ("etc/a", b"1")]), layer(&[("etc/a", b"2")])];
    let digest = registry.push_config(
        "v1",
        &layers,
        r#""Entrypoint":["/bin/sh"],"Cmd":["-c"],"Env":["A=b"],"User":"1:2","WorkingDir":"/w","StopSignal":"SIGQUIT",
        "Volumes":{"/data":{}},"Labels":{"l":"x"},"ExposedPorts":{"80/tcp":{}}"#,
    );
    let (dir, store) = store();
    let reference = registry.reference("app:v1");
    let seen = Arc::new(AtomicU64::new(0));
    let counter = seen.clone();
    let progress: carrack_images::ProgressCallback = Arc::new(move |progress| {
        counter.store(progress.bytes_done, Ordering::SeqCst);
        assert!(progress.bytes_done <= progress.bytes);
    });
    let options = PullOptions { progress: Some(progress), ..PullOptions::default() };
    let image = store.pull(&reference, &[], &options).await.unwrap();
    assert_eq!(image.references, std::slice::from_ref(&reference));
    assert_eq!(image.digests, [format!("{}@{digest}", registry.reference("app"))]);
    let config = &image.config;
    assert_eq!((&*config.entrypoint, &*config.cmd), (&["/bin/sh".to_owned()][..], &["-c".to_owned()][..]));
    assert_eq!(
        (&*config.user, &*config.working_dir, config.stop_signal.as_deref()),
        ("1:2", "/w", Some("SIGQUIT"))
    );
    assert!(config.volumes.contains("/data") && config.exposed_ports.contains("80/tcp"));
    assert!(seen.load(Ordering::SeqCst) > 0 && image.size > 0);

    let found = store.layers(&image);
    assert_eq!(found.len(), 2);
    assert_eq!(fs::read(found[0].join("etc/a")).unwrap(), b"2");
    assert_eq!(fs::read(found[1].join("bin/sh")).unwrap(), b"shell");
    for name in [&reference, &image.digests[0], &image.id] {
        assert_eq!(store.resolve(name).as_ref(), Some(&image), "{name}");
    }
    assert_eq!(store.resolve("busybox"), None);
    assert_eq!(store.list(), std::slice::from_ref(&image));

    // Another process may not use the store meanwhile; the next one finds everything.
    assert!(matches!(ImageStore::open(dir.path()), Err(carrack_images::ImageError::InUse(_))));
    drop(store);
    let store = ImageStore::open(dir.path()).unwrap();
    assert_eq!(store.resolve(&reference), Some(image.clone()));
    assert_eq!(store.layers(&image), found);
}

#[tokio::test]
async fn overlayfs_takes_the_layers() {
    let registry = Registry::start(Auth::None).await;
    let mut base = tar::Builder::new(Vec::new());
    for (path, mode) in [("tmp/", 0o1777), ("opt/", 0o711), ("opt/deep/", 0o750)] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(mode);
        header.set_uid(7);
        header.set_mtime(1000);
        header.set_size(0);
        base.append_data(&mut header, path, &b""[..]).unwrap();
    }
    let base = base.into_inner().unwrap();
    let upper = layer(&[("tmp/x", b"x"), ("opt/deep/y", b"y"), ("opt/deep/new/z", b"z")]);
    registry.push("v1", &[base.clone(), upper.clone(), base.clone(), upper]);
    let (dir, store) = store();
    let image = pull(&store, &registry.reference("app:v1")).await.unwrap();
    let lower = store.layers(&image);
    let merged = dir.path().join("merged");
    fs::create_dir(&merged).unwrap();
    let overlay = rustix::mount::fsopen("overlay", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    // One list, not `lowerdir+` for each: kernels before 6.5 have only that, and take no more than 255 characters.
    let folders: Vec<_> = lower.iter().map(|folder| fs::File::open(folder).unwrap()).collect();
    let names: Vec<_> = folders.iter().map(|f| format!("/proc/self/fd/{}", f.as_raw_fd())).collect();
    rustix::mount::fsconfig_set_string(&overlay, "lowerdir", names.join(":")).unwrap();
    rustix::mount::fsconfig_create(&overlay).unwrap();
    let mount = rustix::mount::fsmount(
        &overlay,
        rustix::mount::FsMountFlags::FSMOUNT_CLOEXEC,
        rustix::mount::MountAttrFlags::empty(),
    )
    .unwrap();
    // Looked at through the mount's own descriptor: nothing to unmount afterwards.
    let stat = |path: &str| rustix::fs::statat(&mount, path, rustix::fs::AtFlags::empty()).unwrap();
    let tmp = stat("tmp");
    assert_eq!((tmp.st_mode & 0o7777, tmp.st_uid, tmp.st_mtime), (0o1777, 7, 1000));
    assert_eq!(stat("opt").st_mode & 0o7777, 0o711);
    assert_eq!(stat("opt/deep").st_mode & 0o7777, 0o750);
    assert_eq!(stat("opt/deep/new").st_mode & 0o7777, 0o755);
    for file in ["tmp/x", "opt/deep/y", "opt/deep/new/z"] {
        assert_eq!(stat(file).st_size, 1, "{file}");
    }
}

#[tokio::test]
async fn chooses_this_machine_from_an_index() {
    let registry = Registry::start(Auth::None).await;
    let manifest = registry.push("inner", &[layer(&[("a", b"")])]);
    let entry = |architecture: &str| {
        format!(
            r#"{{"digest":"{manifest}","size":1,"platform":{{"os":"linux","architecture":"{architecture}"}}}}"#
        )
    };
    let index = |list: String| format!(r#"{{"schemaVersion":2,"manifests":[{list}]}}"#);
    let digest = registry.manifest("many", index(format!("{},{}", entry("arm64"), entry("amd64"))));
    registry.manifest("foreign", index(entry("s390x")));
    let (dir, store) = store();
    match failure(pull(&store, &registry.reference("app:foreign")).await) {
        PullFailure::UnsupportedPlatform { wanted, found } => {
            assert_eq!((&*wanted, &*found), ("linux/amd64", "linux/s390x"));
        }
        other => panic!("{other}"),
    }
    assert_nothing_left(dir.path());
    let image = pull(&store, &registry.reference("app:many")).await.unwrap();
    assert_eq!(image.digests, [format!("{}@{digest}", registry.reference("app"))]);
    let pinned = pull(&store, &registry.reference(&format!("app@{digest}"))).await.unwrap();
    assert_eq!(pinned, image);
}

#[tokio::test]
async fn says_what_is_not_found_refused_or_unreachable() {
    let registry = Registry::start(Auth::None).await;
    let (_dir, store) = store();
    let reference = registry.reference("nope:1");
    let error = pull(&store, &reference).await.unwrap_err();
    assert_eq!(error.reason(), "ErrImagePull");
    let words = format!(
        "failed to pull and unpack image \"{reference}\": failed to resolve reference \"{reference}\": {reference}: not found"
    );
    assert_eq!(error.to_string(), words);

    let error = pull(&store, "Not/A Reference").await.unwrap_err();
    assert_eq!(error.reason(), "InvalidImageName");
    assert!(
        error
            .to_string()
            .starts_with("couldn't parse image name \"Not/A Reference\": invalid reference format")
    );

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let cause = failure(pull(&store, &format!("{nobody}/app")).await);
    assert!(cause.to_string().contains("Connection refused"), "{cause}");
    assert!(matches!(cause, PullFailure::Unreachable { .. }));
}

#[tokio::test]
async fn shows_basic_credentials() {
    let registry = Registry::start(Auth::Basic).await;
    registry.push("v1", &[layer(&[("a", b"")])]);
    let (_dir, store) = store();
    let reference = registry.reference("app:v1");
    let cause = failure(pull(&store, &reference).await);
    assert!(
        matches!(&cause, PullFailure::Denied { message, .. } if message.contains("authentication required"))
    );
    let options = PullOptions::default();
    let wrong = store.pull(&reference, &credential("wrong"), &options).await;
    assert!(matches!(failure(wrong), PullFailure::Denied { .. }));
    let both = [credential("wrong"), credential("pass")].concat();
    store.pull(&reference, &both, &options).await.unwrap();
}

#[tokio::test]
async fn gets_tokens() {
    let registry = Registry::start(Auth::Bearer).await;
    registry.push("v1", &[layer(&[("a", b"")]), layer(&[("b", b"")])]);
    let (_dir, store) = store();
    let reference = registry.reference("app:v1");
    let cause = failure(pull(&store, &reference).await);
    assert!(cause.to_string().contains("incorrect username or password"), "{cause}");
    registry.state.tokens.store(0, Ordering::SeqCst);
    store.pull(&reference, &credential("pass"), &PullOptions::default()).await.unwrap();
    assert_eq!(registry.state.tokens.load(Ordering::SeqCst), 1, "one token serves the whole pull");
}

#[tokio::test]
async fn notices_tampering() {
    let registry = Registry::start(Auth::None).await;
    registry.push("v1", &[layer(&[("a", &[7; 10_000])])]);
    let digests: Vec<Digest> = registry.state.blobs.lock().keys().copied().collect();
    let (dir, store) = store();
    let reference = registry.reference("app:v1");
    for digest in digests {
        let honest = registry.state.blobs.lock()[&digest].clone();
        let mut tampered = honest.to_vec();
        let last = tampered.len() - 1;
        tampered[last / 2] ^= 1;
        registry.state.blobs.lock().insert(digest, tampered.into());
        let cause = failure(pull(&store, &reference).await);
        let mismatch = matches!(cause, PullFailure::DigestMismatch { .. })
            || matches!(cause, PullFailure::Layer { cause: LayerError::DigestMismatch { .. }, .. });
        assert!(mismatch, "{cause}");
        assert!(cause.to_string().contains("digest mismatch"));
        assert_nothing_left(dir.path());
        registry.state.blobs.lock().insert(digest, honest);
    }
    let other = Digest::of(b"other");
    registry.manifest("x", "{}".to_owned());
    let cause = failure(pull(&store, &registry.reference(&format!("app@{other}"))).await);
    assert!(matches!(cause, PullFailure::NotFound(_)));
    pull(&store, &reference).await.unwrap();
}

#[tokio::test]
async fn takes_up_a_broken_transfer_where_it_broke() {
    let registry = Registry::start(Auth::None).await;
    let noise: Vec<u8> = (0..200_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    registry.push("v1", &[layer(&[("noise", &noise)])]);
    let (_dir, first) = store();
    registry.state.faults.lock().broken_blobs = 3;
    let image = pull(&first, &registry.reference("app:v1")).await.unwrap();
    assert!(registry.state.ranges.load(Ordering::SeqCst) >= 2, "ranges were asked for");
    assert!(fs::read(first.layers(&image)[0].join("noise")).unwrap() == noise);

    // A registry that does not know ranges sends it all again; what is there already is skipped.
    let (_dir, second) = store();
    *registry.state.faults.lock() =
        registry::Faults { broken_blobs: 2, no_ranges: true, ..Default::default() };
    let image = pull(&second, &registry.reference("app:v1")).await.unwrap();
    assert!(fs::read(second.layers(&image)[0].join("noise")).unwrap() == noise);
}

#[tokio::test]
async fn waits_for_a_registry_that_asks_for_patience() {
    let registry = Registry::start(Auth::None).await;
    registry.push("v1", &[layer(&[("a", b"")])]);
    registry.state.faults.lock().unavailable = 3;
    let (_dir, store) = store();
    pull(&store, &registry.reference("app:v1")).await.unwrap();
    registry.state.faults.lock().unavailable = 1000;
    match failure(pull(&store, &registry.reference("app:v1")).await) {
        PullFailure::Registry { status, message, .. } => {
            assert_eq!((status, &*message), (503, "server message: unavailable: come back later"));
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn gives_up_on_a_layer_that_is_always_short() {
    let registry = Registry::start(Auth::None).await;
    // Stored, not compressed, so that the small configuration is not what is short.
    registry.push("v1", &[layer(&[("a", &[1; 100])])]);
    let (dir, store) = store();
    let sizes: Vec<(Digest, usize)> =
        registry.state.blobs.lock().iter().map(|(digest, bytes)| (*digest, bytes.len())).collect();
    let (config, _) =
        sizes.iter().find(|(digest, _)| registry.state.blobs.lock()[digest].starts_with(b"{")).unwrap();
    for (digest, size) in &sizes {
        if digest != config {
            let bytes = registry.state.blobs.lock()[digest].slice(..size / 2);
            registry.state.blobs.lock().insert(*digest, bytes);
        }
    }
    registry.state.faults.lock().no_ranges = true;
    let cause = failure(pull(&store, &registry.reference("app:v1")).await);
    assert!(matches!(cause, PullFailure::Layer { cause: LayerError::Truncated { .. }, .. }), "{cause}");
    assert_nothing_left(dir.path());
}

#[tokio::test]
async fn shares_layers_and_fetches_each_once() {
    let registry = Registry::start(Auth::None).await;
    let base = layer(&[("base", &[1; 5000])]);
    registry.push("v1", &[base.clone(), layer(&[("one", b"1")])]);
    registry.push("v2", &[base.clone(), layer(&[("two", b"2")])]);
    registry.state.faults.lock().delay = 50;
    let (dir, store) = store();
    let references: Vec<String> =
        ["app:v1", "app:v2", "app:v1", "app:v2", "app:v1"].map(|r| registry.reference(r)).into();
    let pulls = references.iter().map(|reference| pull(&store, reference));
    for outcome in futures::future::join_all(pulls).await {
        outcome.unwrap();
    }
    let packed = Digest::of(&registry::gzip(&base));
    assert_eq!(registry.state.fetched.lock()[&packed], 1);
    assert_eq!(fs::read_dir(dir.path().join("layers")).unwrap().count(), 3);

    let (one, two) = (store.resolve(&references[0]).unwrap(), store.resolve(&references[1]).unwrap());
    let freed = store.remove(&one.id).unwrap();
    assert!(freed > 0 && freed < one.size, "the shared layer stays");
    assert_eq!(store.resolve(&references[0]), None);
    assert!(store.layers(&two).iter().all(|layer| layer.exists()));
    assert_eq!(store.collect(&HashSet::from([two.id.clone()])).unwrap(), 0);
    assert!(store.collect(&HashSet::new()).unwrap() > 0);
    assert_nothing_left(dir.path());
}

#[tokio::test]
async fn a_tag_moves() {
    let registry = Registry::start(Auth::None).await;
    registry.push("v1", &[layer(&[("a", b"1")])]);
    let (dir, store) = store();
    let reference = registry.reference("app:v1");
    let old = pull(&store, &reference).await.unwrap();
    registry.push("v1", &[layer(&[("a", b"2")])]);
    let new = pull(&store, &reference).await.unwrap();
    assert_ne!(old.id, new.id);
    drop(store);
    let store = ImageStore::open(dir.path()).unwrap();
    assert_eq!(store.resolve(&reference).unwrap().id, new.id);
    assert!(store.resolve(&old.id).unwrap().references.is_empty());
}

#[tokio::test]
async fn a_dropped_pull_leaves_nothing() {
    let registry = Registry::start(Auth::None).await;
    registry.push("v1", &[layer(&[("a", &[1; 100_000])])]);
    registry.state.faults.lock().delay = 10_000;
    let (dir, store) = store();
    let reference = registry.reference("app:v1");
    let dropped = tokio::time::timeout(std::time::Duration::from_millis(300), pull(&store, &reference)).await;
    assert!(dropped.is_err());
    registry.state.faults.lock().delay = 0;
    pull(&store, &reference).await.unwrap();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    while fs::read_dir(dir.path().join("tmp")).unwrap().count() > 0 {
        assert!(tokio::time::Instant::now() < deadline, "the unpacking thread ends");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_a_crash_left_is_removed() {
    let registry = Registry::start(Auth::None).await;
    registry.push("v1", &[layer(&[("a", b"1")])]);
    let (dir, store) = store();
    let image = pull(&store, &registry.reference("app:v1")).await.unwrap();
    drop(store);
    fs::create_dir_all(dir.path().join("tmp/half/layer/fs/deep")).unwrap();
    let orphan = dir.path().join("layers").join(Digest::of(b"orphan").hex());
    fs::create_dir_all(orphan.join("fs")).unwrap();
    fs::create_dir_all(dir.path().join("images").join(Digest::of(b"no description").hex())).unwrap();
    let store = ImageStore::open(dir.path()).unwrap();
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    assert!(!orphan.exists());
    assert_eq!(store.list(), std::slice::from_ref(&image));
    drop(store);
    // An image that lost a layer is not offered any more.
    fs::remove_dir_all(dir.path().join("layers")).unwrap();
    let store = ImageStore::open(dir.path()).unwrap();
    assert!(store.list().is_empty());
    pull(&store, &registry.reference("app:v1")).await.unwrap();
}

/// A certificate for localhost that vouches for itself: as PEM, and ready to serve with.
fn certificate() -> (String, tokio_rustls::TlsAcceptor) {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(signed.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key.into())
        .unwrap();
    (signed.cert.pem(), Arc::new(tls).into())
}

#[tokio::test]
async fn trusts_a_registry_whose_certificate_was_put_there() {
    let (pem, tls) = certificate();
    let registry = Registry::start_with(Auth::Basic, Some(tls)).await;
    registry.push("v1", &[layer(&[("a", b"1")])]);
    let dir = tempfile::tempdir().unwrap();
    let host = format!("localhost:{}", registry.address.port());
    let folder = dir.path().join("certs.d").join(&host);
    let certificates = vec![dir.path().join("certs.d")];
    let options = carrack_images::StoreOptions { certificates, ..Default::default() };
    let store = ImageStore::open_with(&dir.path().join("images"), options).unwrap();
    let reference = format!("{host}/app:v1");
    let cause = failure(store.pull(&reference, &credential("pass"), &PullOptions::default()).await);
    assert!(cause.to_string().contains("certificate"), "{cause}");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("ca.crt"), "-----BEGIN CERTIFICATE-----\nrubbish").unwrap();
    let cause = failure(store.pull(&reference, &credential("pass"), &PullOptions::default()).await);
    assert!(cause.to_string().contains("ca.crt"), "{cause}");
    fs::write(folder.join("ca.crt"), pem).unwrap();
    store.pull(&reference, &credential("pass"), &PullOptions::default()).await.unwrap();
}

/// A file system of its own, unmounted with the test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(options: &std::ffi::CStr) -> SmallDisk {
        let dir = tempfile::tempdir().unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", dir.path(), "tmpfs", flags, Some(options)).unwrap();
        SmallDisk(dir)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The folder is removed after this; what is not unmounted would make that fail loudly.
        _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

#[tokio::test]
async fn a_full_disk_leaves_nothing_half_done() {
    let registry = Registry::start(Auth::None).await;
    let noise: Vec<u8> =
        (0..1_000_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    registry.push("big", &[layer(&[("small", b"1")]), layer(&[("noise", &noise)])]);
    let names: Vec<String> = (0..500).map(|n| format!("file-{n}")).collect();
    let many: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    registry.push("many", &[layer(&many)]);
    registry.push("fits", &[layer(&[("a", b"1")])]);
    let disk = SmallDisk::new(c"size=2m,nr_inodes=200");
    let store = ImageStore::open(disk.0.path()).unwrap();
    for tag in ["big", "many"] {
        let error = pull(&store, &registry.reference(&format!("app:{tag}"))).await.unwrap_err();
        assert!(matches!(error.failure(), Some(PullFailure::NoSpace)), "{error}");
        assert!(error.to_string().ends_with("no space left on device"), "{error}");
    }
    store.collect(&HashSet::new()).unwrap();
    assert_nothing_left(disk.0.path());
    pull(&store, &registry.reference("app:fits")).await.unwrap();
}
