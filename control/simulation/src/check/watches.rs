//! Whether watchers got what happened: in order, nothing missed, nothing twice, and the truth about compaction.

use crate::check::log::Log;
use crate::history::{Change, Revision, WatchEnd, Watched, WatchedEvent};

/// Checks one watch. `compactions` are the revisions up to which clients asked to compact, done or not.
pub fn check(watch: &Watched, log: &Log, compactions: &[Revision]) -> Result<(), String> {
    let compacted_most = compactions.iter().copied().max().unwrap_or_default();
    let mut next = watch.start;
    for (revision, events) in &watch.batches {
        if *revision < next {
            return Err(format!("{}: revision {revision} came again, or late; {next} was due", watch.who));
        }
        nothing_missed(watch, log, next, revision - 1)?;
        let wanted = wanted(watch, log, *revision);
        if wanted.len() != events.len() || wanted.is_empty() {
            return Err(format!("{}: revision {revision} is {events:?} instead of {wanted:?}", watch.who));
        }
        for (event, change) in events.iter().zip(wanted) {
            check_event(watch, log, *revision, event, change, compacted_most)?;
        }
        next = revision + 1;
    }
    if watch.progress > log.end() {
        return Err(format!(
            "{}: progress {} is behind the log's end {}",
            watch.who,
            watch.progress,
            log.end()
        ));
    }
    nothing_missed(watch, log, next, watch.progress)?;
    match watch.end {
        WatchEnd::Compacted { requested, compacted }
            if requested < next.min(watch.start) || compacted <= requested || compacted > compacted_most =>
        {
            Err(format!(
                "{}: told that {requested} is compacted (up to {compacted}); {next} was due, {compacted_most} is the most that anybody asked for",
                watch.who
            ))
        }
        WatchEnd::Compacted { .. } | WatchEnd::Cut => Ok(()),
    }
}

fn wanted<'a>(watch: &Watched, log: &'a Log, revision: Revision) -> Vec<&'a Change> {
    log.changes(revision).iter().filter(|change| watch.keys.contains(&change.key)).collect()
}

fn nothing_missed(watch: &Watched, log: &Log, from: Revision, upto: Revision) -> Result<(), String> {
    let missed = (from..=upto).find(|revision| !wanted(watch, log, *revision).is_empty());
    match missed {
        None => Ok(()),
        Some(revision) => {
            let wanted = wanted(watch, log, revision);
            Err(format!("{}: revision {revision} is missing from {from}..={upto}: {wanted:?}", watch.who))
        }
    }
}

fn check_event(
    watch: &Watched,
    log: &Log,
    revision: Revision,
    event: &WatchedEvent,
    change: &Change,
    compacted_most: Revision,
) -> Result<(), String> {
    let before = log.at(&change.key, revision - 1);
    // What was before is left out if it may have been compacted when it was read.
    let left_out = event.before.is_none() && revision - 1 < compacted_most;
    if event.change == *change && (left_out || event.before.as_ref() == before) {
        return Ok(());
    }
    Err(format!("{}: revision {revision} came as {event:?}, it is {change:?} after {before:?}", watch.who))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Keys, Seen, Step};

    fn log() -> Log {
        let mut log = Log::default();
        for n in 2..8 {
            let key = if n % 2 == 0 { "a" } else { "b" }.to_owned();
            let step = if n == 6 {
                Step::Delete { key }
            } else {
                Step::Put { key, value: format!("v{n}"), lease: 0 }
            };
            let effect = log.effect(log.end(), None, &[step]);
            log.push(effect.changes);
        }
        log
    }

    fn watched(log: &Log, keys: Keys, start: Revision) -> Watched {
        let batches = (start..=log.end()).filter_map(|revision| {
            let changes = log.changes(revision).iter().filter(|change| keys.contains(&change.key));
            let event = |change: &Change| WatchedEvent {
                before: log.at(&change.key, revision - 1).cloned(),
                change: change.clone(),
            };
            let events: Vec<_> = changes.map(event).collect();
            (!events.is_empty()).then_some((revision, events))
        });
        let batches: Vec<(Revision, Vec<WatchedEvent>)> = batches.collect();
        let who = "w".to_owned();
        Watched { who, keys, start, batches, progress: log.end(), end: WatchEnd::Cut }
    }

    #[test]
    fn what_happened_is_accepted() {
        let log = log();
        for keys in [Keys::All, Keys::One("a".to_owned())] {
            for start in 2..8 {
                assert_eq!(check(&watched(&log, keys.clone(), start), &log, &[]), Ok(()));
            }
        }
        let mut late = watched(&log, Keys::All, 2);
        late.batches.truncate(2);
        late.progress = 3;
        late.end = WatchEnd::Compacted { requested: 4, compacted: 6 };
        assert_eq!(check(&late, &log, &[6]), Ok(()));
        let mut short = watched(&log, Keys::All, 2);
        short.batches[2].1[0].before = None;
        assert_eq!(check(&short, &log, &[4]), Ok(()), "compacted");
    }

    #[test]
    fn what_did_not_happen_is_refused() {
        let log = log();
        let refused = |name: &str, change: &dyn Fn(&mut Watched)| {
            let mut watch = watched(&log, Keys::All, 2);
            change(&mut watch);
            let verdict = check(&watch, &log, &[]);
            assert!(verdict.is_err(), "{name}: {watch:?}");
        };
        refused("missed", &|watch| drop(watch.batches.remove(2)));
        refused("missed at the end", &|watch| drop(watch.batches.pop()));
        refused("twice", &|watch| watch.batches.insert(3, watch.batches[2].clone()));
        refused("out of order", &|watch| watch.batches.swap(2, 3));
        refused("another value", &|watch| {
            let seen: &mut Option<Seen> = &mut watch.batches[0].1[0].change.now;
            seen.as_mut().unwrap().value = "x".to_owned();
        });
        refused("nothing before", &|watch| watch.batches[3].1[0].before = None);
        refused("an event twice", &|watch| {
            let again = watch.batches[3].1[0].clone();
            watch.batches[3].1.push(again);
        });
        refused("no events", &|watch| watch.batches[3].1.clear());
        refused("progress that is not there yet", &|watch| watch.progress = 20);
        refused("compaction that nobody asked for", &|watch| {
            watch.end = WatchEnd::Compacted { requested: 8, compacted: 9 };
        });
    }
}
