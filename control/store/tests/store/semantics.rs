//! Revisions, transactions, reads, compaction and leases, as etcd's clients know them.

use std::time::Duration;

use crate::common::*;
use carrack_store::*;

#[tokio::test]
async fn revisions_and_versions_count_as_in_etcd() {
    let (_disk, store) = open_sim().await;
    assert_eq!(store.revision(), 1, "an empty store");
    assert_eq!(put(&store, "a", "1").await.revision, 2);
    assert_eq!(put(&store, "a", "2").await.revision, 3);
    assert_eq!(put(&store, "b", "1").await.revision, 4);
    let a = &range(&store, Range::key("a")).await.kvs[0];
    assert_eq!((a.create_revision, a.mod_revision, a.version, a.value.as_ref()), (2, 3, 2, b"2".as_slice()));

    let gone = delete(&store, "a").await;
    assert_eq!((gone.revision, deleted(&gone)), (5, 1));
    let nothing = delete(&store, "a").await;
    assert_eq!((nothing.revision, deleted(&nothing)), (5, 0), "what changes nothing has no revision");
    assert_eq!(put(&store, "a", "3").await.revision, 6);
    let a = &range(&store, Range::key("a")).await.kvs[0];
    assert_eq!((a.create_revision, a.mod_revision, a.version), (6, 6, 1), "a new life");
}

#[tokio::test]
async fn every_kept_revision_can_be_read_from_memory_and_from_disk() {
    let (_disk, store) = open_sim().await;
    put(&store, "k/a", "1").await; // 2
    put(&store, "k/b", "1").await; // 3
    put(&store, "k/a", "2").await; // 4
    delete(&store, "k/b").await; // 5
    put(&store, "k/c", "1").await; // 6
    let want: [(i64, &[(&str, &str)]); 6] = [
        (1, &[]),
        (2, &[("k/a", "1")]),
        (3, &[("k/a", "1"), ("k/b", "1")]),
        (4, &[("k/a", "2"), ("k/b", "1")]),
        (5, &[("k/a", "2")]),
        (6, &[("k/a", "2"), ("k/c", "1")]),
    ];
    for checkpointed in [false, true] {
        if checkpointed {
            store.checkpoint().await.expect("checkpoint");
            assert_eq!(store.status().pending_bytes, 0);
        }
        for (revision, want) in want {
            let read = range(&store, Range::prefix("k/").at(revision)).await;
            let found = pairs(&read);
            let found: Vec<_> = found.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            assert_eq!(found, want, "at {revision}, checkpointed {checkpointed}");
            assert_eq!((read.revision, read.count, read.more), (6, want.len() as u64, false));
        }
    }
    let future = store.range(Range::key("k/a").at(7)).await;
    assert_eq!(future, Err(ReadError::FutureRevision { requested: 7, current: 6 }));
}

#[tokio::test]
async fn limits_counts_and_keys_only() {
    let (_disk, store) = open_sim().await;
    for n in 0..5 {
        put(&store, &format!("k{n}"), "value").await;
    }
    delete(&store, "k4").await;
    for at in [None, Some(6)] {
        let base = Range { revision: at, ..Range::prefix("k") };
        let total = if at.is_some() { 5 } else { 4 };
        let page = range(&store, base.clone().limit(2)).await;
        assert_eq!((page.kvs.len(), page.count, page.more), (2, total, true));
        let exact = range(&store, base.clone().limit(total as usize)).await;
        assert_eq!((exact.kvs.len() as u64, exact.count, exact.more), (total, total, false));
        let count = range(&store, Range { count_only: true, ..base.clone() }).await;
        assert_eq!((count.kvs.len(), count.count, count.more), (0, total, false));
        let keys = range(&store, Range { keys_only: true, ..base }).await;
        assert_eq!(keys.kvs.len() as u64, total);
        assert!(keys.kvs.iter().all(|kv| kv.value.is_empty() && kv.mod_revision > 0));
    }
    let empty = range(&store, Range::of(KeyRange::span("k3", "k1"))).await;
    assert_eq!((empty.count, empty.more), (0, false));
}

#[tokio::test]
async fn a_transaction_is_one_revision_and_sees_its_own_changes() {
    let (_disk, store) = open_sim().await;
    put(&store, "x", "0").await;
    let txn = Txn::of(vec![
        Op::Range(Range::prefix("")),
        put_op("y", "1", 0, false),
        Op::Delete { keys: KeyRange::key("x"), prev_kv: true },
        Op::Range(Range::prefix("")),
        put_op("z", "1", 0, true),
    ]);
    let done = store.txn(txn).await.expect("txn");
    assert_eq!((done.revision, done.succeeded), (3, true));
    let reads = done.responses.iter().filter_map(|response| match response {
        OpResponse::Range(read) => Some((pairs(read), read.revision)),
        _ => None,
    });
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let reads: Vec<_> = reads.collect();
    assert_eq!(reads, [(vec![pair("x", "0")], 3), (vec![pair("y", "1")], 3)]);
    assert!(matches!(&done.responses[2], OpResponse::Delete { deleted: 1, prev } if prev[0].value == "0"));
    assert_eq!(done.responses[4], OpResponse::Put { prev: None });
    let all = range(&store, Range::prefix("")).await;
    assert!(all.kvs.iter().all(|kv| (kv.create_revision, kv.mod_revision) == (3, 3)));
}

#[tokio::test]
async fn compare_and_swap() {
    let (_disk, store) = open_sim().await;
    let create = || Txn::put("k", "first").when(Compare::absent("k")).or_else(Op::get("k"));
    assert!(store.txn(create()).await.expect("txn").succeeded);
    let again = store.txn(create()).await.expect("txn");
    assert!(!again.succeeded);
    let OpResponse::Range(found) = &again.responses[0] else { panic!("{again:?}") };
    let revision = found.kvs[0].mod_revision;
    assert_eq!((found.kvs[0].value.as_ref(), again.revision), (b"first".as_slice(), 2));

    let swap = |revision| Txn::put("k", "second").when(Compare::mod_revision("k", revision));
    assert!(!store.txn(swap(revision + 1)).await.expect("txn").succeeded);
    assert!(store.txn(swap(revision)).await.expect("txn").succeeded);
    assert!(!store.txn(swap(revision)).await.expect("txn").succeeded, "only once");
}

#[tokio::test]
async fn each_comparison_does_what_it_says() {
    use CompareOp::{Equal, Greater, Less, NotEqual};
    let (_disk, store) = open_sim().await;
    let lease = store.lease_grant(60).await.expect("lease").id;
    put(&store, "k", "1").await; // 2
    store.txn(Txn::of(vec![put_op("k", "5", lease, false)])).await.expect("put"); // 3
    put(&store, "other", "5").await; // 4
    let value = |text: &'static str| CompareTarget::Value(text.into());
    let key = |key: &'static str| KeyRange::key(key);
    let cases = [
        (key("k"), Equal, CompareTarget::Version(2), true),
        (key("k"), Greater, CompareTarget::Version(2), false),
        (key("k"), Less, CompareTarget::Version(3), true),
        (key("k"), NotEqual, CompareTarget::CreateRevision(2), false),
        (key("k"), Greater, CompareTarget::ModRevision(2), true),
        (key("k"), Equal, CompareTarget::Lease(lease), true),
        (key("other"), Equal, CompareTarget::Lease(0), true),
        (key("k"), Equal, value("5"), true),
        (key("k"), Less, value("6"), true),
        (key("missing"), Equal, CompareTarget::Version(0), true),
        (key("missing"), Equal, CompareTarget::ModRevision(0), true),
        (key("missing"), Equal, value(""), false),
        (key("missing"), NotEqual, value("x"), false),
        (KeyRange::all(), Equal, value("5"), true),
        (KeyRange::all(), Equal, CompareTarget::Version(2), false),
        (KeyRange::prefix("nothing/"), Equal, CompareTarget::CreateRevision(0), true),
    ];
    for (keys, op, target, want) in cases {
        let compare = Compare { keys, op, target };
        let done = store.txn(Txn::default().when(compare.clone())).await.expect("txn");
        assert_eq!(done.succeeded, want, "{compare:?}");
    }
}

#[tokio::test]
async fn nonsense_is_refused_and_changes_nothing() {
    let (_disk, store) = open_sim().await;
    put(&store, "k", "1").await;
    let big = store.txn(Txn::put("k", vec![0; 200 << 10])).await;
    assert!(matches!(big, Err(WriteError::TooLarge { limit, .. }) if limit == 128 << 10), "{big:?}");
    let twice = Txn::of(vec![Op::put("a", ""), Op::put("a", "")]);
    assert_eq!(store.txn(twice).await, Err(WriteError::DuplicateKey("a".into())));
    // The second step cannot be done, so the first one is not either.
    let lost = Txn::of(vec![Op::put("k", "2"), put_op("l", "", 77, false)]);
    assert_eq!(store.txn(lost).await, Err(WriteError::LeaseNotFound(77)));
    assert_eq!(pairs(&range(&store, Range::prefix("")).await), [("k".to_owned(), "1".to_owned())]);
    assert_eq!(store.revision(), 2);
}

#[tokio::test]
async fn compaction_forgets_exactly_what_it_may() {
    let (_disk, store) = open_sim().await;
    put(&store, "a", "1").await; // 2
    put(&store, "a", "2").await; // 3
    put(&store, "b", "1").await; // 4
    delete(&store, "b").await; // 5
    put(&store, "a", "3").await; // 6
    store.checkpoint().await.expect("checkpoint");
    let before = store.status().db_bytes_in_use;

    store.compact(5).await.expect("compact");
    assert_eq!(store.compacted_revision(), 5);
    assert!(store.status().db_bytes_in_use < before);
    assert_eq!(
        store.range(Range::key("a").at(4)).await,
        Err(ReadError::Compacted { requested: 4, compacted: 5 })
    );
    let pair = |value: &str| [("a".to_owned(), value.to_owned())];
    assert_eq!(pairs(&range(&store, Range::prefix("").at(5)).await), pair("2"));
    assert_eq!(pairs(&range(&store, Range::prefix("").at(6)).await), pair("3"));

    let error = |requested| WriteError::Compacted { requested, compacted: 5 };
    assert_eq!(store.compact(5).await, Err(error(5)));
    assert_eq!(store.compact(3).await, Err(error(3)));
    assert_eq!(store.compact(7).await, Err(WriteError::FutureRevision { requested: 7, current: 6 }));
}

#[tokio::test]
async fn compaction_gives_back_what_it_forgot() {
    let (disk, store) = open_sim().await;
    for n in 0..300 {
        put(&store, &format!("k{}", n % 3), "some value that takes space").await;
    }
    store.compact(store.revision()).await.expect("compact");
    let left = store.status().db_bytes_in_use;
    assert!(left < 3 * 100, "{left} bytes for three keys");
    store.shutdown().await;
    let store = reopen(&disk).await;
    assert_eq!(store.status().db_bytes_in_use, left, "the same after a restart");
    assert_eq!(store.compacted_revision(), 301);
    assert_eq!(range(&store, Range::prefix("k")).await.count, 3);
}

#[tokio::test]
async fn the_quota_refuses_puts_until_there_is_room_again() {
    let (disk, store) = open_sim().await;
    store.shutdown().await;
    let mut options = sim_options(&disk);
    options.quota_bytes = 10_000;
    let store = Store::open(options).await.expect("opens");
    let mut refused = None;
    for n in 0..100 {
        if let Err(error) = store.txn(Txn::put(format!("k{n:02}"), vec![0; 500])).await {
            refused = Some(error);
            break;
        }
    }
    assert!(
        matches!(refused, Some(WriteError::NoSpace(Shortage::Quota { quota: 10_000, .. }))),
        "{refused:?}"
    );
    assert!(matches!(store.status().shortage, Some(Shortage::Quota { .. })));
    // Deleting and compacting is the way out, and reading goes on.
    assert!(range(&store, Range::prefix("k")).await.count > 10);
    let all = Op::Delete { keys: KeyRange::prefix("k"), prev_kv: false };
    let gone = store.txn(Txn::of(vec![all])).await.expect("delete");
    store.compact(gone.revision).await.expect("compact");
    // The alarm stays, also over a restart, until somebody has looked at it.
    let store = {
        store.shutdown().await;
        let mut options = sim_options(&disk);
        options.quota_bytes = 10_000;
        Store::open(options).await.expect("opens")
    };
    let raised = Alarm { member: store.status().member_id, kind: AlarmKind::NoSpace };
    assert_eq!(Vec::from_iter(store.alarms()), [raised]);
    assert_eq!(store.txn(Txn::put("k", "")).await, Err(WriteError::NoSpace(Shortage::Alarm)));
    assert_eq!(store.lease_grant(60).await, Err(WriteError::NoSpace(Shortage::Alarm)));
    store.txn(Txn::delete("k")).await.expect("deleting goes on");
    store.alarm(raised, false).await.expect("disarm");
    put(&store, "k", "fits again").await;
    assert_eq!(store.status().shortage, None);
}

#[tokio::test]
async fn leases_take_their_keys_along() {
    let (disk, store) = open_sim().await;
    let lease = store.lease_grant(1).await.expect("grant");
    assert_eq!((lease.granted_ttl, store.leases()), (1, vec![lease.id]));
    let puts = vec![put_op("l/a", "", lease.id, false), put_op("l/b", "", lease.id, false)];
    store.txn(Txn::of(puts)).await.expect("put");
    // A put without the lease takes the key out of it.
    put(&store, "l/b", "kept").await;
    assert_eq!(store.lease(lease.id).expect("lease").1, ["l/a"]);

    let mut watcher = store.watch(Watch::prefix("l/")).expect("watch");
    let ended = tokio::time::timeout(Duration::from_secs(20), watcher.next()).await.expect("in time");
    let batch = ended.expect("open").expect("events");
    assert_eq!(batch.events.len(), 1);
    assert_eq!(
        (batch.events[0].kind, batch.events[0].kv.key.as_ref()),
        (EventKind::Delete, b"l/a".as_slice())
    );
    assert_eq!(store.lease(lease.id), None);
    assert_eq!(store.lease_keep_alive(lease.id).await, Err(WriteError::LeaseNotFound(lease.id)));

    // Leases survive a restart, with their keys.
    let long = store.lease_grant_as(42, 600).await.expect("grant");
    assert_eq!(store.lease_grant_as(42, 600).await, Err(WriteError::LeaseExists(42)));
    store.txn(Txn::of(vec![put_op("l/c", "", 42, false)])).await.expect("put");
    store.shutdown().await;
    let store = reopen(&disk).await;
    assert_eq!(
        store.lease(42).map(|(lease, keys)| (lease.granted_ttl, keys)),
        Some((600, vec!["l/c".into()]))
    );
    assert_eq!(store.lease_keep_alive(42).await, Ok(long));
    store.lease_revoke(42).await.expect("revoke");
    assert_eq!(pairs(&range(&store, Range::prefix("l/")).await), [("l/b".to_owned(), "kept".to_owned())]);
    assert!(matches!(store.lease_grant(0).await, Err(WriteError::LeaseTtl { ttl: 0, .. })));
}

#[tokio::test]
async fn one_directory_one_store() {
    let dir = tempfile::tempdir().expect("dir");
    let store = Store::open(small(Options::new(dir.path()))).await.expect("opens");
    let second = Store::open(small(Options::new(dir.path()))).await.err().expect("refused");
    assert!(matches!(second, OpenError::InUse(_)), "{second}");
    let id = (store.status().cluster_id, store.status().member_id);
    store.shutdown().await;
    assert_eq!(store.txn(Txn::put("k", "")).await, Err(WriteError::Stopped));
    assert_eq!(store.range(Range::key("k")).await, Err(ReadError::Stopped));

    let mut other = small(Options::new(dir.path()));
    other.cluster_name = "another".to_owned();
    let error = Store::open(other).await.err().expect("refused");
    assert!(matches!(error, OpenError::WrongCluster { .. }), "{error}");
    let again = Store::open(small(Options::new(dir.path()))).await.expect("opens again");
    assert_eq!((again.status().cluster_id, again.status().member_id), id);
}

#[tokio::test]
async fn transactions_inside_transactions_are_decided_before_anything_changes() {
    let (disk, store) = open_sim().await;
    let first = put(&store, "a", "old").await.revision;
    let second = put(&store, "a", "1").await.revision;
    let inside = Txn {
        compare: vec![Compare::mod_revision("a", second)],
        then: vec![Op::put("b", "seen"), Op::get("a")],
        otherwise: vec![Op::put("b", "unseen")],
    };
    let txn = Txn::of(vec![Op::put("a", "2"), Op::Txn(inside), Op::Range(Range::key("a").at(first))]);
    let done = store.txn(txn).await.expect("txn");
    let OpResponse::Txn(inside) = &done.responses[1] else { panic!("{done:?}") };
    assert!(inside.succeeded, "judged before the put");
    let OpResponse::Range(now) = &inside.responses[1] else { panic!("{done:?}") };
    assert_eq!((pairs(now), now.revision), (vec![("a".into(), "2".into())], done.revision));
    let OpResponse::Range(past) = &done.responses[2] else { panic!("{done:?}") };
    assert_eq!((pairs(past), past.revision), (vec![("a".into(), "old".into())], done.revision));
    assert_eq!(done.revision, second + 1, "one revision");

    let future = Txn::of(vec![Op::put("x", ""), Op::Range(Range::key("a").at(done.revision + 1))]);
    let refused = store.txn(future).await;
    assert!(matches!(refused, Err(WriteError::FutureRevision { .. })), "{refused:?}");
    store.shutdown().await;
    let store = reopen(&disk).await;
    assert_eq!(range(&store, Range::prefix("")).await.count, 2, "refused as a whole");
}

#[tokio::test]
async fn a_put_can_keep_the_value_or_the_lease() {
    let (_disk, store) = open_sim().await;
    let lease = store.lease_grant(600).await.expect("grant").id;
    let keep = |ignore_value, ignore_lease, value: &'static str, lease| {
        Txn::of(vec![Op::Put(Put {
            key: "k".into(),
            value: value.into(),
            lease,
            ignore_value,
            ignore_lease,
            prev_kv: false,
        })])
    };
    let missing = store.txn(keep(true, false, "", lease)).await;
    assert_eq!(missing, Err(WriteError::KeyNotFound("k".into())));
    put(&store, "k", "value").await;
    store.txn(keep(true, false, "", lease)).await.expect("lease alone");
    store.txn(keep(false, true, "newer", 0)).await.expect("value alone");
    let kv = range(&store, Range::key("k")).await.kvs.remove(0);
    assert_eq!((kv.value.as_ref(), kv.lease, kv.version), (&b"newer"[..], lease, 3));
    assert_eq!(store.lease(lease).expect("lease").1, ["k"]);
}
