//! Members that are wired up within the process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use carrack_store::*;
use tempfile::TempDir;

use crate::common::*;

pub(crate) struct Cluster {
    dir: TempDir,
    pub(crate) wires: Arc<Wires>,
}

/// Compacts, also if it takes two tries to know that it is done.
async fn compact(store: &Store, revision: Revision) {
    loop {
        match store.compact(revision).await {
            Ok(()) | Err(WriteError::Compacted { .. }) => return,
            Err(WriteError::Unknown) => {}
            Err(error) => panic!("compact: {error}"),
        }
    }
}

impl Cluster {
    pub(crate) fn new() -> Cluster {
        Cluster { dir: tempfile::tempdir().expect("dir"), wires: Arc::default() }
    }

    pub(crate) fn options(&self, members: Vec<InitialMember>, n: usize) -> Options {
        let mut options = small(Options::new(self.dir.path().join(format!("m{n}"))));
        options.name = format!("m{n}");
        let url = format!("http://m{n}:2380");
        options.initial_cluster = members;
        options.request_timeout = Duration::from_secs(2);
        (options.log_keep_entries, options.log_keep_bytes) = (10, 0);
        options.transport = Some(Arc::new(End { wires: Arc::clone(&self.wires), url }));
        options
    }

    pub(crate) async fn open(&self, options: Options) -> Store {
        let url = format!("http://{}:2380", options.name);
        let store = Store::open(options).await.expect("opens");
        self.wires.plug(&url, &store);
        store
    }

    pub(crate) async fn start(&self, count: usize) -> Vec<Store> {
        let mut stores = Vec::new();
        for n in 1..=count {
            stores.push(self.open(self.options(initial(count), n)).await);
        }
        stores
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_agree_and_survive_the_loss_of_the_leader() {
    let cluster = Cluster::new();
    let stores = cluster.start(3).await;
    let first = leader(&stores.iter().collect::<Vec<_>>()).await;
    for (n, store) in stores.iter().enumerate() {
        put(store, &format!("k{n}"), "1").await;
    }
    for store in &stores {
        for n in 0..3 {
            assert_eq!(get(store, &format!("k{n}")).await.as_deref(), Some("1"));
        }
        assert_eq!(store.revision(), 4);
    }
    let rest: Vec<&Store> = (0..3).filter(|n| *n != first).map(|n| &stores[n]).collect();
    cluster.wires.unplug(&format!("http://m{}:2380", first + 1));
    let start = Instant::now();
    let old = stores[first].member_id();
    eventually("a new leader", || {
        rest.iter().all(|store| store.leader().is_some_and(|id| id != old)).then_some(())
    })
    .await;
    assert!(start.elapsed() < Duration::from_secs(10), "took {:?}", start.elapsed());
    put(rest[0], "after", "2").await;
    assert_eq!(get(rest[1], "after").await.as_deref(), Some("2"));
    // The old leader cannot reach anybody: it must not answer.
    assert!(!stores[first].is_leader());
    let stale = stores[first].range(Range::key("after")).await;
    assert!(matches!(stale, Err(ReadError::NotLeader { .. })), "{stale:?}");
    cluster.wires.plug(&format!("http://m{}:2380", first + 1), &stores[first]);
    assert_eq!(get(&stores[first], "after").await.as_deref(), Some("2"));
    for store in &stores {
        store.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_live_through_a_snapshot() {
    let cluster = Cluster::new();
    let stores = cluster.start(3).await;
    let first = leader(&stores.iter().collect::<Vec<_>>()).await;
    let (lagging, writer) = (&stores[(first + 1) % 3], &stores[first]);
    put(writer, "k", "0").await;
    get(lagging, "k").await.expect("there");
    let mut patient = lagging.watch(Watch::prefix("k")).expect("watch");
    let url = format!("http://m{}:2380", (first + 1) % 3 + 1);
    for compacts in [false, true] {
        cluster.wires.unplug(&url);
        let (before, mut late) = (lagging.revision(), lagging.watch(Watch::prefix("k")).expect("watch"));
        for n in 0..300 {
            put(writer, "k", &n.to_string()).await;
        }
        if compacts {
            compact(writer, before + 200).await;
        }
        for store in &stores {
            store.checkpoint().await.expect("checkpoint");
        }
        cluster.wires.plug(&url, lagging);
        ready(writer).await;
        ready(lagging).await;
        assert_eq!(
            (lagging.revision(), lagging.compacted_revision()),
            (writer.revision(), writer.compacted_revision())
        );
        if compacts {
            let told = late.next().await;
            assert!(matches!(told, Some(Err(WatchError::Compacted { .. }))), "{told:?}");
            continue;
        }
        for revision in before + 1..=before + 300 {
            let batch = patient.next().await.expect("goes on").expect("goes on");
            assert_eq!(batch.revision, revision);
            assert_eq!(batch.events[0].kv.value, (revision - before - 1).to_string().into_bytes());
        }
    }
    for store in &stores {
        store.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_live_through_a_change_of_leader_and_any_member_keeps_them_alive() {
    let cluster = Cluster::new();
    let stores = cluster.start(3).await;
    let first = leader(&stores.iter().collect::<Vec<_>>()).await;
    let (old, next) = (&stores[first], &stores[(first + 1) % 3]);
    let short = next.lease_grant(1).await.expect("lease");
    let long = next.lease_grant(600).await.expect("lease");
    for (key, lease) in [("short", &short), ("long", &long)] {
        let op = Op::Put(Put { key: key.into(), value: "v".into(), lease: lease.id, ..Put::default() });
        next.txn(Txn::of(vec![op])).await.expect("put");
    }
    // Kept alive through a follower, and through the change.
    let start = Instant::now();
    let mut moved = false;
    while start.elapsed() < Duration::from_millis(2500) {
        next.lease_keep_alive(short.id).await.expect("kept alive");
        if !moved && start.elapsed() > Duration::from_millis(500) {
            old.move_leader(next.member_id()).await.expect("moved");
            moved = true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(get(old, "short").await.as_deref(), Some("v"));
    let (lease, keys) = old.lease_time_to_live(long.id).await.expect("asked").expect("there");
    // The new leader gave it its full time again.
    assert!(lease.remaining_ttl >= 596, "{lease:?}");
    assert_eq!(keys, ["long"]);
    let gone = Instant::now();
    while get(old, "short").await.is_some() {
        assert!(gone.elapsed() < Duration::from_secs(30), "it never runs out");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(next.lease_keep_alive(short.id).await, Err(WriteError::LeaseNotFound(short.id)));
    for store in &stores {
        store.shutdown().await;
    }
}

/// A snapshot of one part: what happens to its last part happens to all of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_whose_parts_or_answers_are_lost_arrives_all_the_same() {
    let cluster = Cluster::new();
    let stores = cluster.start(3).await;
    let first = leader(&stores.iter().collect::<Vec<_>>()).await;
    let (lagging, writer) = (&stores[(first + 1) % 3], &stores[first]);
    let url = format!("http://m{}:2380", (first + 1) % 3 + 1);
    for losses in [&[Loss::Message][..], &[Loss::Answer], &[Loss::Caller], &[Loss::Message, Loss::Answer]] {
        // Raft keeps entries that are just on their way to somebody: then no snapshot is needed, and it is tried again.
        for attempt in 0.. {
            cluster.wires.unplug(&url);
            for n in 0..300 {
                put(writer, &format!("k{n}"), &format!("{losses:?}")).await;
            }
            for n in 0..10 {
                put(writer, "k", &n.to_string()).await;
                writer.checkpoint().await.expect("checkpoint");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            *cluster.wires.losses.lock() = losses.iter().copied().collect();
            cluster.wires.plug(&url, lagging);
            let began = Instant::now();
            eventually("the snapshot", || (lagging.revision() == writer.revision()).then_some(())).await;
            if cluster.wires.losses.lock().is_empty() {
                // Each loss costs one timeout, which is two seconds here.
                let took = began.elapsed();
                assert!(took < Duration::from_secs(2 * losses.len() as u64 + 10), "{losses:?}: {took:?}");
                break;
            }
            assert!(attempt < 10, "{losses:?}: no snapshot was sent");
        }
        assert_eq!(get(lagging, "k7").await, get(writer, "k7").await);
        let hashes = (lagging.hash_kv(0).await.expect("hash"), writer.hash_kv(0).await.expect("hash"));
        assert_eq!(hashes.0, hashes.1);
    }
    for store in &stores {
        store.shutdown().await;
    }
}
