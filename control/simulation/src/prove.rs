//! Proof that the simulation finds what it is there to find: things are broken on purpose, and each has to be noticed
//! within a few seeds. And that a seed gives the same run again.

use crate::book::Book;
use crate::history::{Action, Call, Moment, Outcome, Step};
use crate::plan::Broken;
use crate::run::{REPEATABLE, run, run_to_book};

/// What came of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// What was broken.
    pub name: &'static str,
    /// Whether that was noticed.
    pub found: bool,
    /// How.
    pub detail: String,
}

/// A world in which nothing good can come of anything, and within how many seeds that has to show.
const WORLDS: [(&str, u64, Broken); 4] = {
    const NOTHING: Broken =
        Broken { lying_disks: false, false_answers: false, stale_reads: false, long_leases: false };
    [
        ("disks that only say that they have synced", 60, Broken { lying_disks: true, ..NOTHING }),
        ("a network that acknowledges entries itself", 100, Broken { false_answers: true, ..NOTHING }),
        ("linearizable reads from a member's own state", 10, Broken { stale_reads: true, ..NOTHING }),
        ("leases that end in half the time", 60, Broken { long_leases: true, ..NOTHING }),
    ]
};

/// Changes what was written down. False if there was nothing to change.
type Forgery = fn(&mut Book) -> bool;

/// Forgeries of a history in which all was well, and each has to be noticed.
const FORGERIES: [(&str, Forgery); 8] = [
    ("a write that is acknowledged and lost", lose_the_last),
    ("a write that was refused and is done", refuse),
    ("a read of an older revision", read_before),
    ("a read without one key", read_less),
    ("a write that is seen before it was asked for", ask_late),
    ("an event that a watcher missed", miss),
    ("an event that came twice", repeat),
    ("events in another order", swap),
];

/// All proofs.
pub fn all() -> std::io::Result<Vec<Proof>> {
    let mut proofs = Vec::new();
    for (name, seeds, broken) in WORLDS {
        proofs.push(broken_world(name, seeds, broken)?);
    }
    for (name, forgery) in FORGERIES {
        proofs.push(forged(name, forgery)?);
    }
    proofs.push(repeatable()?);
    Ok(proofs)
}

fn broken_world(name: &'static str, seeds: u64, broken: Broken) -> std::io::Result<Proof> {
    for seed in 0..seeds {
        let report = run(seed, broken, false)?;
        if let Some(wrong) = report.wrong.first() {
            let wrong: String = wrong.chars().take(120).collect();
            return Ok(Proof { name, found: true, detail: format!("seed {seed}: {wrong}") });
        }
    }
    Ok(Proof { name, found: false, detail: format!("not noticed in {seeds} seeds") })
}

fn forged(name: &'static str, forgery: Forgery) -> std::io::Result<Proof> {
    for seed in 0..20 {
        let (report, mut book) = run_to_book(seed, Broken::default(), false)?;
        if !report.wrong.is_empty() || !forgery(&mut book) {
            continue;
        }
        let verdict = book.log().and_then(|log| book.check(&log));
        let detail = match &verdict {
            Ok(()) => format!("seed {seed}: not noticed"),
            Err(wrong) => format!("seed {seed}: {}", wrong.chars().take(120).collect::<String>()),
        };
        return Ok(Proof { name, found: verdict.is_err(), detail });
    }
    Ok(Proof { name, found: false, detail: "no run had anything to forge".to_owned() })
}

fn repeatable() -> std::io::Result<Proof> {
    let name = "a seed gives the same run again";
    if !REPEATABLE {
        let detail = "built without --cfg tokio_unstable; use cargo xtask simulate".to_owned();
        return Ok(Proof { name, found: false, detail });
    }
    let mut events = 0;
    for seed in 0..10 {
        let (first, second) = (run(seed, Broken::default(), false)?, run(seed, Broken::default(), false)?);
        if first != second {
            let detail = format!("seed {seed}: {:016x}, then {:016x}", first.hash, second.hash);
            return Ok(Proof { name, found: false, detail });
        }
        events += first.events;
    }
    Ok(Proof { name, found: true, detail: format!("10 seeds, {events} events") })
}

fn lose_the_last(book: &mut Book) -> bool {
    let end = book.whole();
    book.watches.clear();
    let acknowledged = book.calls.iter().any(|call| call.revision() == Some(end));
    acknowledged && book.forget(end)
}

/// The first acknowledged put.
fn put(book: &mut Book) -> Option<&mut Call> {
    book.calls.iter_mut().find(|call| match (&call.action, &call.outcome) {
        (Action::Write { steps, .. }, Outcome::Wrote { held: true, .. }) => {
            steps.iter().any(|step| matches!(step, Step::Put { .. }))
        }
        _ => false,
    })
}

fn refuse(book: &mut Book) -> bool {
    put(book).map(|call| call.outcome = Outcome::Refused).is_some()
}

fn read_before(book: &mut Book) -> bool {
    let Ok(log) = book.log() else { return false };
    let latest = book
        .calls
        .iter_mut()
        .filter(|call| matches!(call.action, Action::Read { at: None, local: false, .. }));
    let Some(call) = latest.max_by_key(|call| call.revision()) else { return false };
    let (Action::Read { keys, .. }, Outcome::Read { revision, found }) = (&call.action, &mut call.outcome)
    else {
        return false;
    };
    *revision /= 2;
    *found = log.all_at(keys, *revision);
    *revision > 0
}

fn read_less(book: &mut Book) -> bool {
    book.calls.iter_mut().any(|call| match &mut call.outcome {
        Outcome::Read { found, .. } => found.pop().is_some(),
        _ => false,
    })
}

fn ask_late(book: &mut Book) -> bool {
    let last = book.calls.iter().map(|call| call.invoked).max().unwrap_or_default();
    put(book).map(|call| (call.invoked, call.returned) = (last + 1, Moment::MAX)).is_some()
}

fn miss(book: &mut Book) -> bool {
    let watch = book.watches.iter_mut().find(|watch| watch.batches.len() > 2);
    watch.map(|watch| watch.batches.remove(1)).is_some()
}

fn repeat(book: &mut Book) -> bool {
    let watch = book.watches.iter_mut().find(|watch| watch.batches.len() > 2);
    watch.map(|watch| watch.batches.insert(1, watch.batches[0].clone())).is_some()
}

fn swap(book: &mut Book) -> bool {
    let watch = book.watches.iter_mut().find(|watch| watch.batches.len() > 2);
    watch.map(|watch| watch.batches.swap(0, 1)).is_some()
}
