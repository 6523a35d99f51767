//! Watches under everything at once: many writers that meet, and watchers of each kind that clients are, through a restart
//! and a compaction. Nothing is missed, doubled or out of order, and all end with what a list shows.
// Helpers outside the test functions: one that fails ends its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Client, Cluster, MAPS, map};
use serde_json::{Value, json};
use tokio::sync::{RwLock, watch};

const WRITERS: usize = 150;
const WATCHERS: usize = 140;
/// Writes of each writer in each of the three parts.
const STEPS: usize = 3;
/// Few names for many writers, so that they meet.
const NAMES: usize = 31;
/// The name that some watchers select.
const CHOSEN: &str = "n7";

/// What all share: the client of the present server, and how far the test is.
#[derive(Clone)]
struct World {
    client: Arc<RwLock<Client>>,
    compacted: watch::Receiver<bool>,
    /// How often a watcher was told to start over.
    expired: Arc<AtomicUsize>,
}

impl World {
    async fn client(&self) -> Client {
        self.client.read().await.clone()
    }
}

/// An object with a count of its changes.
fn counted(name: &str, color: &str, count: u64) -> Value {
    let mut one = map(name, "");
    one["data"] = json!({"count": count.to_string()});
    one["metadata"]["labels"] = json!({"color": color});
    one
}

fn count(object: &Value) -> u64 {
    object["data"]["count"].as_str().unwrap().parse().unwrap()
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

/// Creates, changes and deletes; what is refused (conflicts, a server that ends) was another writer's turn.
async fn write(world: World, seed: usize) {
    for step in 0..STEPS {
        let turn = seed * 7 + step * 3;
        let name = format!("n{}", turn % NAMES);
        let path = format!("{MAPS}/{name}");
        let color = if turn.is_multiple_of(2) { "red" } else { "blue" };
        let client = world.client().await;
        let found = client.get(&path).await;
        match (found.code, turn % 5) {
            (404, _) => drop(client.post(MAPS, &counted(&name, color, 0)).await),
            (200, 0) => drop(client.delete(&path).await),
            (200, _) => {
                let found = found.json();
                let mut next = counted(&name, color, count(&found) + 1);
                next["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"].clone();
                client.put(&path, &next).await;
            }
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// The kinds of watchers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Labels,
    Name,
    Streaming,
    Slow,
    Restless,
    /// Stops until the server has forgotten where it was.
    Stale,
}

const KINDS: [Kind; 7] =
    [Kind::Plain, Kind::Labels, Kind::Name, Kind::Streaming, Kind::Slow, Kind::Restless, Kind::Stale];

impl Kind {
    fn selector(self) -> String {
        match self {
            Kind::Labels => "labelSelector=color%3Dred".to_owned(),
            Kind::Name => format!("fieldSelector=metadata.name%3D{CHOSEN}"),
            _ => String::new(),
        }
    }

    /// Whether all changes of an object are seen while it is there.
    fn sees_all(self) -> bool {
        self != Kind::Labels
    }
}

/// What one watcher knows.
struct Watcher {
    kind: Kind,
    world: World,
    state: BTreeMap<String, Value>,
    last: u64,
    done: bool,
    waited: bool,
}

impl Watcher {
    async fn run(mut self) -> BTreeMap<String, u64> {
        while !self.done {
            if self.kind != Kind::Streaming && self.last == 0 && !self.relist().await {
                continue;
            }
            let path = match self.kind {
                Kind::Streaming => {
                    self.state.clear();
                    self.last = 0;
                    "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
                        .to_owned()
                }
                Kind::Restless => {
                    format!("resourceVersion={}&allowWatchBookmarks=true&timeoutSeconds=1", self.last)
                }
                // Watches that see little end now and then, before their silence counts as a fault.
                _ => format!("resourceVersion={}&timeoutSeconds=5", self.last),
            };
            let path = format!("{MAPS}?watch=1&{path}&{}", self.kind.selector());
            match self.world.client().await.try_watch(&path).await {
                Ok(events) => self.follow(events).await,
                // The server is away.
                Err(500..) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(code) => panic!("{path}: {code}"),
            }
        }
        self.state.iter().map(|(name, object)| (name.clone(), revision(object))).collect()
    }

    fn start_over(&mut self) {
        self.world.expired.fetch_add(1, Ordering::Relaxed);
        self.last = 0;
    }

    /// Takes a list as the state; false when there is none to be had.
    async fn relist(&mut self) -> bool {
        let answer = self.world.client().await.get(&format!("{MAPS}?{}", self.kind.selector())).await;
        if answer.code != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            return false;
        }
        let list = answer.json();
        self.last = revision(&list);
        let items = list["items"].as_array().unwrap().iter();
        self.state = items.map(|o| (o["metadata"]["name"].as_str().unwrap().to_owned(), o.clone())).collect();
        self.done = self.is_done();
        !self.done
    }

    async fn follow(&mut self, mut events: common::Events) {
        let mut seen = 0;
        while let Some(event) = events.next().await {
            match event["type"].as_str().unwrap() {
                "ERROR" => {
                    assert_eq!(event["object"]["code"], 410, "{event}");
                    return self.start_over();
                }
                "BOOKMARK" => {
                    assert!(revision(&event["object"]) >= self.last, "a bookmark leads back: {event}");
                    self.last = revision(&event["object"]);
                }
                kind => self.take(kind, &event["object"]),
            }
            seen += 1;
            self.done = self.is_done();
            if self.done || (self.kind == Kind::Restless && seen == 20) {
                return;
            }
            if self.kind == Kind::Slow {
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            if self.kind == Kind::Stale && !self.waited && seen == 10 {
                self.waited = true;
                drop(events);
                self.world.compacted.wait_for(|compacted| *compacted).await.unwrap();
                return;
            }
        }
    }

    /// Takes a change, which has to follow from what is known.
    fn take(&mut self, kind: &str, object: &Value) {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let revision = revision(object);
        // What a watch begins with comes in the order of names.
        let begins = self.kind == Kind::Streaming && self.last == 0;
        assert!(begins || revision > self.last, "{kind} {name} at {revision} behind {}", self.last);
        if !begins {
            self.last = revision;
        }
        let before = self.state.get(&name);
        match kind {
            "ADDED" => assert!(before.is_none(), "ADDED {name}, which was there"),
            "MODIFIED" => {
                let before = before.unwrap_or_else(|| panic!("MODIFIED {name}, which was not there"));
                assert_eq!(before["metadata"]["uid"], object["metadata"]["uid"], "a deletion was missed");
                if self.kind.sees_all() {
                    assert_eq!(count(object), count(before) + 1, "{name}: a change was missed or doubled");
                }
            }
            "DELETED" => assert!(before.is_some(), "DELETED {name}, which was not there"),
            other => panic!("{other}: {object}"),
        }
        match kind {
            "DELETED" => drop(self.state.remove(&name)),
            _ => drop(self.state.insert(name, object.clone())),
        }
    }

    fn is_done(&self) -> bool {
        let last = if self.kind == Kind::Name { CHOSEN } else { "done" };
        self.state.get(last).is_some_and(|object| object["metadata"]["labels"]["done"] == "yes")
    }
}

async fn part(world: &World, seed: usize) {
    let all = (0..WRITERS).map(|i| tokio::spawn(write(world.clone(), seed + i)));
    for writer in all.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_watcher_ends_with_what_a_list_shows() {
    let cluster = Cluster::start().await;
    let (compacted, is_compacted) = watch::channel(false);
    let world = World {
        client: Arc::new(RwLock::new(cluster.client())),
        compacted: is_compacted,
        expired: Arc::default(),
    };
    let watchers: Vec<_> = (0..WATCHERS)
        .map(|i| Watcher {
            kind: KINDS[i % KINDS.len()],
            world: world.clone(),
            state: BTreeMap::new(),
            last: 0,
            done: false,
            waited: false,
        })
        .map(|watcher| (watcher.kind.selector(), tokio::spawn(watcher.run())))
        .collect();
    part(&world, 0).await;
    // A restart in the middle of writes and watches.
    let writing = tokio::spawn({
        let world = world.clone();
        async move { part(&world, 1000).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let cluster = {
        let mut present = world.client.write().await;
        let cluster = cluster.restart().await;
        *present = cluster.client();
        cluster
    };
    writing.await.unwrap();
    cluster.store.compact(cluster.store.revision()).await.unwrap();
    compacted.send_replace(true);
    part(&world, 2000).await;
    let client = world.client().await;
    // Whether the chosen one is there or not, it is in the end, changed once more.
    client.post(MAPS, &counted(CHOSEN, "red", 0)).await;
    let mut chosen = client.get(&format!("{MAPS}/{CHOSEN}")).await.expect(200);
    chosen["data"]["count"] = json!((count(&chosen) + 1).to_string());
    chosen["metadata"]["labels"]["done"] = json!("yes");
    client.put(&format!("{MAPS}/{CHOSEN}"), &chosen).await.expect(200);
    let mut done = counted("done", "red", 0);
    done["metadata"]["labels"]["done"] = json!("yes");
    client.post(MAPS, &done).await.expect(201);
    for (selector, watcher) in watchers {
        let list = client.get(&format!("{MAPS}?{selector}")).await.expect(200);
        let items = list["items"].as_array().unwrap().iter();
        let expected: BTreeMap<String, u64> =
            items.map(|o| (o["metadata"]["name"].as_str().unwrap().to_owned(), revision(o))).collect();
        let state = tokio::time::timeout(Duration::from_secs(60), watcher).await.expect("it hangs").unwrap();
        assert_eq!(state, expected, "{selector}");
    }
    let expired = world.expired.load(Ordering::Relaxed);
    assert!(expired >= WATCHERS / KINDS.len() / 2, "only {expired} watchers were told to start over");
}
