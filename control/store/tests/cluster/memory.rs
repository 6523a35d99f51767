//! Members that are wired up within the process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use carrack_store::*;
use tempfile::TempDir;

use crate::common::*;

struct Cluster {
    dir: TempDir,
    wires: Arc<Wires>,
}

impl Cluster {
    fn new() -> Cluster {
        Cluster { dir: tempfile::tempdir().expect("dir"), wires: Arc::default() }
    }

    fn options(&self, members: Vec<InitialMember>, n: usize) -> Options {
        let mut options = small(Options::new(self.dir.path().join(format!("m{n}"))));
        options.name = format!("m{n}");
        let url = format!("http://m{n}:2380");
        options.initial_cluster = members;
        options.transport = Some(Arc::new(End { wires: Arc::clone(&self.wires), url }));
        options
    }

    async fn open(&self, options: Options) -> Store {
        let url = format!("http://{}:2380", options.name);
        let store = Store::open(options).await.expect("opens");
        self.wires.plug(&url, &store);
        store
    }

    async fn start(&self, count: usize) -> Vec<Store> {
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
    assert!(start.elapsed() < Duration::from_millis(1500), "took {:?}", start.elapsed());
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
