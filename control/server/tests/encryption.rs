//! Secrets at rest: nothing on disk shows them, every way to read them opens them, keys can be changed.
// Helpers outside the test functions: one that fails ends its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::sync::Arc;

use carrack_server::StoreObjects;
use carrack_server::authn::Objects;
use carrack_server::encryption::Encryption;
use carrack_store::{Range, Txn};
use common::Cluster;
use serde_json::{Value, json};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const KEY: &str = "/registry/secrets/default/s";
/// What must not be found on disk, as the object has it.
const MARK: &str = "bm90LW9uLXRoZS1kaXNr";

fn config(keys: &[(&str, char)]) -> String {
    use base64::Engine;
    let secret = |c: &char| base64::engine::general_purpose::STANDARD.encode([*c as u8; 32]);
    let keys: String = keys.iter().map(|(n, c)| format!("{{name: {n}, secret: {}}},", secret(c))).collect();
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
         providers: [{{aesgcm: {{keys: [{keys}]}}}}, {{identity: {{}}}}]\n"
    )
}

async fn cluster(encryption: &Arc<Encryption>) -> Cluster {
    let seal = encryption.clone();
    let cluster = Cluster::with(|_| {}, move |store| store.sealed(seal)).await;
    cluster.api.start().await.unwrap();
    cluster
}

fn secret(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": {"a": "b"}}, "data": {"p": MARK}})
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

async fn kept(cluster: &Cluster) -> bytes::Bytes {
    cluster.store.range(Range::key(KEY)).await.unwrap().kvs[0].value.clone()
}

#[tokio::test]
async fn every_way_to_read_opens_and_the_disk_shows_nothing() {
    let encryption = Arc::new(Encryption::parse(&config(&[("k1", 'a')])).unwrap());
    let cluster = cluster(&encryption).await;
    let client = cluster.client();
    let mut before = client.watch(&format!("{SECRETS}?watch=1")).await;
    client.post(SECRETS, &secret("s")).await.expect(201);
    let mut map = common::map("plain", "on-the-disk-in-plain");
    map["metadata"]["namespace"] = json!("default");
    client.post(common::MAPS, &map).await.expect(201);
    assert!(kept(&cluster).await.starts_with(b"k8s:enc:aesgcm:v1:k1:"));

    let path = format!("{SECRETS}/s");
    assert_eq!(client.get(&path).await.expect(200)["data"]["p"], MARK);
    for query in ["", "?labelSelector=a%3Db", "?resourceVersion=0", "?limit=1"] {
        let list = client.get(&format!("{SECRETS}{query}")).await.expect(200);
        assert_eq!(list["items"][0]["data"]["p"], MARK, "{query}");
    }
    let table = client.with("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    assert_eq!(table.get(SECRETS).await.expect(200)["rows"][0]["cells"][2], 1);
    assert_eq!(before.next().await.unwrap()["object"]["data"]["p"], MARK);
    let mut after = client.watch(&format!("{SECRETS}?watch=1")).await;
    assert_eq!(after.next().await.unwrap()["object"]["data"]["p"], MARK);

    let patched =
        client.patch("merge", &path, &json!({"metadata": {"labels": {"a": "c"}}})).await.expect(200);
    assert_eq!(patched["data"]["p"], MARK);
    let mut selective = client.watch(&format!("{SECRETS}?watch=1&labelSelector=a%3Dc")).await;
    assert_eq!(selective.line().await, "ADDED s");
    let objects = StoreObjects::new(cluster.store.sealed(encryption.clone()));
    assert_eq!(objects.get("", "secrets", "default", "s").await.unwrap().unwrap()["data"]["p"], MARK);
    client.patch("merge", &path, &json!({"metadata": {"labels": {"a": "d"}}})).await.expect(200);
    // The event shows the object that left the selection.
    assert_eq!(selective.line().await, "DELETED s");
    client.delete(&path).await.expect(200);
    for _ in 0..3 {
        before.next().await.unwrap();
    }
    assert!(before.is_silent().await);

    cluster.store.checkpoint().await.unwrap();
    assert!(on_disk(cluster.dir.path(), b"on-the-disk-in-plain"), "the search would find what is there");
    assert!(!on_disk(cluster.dir.path(), MARK.as_bytes()));
}

#[tokio::test]
async fn old_data_and_old_keys_are_read_until_they_are_written_anew() {
    let encryption = Arc::new(Encryption::parse(&config(&[("k1", 'a')])).unwrap());
    let cluster = cluster(&encryption).await;
    let client = cluster.client();
    // As a server without encryption left it.
    let unencrypted = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {"p": MARK},
        "metadata": {"name": "s", "namespace": "default", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
    });
    cluster.store.txn(Txn::put(KEY, unencrypted.to_string())).await.unwrap();
    let path = format!("{SECRETS}/s");
    let rewrite = async || {
        let read = client.get(&path).await.expect(200);
        let written = client.put(&path, &read).await.expect(200);
        (read["metadata"]["resourceVersion"].clone(), written["metadata"]["resourceVersion"].clone())
    };
    rewrite().await;
    assert!(kept(&cluster).await.starts_with(b"k8s:enc:aesgcm:v1:k1:"));
    encryption.replace(&config(&[("k2", 'b'), ("k1", 'a')])).unwrap();
    let (old, new) = rewrite().await;
    assert_ne!(old, new, "a write that changes nothing encrypts anew");
    assert!(kept(&cluster).await.starts_with(b"k8s:enc:aesgcm:v1:k2:"));
    let (old, new) = rewrite().await;
    assert_eq!(old, new, "once is enough");
    encryption.replace(&config(&[("k2", 'b')])).unwrap();
    assert_eq!(client.get(&path).await.expect(200)["data"]["p"], MARK);
}

#[tokio::test]
async fn what_cannot_be_read_is_an_error_of_its_own_place() {
    let encryption = Arc::new(Encryption::parse(&config(&[("k1", 'a')])).unwrap());
    let cluster = cluster(&encryption).await;
    let client = cluster.client();
    client.post(SECRETS, &secret("s")).await.expect(201);
    client.post("/api/v1/namespaces/kube-public/secrets", &secret("other")).await.expect(201);
    let mut lost = kept(&cluster).await.to_vec();
    *lost.last_mut().unwrap() ^= 1;
    cluster.store.txn(Txn::put(KEY, lost)).await.unwrap();
    let says = "Internal error occurred: unable to transform key \"/registry/secrets/default/s\": \
                cipher: message authentication failed, identity transformer tried to read encrypted data";
    for path in [format!("{SECRETS}/s"), SECRETS.to_owned(), "/api/v1/secrets".to_owned()] {
        let answer = client.get(&path).await.expect(500);
        assert_eq!(answer["message"], says, "{path}");
    }
    client.get("/api/v1/namespaces/kube-public/secrets").await.expect(200);
    client.get(common::MAPS).await.expect(200);
    let mut watch = client.watch(&format!("{SECRETS}?watch=1&resourceVersion=1")).await;
    assert_eq!(watch.next().await.unwrap()["type"], "ADDED");
    let error = watch.next().await.unwrap();
    assert_eq!((&error["type"], &error["object"]["code"]), (&json!("ERROR"), &json!(500)));
    assert!(watch.next().await.is_none());
}
