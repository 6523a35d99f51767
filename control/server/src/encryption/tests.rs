//! Rotation of keys, wildcards, and what becomes of what cannot be read.

use super::*;
use bytes::Bytes;
use carrack_store::Seal;

const KEY: &[u8] = b"/registry/secrets/web/s";
const A: &str = "name: a, secret: QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=";
const B: &str = "name: b, secret: QkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkI=";

fn config(resources: &str, providers: &str) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n\
         - resources: [{resources}]\n  providers: [{providers}]\n"
    )
}

fn gcm(keys: &[&str]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| format!("{{{key}}}")).collect();
    format!("{{aesgcm: {{keys: [{}]}}}}", keys.join(", "))
}

fn secrets(providers: &[String]) -> Encryption {
    Encryption::parse(&config("secrets", &providers.join(", "))).unwrap()
}

fn plain() -> Bytes {
    Bytes::from_static(b"{\"data\":{\"password\":\"aHVudGVyMg==\"}}")
}

#[test]
fn keys_are_rotated() {
    let identity = "{identity: {}}".to_owned();
    let encryption = secrets(std::slice::from_ref(&identity));
    let unencrypted = encryption.seal(KEY, &plain()).unwrap();
    assert_eq!(unencrypted, plain());
    encryption.replace(&config("secrets", &format!("{}, {identity}", gcm(&[A])))).unwrap();
    assert!(encryption.is_outdated(KEY, &unencrypted));
    assert_eq!(encryption.open(KEY, &unencrypted), Ok(None), "what is there stays readable");
    let by_a = encryption.seal(KEY, &plain()).unwrap();
    assert!(by_a.starts_with(b"k8s:enc:aesgcm:v1:a:") && !by_a.windows(6).any(|w| w == b"passwo"));
    assert!(!encryption.is_outdated(KEY, &by_a));
    encryption.replace(&config("secrets", &gcm(&[B, A]))).unwrap();
    assert_eq!(encryption.open(KEY, &by_a), Ok(Some(plain())));
    assert!(encryption.is_outdated(KEY, &by_a));
    assert_eq!(encryption.open(KEY, &unencrypted), Err("no matching prefix found".into()));
    let by_b = encryption.seal(KEY, &plain()).unwrap();
    assert!(by_b.starts_with(b"k8s:enc:aesgcm:v1:b:"));
    encryption.replace(&config("secrets", &format!("{}, {identity}", gcm(&[B])))).unwrap();
    let error = encryption.open(KEY, &by_a).unwrap_err();
    assert!(
        error.contains("no matching key was found") && error.contains("identity transformer tried"),
        "{error}"
    );
    assert_eq!(encryption.open(KEY, &by_b), Ok(Some(plain())));
    assert!(encryption.replace("nonsense").is_err());
    assert_eq!(encryption.open(KEY, &by_b), Ok(Some(plain())), "a bad file changes nothing");
}

#[test]
fn resources_are_told_by_their_keys() {
    let encrypts = |resources: &str, key: &str| {
        let encryption = Encryption::parse(&config(resources, &gcm(&[A]))).unwrap();
        encryption.seal(key.as_bytes(), &plain()).unwrap() != plain()
    };
    let row = |group: &str, plural: &str| carrack_api::find(group, "v1", plural).unwrap().key("web", "x");
    for (resources, key, expected) in [
        ("secrets", row("", "secrets"), true),
        ("secrets", row("", "configmaps"), false),
        ("deployments.apps", row("apps", "deployments"), true),
        ("'*.'", row("", "services"), true),
        ("'*.'", row("apps", "deployments"), false),
        ("'*.*'", "/registry/stable.example.com/crontabs/web/x".to_owned(), true),
        ("crontabs.stable.example.com", "/registry/stable.example.com/crontabs/web/x".to_owned(), true),
        ("'*.*'", "/carrack/nodeports/30000".to_owned(), false),
    ] {
        assert_eq!(encrypts(resources, &key), expected, "{resources} {key}");
    }
}

#[test]
fn the_first_entry_that_matches_counts() {
    let text = format!(
        "{}- resources: ['*.*']\n  providers: [{}]\n",
        config("secrets", "{identity: {}}"),
        gcm(&[A])
    );
    let encryption = Encryption::parse(&text).unwrap();
    assert_eq!(encryption.seal(KEY, &plain()).unwrap(), plain());
    let other = b"/registry/configmaps/web/x";
    assert!(encryption.seal(other, &plain()).unwrap().starts_with(b"k8s:enc:"));
    let error = encryption.open(other, &plain()).unwrap_err();
    assert_eq!(error, "no matching prefix found", "unencrypted data without identity is refused");
}

#[test]
fn the_default_file_is_private_and_lasts() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("encryption.yaml");
    let first = Encryption::load_or_create(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let kept = first.seal(KEY, &plain()).unwrap();
    let second = Encryption::load_or_create(&path).unwrap();
    assert_eq!(second.open(KEY, &kept), Ok(Some(plain())));
    assert_eq!(second.open(KEY, &plain()), Ok(None));
}

#[tokio::test(start_paused = true)]
async fn a_changed_file_is_taken_in() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("encryption.yaml");
    std::fs::write(&path, config("secrets", &gcm(&[A]))).unwrap();
    let encryption = Arc::new(Encryption::load(&path).unwrap());
    let end = CancellationToken::new();
    let following = tokio::spawn(encryption.clone().follow(path.clone(), end.clone()));
    tokio::time::sleep(Duration::from_millis(1)).await;
    std::fs::write(&path, config("secrets", &gcm(&[B, A]))).unwrap();
    tokio::time::sleep(RELOAD_EVERY * 2).await;
    assert!(encryption.seal(KEY, &plain()).unwrap().starts_with(b"k8s:enc:aesgcm:v1:b:"));
    end.cancel();
    following.await.unwrap();
}
