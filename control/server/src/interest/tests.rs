//! Feeds beside a watcher that looks at everything: both have to find the same changes.

use std::time::Duration;

use carrack_store::{Options, Txn};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use super::*;
use crate::start::row;

const NAMESPACES: [&str; 3] = ["a", "b", "ab"];

struct World {
    _dir: tempfile::TempDir,
    store: Store,
    interests: Interests,
    random: StdRng,
}

/// A watch: labels, fields, namespace, name.
type Asked = (&'static str, &'static str, &'static str, &'static str);

const WATCHES: &[Asked] = &[
    ("", "", "", ""),
    ("", "", "a", ""),
    ("", "", "a", "p1"),
    ("app=x", "", "", ""),
    ("app in (x,y)", "", "b", ""),
    ("app!=x", "", "", ""),
    ("tier", "", "ab", ""),
    ("", "spec.nodeName=n1", "", ""),
    ("", "spec.nodeName=", "", ""),
    ("app=x", "spec.nodeName=n2", "", ""),
    ("app=never", "", "", ""),
];

impl World {
    async fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(Options::new(dir.path().join("store"))).await.unwrap();
        World { _dir: dir, store, interests: Interests::default(), random: StdRng::seed_from_u64(3) }
    }

    /// Writes or deletes a pod, or something else.
    async fn change(&mut self) {
        let random = &mut self.random;
        let namespace = NAMESPACES[random.random_range(0..3)];
        let name = format!("p{}", random.random_range(0..6));
        let key = format!("/registry/pods/{namespace}/{name}");
        let mut object =
            json!({"metadata": {"name": name, "namespace": namespace, "labels": {}}, "spec": {}});
        if random.random_bool(0.8) {
            object["metadata"]["labels"]["app"] = json!(["x", "y", "z"][random.random_range(0..3)]);
        }
        if random.random_bool(0.3) {
            object["metadata"]["labels"]["tier"] = json!("front");
        }
        if random.random_bool(0.7) {
            object["spec"]["nodeName"] = json!(["n1", "n2"][random.random_range(0..2)]);
        }
        let txn = match random.random_range(0..10) {
            0..=6 => Txn::put(key, object.to_string()),
            7..=8 => Txn::delete(key),
            _ => Txn::put(format!("/registry/secrets/{namespace}/{name}"), object.to_string()),
        };
        self.store.txn(txn).await.unwrap();
    }

    fn watch(&self, asked: &Asked) -> (Feed, Selection, KeyRange) {
        let (labels, fields, namespace, name) = *asked;
        let pods = row("", "pods").unwrap();
        let selection = Selection::parse(pods, labels, fields).unwrap();
        let keys = match name {
            "" => KeyRange::prefix(pods.list_prefix(namespace)),
            name => KeyRange::key(pods.key(namespace, name)),
        };
        let in_namespace = !namespace.is_empty();
        let feed = self
            .interests
            .watch(&self.store, &pods.into(), keys.clone(), in_namespace, &selection, None)
            .unwrap();
        (feed, selection, keys)
    }

    /// The revisions after `since` of changes that this watch has to see.
    async fn wanted(&self, selection: &Selection, keys: KeyRange, since: Revision) -> Vec<Revision> {
        let mut watcher = self.store.watch(Watch::of(keys).since(since + 1)).unwrap();
        let mut found = Vec::new();
        while let Some(batch) = watcher.upto(self.store.revision()).await.unwrap().unwrap() {
            if batch.events.iter().any(|event| concerns(selection, event)) {
                found.push(batch.revision);
            }
        }
        found
    }
}

fn concerns(selection: &Selection, event: &Event) -> bool {
    let pods = row("", "pods").unwrap();
    let now = (event.kind == EventKind::Put).then_some(&event.kv);
    event.prev.iter().chain(now).any(|kv| selection.matches(&view(pods, kv)))
}

/// Reads a feed up to `revision`.
async fn seen(feed: &mut Feed, selection: &Selection, revision: Revision) -> Vec<Revision> {
    let mut seen = Vec::new();
    while feed.progress() < revision {
        let Ok(next) = tokio::time::timeout(Duration::from_millis(20), feed.next()).await else { continue };
        let batch = next.unwrap().unwrap();
        if batch.events.iter().any(|event| concerns(selection, event)) {
            seen.push(batch.revision);
        }
    }
    seen
}

/// Feeds that are read only after so many changes.
async fn feeds_find_what_a_watcher_finds(changes: usize, rounds: usize) {
    let mut world = World::new().await;
    for _ in 0..50 {
        world.change().await;
    }
    let mut feeds = Vec::new();
    for asked in WATCHES {
        feeds.push((world.store.revision(), world.watch(asked), asked));
        world.change().await;
    }
    for _ in 0..rounds {
        for _ in 0..changes {
            world.change().await;
        }
        let newest = world.store.revision();
        for (since, (feed, selection, keys), asked) in &mut feeds {
            let seen = seen(feed, selection, newest).await;
            let wanted = world.wanted(selection, keys.clone(), *since).await;
            assert_eq!(seen, wanted, "{asked:?}");
            *since = newest;
        }
    }
    drop(feeds);
    assert!(world.interests.board.lock().groups.is_empty());
    world.store.shutdown().await;
}

#[tokio::test]
async fn feeds_that_are_read_find_what_a_watcher_finds() {
    feeds_find_what_a_watcher_finds(100, 3).await;
}

#[tokio::test]
async fn feeds_that_are_not_read_for_long_find_what_a_watcher_finds() {
    feeds_find_what_a_watcher_finds(MOST_HITS + 300, 1).await;
}

#[tokio::test]
async fn only_those_are_woken_whom_it_concerns() {
    let mut world = World::new().await;
    let feeds: Vec<_> = WATCHES.iter().map(|asked| world.watch(asked)).collect();
    for _ in 0..200 {
        world.change().await;
    }
    let (mut all, _, _) = world.watch(&("", "", "", ""));
    seen(&mut all, &Selection::default(), world.store.revision()).await;
    let hits = |at: usize| feeds[at].0.noted();
    assert!(hits(0) > 150, "{}", hits(0));
    assert!((1..hits(0) / 2).contains(&hits(1)), "{}", hits(1));
    assert!((1..hits(1) / 2).contains(&hits(2)), "{}", hits(2));
    assert_eq!(hits(WATCHES.len() - 1), 0);
    world.store.shutdown().await;
}

#[tokio::test]
async fn what_cannot_be_read_may_concern_everybody() {
    let world = World::new().await;
    let feeds: Vec<_> = WATCHES.iter().map(|asked| world.watch(asked)).collect();
    let sealed = "k8s:enc:kms:v2:vault:";
    world.store.txn(Txn::put("/registry/pods/a/p1", sealed)).await.unwrap();
    let revision = world.store.revision();
    let noted = async {
        while world.interests.board.lock().position < revision {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), noted).await.expect("it is noted");
    assert!(feeds.iter().all(|(feed, ..)| feed.noted() == 1));
    world.store.shutdown().await;
}

#[tokio::test]
async fn what_was_not_seen_is_looked_for() {
    let mut world = World::new().await;
    let mut feeds: Vec<_> = WATCHES.iter().map(|asked| world.watch(asked)).collect();
    let since = world.store.revision();
    for _ in 0..100 {
        world.change().await;
    }
    world.interests.board.lock().lose(world.store.revision());
    for _ in 0..100 {
        world.change().await;
    }
    for (feed, selection, keys) in &mut feeds {
        let seen = seen(feed, selection, world.store.revision()).await;
        assert_eq!(seen, world.wanted(selection, keys.clone(), since).await);
    }
    world.store.shutdown().await;
    for (feed, ..) in &mut feeds {
        assert!(tokio::time::timeout(Duration::from_secs(30), feed.next()).await.unwrap().is_none());
    }
}
