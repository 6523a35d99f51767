//! What really happened: the changes of every revision, as the members agree on it, and the keys as of each revision.

use std::collections::BTreeMap;

use crate::history::{Change, Guard, Keys, Revision, Seen, Step};

/// The revision of an empty store.
pub const FIRST: Revision = 1;

/// The changes of each revision, and from them the keys as of each.
#[derive(Clone, Debug, Default)]
pub struct Log {
    changes: Vec<Vec<Change>>,
    versions: BTreeMap<String, Vec<(Revision, Option<Seen>)>>,
}

/// What a write does at some revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Whether the guard holds.
    pub held: bool,
    /// What the key of each step held before, or, if the guard does not hold, what its key holds.
    pub before: Vec<Option<Seen>>,
    /// The changes.
    pub changes: Vec<Change>,
}

impl Log {
    /// The newest revision.
    pub fn end(&self) -> Revision {
        FIRST + self.changes.len() as Revision
    }

    /// Adds the changes of the next revision.
    pub fn push(&mut self, changes: Vec<Change>) {
        let revision = self.end() + 1;
        for change in &changes {
            self.versions.entry(change.key.clone()).or_default().push((revision, change.now.clone()));
        }
        self.changes.push(changes);
    }

    /// The changes of a revision; none for one that does not exist.
    pub fn changes(&self, revision: Revision) -> &[Change] {
        let place = usize::try_from(revision - FIRST - 1).ok();
        place.and_then(|place| self.changes.get(place)).map_or(&[], Vec::as_slice)
    }

    /// All revisions that changed something, in order.
    pub fn revisions(&self) -> impl Iterator<Item = (Revision, &[Change])> {
        self.changes.iter().enumerate().map(|(n, changes)| (FIRST + 1 + n as Revision, changes.as_slice()))
    }

    /// What a key holds as of a revision.
    pub fn at(&self, key: &str, revision: Revision) -> Option<&Seen> {
        let versions = self.versions.get(key)?;
        let newer = versions.partition_point(|(at, _)| *at <= revision);
        versions[..newer].last()?.1.as_ref()
    }

    /// All keys as of a revision, in order.
    pub fn all_at(&self, keys: &Keys, revision: Revision) -> Vec<Seen> {
        let wanted = self.versions.keys().filter(|key| keys.contains(key));
        wanted.filter_map(|key| self.at(key, revision).cloned()).collect()
    }

    /// The keys with a lease as of a revision.
    pub fn keys_of(&self, lease: i64, revision: Revision) -> Vec<String> {
        let all = self.all_at(&Keys::All, revision);
        all.into_iter().filter(|seen| seen.lease == lease).map(|seen| seen.key).collect()
    }

    /// What a write does if it is the next thing after `revision`.
    pub fn effect(&self, revision: Revision, guard: Option<&Guard>, steps: &[Step]) -> Effect {
        if let Some(guard) = guard {
            let found = self.at(&guard.key, revision);
            if found.map_or(0, |seen| seen.modified) != guard.modified {
                return Effect { held: false, before: vec![found.cloned()], changes: Vec::new() };
            }
        }
        let mut effect = Effect { held: true, before: Vec::new(), changes: Vec::new() };
        for step in steps {
            let (Step::Put { key, .. } | Step::Delete { key }) = step;
            let before = self.at(key, revision);
            effect.before.push(before.cloned());
            let now = after(step, before, revision + 1);
            if now.is_some() || before.is_some() {
                effect.changes.push(Change { key: key.clone(), now });
            }
        }
        effect
    }
}

/// What the step's key holds after the step was done in `revision`.
fn after(step: &Step, before: Option<&Seen>, revision: Revision) -> Option<Seen> {
    let Step::Put { key, value, lease } = step else {
        return None;
    };
    Some(Seen {
        key: key.clone(),
        value: value.clone(),
        created: before.map_or(revision, |before| before.created),
        modified: revision,
        version: before.map_or(1, |before| before.version + 1),
        lease: *lease,
    })
}
