//! Everything a run writes down for the checkers.

use std::collections::BTreeMap;
use std::time::Duration;

use carrack_store::{Event, KeyValue};

use crate::check::leases::Holding;
use crate::check::log::{FIRST, Log};
use crate::check::{leases, linear, watches};
use crate::history::{Call, Change, Revision, Seen, Watched, WatchedEvent};

/// What was seen and said in a run.
#[derive(Default)]
pub struct Book {
    /// Clients' calls.
    pub calls: Vec<Call>,
    /// Watches that ended.
    pub watches: Vec<Watched>,
    /// What holders of leases did.
    pub holdings: Vec<Holding>,
    /// Up to which revisions clients asked to compact.
    pub compactions: Vec<Revision>,
    /// The changes of each revision, from whoever saw them first, and when.
    revisions: BTreeMap<Revision, (Duration, Vec<Change>)>,
    whole: Revision,
}

impl Book {
    /// Someone saw all changes of a revision. An error if others saw it differently.
    pub fn saw(
        &mut self,
        who: &str,
        at: Duration,
        revision: Revision,
        changes: Vec<Change>,
    ) -> Result<(), String> {
        let (_, known) = self.revisions.entry(revision).or_insert_with(|| (at, changes.clone()));
        if *known != changes {
            return Err(format!("{who} saw {changes:?} in revision {revision}, others {known:?}"));
        }
        self.whole = self.whole.max(FIRST);
        while self.revisions.contains_key(&(self.whole + 1)) {
            self.whole += 1;
        }
        Ok(())
    }

    /// The revision up to which everything was seen.
    pub fn whole(&self) -> Revision {
        self.whole.max(FIRST)
    }

    /// Forgets the last revision, as if it had never been: for [`crate::prove`].
    pub fn forget(&mut self, revision: Revision) -> bool {
        self.whole = revision - 1;
        self.revisions.remove(&revision).is_some()
    }

    /// What happened; an error if nobody saw a revision although a later one is known.
    pub fn log(&self) -> Result<Log, String> {
        if let Some((last, _)) = self.revisions.last_key_value()
            && *last != self.whole()
        {
            return Err(format!("nobody saw revision {}, but {last}", self.whole() + 1));
        }
        let mut log = Log::default();
        self.revisions.values().for_each(|(_, changes)| log.push(changes.clone()));
        Ok(log)
    }

    /// Runs all checkers.
    pub fn check(&self, log: &Log) -> Result<(), String> {
        let ended = linear::check(&self.calls, log)?;
        self.watches.iter().try_for_each(|watch| watches::check(watch, log, &self.compactions))?;
        let first_seen = self.revisions.iter().map(|(revision, (at, _))| (*revision, *at)).collect();
        leases::check(&self.holdings, &ended, &first_seen)
    }
}

/// A key as the checkers know it.
pub fn seen(kv: &KeyValue) -> Seen {
    Seen {
        key: String::from_utf8_lossy(&kv.key).into_owned(),
        value: String::from_utf8_lossy(&kv.value).into_owned(),
        created: kv.create_revision,
        modified: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

/// An event as the checkers know it.
pub fn watched(event: &Event) -> WatchedEvent {
    let now = seen(&event.kv);
    let change = match event.kind {
        carrack_store::EventKind::Put => Change { key: now.key.clone(), now: Some(now) },
        carrack_store::EventKind::Delete => Change { key: now.key, now: None },
    };
    WatchedEvent { change, before: event.prev.as_deref().map(seen) }
}
