//! The keys on disk: made, kept, renewed, refused; and TLS with them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use time::{Duration, OffsetDateTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::authn::X509;

pub(crate) fn options() -> PkiOptions {
    PkiOptions {
        node_name: "node-a".into(),
        node_ips: vec!["192.0.2.7".parse().unwrap()],
        service_ip: "10.96.0.1".parse().unwrap(),
        cluster_domain: "cluster.local".into(),
        hostname: "host-a".into(),
        extra_sans: vec!["api.example.org".into()],
    }
}

/// A directory for keys below one that is removed at the end.
pub(crate) fn directory() -> (tempfile::TempDir, std::path::PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("pki");
    (parent, dir)
}

fn contents(dir: &Path) -> Vec<(String, String)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// The names of the files that differ.
fn changed(before: &[(String, String)], after: &[(String, String)]) -> Vec<String> {
    after.iter().filter(|file| !before.contains(file)).map(|(name, _)| name.clone()).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn first_start_makes_every_file_for_its_owner_alone() {
    let (_keep, dir) = directory();
    Pki::open_or_create(&dir, &options()).unwrap();
    let names: Vec<String> = contents(&dir).into_iter().map(|(name, _)| name).collect();
    let expected = [
        "admin.crt",
        "admin.key",
        "apiserver-kubelet-client.crt",
        "apiserver-kubelet-client.key",
        "apiserver.crt",
        "apiserver.key",
        "ca.crt",
        "ca.key",
        "front-proxy-ca.crt",
        "front-proxy-ca.key",
        "front-proxy-client.crt",
        "front-proxy-client.key",
        "kubelet-client.crt",
        "kubelet-client.key",
        "kubelet.crt",
        "kubelet.key",
        "sa.key",
        "sa.pub",
        "store-ca.crt",
        "store-ca.key",
        "store.crt",
        "store.key",
    ];
    assert_eq!(names, expected);
    assert_eq!(mode(&dir), 0o700);
    for name in names {
        assert_eq!(mode(&dir.join(&name)), 0o600, "{name}");
    }
}

#[test]
fn a_second_start_changes_nothing() {
    let (_keep, dir) = directory();
    Pki::open_or_create(&dir, &options()).unwrap();
    let before = contents(&dir);
    Pki::open_or_create(&dir, &options()).unwrap();
    assert_eq!(contents(&dir), before);
}

#[test]
fn a_new_address_renews_the_serving_certificates_alone() {
    let (_keep, dir) = directory();
    Pki::open_or_create(&dir, &options()).unwrap();
    let before = contents(&dir);
    let mut moved = options();
    moved.node_ips.push("198.51.100.9".parse().unwrap());
    Pki::open_or_create(&dir, &moved).unwrap();
    let names = ["apiserver.crt", "apiserver.key", "kubelet.crt", "kubelet.key", "store.crt", "store.key"];
    assert_eq!(changed(&before, &contents(&dir)), names);
}

#[test]
fn leaves_are_renewed_before_they_end_and_the_authority_stays() {
    let (_keep, dir) = directory();
    let now = OffsetDateTime::now_utc();
    Pki::open_at(&dir, &options(), now).unwrap();
    let before = contents(&dir);

    Pki::open_at(&dir, &options(), now + LEAF_LIFETIME - inspect::RENEW_BEFORE - Duration::hours(1)).unwrap();
    assert_eq!(contents(&dir), before, "not due yet");

    Pki::open_at(&dir, &options(), now + LEAF_LIFETIME - inspect::RENEW_BEFORE + Duration::hours(1)).unwrap();
    let changed = changed(&before, &contents(&dir));
    assert_eq!(changed.len(), 14, "{changed:?}");
    assert!(changed.iter().all(|name| !name.contains("ca.") && !name.starts_with("sa.")), "{changed:?}");
}

#[test]
fn an_expired_authority_is_an_error_and_nothing_is_replaced() {
    let (_keep, dir) = directory();
    let now = OffsetDateTime::now_utc();
    Pki::open_at(&dir, &options(), now).unwrap();
    let before = contents(&dir);
    let error = Pki::open_at(&dir, &options(), now + Duration::days(3651)).unwrap_err();
    assert!(error.to_string().contains("it has expired"), "{error}");
    assert_eq!(contents(&dir), before);
}

#[test]
fn keys_that_others_may_read_are_refused() {
    let (_keep, dir) = directory();
    Pki::open_or_create(&dir, &options()).unwrap();
    for name in ["ca.key", "sa.key", "apiserver.key"] {
        let path = dir.join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = Pki::open_or_create(&dir, &options()).unwrap_err();
        assert!(
            matches!(&error, PkiError::TooOpen { path: found, mode: 0o640, .. } if *found == path),
            "{error}"
        );
        assert!(error.to_string().contains("chmod 600"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    let error = Pki::open_or_create(&dir, &options()).unwrap_err();
    assert!(error.to_string().contains("chmod 700"), "{error}");
}

#[test]
fn a_start_cut_off_between_two_files_is_mended() {
    let (_keep, dir) = directory();
    Pki::open_or_create(&dir, &options()).unwrap();
    let ca_key = fs::read(dir.join("ca.key")).unwrap();

    fs::remove_file(dir.join("ca.crt")).unwrap();
    fs::remove_file(dir.join("admin.crt")).unwrap();
    fs::remove_file(dir.join("sa.pub")).unwrap();
    fs::write(dir.join(format!(".ca.crt.{}.tmp", std::process::id())), "half").unwrap();
    fs::copy(dir.join("apiserver.key"), dir.join("kubelet.key")).unwrap();
    Pki::open_or_create(&dir, &options()).unwrap();

    assert_eq!(fs::read(dir.join("ca.key")).unwrap(), ca_key, "the authority's key is kept");
    let mended = contents(&dir);
    Pki::open_or_create(&dir, &options()).unwrap();
    assert_eq!(contents(&dir), mended, "and all is in order now");
}

#[test]
fn an_authority_without_its_key_is_never_replaced() {
    let (_keep, dir) = directory();
    Pki::open_or_create(&dir, &options()).unwrap();
    fs::remove_file(dir.join("ca.key")).unwrap();
    let error = Pki::open_or_create(&dir, &options()).unwrap_err();
    assert!(error.to_string().contains("its key is missing"), "{error}");

    let (_keep, other) = directory();
    Pki::open_or_create(&other, &options()).unwrap();
    fs::copy(other.join("ca.key"), dir.join("ca.key")).unwrap();
    let error = Pki::open_or_create(&dir, &options()).unwrap_err();
    assert!(error.to_string().contains("ca.key is not its key"), "{error}");
}

#[test]
fn garbage_is_an_error_not_a_panic() {
    let (_keep, dir) = directory();
    Pki::open_or_create(&dir, &options()).unwrap();
    for name in ["ca.key", "ca.crt", "sa.key", "sa.pub"] {
        let path = dir.join(name);
        let good = fs::read(&path).unwrap();
        for bad in ["", "rubbish", "-----BEGIN CERTIFICATE-----\nMAAA\n-----END CERTIFICATE-----\n"] {
            fs::write(&path, bad).unwrap();
            assert!(Pki::open_or_create(&dir, &options()).is_err(), "{name}: {bad:?}");
        }
        fs::write(&path, good).unwrap();
    }
    let mut bad_name = options();
    bad_name.extra_sans.push("bücher.example".into());
    let error = Pki::open_or_create(&dir, &bad_name).unwrap_err();
    assert!(error.to_string().contains("bücher.example"), "{error}");
}

#[test]
fn a_replaced_token_key_keeps_the_old_one_for_checking() {
    let (_keep, dir) = directory();
    let old = Pki::open_or_create(&dir, &options()).unwrap().service_account_keys();
    fs::remove_file(dir.join("sa.key")).unwrap();
    let new = Pki::open_or_create(&dir, &options()).unwrap().service_account_keys();
    assert_ne!(old.signing_id(), new.signing_id());
    let ids: Vec<_> = new.verifying().iter().map(|key| key.id.as_str()).collect();
    assert_eq!(ids, [new.signing_id(), old.signing_id()]);
}

#[test]
fn client_certificates_carry_the_name_and_every_group() {
    let (_keep, dir) = directory();
    let pki = Pki::open_or_create(&dir, &options()).unwrap();
    let x509 = X509::new(pki.client_verifier().unwrap());
    // Long enough that every length of the subject needs more than one byte.
    let groups: Vec<String> = (0..40).map(|number| format!("team-with-a-longer-name-{number}")).collect();
    for count in [0, 1, 2, 40] {
        let material = pki.sign_client("jürgen", &groups[..count], Duration::hours(1)).unwrap();
        let chain = pem::certificates(&material.cert_pem).unwrap();
        let user = x509.identify(&chain, UnixTime::now()).unwrap();
        assert_eq!(user.name, "jürgen");
        let mut expected = groups[..count].to_vec();
        expected.push("system:authenticated".into());
        assert_eq!(user.groups, expected);
    }
}

/// The user that a kubeconfig's certificate stands for, and the server it names.
fn identity(pki: &Pki, kubeconfig: &str) -> (Arc<crate::UserInfo>, String) {
    use base64::Engine as _;
    let field = |name: &str| {
        let line = kubeconfig.lines().find(|line| line.trim_start().starts_with(name)).unwrap();
        line.split_once(": ").unwrap().1.to_owned()
    };
    let decoded = |name| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(field(name)).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    assert_eq!(decoded("certificate-authority-data"), pki.ca_pem());
    PrivateKeyDer::from_pem_slice(decoded("client-key-data").as_bytes()).unwrap();
    let chain = pem::certificates(&decoded("client-certificate-data")).unwrap();
    let user = X509::new(pki.client_verifier().unwrap()).identify(&chain, UnixTime::now()).unwrap();
    (user, field("server"))
}

#[test]
fn kubeconfigs_hold_all_that_a_client_needs() {
    let (_keep, dir) = directory();
    let pki = Pki::open_or_create(&dir, &options()).unwrap();
    let server = "https://192.0.2.7:6443";
    let (admin, named) = identity(&pki, &pki.admin_kubeconfig(server, &[]));
    assert_eq!((admin.name.as_str(), named.as_str()), ("kubernetes-admin", "\"https://192.0.2.7:6443\""));
    assert!(admin.in_group("system:masters"));

    let text = pki.kubeconfig(server, "alice \"a\"", &["dev".into()], Duration::hours(1)).unwrap();
    let (alice, _) = identity(&pki, &text);
    assert_eq!(alice.groups, ["dev", "system:authenticated"]);
    assert!(text.contains(r#"user: "alice \"a\"""#), "{text}");

    let others = [("b".to_owned(), "https://192.0.2.8:6443".to_owned())];
    let text = pki.admin_kubeconfig(server, &others);
    assert_eq!(identity(&pki, &text).1, "\"https://192.0.2.7:6443\"", "the own one is first");
    let file: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(file["current-context"], "kubernetes-admin@carrack");
    assert_eq!(file["contexts"][1]["name"], "kubernetes-admin@carrack-b");
    assert_eq!(file["contexts"][1]["context"]["cluster"], file["clusters"][1]["name"]);
    assert_eq!(file["clusters"][1]["cluster"]["server"], "https://192.0.2.8:6443");
}

fn client_config(ca_pem: &str, identity: Option<&KeyMaterial>) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    match identity {
        None => builder.with_no_client_auth(),
        Some(material) => builder
            .with_client_auth_cert(
                pem::certificates(&material.cert_pem).unwrap(),
                PrivateKeyDer::from_pem_slice(material.key_pem.as_bytes()).unwrap(),
            )
            .unwrap(),
    }
}

/// Shakes hands over a pipe and sends one byte each way: the certificates the server saw, or the failure of
/// either side (in TLS 1.3 a refused client learns of it only when it reads).
async fn handshake(
    server: Arc<ServerConfig>,
    client: rustls::ClientConfig,
    name: &'static str,
) -> Result<usize, String> {
    let (near, far) = tokio::io::duplex(1 << 16);
    let serve = async {
        let mut stream =
            tokio_rustls::TlsAcceptor::from(server).accept(far).await.map_err(|e| e.to_string())?;
        stream.write_all(b"x").await.map_err(|e| e.to_string())?;
        stream.flush().await.map_err(|e| e.to_string())?;
        Ok(stream.get_ref().1.peer_certificates().map_or(0, <[_]>::len))
    };
    let connect = async {
        let name = ServerName::try_from(name).unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
        let mut stream = connector.connect(name, near).await.map_err(|e| e.to_string())?;
        stream.read_exact(&mut [0]).await.map(drop).map_err(|e| e.to_string())
    };
    let (served, connected) = tokio::join!(serve, connect);
    connected.and(served)
}

#[tokio::test]
async fn the_front_takes_clients_with_and_without_certificates_but_no_forged_ones() {
    let (_keep, dir) = directory();
    let pki = Pki::open_or_create(&dir, &options()).unwrap();
    let front = pki.server_tls().unwrap();
    let alice = pki.sign_client("alice", &[], Duration::hours(1)).unwrap();

    for name in [
        "kubernetes.default.svc.cluster.local",
        "10.96.0.1",
        "192.0.2.7",
        "127.0.0.1",
        "::1",
        "host-a",
        "api.example.org",
    ] {
        let seen = handshake(Arc::clone(&front), client_config(pki.ca_pem(), None), name).await;
        assert_eq!(seen, Ok(0), "{name}");
    }
    let seen = handshake(Arc::clone(&front), client_config(pki.ca_pem(), Some(&alice)), "localhost").await;
    assert_eq!(seen, Ok(1));

    let other_name =
        handshake(Arc::clone(&front), client_config(pki.ca_pem(), None), "evil.example.org").await;
    assert!(other_name.unwrap_err().contains("not valid for name"));

    let (_keep, other) = directory();
    let mallory = Pki::open_or_create(&other, &options()).unwrap();
    let forged =
        mallory.sign_client("kubernetes-admin", &["system:masters".into()], Duration::hours(1)).unwrap();
    let expired = pki.sign_client("alice", &[], Duration::minutes(-1)).unwrap();
    let serving = pki.node_serving_tls();
    for (what, material) in [("forged", forged), ("expired", expired), ("wrong usage", serving)] {
        let result =
            handshake(Arc::clone(&front), client_config(pki.ca_pem(), Some(&material)), "localhost").await;
        assert!(result.is_err(), "{what} was accepted");
    }
}

#[tokio::test]
async fn towards_nodes_only_the_clusters_certificates_count() {
    let (_keep, dir) = directory();
    let pki = Pki::open_or_create(&dir, &options()).unwrap();
    let client = rustls::ClientConfig::clone(&pki.kubelet_client_tls().unwrap());
    let serve =
        |from: &Pki| tls::server(pki.ca_pem(), LiveKey::new(&from.node_serving_tls()).unwrap()).unwrap();

    assert_eq!(
        handshake(serve(&pki), client.clone(), "192.0.2.7").await,
        Ok(1),
        "the client shows its certificate"
    );
    let (_keep, other) = directory();
    let mallory = Pki::open_or_create(&other, &options()).unwrap();
    let error = handshake(serve(&mallory), client, "192.0.2.7").await.unwrap_err();
    assert!(error.contains("invalid peer certificate"), "{error}");
}

#[test]
fn renewal_reaches_configurations_already_handed_out() {
    let (_keep, dir) = directory();
    let now = OffsetDateTime::now_utc();
    let pki = Pki::open_at(&dir, &options(), now - Duration::days(300)).unwrap();
    let before = pki.node_serving_tls().cert_pem;
    let live = pki.live(Leaf::ApiServer);
    let old = rustls::client::ResolvesClientCert::resolve(&*live, &[], &[]).unwrap();
    let next = pki.renew().unwrap();
    assert!(next > now + Duration::days(200), "{next}");
    assert_ne!(pki.node_serving_tls().cert_pem, before);
    let new = rustls::client::ResolvesClientCert::resolve(&*live, &[], &[]).unwrap();
    assert_ne!(old.cert, new.cert);
}

/// TLS for a node of a test: serves with `material`, checks clients as a node does.
pub(crate) fn serving(pki: &Pki, material: &KeyMaterial) -> Arc<ServerConfig> {
    tls::server(pki.ca_pem(), LiveKey::new(material).unwrap()).unwrap()
}
