//! One run: a seed in, a report out.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::sync::{Arc, Once};
use std::time::Duration;

use carrack_store::Range;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::{sleep, timeout};

use crate::book::{Book, seen};
use crate::check::log::Log;
use crate::client::Client;
use crate::history::Keys;
use crate::plan::{Broken, Setup};
use crate::trace::Trace;
use crate::world::World;
use crate::{holder, nemesis, observer};

/// How long all may take until the clients have made their calls.
const WORK_LIMIT: Duration = Duration::from_secs(600);

/// How long the cluster may take to be well again, once nothing is wrong any more.
const HEAL_LIMIT: Duration = Duration::from_secs(60);
/// For how many looks, a tenth of a second apart, nothing may change before all is taken for settled: longer than any message
/// takes.
const QUIET_ROUNDS: usize = 10;

/// What a run was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Number of events.
    pub events: u64,
    /// Their hash: the same seed gives the same.
    pub hash: u64,
    /// Calls that were made, and those that got an answer.
    pub calls: (usize, usize),
    /// The last revision.
    pub revisions: i64,
    /// Terms that had a leader.
    pub terms: usize,
    /// Messages between members.
    pub messages: u64,
    /// Simulated time.
    pub time: Duration,
    /// What was wrong; none if all was well.
    pub wrong: Vec<String>,
    /// The last events before the end.
    pub tail: Vec<String>,
}

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Panics in tasks of the store would go unnoticed otherwise.
fn catch_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(move |info| {
            // With `RUST_BACKTRACE=1`.
            let trace = match Backtrace::capture() {
                trace if trace.status() == BacktraceStatus::Captured => format!("\n{trace}"),
                _ => String::new(),
            };
            PANICS.with_borrow_mut(|panics| panics.push(format!("{info}{trace}")));
        }));
    });
}

/// Whether the same seed gives the same trace: tokio's own randomness, which decides who is woken first where several
/// wait, can only be seeded with its unstable features. `cargo xtask simulate` builds with them.
pub const REPEATABLE: bool = cfg!(tokio_unstable);

fn runtime(seed: u64) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
    let _ = seed;
    builder.enable_time().start_paused(true).build()
}

/// Runs a seed; `print` shows each event.
pub fn run(seed: u64, broken: Broken, print: bool) -> std::io::Result<Report> {
    run_to_book(seed, broken, print).map(|(report, _)| report)
}

/// The same; gives what was written down, too.
pub fn run_to_book(seed: u64, broken: Broken, print: bool) -> std::io::Result<(Report, Book)> {
    catch_panics();
    PANICS.take();
    let runtime = runtime(seed)?;
    let (mut report, book) = runtime.block_on(async {
        let trace = Arc::new(Trace::start(print));
        let world = World::new(Setup::of(seed, broken), Arc::clone(&trace));
        let wrong = live(&world).await;
        let (events, hash) = trace.sum();
        let book = std::mem::take(&mut *world.book.lock());
        let answered = book.calls.iter().filter(|call| call.revision().is_some()).count();
        let report = Report {
            seed,
            events,
            hash,
            calls: (book.calls.len(), answered),
            revisions: book.whole(),
            terms: world.watchdog.terms(),
            messages: world.network.messages(),
            time: trace.now(),
            wrong,
            tail: trace.tail(),
        };
        // Nothing of it stays in memory: a thousand runs follow each other.
        world.network.end_all();
        (report, book)
    });
    drop(runtime);
    report.wrong.extend(PANICS.take());
    Ok((report, book))
}

/// The run itself. Gives what was wrong.
async fn live(world: &Arc<World>) -> Vec<String> {
    if world.setup.broken.false_answers {
        world.network.answer_falsely();
    }
    world.nodes().into_iter().for_each(|node| world.start(node));
    let random = |who: u64| StdRng::seed_from_u64(world.setup.seed.wrapping_mul(1_000_003).wrapping_add(who));
    let mut clients = Vec::new();
    for number in 0..world.setup.clients {
        let client = Client::new(Arc::clone(world), format!("c{number}"), random(number as u64));
        clients.push(tokio::spawn(client.work(world.setup.calls)));
    }
    clients.push(tokio::spawn(holder::hold(Client::new(Arc::clone(world), "h".to_owned(), random(100)))));
    for number in 0..2 {
        tokio::spawn(observer::roam(Arc::clone(world), number, random(200 + number as u64)));
    }
    clients.push(tokio::spawn(nemesis::run(Arc::clone(world))));
    let all = async {
        for client in clients {
            if let Err(error) = client.await {
                world.watchdog.report(format!("a client ended: {error}"));
            }
        }
    };
    if timeout(WORK_LIMIT, all).await.is_err() {
        world.watchdog.report(format!("the clients are not done after {WORK_LIMIT:?}"));
    }
    nemesis::heal(world);
    let outcome = match timeout(HEAL_LIMIT, settled(world)).await {
        Ok(()) => end(world).await,
        Err(_) => {
            Err(format!("the cluster is not well {HEAL_LIMIT:?} after everything else is: {}", state(world)))
        }
    };
    let mut wrong = world.watchdog.wrong();
    wrong.extend(outcome.err());
    wrong
}

fn state(world: &World) -> String {
    let state = |node: &usize| match world.network.life(*node) {
        None => format!("m{node} is down"),
        Some(life) => {
            let status = life.store.status();
            format!(
                "m{node} term {} leader {:x?} applied {} revision {}",
                status.term, status.leader, status.applied_index, status.revision
            )
        }
    };
    world.nodes().iter().map(state).collect::<Vec<_>>().join(", ")
}

/// Waits until all members are there and have the same revision, and keep it: a write that nobody waits for any more may
/// still be on its way between two members.
async fn settled(world: &World) {
    let mut rounds = 0;
    let mut settled_at = None;
    while rounds < QUIET_ROUNDS {
        sleep(Duration::from_millis(100)).await;
        let mut newest = Vec::new();
        for node in world.nodes() {
            let Some(life) = world.network.life(node) else { break };
            if let Ok(read) = life.store.range(Range::prefix("")).await {
                newest.push(read.revision);
            }
        }
        // Holders are gone, so all leases have to end.
        let lives: Vec<_> = world.nodes().iter().filter_map(|node| world.network.life(*node)).collect();
        if lives.iter().any(|life| life.store.status().leases > 0) {
            continue;
        }
        let all = newest.len() == world.nodes().len();
        let same = all
            && newest.iter().all(|revision| *revision == newest[0])
            && world.book.lock().whole() >= newest[0];
        let at = newest.first().copied().filter(|_| same);
        rounds = if at.is_some() && at == settled_at { rounds + 1 } else { 0 };
        settled_at = at;
    }
}

/// Lets watchers end, and checks everything.
async fn end(world: &Arc<World>) -> Result<(), String> {
    world.over.send_replace(true);
    // Longer than any watcher waits before it looks.
    sleep(Duration::from_secs(1)).await;
    let log = world.book.lock().log()?;
    for node in world.nodes() {
        same_state(world, node, &log).await?;
    }
    world.book.lock().check(&log)
}

/// A member's keys have to be those of the log, now and as of a revision that is kept.
async fn same_state(world: &World, node: usize, log: &Log) -> Result<(), String> {
    let Some(life) = world.network.life(node) else { return Err(format!("m{node} is gone at the end")) };
    let store = &life.store;
    let revision = store.revision();
    let kept = store.compacted_revision().max(revision - 10).max(1);
    for at in [revision, kept] {
        let range = Range { serializable: true, ..Range::prefix("").at(at) };
        let read =
            store.range(range).await.map_err(|error| format!("m{node} at {at} of {revision}: {error}"))?;
        let found: Vec<_> = read.kvs.iter().map(|kv| seen(kv)).collect();
        let right = log.all_at(&Keys::All, at);
        if found != right {
            return Err(format!("m{node} has at revision {at} {found:?}, right is {right:?}"));
        }
    }
    if revision == log.end() {
        Ok(())
    } else {
        Err(format!("m{node} ends at revision {revision}, the log at {}", log.end()))
    }
}
