//! Whether a history is linearizable.
//!
//! Every answer names a revision, and revisions order all changes. So no order has to be searched for, as Wing and
//! Gong's algorithm does: it is enough that
//!
//! * each revision of the log is the effect of exactly one call (or the end of a lease), and each acknowledged write
//!   is at the revision that its client was told, with the effect that it was told;
//! * each read answers what the keys were as of its revision;
//! * that order respects time: a call that began after another one's answer has a revision no older, and nobody sees
//!   a revision before the call that made it began.
//!
//! A call without an answer may be done at any time after it began, once, or never. The search over all orders in
//! `exhaustive.rs` holds this against small histories of all kinds.

use std::collections::{BTreeMap, BTreeSet};

use crate::check::log::{FIRST, Log};
use crate::history::{Action, Call, Change, Moment, Outcome, Revision};

/// Which call made a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Maker {
    /// The call at this place.
    Call(usize),
    /// The end of a lease.
    Lease,
}

/// A lease that ended in a revision without a call that asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The lease.
    pub lease: i64,
    /// The revision that deleted its keys.
    pub revision: Revision,
}

/// Checks calls against the log. Gives the leases that ended, or what is wrong.
pub fn check(calls: &[Call], log: &Log) -> Result<Vec<Ended>, String> {
    let mut check = Check { calls, log, makers: BTreeMap::new(), ended: Vec::new() };
    check.place_acknowledged()?;
    check.place_others()?;
    check.answers()?;
    check.time()?;
    check.local_reads()?;
    Ok(check.ended)
}

struct Check<'a> {
    calls: &'a [Call],
    log: &'a Log,
    makers: BTreeMap<Revision, Maker>,
    ended: Vec<Ended>,
}

/// Whether the answer says that the write changed something.
fn says_changed(call: &Call) -> bool {
    match (&call.action, &call.outcome) {
        (Action::Write { steps, .. }, Outcome::Wrote { held: true, before, .. }) => {
            let puts = steps.iter().any(|step| matches!(step, crate::history::Step::Put { .. }));
            puts || before.iter().any(Option::is_some)
        }
        _ => false,
    }
}

impl Check<'_> {
    /// Puts each acknowledged change at the revision that its client was told.
    fn place_acknowledged(&mut self) -> Result<(), String> {
        for (place, call) in self.calls.iter().enumerate().filter(|(_, call)| says_changed(call)) {
            let Some(revision) = call.revision() else { continue };
            if revision > self.log.end() {
                return Err(format!(
                    "an acknowledged write is lost: the log ends at {}: {call:?}",
                    self.log.end()
                ));
            }
            if let Some(Maker::Call(other)) = self.makers.insert(revision, Maker::Call(place)) {
                let other = &self.calls[other];
                return Err(format!("two writes were told revision {revision}: {other:?} and {call:?}"));
            }
        }
        Ok(())
    }

    /// Finds out what made the revisions that nobody was told about.
    fn place_others(&mut self) -> Result<(), String> {
        let mut used = BTreeSet::new();
        for (revision, changes) in self.log.revisions() {
            if self.makers.contains_key(&revision) {
                continue;
            }
            let maker = match self.unknown_maker(revision, changes, &used)? {
                Some(place) => Maker::Call(place),
                None => {
                    let lease = self.lease_end(revision, changes).ok_or_else(|| {
                        format!(
                            "nobody asked for what revision {revision} did: {changes:?}{}",
                            self.suspects(changes)
                        )
                    })?;
                    self.ended.push(Ended { lease, revision });
                    Maker::Lease
                }
            };
            if let Maker::Call(place) = maker {
                used.insert(place);
            }
            self.makers.insert(revision, maker);
        }
        Ok(())
    }

    /// The unanswered call that has just this effect. Among several that were asked for before anybody saw it, one with a
    /// guard fits nowhere else; else the earliest is taken, since it can have been done soonest, and the others can be done
    /// later as well.
    fn unknown_maker(
        &self,
        revision: Revision,
        changes: &[Change],
        used: &BTreeSet<usize>,
    ) -> Result<Option<usize>, String> {
        let mut best: Option<(bool, bool, Moment, usize)> = None;
        let answers = self.calls.iter().filter(|call| call.revision().is_some_and(|seen| seen >= revision));
        let seen = answers.map(|call| call.returned).min().unwrap_or(Moment::MAX);
        for (place, call) in self.calls.iter().enumerate() {
            let (Action::Write { guard, steps }, Outcome::Unknown) = (&call.action, &call.outcome) else {
                continue;
            };
            if used.contains(&place) || !same_keys(steps, changes) {
                continue;
            }
            let effect = self.log.effect(revision - 1, guard.as_ref(), steps);
            let rank = (call.invoked > seen, guard.is_none(), call.invoked, place);
            if effect.changes == changes && best.is_none_or(|best| rank < best) {
                best = Some(rank);
            }
        }
        Ok(best.map(|(.., place)| place))
    }

    /// The lease whose end explains the changes.
    fn lease_end(&self, revision: Revision, changes: &[Change]) -> Option<i64> {
        let first = changes.first()?;
        let lease = self.log.at(&first.key, revision - 1)?.lease;
        let mut keys: Vec<&str> = changes.iter().map(|change| change.key.as_str()).collect();
        keys.sort_unstable();
        let deletes = changes.iter().all(|change| change.now.is_none());
        (lease != 0 && deletes && keys == self.log.keys_of(lease, revision - 1)).then_some(lease)
    }

    /// Calls that wrote one of these values, for the report.
    fn suspects(&self, changes: &[Change]) -> String {
        let values: BTreeSet<&str> =
            changes.iter().filter_map(|change| Some(change.now.as_ref()?.value.as_str())).collect();
        let wrote = |call: &&Call| {
            match &call.action {
            Action::Write { steps, .. } => steps.iter().any(
                |step| matches!(step, crate::history::Step::Put { value, .. } if values.contains(value.as_str())),
            ),
            Action::Read { .. } => false,
        }
        };
        let found: String =
            self.calls.iter().filter(wrote).map(|call| format!("\n  written by {call:?}")).collect();
        if found.is_empty() {
            String::new()
        } else {
            format!(" (done twice, or although it was refused?){found}")
        }
    }

    /// Whether each answer is what its revision implies.
    fn answers(&self) -> Result<(), String> {
        for call in self.calls {
            match (&call.action, &call.outcome) {
                (Action::Write { guard, steps }, Outcome::Wrote { revision, held, before }) => {
                    let changed = says_changed(call);
                    let base = if changed { revision - 1 } else { *revision };
                    let effect = self.log.effect(base, guard.as_ref(), steps);
                    let real = if changed { self.log.changes(*revision) } else { &[] };
                    if effect.held != *held || effect.before != *before || effect.changes != real {
                        return Err(format!(
                            "a wrong answer: after revision {base} it is {effect:?}, the log has {real:?}: {call:?}"
                        ));
                    }
                }
                (Action::Read { keys, at, .. }, Outcome::Read { revision, found }) => {
                    let right = self.log.all_at(keys, at.unwrap_or(*revision));
                    if right != *found {
                        return Err(format!("a wrong read: {right:?} is right: {call:?}"));
                    }
                }
                (_, Outcome::Unknown | Outcome::Refused) => {}
                (Action::Write { .. }, Outcome::Read { .. })
                | (Action::Read { .. }, Outcome::Wrote { .. }) => {
                    return Err(format!("an answer of another kind: {call:?}"));
                }
            }
            if let Some(revision) =
                call.revision().filter(|revision| !(FIRST..=self.log.end()).contains(revision))
            {
                return Err(format!(
                    "the log has no revision {revision}, it ends at {}: {call:?}",
                    self.log.end()
                ));
            }
        }
        Ok(())
    }

    /// Whether the order of revisions respects time.
    fn time(&self) -> Result<(), String> {
        let began = self.began();
        let mut answered: Vec<&Call> =
            self.calls.iter().filter(|call| call.revision().is_some() && !call.is_local()).collect();
        answered.sort_by_key(|call| call.returned);
        // For each answer, in order of time, the one so far that saw the newest revision.
        let mut newest: Vec<&Call> = Vec::with_capacity(answered.len());
        for call in &answered {
            let last = newest.last().filter(|last| last.revision() > call.revision());
            newest.push(last.copied().unwrap_or(call));
        }
        for call in self.calls {
            let Some(revision) = call.revision() else { continue };
            if let Some((moment, maker)) = began.range(..=revision).next_back().map(|(_, began)| *began)
                && moment > call.returned
            {
                let maker = &self.calls[maker];
                return Err(format!("the answer {call:?} contains what was asked for only later: {maker:?}"));
            }
            let before = answered.partition_point(|other| other.returned < call.invoked);
            let Some(earlier) = before.checked_sub(1).map(|last| newest[last]).filter(|_| !call.is_local())
            else {
                continue;
            };
            let seen = earlier.revision().unwrap_or_default();
            if revision < seen || (revision == seen && says_changed(call)) {
                return Err(format!("stale: {call:?} began after the answer {earlier:?}"));
            }
        }
        Ok(())
    }

    /// For each revision, the call that began last among those that made it or an earlier one.
    fn began(&self) -> BTreeMap<Revision, (Moment, usize)> {
        let mut latest: Option<(Moment, usize)> = None;
        let mut began = BTreeMap::new();
        for (revision, maker) in &self.makers {
            if let Maker::Call(place) = maker {
                let this = (self.calls[*place].invoked, *place);
                latest = Some(latest.map_or(this, |latest| latest.max(this)));
            }
            if let Some(latest) = latest {
                began.insert(*revision, latest);
            }
        }
        began
    }

    /// Local reads may be stale, but those of one member do not go back.
    fn local_reads(&self) -> Result<(), String> {
        let mut reads: Vec<&Call> =
            self.calls.iter().filter(|call| call.is_local() && call.revision().is_some()).collect();
        reads.sort_by_key(|call| call.returned);
        let mut newest: BTreeMap<u64, &Call> = BTreeMap::new();
        for call in &reads {
            // Overlapping reads may be answered in any order.
            if let Some(last) = newest.get(&call.life)
                && last.returned < call.invoked
                && last.revision() > call.revision()
            {
                return Err(format!("a local read went back: {call:?} after {last:?}"));
            }
            let last = newest.entry(call.life).or_insert(call);
            if call.revision() >= last.revision() {
                *last = call;
            }
        }
        Ok(())
    }
}

/// Whether the steps are about the changed keys at least.
fn same_keys(steps: &[crate::history::Step], changes: &[Change]) -> bool {
    use crate::history::Step;
    changes.iter().all(|change| {
        steps.iter().any(|step| match (step, &change.now) {
            (Step::Put { key, value, .. }, Some(now)) => *key == change.key && *value == now.value,
            (Step::Delete { key }, None) => *key == change.key,
            _ => false,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Guard, Keys, Seen, Step};

    /// Histories in a few words: calls follow each other, one after the other's answer.
    #[derive(Default)]
    struct Scene {
        log: Log,
        calls: Vec<Call>,
    }

    impl Scene {
        fn call(&mut self, action: Action, outcome: Outcome) -> &mut Call {
            let now = self.calls.len() as Moment * 10;
            let returned = if outcome == Outcome::Unknown { Moment::MAX } else { now + 5 };
            self.calls.push(Call {
                who: "c@1.1".to_owned(),
                life: 1,
                action,
                invoked: now,
                returned,
                outcome,
            });
            self.calls.last_mut().unwrap()
        }

        fn write(&mut self, step: Step) -> &mut Call {
            let effect = self.log.effect(self.log.end(), None, std::slice::from_ref(&step));
            self.log.push(effect.changes);
            let revision = self.log.end();
            let outcome = Outcome::Wrote { revision, held: true, before: effect.before };
            self.call(Action::Write { guard: None, steps: vec![step] }, outcome)
        }

        fn put(&mut self, value: &str) -> &mut Call {
            self.write(Step::Put { key: "k".to_owned(), value: value.to_owned(), lease: 0 })
        }

        fn read(&mut self, revision: Revision, local: bool) -> &mut Call {
            let found = self.log.all_at(&Keys::All, revision);
            self.call(Action::Read { keys: Keys::All, at: None, local }, Outcome::Read { revision, found })
        }

        fn refused(&self, why: &str) {
            let verdict = check(&self.calls, &self.log);
            assert!(verdict.as_ref().is_err_and(|error| error.contains(why)), "{verdict:?}");
        }

        fn accepted(&self) -> Vec<Ended> {
            check(&self.calls, &self.log).unwrap()
        }
    }

    #[test]
    fn what_must_be_refused_is() {
        let mut scene = Scene::default();
        scene.put("1").returned = 100;
        scene.put("2");
        scene.accepted();
        scene.read(2, false);
        scene.refused("stale");

        let mut scene = Scene::default();
        scene.put("1");
        scene.log = Log::default();
        scene.refused("lost");

        let mut scene = Scene::default();
        scene.put("1");
        let again = scene.log.effect(2, None, &[Step::Put { key: "k".into(), value: "1".into(), lease: 0 }]);
        scene.log.push(again.changes);
        scene.refused("done twice");

        let mut scene = Scene::default();
        scene.put("1").outcome = Outcome::Refused;
        scene.refused("although it was refused");

        let mut scene = Scene::default();
        scene.put("1");
        let same = scene.calls[0].clone();
        scene.calls.push(same);
        scene.refused("two writes were told");

        let mut scene = Scene::default();
        scene.put("1");
        let Outcome::Wrote { before, .. } = &mut scene.calls[0].outcome else { unreachable!() };
        *before = scene.log.all_at(&Keys::All, 2).into_iter().map(Some).collect();
        scene.refused("a wrong answer");

        let mut scene = Scene::default();
        scene.put("1");
        let Outcome::Read { found, .. } = &mut scene.read(2, false).outcome else { unreachable!() };
        found.clear();
        scene.refused("a wrong read");
    }

    #[test]
    fn an_unanswered_write_is_done_later_once_or_never() {
        for done in [false, true] {
            let mut scene = Scene::default();
            scene.put("1");
            let step = Step::Put { key: "k".to_owned(), value: "2".to_owned(), lease: 0 };
            let guard = Some(Guard { key: "k".to_owned(), modified: 2 });
            scene.call(Action::Write { guard, steps: vec![step.clone()] }, Outcome::Unknown);
            scene.read(2, false);
            if done {
                let effect = scene.log.effect(2, None, &[step]);
                scene.log.push(effect.changes);
                scene.read(3, false);
            }
            scene.accepted();
            if done {
                scene.read(2, false);
                scene.refused("stale");
            }
        }
    }

    #[test]
    fn of_two_unanswered_writes_the_one_that_was_asked_for_in_time_was_done() {
        let mut scene = Scene::default();
        scene.put("1");
        let step = Step::Delete { key: "k".to_owned() };
        scene.call(Action::Write { guard: None, steps: vec![step.clone()] }, Outcome::Unknown);
        let effect = scene.log.effect(2, None, std::slice::from_ref(&step));
        scene.log.push(effect.changes);
        scene.read(3, false);
        let guard = Some(Guard { key: "k".to_owned(), modified: 2 });
        scene.call(Action::Write { guard, steps: vec![step] }, Outcome::Unknown);
        scene.accepted();
    }

    #[test]
    fn nobody_sees_a_write_before_it_was_asked_for() {
        let mut scene = Scene::default();
        scene.put("1").invoked = 40;
        scene.calls[0].returned = 50;
        scene.read(2, true);
        scene.refused("asked for only later");
    }

    #[test]
    fn local_reads_may_be_old_but_do_not_go_back() {
        let mut scene = Scene::default();
        scene.put("1");
        scene.put("2");
        scene.read(2, true);
        scene.read(3, true);
        scene.accepted();
        scene.read(2, true).life = 2;
        scene.accepted();
        scene.read(2, true);
        scene.refused("went back");
    }

    #[test]
    fn the_end_of_a_lease_takes_all_its_keys() {
        let key = |key: &str| Step::Put { key: key.to_owned(), value: key.to_owned(), lease: 7 };
        let mut scene = Scene::default();
        scene.write(key("a"));
        scene.write(key("b"));
        let gone = |seen: Seen| Change { key: seen.key, now: None };
        let all: Vec<Change> = scene.log.all_at(&Keys::All, 3).into_iter().map(gone).collect();
        let mut half = Scene { log: scene.log.clone(), calls: scene.calls.clone() };
        scene.log.push(all.clone());
        assert_eq!(scene.accepted(), [Ended { lease: 7, revision: 4 }]);
        half.log.push(all[..1].to_vec());
        half.refused("nobody asked");
    }
}
