//! Watchers: one that sees everything on each life of each member, and clients that watch a part, slowly, from the
//! past or the future, and go on elsewhere when their member is gone.

use std::sync::Arc;
use std::time::Duration;

use carrack_store::{KeyRange, Store, Watch, WatchError};
use rand::Rng;
use rand::rngs::StdRng;
use tokio::time::{Instant, sleep, timeout};

use crate::book;
use crate::history::{Keys, Revision, WatchEnd, Watched};
use crate::network::Node;
use crate::world::World;

/// How often a watcher looks whether its member still lives.
const LOOK: Duration = Duration::from_millis(50);

/// Whose watch it is, and how it is done.
struct Viewer {
    who: String,
    node: Node,
    life: u64,
    keys: Keys,
    /// Waits so long after each batch.
    pause: Duration,
    /// Ends after so many batches.
    batches: usize,
    /// Ends then.
    until: Option<Instant>,
    /// Whether it sees everything, for the book.
    records: bool,
}

/// Writes down all that a life of a member shows.
pub fn record(world: &Arc<World>, node: Node, life: u64, store: &Store) {
    let (world, store) = (Arc::clone(world), store.clone());
    let start = world.book.lock().whole() + 1;
    let who = format!("recorder@m{node}.{life}");
    let viewer = Viewer {
        who,
        node,
        life,
        keys: Keys::All,
        pause: Duration::ZERO,
        batches: usize::MAX,
        until: None,
        records: true,
    };
    tokio::spawn(async move {
        let mut start = start;
        // Told that something is compacted, it goes on behind it, as clients do.
        while let Some(next) = view(&world, &store, &viewer, Some(start)).await {
            start = next;
        }
    });
}

/// Watches until the member or the run ends. After a compaction: where to go on.
async fn view(world: &World, store: &Store, viewer: &Viewer, start: Option<Revision>) -> Option<Revision> {
    let keys = match &viewer.keys {
        Keys::All => KeyRange::all(),
        Keys::One(key) => KeyRange::key(key.clone()),
    };
    let mut watched = Watched {
        who: viewer.who.clone(),
        keys: viewer.keys.clone(),
        start: start.unwrap_or_default(),
        batches: Vec::new(),
        progress: 0,
        end: WatchEnd::Cut,
    };
    let mut watcher = match store.watch(Watch { keys, start_revision: start, prev_kv: true }) {
        Ok(watcher) => watcher,
        Err(error) => return end(world, viewer, watched, &error),
    };
    watched.start = watcher.start_revision();
    let over = world.over.subscribe();
    while watched.batches.len() < viewer.batches && viewer.until.is_none_or(|until| Instant::now() < until) {
        let next = timeout(LOOK, watcher.next()).await;
        let alive = world.network.life(viewer.node).is_some_and(|life| life.number == viewer.life);
        match next {
            Ok(Some(Ok(batch))) => {
                let events: Vec<_> = batch.events.iter().map(book::watched).collect();
                if viewer.records {
                    let changes = events.iter().map(|event| event.change.clone()).collect();
                    let seen = world.book.lock().saw(&viewer.who, world.trace.now(), batch.revision, changes);
                    seen.unwrap_or_else(|wrong| world.watchdog.report(wrong));
                }
                watched.batches.push((batch.revision, events));
                if !viewer.pause.is_zero() {
                    sleep(viewer.pause).await;
                }
            }
            Ok(Some(Err(error))) => return end(world, viewer, watched, &error),
            Ok(None) => break,
            Err(_) if !alive || *over.borrow() => break,
            Err(_) => {}
        }
    }
    watched.progress = watcher.progress();
    world.book.lock().watches.push(watched);
    None
}

/// A watch ended with an error: what to make of it.
fn end(world: &World, viewer: &Viewer, mut watched: Watched, error: &WatchError) -> Option<Revision> {
    let go_on = match *error {
        WatchError::Compacted { requested, compacted } => {
            watched.end = WatchEnd::Compacted { requested, compacted };
            Some(compacted)
        }
        WatchError::Stopped => None,
        WatchError::History(_)
            if world.network.life(viewer.node).is_none_or(|life| life.number != viewer.life) =>
        {
            None
        }
        WatchError::History(_) | WatchError::Unreadable(_) | WatchError::BadRevision(_) => {
            world.watchdog.report(format!("{}: {error}", viewer.who));
            None
        }
    };
    world.trace.event(format_args!("{} ends: {error}", viewer.who));
    world.book.lock().watches.push(watched);
    go_on
}

/// A client that watches one thing after the other until the run is over.
pub async fn roam(world: Arc<World>, number: usize, mut random: StdRng) {
    let mut over = world.over.subscribe();
    let mut next: Option<Revision> = None;
    for turn in 0.. {
        if *over.borrow_and_update() {
            return;
        }
        let alive = world.alive();
        let Some(node) = alive.get(random.random_range(0..alive.len().max(1))).copied() else {
            sleep(LOOK).await;
            continue;
        };
        let Some(life) = world.network.life(node) else { continue };
        let all = random.random_range(0..3) == 0;
        let keys = if all { Keys::All } else { Keys::One(world.setup.key(&mut random)) };
        let newest = world.book.lock().whole();
        let start = match random.random_range(0..4) {
            0 => None,
            1 => Some(random.random_range(1..=newest)),
            2 => Some(newest + random.random_range(0..20)),
            _ => next.or(Some(newest + 1)),
        };
        let viewer = Viewer {
            who: format!("watcher{number}.{turn}@m{node}.{}", life.number),
            node,
            life: life.number,
            keys,
            pause: Duration::from_millis(random.random_range(0..100) * random.random_range(0..3)),
            batches: random.random_range(1..60),
            until: Some(Instant::now() + Duration::from_millis(random.random_range(100..8000))),
            records: false,
        };
        next = view(&world, &life.store, &viewer, start).await;
        sleep(LOOK).await;
    }
}
