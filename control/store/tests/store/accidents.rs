//! Power loss, full disks, disks that fail: nothing acknowledged is lost, nothing panics, the rest is said clearly.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use carrack_store::*;

use crate::common::*;
use carrack_simulation::disk::SimDisk;

/// What writers were told: key to the last value that was acknowledged.
type Told = Arc<Mutex<BTreeMap<String, u64>>>;

/// Writes ever larger numbers to its keys until the store fails.
async fn writer(store: Store, id: usize, told: Told) {
    for n in 1u64.. {
        let key = format!("w/{id}/{}", n % 5);
        // The size varies, so that frames begin and end everywhere.
        let value = format!("{n} {}", "x".repeat((n as usize * 37) % 2000));
        match store.txn(Txn::put(key.clone(), value)).await {
            Ok(_) => drop(told.lock().expect("not poisoned").insert(key, n)),
            Err(_) => return,
        }
    }
}

/// A store may fail, but nothing may hang.
async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(30), work).await {
        Ok(done) => done,
        Err(_) => panic!("waited too long for {what}"),
    }
}

fn number(kv: &KeyValue) -> u64 {
    let text = String::from_utf8_lossy(&kv.value);
    text.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn power_can_go_at_any_moment_again_and_again() {
    for seed in 1..=6u64 {
        let mut disk = Arc::new(SimDisk::new(seed, u64::MAX));
        let told: Told = Told::default();
        let mut compacted = 0;
        for round in 0..12 {
            // The power may go while the store opens, too.
            disk.die_after(seed * 31 % 17 + round * round * 13);
            if let Ok(store) = within("opening", Store::open(sim_options(&disk))).await {
                let writers = (0..4).map(|id| tokio::spawn(writer(store.clone(), id, Arc::clone(&told))));
                let writers: Vec<_> = writers.collect();
                let revision = store.revision();
                if round % 4 == 3 && revision > compacted {
                    let done = within("compacting", store.compact(revision)).await;
                    compacted = if done.is_ok() { revision } else { compacted };
                }
                let all = async {
                    for writer in writers {
                        writer.await.expect("writer");
                    }
                };
                within("the writers' end", all).await;
                assert!(disk.is_dead(), "writers end only with the power");
            }
            disk = Arc::new(disk.after_power_loss());
            let store = within("opening again", reopen(&disk)).await;
            let found: BTreeMap<_, _> = range(&store, Range::prefix("w/"))
                .await
                .kvs
                .iter()
                .map(|kv| (kv.key.clone(), number(kv)))
                .collect();
            for (key, told) in told.lock().expect("not poisoned").iter() {
                let found = found.get(key.as_bytes()).copied().unwrap_or_default();
                assert!(
                    found >= *told,
                    "seed {seed}, round {round}: {key} is {found}, {told} was acknowledged"
                );
            }
            assert!(store.compacted_revision() >= compacted);
            within("the shutdown", store.shutdown()).await;
        }
        assert!(!told.lock().expect("not poisoned").is_empty(), "something was acknowledged");
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_reads_go_on_and_space_heals() {
    let (disk, store) = open_sim().await;
    put(&store, "before", "1").await;
    // What is taken in advance may still be used; then it is over.
    disk.set_capacity(disk.used());
    let mut written = 0;
    let error = loop {
        match store.txn(Txn::put(format!("k{}", written % 7), vec![b'x'; 10_000])).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 1000, "the disk is never full");
    };
    assert_eq!(error, WriteError::NoSpace(Shortage::Disk));
    assert_eq!(store.status().shortage, Some(Shortage::Disk));
    assert_eq!(store.status().failed, None);
    assert_eq!(store.txn(Txn::put("k", "")).await, Err(WriteError::NoSpace(Shortage::Disk)), "still");
    assert_eq!(range(&store, Range::key("before")).await.count, 1);
    let old = range(&store, Range::key("before").at(2)).await;
    assert_eq!(old.kvs[0].value, "1");

    disk.set_capacity(u64::MAX);
    // Space is looked for at most every tenth of a second.
    tokio::time::sleep(Duration::from_millis(150)).await;
    put(&store, "after", "2").await;
    assert_eq!(store.status().shortage, None);
    for n in 0..300 {
        put(&store, &format!("more{n}"), &"y".repeat(10_000)).await;
    }
    store.shutdown().await;
    let store = reopen(&disk).await;
    assert_eq!(range(&store, Range::prefix("more")).await.count, 300);
    assert_eq!(range(&store, Range::key("after")).await.count, 1);
}

#[tokio::test]
async fn the_alarm_of_a_full_disk_ends_without_anybody_writing() {
    let (disk, store) = open_sim().await;
    disk.set_capacity(disk.used());
    for n in 0..1000 {
        if store.txn(Txn::put(format!("k{}", n % 7), vec![b'x'; 10_000])).await.is_err() {
            break;
        }
    }
    let own = Alarm { member: store.member_id(), kind: AlarmKind::NoSpace };
    assert!(store.alarms().contains(&own));
    disk.set_capacity(u64::MAX);
    let ended = async {
        while store.alarms().contains(&own) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ended).await.expect("nobody looks for space");
    put(&store, "after", "").await;
}

#[tokio::test]
async fn a_write_that_finds_no_space_after_all_waits_and_the_others_are_refused() {
    let (disk, store) = open_sim().await;
    put(&store, "k", "1").await;
    disk.set_no_copies(true);
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.txn(Txn::put("k", "2")).await }
    });
    let short = async {
        while store.status().shortage != Some(Shortage::Disk) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), short).await.expect("says so");
    assert_eq!(store.txn(Txn::put("k", "3")).await, Err(WriteError::NoSpace(Shortage::Disk)));
    assert_eq!(range(&store, Range::key("k")).await.kvs[0].value, "1");
    assert!(!waiting.is_finished());
    disk.set_no_copies(false);
    assert_eq!(waiting.await.expect("task").expect("done after all").revision, 3);
    put(&store, "k", "4").await;
    assert_eq!(store.status().shortage, None);
}

#[tokio::test]
async fn a_store_that_waits_for_space_can_be_shut_down() {
    let (disk, store) = open_sim().await;
    disk.set_no_copies(true);
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.txn(Txn::put("k", "1")).await }
    });
    while store.status().shortage.is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::timeout(Duration::from_secs(30), store.shutdown()).await.expect("stops");
    let error = waiting.await.expect("task");
    assert!(matches!(error, Err(WriteError::Failed(_) | WriteError::Unknown)), "{error:?}");
    disk.set_no_copies(false);
    assert_eq!(reopen(&disk).await.revision(), 1);
}

#[tokio::test]
async fn a_store_on_a_full_disk_opens_for_reading() {
    let (disk, store) = open_sim().await;
    put(&store, "k", "1").await;
    store.shutdown().await;
    disk.set_capacity(disk.used());
    let store = reopen(&disk).await;
    assert_eq!(range(&store, Range::key("k")).await.kvs[0].value, "1");
}

#[tokio::test]
async fn a_failed_sync_is_fatal_and_acknowledges_nothing() {
    let (disk, store) = open_sim().await;
    put(&store, "k", "1").await;
    let told = tokio::spawn({
        let store = store.clone();
        async move { store.failed().await }
    });
    disk.fail_syncs();
    let error = store.txn(Txn::put("k", "2")).await;
    assert!(matches!(&error, Err(WriteError::Failed(why)) if why.contains("does not answer")), "{error:?}");
    // Whether the data is on the disk cannot be known after a failed sync, so it is not tried again.
    assert!(matches!(store.txn(Txn::put("k", "3")).await, Err(WriteError::Failed(_))));
    assert!(matches!(store.range(Range::key("k")).await, Err(ReadError::Failed(_))));
    let stale = store.range(Range { serializable: true, ..Range::key("k") }).await.expect("still in memory");
    assert_eq!(stale.kvs[0].value, "1");
    let why = within("the news", told).await.expect("task");
    assert_eq!(store.status().failed, Some(why));
    store.shutdown().await;
}

#[tokio::test]
async fn a_damaged_log_is_refused() {
    let (disk, store) = open_sim().await;
    for n in 0..10 {
        put(&store, &format!("k{n}"), "value").await;
    }
    // Without the checkpoint of a shutdown the log is needed.
    let disk = Arc::new(disk.after_power_loss());
    let segment = Path::new("/store/log/0000000000000001.seg");
    disk.flip(segment, 512 * 6 + 60);
    let error = Store::open(sim_options(&disk)).await.err().expect("refused");
    assert!(matches!(&error, OpenError::Corrupt { path, .. } if path == segment), "{error}");
    disk.flip(segment, 512 * 6 + 60);
    assert_eq!(
        range(&reopen(&disk).await, Range::prefix("k")).await.count,
        10,
        "nothing was changed by refusing"
    );
}

const FULL_DIR: &str = "CARRACK_STORE_TEST_FULL_DIR";

/// Fills a small tmpfs that only this test's child process sees, and makes room again.
#[test]
#[ignore = "needs root: mounts a file system, in a mount namespace of its own"]
fn a_real_full_file_system_heals_too() {
    let dir = tempfile::tempdir().expect("dir");
    let script = format!("mount -t tmpfs -o size=12m none \"${FULL_DIR}\" && exec \"$0\" \"$@\"");
    let status = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .arg(std::env::current_exe().expect("own path"))
        .args(["--exact", "accidents::in_a_small_file_system", "--ignored", "--nocapture"])
        .env(FULL_DIR, dir.path())
        .status();
    assert!(status.expect("unshare runs").success());
}

/// Not a test of its own: what [`a_real_full_file_system_heals_too`] runs where it mounted.
#[tokio::test]
#[ignore = "only for a_real_full_file_system_heals_too"]
async fn in_a_small_file_system() {
    let Some(dir) = std::env::var_os(FULL_DIR) else { return };
    let dir = Path::new(&dir);
    let store = Store::open(small(Options::new(dir.join("store")))).await.expect("opens");
    let ballast = dir.join("ballast");
    std::fs::write(&ballast, vec![0; 4 << 20]).expect("ballast");
    let mut written = 0;
    let error = loop {
        match store.txn(Txn::put(format!("k{written:05}"), vec![b'x'; 50_000])).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, WriteError::NoSpace(Shortage::Disk), "after {written}");
    assert_eq!(store.status().failed, None);
    let read = range(&store, Range::prefix("k").at(store.revision() - 1)).await;
    assert_eq!(read.count, written - 1, "reads go on, old revisions too");
    std::fs::remove_file(&ballast).expect("room");
    tokio::time::sleep(Duration::from_millis(150)).await;
    put(&store, "after", "").await;
    store.shutdown().await;
    let store = Store::open(small(Options::new(dir.join("store")))).await.expect("opens");
    assert_eq!(range(&store, Range::prefix("")).await.count, written + 1);
    store.shutdown().await;
}
