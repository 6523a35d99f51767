//! A member whose data was changed behind its back is found, and takes no part until it is replaced.

use std::time::Duration;

use carrack_store::*;
use redb::{ReadableDatabase, ReadableTable};

use crate::common::*;
use crate::memory::Cluster;

const HISTORY: redb::TableDefinition<'static, (i64, u32), &[u8]> = redb::TableDefinition::new("history");

/// Changes the last byte of the newest value in a stopped member's history, as whoever has the file can.
fn damage(options: &Options) {
    let database = redb::Database::open(options.dir.join("history.redb")).expect("opens");
    let (key, mut record) = {
        let read = database.begin_read().expect("read");
        let table = read.open_table(HISTORY).expect("table");
        let (key, value) = table.last().expect("read").expect("a record");
        (key.value(), value.value().to_vec())
    };
    *record.last_mut().expect("a value") ^= 1;
    let write = database.begin_write().expect("write");
    write.open_table(HISTORY).expect("table").insert(key, record.as_slice()).expect("inserted");
    write.commit().expect("committed");
}

async fn alarms(store: &Store, wanted: &[Alarm]) {
    eventually("the alarms", || store.alarms().iter().eq(wanted).then_some(())).await;
}

/// Three members, of which one that does not lead is stopped, damaged and started again with `change`d options.
async fn with_a_damaged_one(cluster: &Cluster, change: fn(&mut Options)) -> (Vec<Store>, usize, Alarm) {
    let mut stores = Vec::new();
    for n in 1..=3 {
        let mut options = cluster.options(initial(3), n);
        change(&mut options);
        stores.push(cluster.open(options).await);
    }
    let first = leader(&stores.iter().collect::<Vec<_>>()).await;
    for n in 0..20 {
        put(&stores[first], &format!("k{}", n % 7), &format!("value {n}")).await;
    }
    let bad = (first + 1) % 3;
    ready(&stores[bad]).await;
    stores[bad].shutdown().await;
    let mut options = cluster.options(initial(3), bad + 1);
    change(&mut options);
    damage(&options);
    stores[bad] = cluster.open(options).await;
    let alarm = Alarm { member: stores[bad].member_id(), kind: AlarmKind::Corrupt };
    (stores, bad, alarm)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_differs_at_its_start_is_found_and_can_be_replaced() {
    let cluster = Cluster::new();
    let (mut stores, bad, alarm) =
        with_a_damaged_one(&cluster, |options| options.initial_corrupt_check = true).await;
    for store in &stores {
        alarms(store, &[alarm]).await;
        let refused = store.txn(Txn::put("k", "v")).await;
        assert_eq!(refused, Err(WriteError::Corrupt));
        assert_eq!(store.lease_grant(5).await.err(), Some(WriteError::Corrupt));
    }
    assert_eq!(
        stores[bad].range(Range::key("k1")).await,
        Err(ReadError::Corrupt),
        "it would say what is wrong"
    );
    let good = &stores[(bad + 1) % 3];
    assert_eq!(get(good, "k1").await.as_deref(), Some("value 15"), "the others go on answering reads");
    let out = stores.remove(bad);
    cluster.wires.unplug(&format!("http://m{}:2380", bad + 1));
    out.shutdown().await;
    stores[0].member_remove(alarm.member).await.expect("removed");
    stores[0].alarm(alarm, false).await.expect("disarmed");
    put(&stores[0], "k", "v").await;
    assert_eq!(get(&stores[1], "k").await.as_deref(), Some("v"));
    for store in &stores {
        store.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_finds_a_member_that_differs_later() {
    let cluster = Cluster::new();
    let every = |options: &mut Options| options.corrupt_check_interval = Some(Duration::from_millis(300));
    let (stores, _, alarm) = with_a_damaged_one(&cluster, every).await;
    // None stops before all have heard it: the last one could hear of nothing any more.
    for store in &stores {
        alarms(store, &[alarm]).await;
    }
    for store in &stores {
        store.shutdown().await;
    }
}

/// Compactions, leases and a change of the leader in between, and nobody is suspected.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_suspected_without_a_reason() {
    let cluster = Cluster::new();
    let mut stores = Vec::new();
    for n in 1..=3 {
        let mut options = cluster.options(initial(3), n);
        options.initial_corrupt_check = true;
        options.corrupt_check_interval = Some(Duration::from_millis(200));
        stores.push(cluster.open(options).await);
    }
    let first = leader(&stores.iter().collect::<Vec<_>>()).await;
    let lease = stores[first].lease_grant(600).await.expect("lease");
    for n in 0..150 {
        let store = &stores[n % 3];
        put(store, &format!("k{}", n % 11), &n.to_string()).await;
        if n % 20 == 7 {
            // Two tries at the same may meet; what counts is that there are compactions.
            let _ = store.compact(store.revision() - 3).await;
        }
        if n == 75 {
            // On a busy machine it may have moved already.
            let _ = stores[first].move_leader(stores[(first + 1) % 3].member_id()).await;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while let Err(error) = stores[0].lease_revoke(lease.id).await {
        if error == WriteError::LeaseNotFound(lease.id) {
            break;
        }
        assert_eq!(error, WriteError::Unknown);
    }
    for store in &stores {
        ready(store).await;
        assert!(store.compacted_revision() > 0);
        assert!(store.alarms().is_empty(), "{:?}", store.alarms());
    }
    for store in &stores {
        store.shutdown().await;
    }
}
