//! Snapshots go both ways between etcd and here, and nothing is lost on the way.

use std::path::Path;

use carrack_store::snapshot::{self, RestoreError};
use carrack_store::{Options, Range, Store, Txn};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::servers;

async fn ctl(args: &[&str]) -> String {
    let output = Command::new("etcdctl").env("ETCDCTL_API", "3").args(args).output().await.expect("etcdctl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

async fn save(store: &Store, path: &Path) {
    let mut taken = store.snapshot().await.expect("begins");
    let mut file = tokio::fs::File::create(path).await.expect("a file");
    let mut bytes = 0;
    while let Some(piece) = taken.next().await {
        let piece = piece.expect("a piece");
        bytes += piece.len() as u64;
        file.write_all(&piece).await.expect("written");
    }
    file.sync_all().await.expect("synced");
    assert_eq!(bytes, taken.bytes, "as announced");
}

/// Some history: enough keys for several levels of pages, a value larger than a page, deletions, a compaction.
async fn fill(store: &Store) {
    for n in 0..3000 {
        store.txn(Txn::put(format!("key/{:05}", n % 1000), format!("value {n}"))).await.expect("put");
    }
    store.txn(Txn::put("large", vec![7; 300_000])).await.expect("put");
    store.txn(Txn::delete("key/00007")).await.expect("delete");
    store.lease_grant_as(-5, 3600).await.expect("grant");
    store.lease_grant_as(77, 3600).await.expect("grant");
    store.compact(1500).await.expect("compact");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_restores_every_key_and_revision() {
    let ours = servers::ours().await;
    fill(&ours.store).await;
    let (file, dir) = (ours.dir.path().join("snapshot"), ours.dir.path().join("restored"));
    save(&ours.store, &file).await;
    let options = Options::new(&dir);
    let found = snapshot::restore(&file, &options).expect("restores");
    assert_eq!((found.revision, found.compacted, found.leases), (ours.store.revision(), 1500, 2));
    assert!(matches!(snapshot::restore(&file, &options), Err(RestoreError::NotEmpty(_))));
    let restored = Store::open(options).await.expect("opens");
    assert_ne!(restored.ids(), ours.store.ids(), "another cluster");
    assert_eq!(restored.leases(), [-5, 77]);
    for revision in [None, Some(1500), Some(2222)] {
        let read = Range { revision, ..Range::prefix("") };
        let (was, is) = (ours.store.range(read.clone()).await, restored.range(read).await);
        assert_eq!(was.expect("read").kvs, is.expect("read").kvs, "at {revision:?}");
    }
    assert!(restored.range(Range::key("large").at(1499)).await.is_err(), "compacted");
    let (was, is) = (ours.store.hash_kv(0).await, restored.hash_kv(0).await);
    assert_eq!(was.expect("hash"), is.expect("hash"));
    let next = restored.txn(Txn::put("large", "new")).await.expect("put");
    assert_eq!(next.revision, found.revision + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_is_refused() {
    let ours = servers::ours().await;
    fill(&ours.store).await;
    let file = ours.dir.path().join("snapshot");
    save(&ours.store, &file).await;
    let whole = std::fs::read(&file).expect("read");
    assert!(snapshot::status(&file).is_ok());
    for (place, what) in [(20_000, "a flipped bit"), (whole.len() - 1, "the checksum")] {
        let mut damaged = whole.clone();
        damaged[place] ^= 1;
        std::fs::write(&file, damaged).expect("write");
        assert!(matches!(snapshot::status(&file), Err(RestoreError::Checksum { .. })), "{what}");
    }
    std::fs::write(&file, &whole[..whole.len() - 4096]).expect("write");
    assert!(matches!(snapshot::status(&file), Err(RestoreError::Checksum { .. })), "cut");
}

/// Any damage is noticed by the checksum. A file with a right one, made by somebody who wants to do harm, may be taken for
/// what it says, but reading it ends, and ends well.
#[test]
fn a_snapshot_with_any_damage_is_refused() {
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let ours = runtime.block_on(servers::ours());
    let file = ours.dir.path().join("snapshot");
    runtime.block_on(async {
        for n in 0..300 {
            let put = Txn::put(format!("key/{:03}", n % 100), "x".repeat(n));
            ours.store.txn(put).await.expect("put");
        }
        save(&ours.store, &file).await;
    });
    let whole = std::fs::read(&file).expect("read");
    let body = whole.len() - 32;
    let damages = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..6);
    let config = ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    let run = proptest::test_runner::TestRunner::new(config).run(&damages, |damages| {
        let mut bytes = whole[..body].to_vec();
        for (at, value, kind) in damages {
            // Half of them where the structure is: in the first pages, in the heads of pages.
            let at = at.index(bytes.len().max(1));
            let at = if value % 2 == 0 { at } else { (at % 64 + at / 64 * 4096) % bytes.len().max(1) };
            match kind {
                0 if at < bytes.len() => bytes[at] ^= value.max(1),
                1 => bytes.truncate(at.max(1)),
                2 => bytes.extend_from_within(at..bytes.len().min(at + 5000)),
                _ => bytes.insert(at, value),
            }
        }
        let sum = Sha256::digest(&bytes);
        prop_assume!(bytes != whole[..body]);
        std::fs::write(&file, [bytes.as_slice(), &whole[body..]].concat()).expect("write");
        prop_assert!(snapshot::status(&file).is_err());
        std::fs::write(&file, [bytes.as_slice(), sum.as_slice()].concat()).expect("write");
        let began = std::time::Instant::now();
        if let Err(error) = snapshot::status(&file) {
            prop_assert!(error.to_string().len() > 10, "{}", error);
        }
        prop_assert!(began.elapsed() < std::time::Duration::from_secs(10));
        Ok(())
    });
    run.expect("no damage does harm");
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_restores_our_snapshots() {
    let ours = servers::ours().await;
    fill(&ours.store).await;
    let dir = tempfile::tempdir().expect("a directory");
    let (file, data) = (dir.path().join("snapshot"), dir.path().join("etcd"));
    ctl(&["--endpoints", &ours.endpoint, "snapshot", "save", &file.to_string_lossy()]).await;
    let status = ctl(&["snapshot", "status", &file.to_string_lossy()]).await;
    assert!(status.contains(&format!(", {}, ", ours.store.revision())), "{status}");
    ctl(&["snapshot", "restore", &file.to_string_lossy(), "--data-dir", &data.to_string_lossy()]).await;
    let theirs = servers::start(dir, "default").await;
    let read =
        async |endpoint: &str| ctl(&["--endpoints", endpoint, "get", "", "--prefix", "-w", "fields"]).await;
    let keys = |text: String| -> Vec<String> {
        let names = ["\"Key\"", "\"ModRevision\"", "\"Version\"", "\"CreateRevision\"", "\"Value\""];
        text.lines()
            .filter(|line| names.iter().any(|name| line.starts_with(name)))
            .map(str::to_owned)
            .collect()
    };
    let (was, is) = (keys(read(&ours.endpoint).await), keys(read(&theirs.endpoint).await));
    assert!(was.len() > 4000);
    assert!(was == is, "the same keys at the same revisions");
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_of_etcd_are_restored_here() {
    let theirs = servers::theirs().await;
    let endpoint = theirs.endpoint.as_str();
    for n in 0..30 {
        ctl(&["--endpoints", endpoint, "put", &format!("key/{}", n % 20), &format!("{n}")]).await;
    }
    ctl(&["--endpoints", endpoint, "del", "key/3"]).await;
    ctl(&["--endpoints", endpoint, "compaction", "12", "--physical"]).await;
    let hash = ctl(&["--endpoints", endpoint, "endpoint", "hashkv"]).await;
    let file = theirs.dir.path().join("snapshot");
    ctl(&["--endpoints", endpoint, "snapshot", "save", &file.to_string_lossy()]).await;
    let options = Options::new(theirs.dir.path().join("ours"));
    let found = snapshot::restore(&file, &options).expect("restores");
    assert_eq!((found.revision, found.compacted), (32, 12));
    let store = Store::open(options).await.expect("opens");
    assert_eq!(store.range(Range::prefix("key/")).await.expect("read").count, 19);
    let ours = store.hash_kv(0).await.expect("hash").hash;
    assert!(hash.trim().ends_with(&format!(", {ours}")), "{hash} and {ours}");
}
