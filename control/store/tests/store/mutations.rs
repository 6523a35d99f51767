//! The files of a stopped member with any damage: it serves what was written, all of it, or it does not start and says what to do.

use std::path::Path;
use std::sync::Arc;

use carrack_simulation::disk::SimDisk;
use carrack_store::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::common::*;

const HISTORY: &str = "/store/history.redb";
const IDENTITY: &str = "/store/identity.json";

/// A store with some history, old revisions, deletions, leases and a compaction, that was stopped in order.
async fn stopped() -> (Arc<SimDisk>, i64) {
    let (disk, store) = open_sim().await;
    for n in 0..400 {
        put(&store, &format!("key/{:03}", n % 90), &format!("value {n} {}", "x".repeat(n % 50))).await;
    }
    delete(&store, "key/007").await;
    store.lease_grant_as(5, 3600).await.expect("lease");
    store.txn(Txn::of(vec![put_op("leased", "1", 5, false)])).await.expect("put");
    store.compact(150).await.expect("compact");
    store.checkpoint().await.expect("checkpoint");
    let revision = store.revision();
    store.shutdown().await;
    (disk, revision)
}

/// All that can be read.
async fn contents(store: &Store, revision: i64) -> Vec<Vec<Arc<KeyValue>>> {
    let mut found = Vec::new();
    for at in [150, 151, 222, 300, revision] {
        found.push(range(store, Range::prefix("").at(at)).await.kvs);
    }
    found
}

/// What became of all damages.
#[derive(Debug, Default)]
struct Ends {
    served: usize,
    refused: usize,
}

/// Opens a damaged copy twice: what the first start leaves behind must not mislead the second.
async fn judge(disk: SimDisk, revision: i64, whole: &[Vec<Arc<KeyValue>>], what: &str, ends: &mut Ends) {
    let disk = Arc::new(disk);
    for start in ["first", "second"] {
        match Store::open(sim_options(&disk)).await {
            Ok(store) => {
                assert_eq!(store.revision(), revision, "{what}, {start} start");
                assert!(
                    contents(&store, revision).await == whole,
                    "{what}, {start} start: other data is served"
                );
                assert_eq!(store.leases(), [5], "{what}");
                store.shutdown().await;
                ends.served += 1;
            }
            Err(error) => {
                let text = error.to_string();
                let helps = ["restore a backup", "upgrade first", "belongs to the cluster"];
                assert!(helps.iter().any(|way| text.contains(way)), "{what}, {start} start: {text}");
                ends.refused += 1;
            }
        }
    }
}

#[tokio::test]
async fn a_damaged_history_is_served_as_it_was_or_refused() {
    let (disk, revision) = stopped().await;
    let store = reopen(&disk).await;
    let whole = contents(&store, revision).await;
    store.shutdown().await;
    let bytes = disk.contents(Path::new(HISTORY));
    let mut random = StdRng::seed_from_u64(3);
    // The head of the file, byte for byte; then anywhere, mostly where there is something.
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let head = (0..320).map(|at| (at, 1));
    let single =
        (0..300).map(|_| used[random.random_range(0..used.len())]).map(|at| (at, 1)).collect::<Vec<_>>();
    let spans = (0..60)
        .map(|_| (random.random_range(0..bytes.len()), 1 << random.random_range(1..13)))
        .collect::<Vec<_>>();
    let mut ends = Ends::default();
    for (at, len) in head.chain(single).chain(spans) {
        let damaged = disk.copy();
        for place in (at..(at + len).min(bytes.len())).step_by(3) {
            damaged.flip(Path::new(HISTORY), place);
        }
        judge(damaged, revision, &whole, &format!("{len} bytes at {at}"), &mut ends).await;
    }
    assert!(ends.served > 20 && ends.refused > 300, "{ends:?}");
}

#[tokio::test]
async fn a_cut_history_is_refused() {
    let (disk, revision) = stopped().await;
    let store = reopen(&disk).await;
    let whole = contents(&store, revision).await;
    store.shutdown().await;
    let len = disk.contents(Path::new(HISTORY)).len();
    let mut ends = Ends::default();
    for part in 0..40 {
        let damaged = disk.copy();
        damaged.cut(Path::new(HISTORY), (len * part / 40).saturating_sub(part % 3 * 100));
        judge(damaged, revision, &whole, &format!("cut at {part}/40"), &mut ends).await;
    }
    assert!(ends.refused > 40, "{ends:?}");
}

#[tokio::test]
async fn a_damaged_identity_is_refused() {
    let (disk, revision) = stopped().await;
    let store = reopen(&disk).await;
    let whole = contents(&store, revision).await;
    store.shutdown().await;
    let mut ends = Ends::default();
    for at in 0..disk.contents(Path::new(IDENTITY)).len() {
        let damaged = disk.copy();
        damaged.flip(Path::new(IDENTITY), at);
        judge(damaged, revision, &whole, &format!("identity, byte {at}"), &mut ends).await;
    }
    assert!(ends.refused > 100, "{ends:?}");
}
