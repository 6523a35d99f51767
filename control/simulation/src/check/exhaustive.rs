//! The search over all orders, as Wing and Gong do it, with the states that were seen before left out, as Lowe does:
//! too slow for real histories, too simple to be wrong. It judges the fast checker.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::linear;
use super::log::{FIRST, Log};
use crate::history::*;

/// Whether some order of the calls gives all answers and the log.
fn linearizable(calls: &[Call], log: &Log) -> bool {
    let mut seen = BTreeSet::new();
    search(calls, log, 0, FIRST, &mut seen)
}

fn search(
    calls: &[Call],
    log: &Log,
    done: u32,
    revision: Revision,
    seen: &mut BTreeSet<(u32, Revision)>,
) -> bool {
    if !seen.insert((done, revision)) {
        return false;
    }
    let open: Vec<usize> = (0..calls.len()).filter(|n| done & 1 << n == 0).collect();
    let waiting = |n: &usize| !matches!(calls[*n].outcome, Outcome::Unknown | Outcome::Refused);
    if revision == log.end() && !open.iter().any(waiting) {
        return true;
    }
    // A call can be next if no other one that is open was answered before it began.
    let first = open.iter().filter(|n| waiting(n)).map(|n| calls[*n].returned).min().unwrap_or(Moment::MAX);
    open.iter().filter(|n| calls[**n].invoked < first).any(|n| {
        carry_out(&calls[*n], log, revision).is_some_and(|next| search(calls, log, done | 1 << n, next, seen))
    })
}

/// The revision after the call; `None` if it cannot be next.
fn carry_out(call: &Call, log: &Log, revision: Revision) -> Option<Revision> {
    match (&call.action, &call.outcome) {
        (_, Outcome::Refused) | (Action::Read { .. }, Outcome::Unknown) => None,
        (Action::Read { keys, at, .. }, Outcome::Read { revision: told, found }) => {
            (*told == revision && log.all_at(keys, at.unwrap_or(revision)) == *found).then_some(revision)
        }
        (Action::Write { guard, steps }, outcome) => {
            let effect = log.effect(revision, guard.as_ref(), steps);
            let next = if effect.changes.is_empty() { revision } else { revision + 1 };
            let told = Outcome::Wrote { revision: next, held: effect.held, before: effect.before };
            let as_told = *outcome == Outcome::Unknown || *outcome == told;
            let as_logged = effect.changes.is_empty() || log.changes(next) == effect.changes;
            (as_told && as_logged).then_some(next)
        }
        (Action::Read { .. }, Outcome::Wrote { .. }) => None,
    }
}

/// A history of a few calls that is linearizable: each call takes effect at some moment between its ends.
fn history(random: &mut StdRng) -> (Vec<Call>, Log) {
    let mut log = Log::default();
    let mut calls = Vec::new();
    let count = random.random_range(2..7u64);
    for n in 0..count {
        let effect_at = (n + 1) * 100;
        let action = action(random, &log, n);
        let lost = random.random_range(0..4) == 0;
        let (outcome, changes) = match &action {
            Action::Read { keys, at, .. } => {
                let found = log.all_at(keys, at.unwrap_or(log.end()));
                (Outcome::Read { revision: log.end(), found }, Vec::new())
            }
            Action::Write { guard, steps } => {
                let effect = log.effect(log.end(), guard.as_ref(), steps);
                let revision = log.end() + i64::from(!effect.changes.is_empty());
                (Outcome::Wrote { revision, held: effect.held, before: effect.before }, effect.changes)
            }
        };
        let happens = !lost || random.random();
        if happens && !changes.is_empty() {
            log.push(changes);
        }
        calls.push(Call {
            who: format!("c{n}"),
            life: 0,
            action,
            invoked: effect_at - random.random_range(1..300).min(effect_at) + n,
            returned: if lost { Moment::MAX } else { effect_at + random.random_range(1..300) * 7 + n },
            outcome: if lost { Outcome::Unknown } else { outcome },
        });
    }
    (calls, log)
}

fn action(random: &mut StdRng, log: &Log, n: u64) -> Action {
    let key = ["a", "b"][random.random_range(0..2)].to_owned();
    let modified = log.at(&key, log.end()).map_or(0, |seen| seen.modified);
    let shift = i64::from(random.random_range(0..3) == 0);
    let guard = random.random::<bool>().then(|| Guard { key: key.clone(), modified: modified + shift });
    match random.random_range(0..5) {
        0 => Action::Read { keys: Keys::All, at: None, local: false },
        1 => Action::Read { keys: Keys::One(key), at: None, local: false },
        2 => Action::Write { guard, steps: vec![Step::Delete { key }] },
        _ => Action::Write { guard, steps: vec![Step::Put { key, value: format!("v{n}"), lease: 0 }] },
    }
}

/// Breaks something, or seems to.
fn tamper(random: &mut StdRng, calls: &mut [Call]) {
    let place = random.random_range(0..calls.len());
    let other = random.random_range(0..calls.len());
    match random.random_range(0..6) {
        0 => calls[place].outcome = calls[other].outcome.clone(),
        1 => {
            if let Outcome::Wrote { revision, .. } | Outcome::Read { revision, .. } =
                &mut calls[place].outcome
            {
                *revision += random.random_range(0..3) - 1;
            }
        }
        2 => {
            let later = calls[place].returned.min(9999) + random.random_range(1..700);
            calls[place].invoked = later;
            calls[place].returned =
                if calls[place].returned == Moment::MAX { Moment::MAX } else { later + 1 };
        }
        3 => {
            calls[place].invoked /= random.random_range(2..5);
            calls[place].returned = calls[place].returned.min(calls[place].invoked + 1);
        }
        4 => calls[place].outcome = Outcome::Refused,
        _ => {
            calls[place].outcome = Outcome::Unknown;
            calls[place].returned = Moment::MAX;
        }
    }
}

/// Moments that are never equal, as in real histories.
fn distinct(calls: &mut [Call]) {
    for (n, call) in (1..).zip(calls) {
        call.invoked = call.invoked * 32 + 2 * n;
        call.returned = call.returned.saturating_mul(32).saturating_add(2 * n + 1);
    }
}

#[test]
fn the_fast_checker_agrees_with_the_search() {
    let mut verdicts = [0; 2];
    for seed in 0..30_000 {
        let mut random = StdRng::seed_from_u64(seed);
        let (mut calls, log) = history(&mut random);
        assert_eq!(linear::check(&calls, &log), Ok(Vec::new()), "seed {seed}: {calls:#?}");
        assert!(linearizable(&calls, &log), "seed {seed}: {calls:#?}");
        tamper(&mut random, &mut calls);
        distinct(&mut calls);
        let slow = linearizable(&calls, &log);
        let fast = linear::check(&calls, &log);
        assert_eq!(fast.is_ok(), slow, "seed {seed}: {fast:?}\n{calls:#?}\n{log:#?}");
        verdicts[usize::from(slow)] += 1;
    }
    assert!(verdicts.iter().all(|count| *count > 3000), "both verdicts are common: {verdicts:?}");
}
