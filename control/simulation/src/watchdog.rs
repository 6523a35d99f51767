//! What must hold after every event: one leader in a term; the same revision at the same entry everywhere; nothing goes
//! back within a life.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::history::Revision;
use crate::network::Life;

/// Looks at members and remembers what must not change.
#[derive(Default)]
pub struct Watchdog {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Who leads in each term.
    leaders: BTreeMap<u64, u64>,
    /// The revision after each entry.
    revisions: BTreeMap<u64, Revision>,
    /// What each life showed last: term, applied entry, compacted revision.
    last: BTreeMap<u64, (u64, u64, Revision)>,
    wrong: Vec<String>,
}

/// A member's condition, as far as it is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Condition {
    /// Which life.
    pub life: u64,
    /// The member.
    pub member: u64,
    /// Whom it takes for the leader.
    pub leader: Option<u64>,
    /// In which term.
    pub term: u64,
    /// The last entry that is applied.
    pub applied: u64,
    /// The newest revision.
    pub revision: Revision,
    /// Up to where history is gone.
    pub compacted: Revision,
}

impl Watchdog {
    /// Looks at a member.
    pub fn look(&self, life: &Life) {
        let status = life.store.status();
        self.judge(Condition {
            life: life.number,
            member: status.member_id,
            leader: status.leader,
            term: status.term,
            applied: status.applied_index,
            revision: status.revision,
            compacted: status.compacted_revision,
        });
    }

    /// Judges a condition.
    pub fn judge(&self, now: Condition) {
        let mut state = self.state.lock();
        if now.leader == Some(now.member) {
            let leader = *state.leaders.entry(now.term).or_insert(now.member);
            if leader != now.member {
                state
                    .wrong
                    .push(format!("two leaders in term {}: {leader:x} and {:x}", now.term, now.member));
            }
        }
        let revision = *state.revisions.entry(now.applied).or_insert(now.revision);
        if revision != now.revision {
            state.wrong.push(format!("entry {} is revision {revision}, elsewhere {now:?}", now.applied));
        }
        let shown = (now.term, now.applied, now.compacted);
        if let Some(last) = state.last.insert(now.life, shown)
            && (shown.0 < last.0 || shown.1 < last.1 || shown.2 < last.2)
        {
            state.wrong.push(format!("went back from (term, entry, compacted) {last:?}: {now:?}"));
        }
    }

    /// Says that something is wrong.
    pub fn report(&self, what: String) {
        self.state.lock().wrong.push(what);
    }

    /// What was wrong so far.
    pub fn wrong(&self) -> Vec<String> {
        self.state.lock().wrong.clone()
    }

    /// How many terms had a leader.
    pub fn terms(&self) -> usize {
        self.state.lock().leaders.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_what_must_not_be() {
        let good =
            Condition { life: 1, member: 7, leader: Some(7), term: 3, applied: 5, revision: 4, compacted: 2 };
        let after = |second: Condition| {
            let watchdog = Watchdog::default();
            watchdog.judge(good);
            watchdog.judge(second);
            watchdog.wrong().len()
        };
        assert_eq!(after(Condition { term: 4, applied: 6, revision: 5, ..good }), 0);
        assert_eq!(after(Condition { life: 2, member: 8, ..good }), 0, "a follower");
        assert_eq!(after(Condition { life: 2, member: 8, leader: Some(8), ..good }), 1, "two leaders");
        assert_eq!(after(Condition { life: 2, revision: 5, ..good }), 1, "another revision");
        assert_eq!(after(Condition { applied: 4, revision: 3, ..good }), 1, "went back");
        assert_eq!(after(Condition { term: 2, leader: None, ..good }), 1, "term went back");
        assert_eq!(after(Condition { life: 2, term: 2, applied: 4, revision: 3, leader: None, ..good }), 0);
    }
}
