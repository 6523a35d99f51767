//! Watches: nothing missed, nothing twice, in order, from any kept revision, at any pace.

use std::sync::Arc;
use std::time::Duration;

use crate::common::*;
use carrack_store::*;

async fn next(watcher: &mut Watcher) -> WatchBatch {
    let next = tokio::time::timeout(Duration::from_secs(20), watcher.next()).await;
    next.expect("in time").expect("open").expect("events")
}

/// Whether nothing comes although there was time for it.
async fn is_quiet(watcher: &mut Watcher) -> bool {
    tokio::time::timeout(Duration::from_millis(50), watcher.next()).await.is_err()
}

fn texts(batch: &WatchBatch) -> Vec<(EventKind, String, Option<String>)> {
    let text = |bytes: &bytes::Bytes| String::from_utf8_lossy(bytes).into_owned();
    let of = |event: &Event| (event.kind, text(&event.kv.key), event.prev.as_ref().map(|kv| text(&kv.value)));
    batch.events.iter().map(of).collect()
}

#[tokio::test]
async fn changes_arrive_as_they_happen_with_what_was_before() {
    let (_disk, store) = open_sim().await;
    put(&store, "a/1", "old").await;
    let mut watcher = store.watch(Watch::prefix("a/")).expect("watch");
    assert_eq!((watcher.start_revision(), watcher.progress()), (3, 2));
    put(&store, "a/1", "new").await;
    put(&store, "b/1", "elsewhere").await;
    delete(&store, "a/1").await;
    let put_batch = next(&mut watcher).await;
    assert_eq!(put_batch.revision, 3);
    assert_eq!(texts(&put_batch), [(EventKind::Put, "a/1".to_owned(), Some("old".to_owned()))]);
    let gone = next(&mut watcher).await;
    assert_eq!((gone.revision, gone.events[0].kv.mod_revision), (5, 5));
    assert_eq!(texts(&gone), [(EventKind::Delete, "a/1".to_owned(), Some("new".to_owned()))]);
    assert!(is_quiet(&mut watcher).await);

    // Readers and watchers share one object, so that it is decoded once.
    put(&store, "a/2", "shared").await;
    let event = next(&mut watcher).await.events[0].clone();
    let read = range(&store, Range::key("a/2")).await.kvs[0].clone();
    assert!(Arc::ptr_eq(&event.kv, &read));
}

#[tokio::test]
async fn one_batch_for_all_changes_of_a_transaction() {
    let (_disk, store) = open_sim().await;
    put(&store, "k/0", "").await;
    let mut watcher = store.watch(Watch { prev_kv: false, ..Watch::prefix("k/") }).expect("watch");
    let steps = vec![Op::put("k/2", ""), Op::put("x", ""), Op::put("k/1", ""), Op::delete("k/0")];
    store.txn(Txn::of(steps)).await.expect("txn");
    let batch = next(&mut watcher).await;
    let want = [(EventKind::Put, "k/2"), (EventKind::Put, "k/1"), (EventKind::Delete, "k/0")];
    assert_eq!(
        texts(&batch),
        want.map(|(kind, key)| (kind, key.to_owned(), None)),
        "in the order of the steps"
    );
}

#[tokio::test]
async fn a_watch_resumes_at_any_kept_revision() {
    let (disk, store) = open_sim().await;
    // More than the window of 64 revisions holds, so that the start is read from pending changes and from disk.
    for n in 0..150 {
        put(&store, &format!("k/{:02}", n % 40), &format!("{n}")).await;
        if n == 70 {
            store.checkpoint().await.expect("checkpoint");
        }
    }
    let check = async |store: &Store| {
        for start in [1, 2, 30, 73, 100, 140, 151] {
            let mut watcher = store.watch(Watch::prefix("k/").since(start)).expect("watch");
            for revision in start.max(2)..=151 {
                let batch = next(&mut watcher).await;
                assert_eq!(batch.revision, revision, "from {start}");
                let event = &batch.events[0];
                let n = revision - 2;
                assert_eq!(
                    (event.kv.value.as_ref(), event.kv.mod_revision),
                    (n.to_string().as_bytes(), revision)
                );
                let prev = event.prev.as_ref().map(|kv| kv.value.clone());
                assert_eq!(
                    prev,
                    (n >= 40).then(|| (n - 40).to_string().into()),
                    "revision {revision} from {start}"
                );
            }
            assert_eq!(watcher.progress(), 151);
        }
    };
    check(&store).await;
    assert!(store.status().history_reads > 0);
    store.shutdown().await;
    let store = reopen(&disk).await;
    check(&store).await;
}

#[tokio::test]
async fn a_watch_may_start_in_the_future() {
    let (_disk, store) = open_sim().await;
    let mut watcher = store.watch(Watch::prefix("").since(4)).expect("watch");
    assert_eq!(watcher.progress(), 1);
    for key in ["a", "b", "c"] {
        put(&store, key, "").await;
    }
    assert_eq!(next(&mut watcher).await.revision, 4);
    assert!(matches!(store.watch(Watch::prefix("").since(0)), Err(WatchError::BadRevision(0))));
}

#[tokio::test]
async fn compacted_revisions_cannot_be_watched() {
    let (_disk, store) = open_sim().await;
    for n in 0..150 {
        put(&store, "k", &n.to_string()).await;
    }
    delete(&store, "k").await; // 152
    let mut slow = store.watch(Watch::prefix("").since(10)).expect("watch");
    assert_eq!(next(&mut slow).await.revision, 10);
    store.compact(152).await.expect("compact");
    // A step of history was read ahead; what follows it is gone.
    let mut last = 10;
    let error = loop {
        match slow.next().await {
            Some(Ok(batch)) => {
                assert_eq!(batch.revision, last + 1);
                last = batch.revision;
                if last == 152 {
                    break None;
                }
            }
            Some(Err(error)) => break Some(error),
            None => panic!("ended without a reason"),
        }
    };
    assert!(matches!(error, None | Some(WatchError::Compacted { compacted: 152, .. })), "{error:?}");

    let refused = store.watch(Watch::prefix("").since(151)).err();
    assert_eq!(refused, Some(WatchError::Compacted { requested: 151, compacted: 152 }));
    // The compacted revision itself can still be seen, a deletion's too.
    for checkpointed in [false, true] {
        if checkpointed {
            store.checkpoint().await.expect("checkpoint");
        }
        let mut watcher = store.watch(Watch::prefix("").since(152)).expect("watch");
        let batch = next(&mut watcher).await;
        assert_eq!((batch.revision, batch.events[0].kind), (152, EventKind::Delete));
    }
}

#[tokio::test]
async fn a_watcher_that_falls_behind_a_compaction_is_told() {
    let (_disk, store) = open_sim().await;
    let mut slow = store.watch(Watch::prefix("")).expect("watch");
    for n in 0..1000 {
        put(&store, "k", &n.to_string()).await;
    }
    store.compact(900).await.expect("compact");
    assert_eq!(slow.next().await, Some(Err(WatchError::Compacted { requested: 2, compacted: 900 })));
    assert_eq!(slow.next().await, None, "over after an error");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn slow_and_fast_watchers_see_the_same_while_writers_write() {
    let (_disk, store) = open_sim().await;
    let mut watchers = Vec::new();
    for pace in 0..6u64 {
        let mut watcher = store.watch(Watch::prefix("k/")).expect("watch");
        watchers.push(tokio::spawn(async move {
            let mut seen = Vec::new();
            while seen.last().is_none_or(|(revision, _)| *revision < 801) {
                let batch = next(&mut watcher).await;
                assert_eq!(watcher.progress().min(batch.revision), batch.revision);
                seen.push((batch.revision, texts(&batch)));
                if pace > 0 && (seen.len() as u64).is_multiple_of(pace * 7) {
                    tokio::time::sleep(Duration::from_millis(pace * 3)).await;
                }
            }
            seen
        }));
    }
    let mut writers = Vec::new();
    for writer in 0..8 {
        let store = store.clone();
        writers.push(tokio::spawn(async move {
            for n in 0..100 {
                put(&store, &format!("k/{writer}/{}", n % 10), &n.to_string()).await;
            }
        }));
    }
    for writer in writers {
        writer.await.expect("writer");
    }
    let mut all = Vec::new();
    for watcher in watchers {
        all.push(watcher.await.expect("watcher"));
    }
    let revisions: Vec<_> = all[0].iter().map(|(revision, _)| *revision).collect();
    assert_eq!(revisions, (2..=801).collect::<Vec<_>>(), "each revision once, in order");
    assert!(all.iter().all(|seen| *seen == all[0]));
    assert_eq!(store.status().watchers, 0, "gone with their tasks");
}

#[tokio::test]
async fn watchers_end_with_the_store() {
    let (_disk, store) = open_sim().await;
    let mut watcher = store.watch(Watch::prefix("")).expect("watch");
    put(&store, "k", "").await;
    let waiting = tokio::spawn(async move {
        let first = watcher.next().await;
        (first, watcher.next().await)
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    store.shutdown().await;
    let (first, end) = waiting.await.expect("watcher");
    assert!(matches!(first, Some(Ok(_))), "what happened before is still delivered");
    assert_eq!(end, None);
    assert!(matches!(store.watch(Watch::prefix("")), Err(WatchError::Stopped)));
}

#[tokio::test]
async fn a_watcher_of_a_store_that_is_gone_leaves_its_directory_alone() {
    let (disk, store) = open_sim().await;
    let mut late = store.watch(Watch::prefix("").since(1)).expect("a watch");
    // More than the window holds: the watcher has to read the history.
    for n in 0..300 {
        put(&store, &format!("k{n}"), "").await;
    }
    store.shutdown().await;
    let file = std::path::Path::new("/store/history.redb");
    let before = disk.contents(file);
    assert!(late.next().await.is_none(), "it ends with its store");
    // Opening and closing it would change it.
    assert!(!before.is_empty() && disk.contents(file) == before);
    let again = reopen(&disk).await;
    assert_eq!(again.revision(), 301);
    again.shutdown().await;
}
