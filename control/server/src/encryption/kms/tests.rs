//! The provider against a plugin on a socket: what is kept, changes of the key, and a plugin that is away.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use carrack_store::Seal;

use super::fake::Fake;
use super::probe;
use crate::encryption::{Encryption, EncryptionError};

const KEY: &[u8] = b"/registry/secrets/web/s";

fn config(providers: &str) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
         providers: [{providers}]\n"
    )
}

async fn started(plugin: &Fake) -> Encryption {
    let encryption = Encryption::parse(&config(&plugin.provider())).unwrap();
    encryption.start().await;
    encryption
}

fn plain() -> Bytes {
    Bytes::from_static(b"{\"data\":{\"password\":\"aHVudGVyMg==\"}}")
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn what_is_kept_shows_neither_the_value_nor_the_seed_and_the_plugin_gives_it_back() {
    let plugin = Fake::new();
    plugin.start();
    let encryption = started(&plugin).await;
    assert_eq!(encryption.health(), Ok(()));
    let kept = encryption.seal(KEY, &plain()).unwrap();
    assert!(kept.starts_with(b"k8s:enc:kms:v2:fake:") && !has(&kept, b"passwo"));
    let seed = plugin.state.seeds.lock()[0].clone();
    assert!(seed.len() == 32 && !has(&kept, &seed));
    assert_ne!(encryption.seal(KEY, &plain()).unwrap(), kept);
    assert_eq!(encryption.open(KEY, &kept), Ok(Some(plain())));
    assert!(!encryption.is_outdated(KEY, &kept));
    assert!(encryption.fetch(KEY, &kept).is_none());
    assert_eq!(plugin.state.encrypted.load(Ordering::Relaxed), 1, "writes do not ask the plugin");
    // Another start.
    let second = started(&plugin).await;
    assert!(second.open(KEY, &kept).unwrap_err().contains("not decrypted the key"));
    let all = (0..10).map(|_| second.fetch(KEY, &kept).unwrap());
    assert!(futures::future::join_all(all).await.iter().all(Result::is_ok));
    assert_eq!(second.open(KEY, &kept), Ok(Some(plain())));
    assert_eq!(plugin.state.decrypted.load(Ordering::Relaxed), 1);
    assert!(second.open(b"/registry/secrets/web/other", &kept).is_err(), "bound to its place");
    assert!(!second.is_outdated(KEY, &kept), "the same key of the plugin, another seed");
}

#[tokio::test]
async fn a_new_key_of_the_plugin_is_taken_and_what_the_old_one_wrote_is_outdated() {
    let plugin = Fake::new();
    plugin.start();
    let encryption = started(&plugin).await;
    let old = encryption.seal(KEY, &plain()).unwrap();
    encryption.check().await;
    assert_eq!(plugin.state.encrypted.load(Ordering::Relaxed), 1, "the same key, the same seed");
    plugin.set_key("two");
    assert!(!encryption.is_outdated(KEY, &old));
    encryption.check().await;
    assert!(encryption.is_outdated(KEY, &old));
    assert_eq!(encryption.open(KEY, &old), Ok(Some(plain())));
    let new = encryption.seal(KEY, &plain()).unwrap();
    assert!(has(&new, b"two") && has(&old, b"one") && !encryption.is_outdated(KEY, &new));
    // Kept by another provider before.
    assert!(encryption.is_outdated(KEY, &plain()));
}

#[tokio::test]
async fn what_is_wrong_with_a_plugin_is_told_and_its_seed_writes_for_three_minutes() {
    let plugin = Fake::new();
    let encryption = started(&plugin).await;
    let health = encryption.health().unwrap_err();
    assert!(health.starts_with("kms-provider-0: failed to perform status section"), "{health}");
    assert!(health.contains("kms.sock") && health.contains("No such file"), "{health}");
    let error = encryption.seal(KEY, &plain()).unwrap_err();
    assert!(error.contains("\"fake\" has encrypted no key yet: failed to perform"), "{error}");
    plugin.start();
    encryption.check().await;
    assert_eq!(encryption.health(), Ok(()));
    let kept = encryption.seal(KEY, &plain()).unwrap();

    *plugin.state.healthz.lock() = "the vault is sealed".into();
    encryption.check().await;
    let health = encryption.health().unwrap_err();
    assert!(health.contains("got unexpected healthz status: the vault is sealed"), "{health}");
    plugin.state.hangs.store(true, Ordering::Relaxed);
    let second = Encryption::parse(&config(&plugin.provider())).unwrap();
    let began = Instant::now();
    let error = second.fetch(KEY, &kept).unwrap().await.unwrap_err();
    assert!(error.contains("failed to decrypt DEK") && error.contains("did not answer within 1s"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(20), "bounded");

    plugin.stop().await;
    encryption.check().await;
    encryption.seal(KEY, &plain()).unwrap();
    tokio::time::pause();
    tokio::time::advance(probe::CONFIRMED_FOR + Duration::from_secs(1)).await;
    let error = encryption.seal(KEY, &plain()).unwrap_err();
    assert!(error.contains("has expired, since the plugin has not confirmed it for 3 minutes"), "{error}");
    assert_eq!(encryption.open(KEY, &kept), Ok(Some(plain())), "reads go on");
}

#[tokio::test]
async fn a_new_configuration_waits_for_its_plugin_and_keeps_what_is_known() {
    let (plugin, path) = (Fake::new(), std::path::Path::new("encryption.yaml"));
    let encryption = Arc::new(Encryption::parse(&config("{identity: {}}")).unwrap());
    let text = config(&format!("{}, {{identity: {{}}}}", plugin.provider()));
    let error = encryption.adopt(path, &text).await.unwrap_err();
    assert!(matches!(error, EncryptionError::Plugin(_)), "{error}");
    assert_eq!(encryption.seal(KEY, &plain()).unwrap(), plain(), "the old one is in force");
    assert_eq!(encryption.health(), Ok(()));
    plugin.start();
    encryption.adopt(path, &text).await.unwrap();
    let kept = encryption.seal(KEY, &plain()).unwrap();
    assert!(kept.starts_with(b"k8s:enc:kms:v2:fake:"));
    assert_eq!(encryption.open(KEY, &plain()), Ok(None));
    // The plugin comes behind another provider, with the same settings: its seeds are still in memory.
    let other = format!("{{identity: {{}}}}, {}", plugin.provider());
    encryption.adopt(path, &config(&other)).await.unwrap();
    let error = encryption.open(KEY, &kept);
    assert_eq!(error, Ok(Some(plain())));
    assert!(encryption.is_outdated(KEY, &kept));
    assert_eq!(plugin.state.encrypted.load(Ordering::Relaxed), 1);
}
