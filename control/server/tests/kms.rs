//! Secrets encrypted by a KMS plugin, as clients see it: nothing on disk, another server, changes of the key, and a plugin
//! that is away.
// Helpers outside the test functions: one that fails ends its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "../src/encryption/kms/fake.rs"]
mod fake;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use carrack_server::encryption::Encryption;
use carrack_store::{Options, Range, Store, Watch};
use common::Cluster;
use fake::Fake;
use serde_json::{Value, json};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const KEY: &str = "/registry/secrets/default/s";
/// What must not be found on disk, as the object has it.
const MARK: &str = "bm90LW9uLXRoZS1kaXNr";

fn encryption(plugin: &Fake) -> Arc<Encryption> {
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
         providers: [{}]\n",
        plugin.provider()
    );
    Arc::new(Encryption::parse(&text).unwrap())
}

/// A server as the binary puts it together.
async fn cluster(encryption: &Arc<Encryption>) -> Cluster {
    encryption.start().await;
    let (seal, asked) = (encryption.clone(), encryption.clone());
    let cluster = Cluster::with(|_| {}, move |store| store.sealed(seal)).await;
    cluster.api.ask("kms-providers", move || asked.health());
    cluster.api.start().await.unwrap();
    cluster
}

fn secret(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {"p": MARK}})
}

/// Whether a file below `dir` has the bytes.
fn on_disk(dir: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).any(|path| {
        if path.is_dir() {
            return on_disk(&path, bytes);
        }
        std::fs::read(&path).unwrap().windows(bytes.len()).any(|w| w == bytes)
    })
}

#[tokio::test]
async fn nothing_on_disk_shows_secrets_or_seeds_and_another_server_reads_them() {
    let plugin = Fake::new();
    plugin.start();
    let encryption = encryption(&plugin);
    let cluster = cluster(&encryption).await;
    let client = cluster.client();
    client.post(SECRETS, &secret("s")).await.expect(201);
    client.post(common::MAPS, &common::map("plain", "on-the-disk-in-plain")).await.expect(201);
    let kept = cluster.store.range(Range::key(KEY)).await.unwrap().kvs[0].value.clone();
    assert!(kept.starts_with(b"k8s:enc:kms:v2:fake:"));
    assert_eq!(client.get(&format!("{SECRETS}/s")).await.expect(200)["data"]["p"], MARK);
    cluster.store.checkpoint().await.unwrap();
    assert!(on_disk(cluster.dir.path(), b"on-the-disk-in-plain"), "the search would find what is there");
    assert!(!on_disk(cluster.dir.path(), MARK.as_bytes()));
    for seed in plugin.state.seeds.lock().iter() {
        assert!(!on_disk(cluster.dir.path(), seed), "the seed is kept encrypted alone");
    }

    // What another server, or this one after a start, does: its reads and watches have the seed decrypted, once.
    let store = another_start(&cluster, &plugin).await;
    let mut watch = store.watch(Watch::prefix("/registry/secrets/default/").since(1)).unwrap();
    let reads = (0..5).map(|_| store.range(Range::key(KEY)));
    let (event, reads) = tokio::join!(watch.next(), futures::future::join_all(reads));
    let shows = |value: &[u8]| value.windows(MARK.len()).any(|w| w == MARK.as_bytes());
    assert!(shows(&event.unwrap().unwrap().events[0].kv.value));
    assert!(reads.iter().all(|read| shows(&read.as_ref().unwrap().kvs[0].value)));
    assert_eq!(plugin.state.decrypted.load(Ordering::Relaxed), 1, "one question for all");
}

/// The cluster's store after a restart, as a server sees it that knows no seed yet.
async fn another_start(cluster: &Cluster, plugin: &Fake) -> Store {
    let fresh = encryption(plugin);
    fresh.start().await;
    cluster.store.shutdown().await;
    Store::open(Options::new(cluster.dir.path().join("store"))).await.unwrap().sealed(fresh)
}

#[tokio::test]
async fn a_watch_that_waited_for_a_seed_and_was_given_up_loses_nothing() {
    let plugin = Fake::new();
    plugin.start();
    let encryption = encryption(&plugin);
    let cluster = cluster(&encryption).await;
    cluster.client().post(SECRETS, &secret("s")).await.expect(201);
    let store = another_start(&cluster, &plugin).await;
    let mut watch = store.watch(Watch::prefix("/registry/secrets/default/").since(1)).unwrap();
    plugin.state.hangs.store(true, Ordering::Relaxed);
    let given_up = tokio::time::timeout(Duration::from_millis(100), watch.next()).await;
    assert!(given_up.is_err(), "the plugin does not answer: {given_up:?}");
    // Longer than the question takes at most.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    plugin.state.hangs.store(false, Ordering::Relaxed);
    let before = watch.progress();
    let batch = watch.next().await.unwrap().unwrap();
    assert!(before < batch.revision, "not delivered, not looked at");
    assert_eq!(batch.events[0].kv.key, KEY);
    assert!(watch.progress() >= batch.revision);
    store.shutdown().await;
}

#[tokio::test]
async fn a_write_that_changes_nothing_takes_the_new_key() {
    let plugin = Fake::new();
    plugin.start();
    let encryption = encryption(&plugin);
    let cluster = cluster(&encryption).await;
    let client = cluster.client();
    client.post(SECRETS, &secret("s")).await.expect(201);
    let path = format!("{SECRETS}/s");
    let rewrite = async || {
        let read = client.get(&path).await.expect(200);
        let written = client.put(&path, &read).await.expect(200);
        (read["metadata"]["resourceVersion"].clone(), written["metadata"]["resourceVersion"].clone())
    };
    let (old, new) = rewrite().await;
    assert_eq!(old, new);
    plugin.set_key("two");
    encryption.check().await;
    let (old, new) = rewrite().await;
    assert_ne!(old, new, "encrypted anew");
    let (old, new) = rewrite().await;
    assert_eq!(old, new, "once is enough");
    assert_eq!(client.get(&path).await.expect(200)["data"]["p"], MARK);
}

#[tokio::test]
async fn a_plugin_that_is_away_is_told_of_and_stops_nothing_else() {
    let plugin = Fake::new();
    let encryption = encryption(&plugin);
    let cluster = cluster(&encryption).await;
    let client = cluster.client();
    client.post(common::MAPS, &common::map("m", "v")).await.expect(201);
    let refused = client.post(SECRETS, &secret("s")).await.expect(500);
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("KMS plugin \"fake\" has encrypted no key yet"), "{message}");
    for (path, code) in [("/healthz", 500), ("/readyz", 500), ("/livez", 200), ("/livez/kms-providers", 404)]
    {
        assert_eq!(client.get(path).await.code, code, "{path}");
    }
    let told = client.get("/readyz/kms-providers").await;
    assert!(
        told.code == 500 && told.text().contains("KMS Provider fake, error: unix:///"),
        "{}",
        told.text()
    );
    plugin.start();
    encryption.check().await;
    for path in ["/healthz", "/readyz/kms-providers"] {
        assert_eq!(client.get(path).await.code, 200, "{path}");
    }
    client.post(SECRETS, &secret("s")).await.expect(201);
}
