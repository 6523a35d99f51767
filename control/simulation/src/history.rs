//! What clients asked and what they were told: the material that the checkers judge.

/// A point in the history of the store.
pub type Revision = i64;

/// A moment: calls and answers are numbered in the order in which they happened, so that no two are equal.
pub type Moment = u64;

/// A key with what it held as of some revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    /// The key.
    pub key: String,
    /// What was put. Every put of a run has a value of its own.
    pub value: String,
    /// The revision in which the key came to be.
    pub created: Revision,
    /// The revision of its last change.
    pub modified: Revision,
    /// Puts since it came to be.
    pub version: i64,
    /// The lease it goes away with; 0 for none.
    pub lease: i64,
}

/// What a revision did to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// What it holds from then on; `None` if it was deleted.
    pub now: Option<Seen>,
}

/// A step of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write a key.
    Put {
        /// The key.
        key: String,
        /// The value, which no other put of the run has.
        value: String,
        /// The lease; 0 for none.
        lease: i64,
    },
    /// Delete a key, if it is there.
    Delete {
        /// The key.
        key: String,
    },
}

/// A condition of a write: the key was last changed in this revision (0: it does not exist).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The key.
    pub key: String,
    /// The revision.
    pub modified: Revision,
}

/// Which keys a read or a watch is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// One.
    One(String),
    /// All.
    All,
}

impl Keys {
    /// Whether it is about `key`.
    pub fn contains(&self, key: &str) -> bool {
        match self {
            Keys::One(one) => one == key,
            Keys::All => true,
        }
    }
}

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// All steps, if the guard holds; in one revision.
    Write {
        /// The condition.
        guard: Option<Guard>,
        /// The steps; no key twice.
        steps: Vec<Step>,
    },
    /// A read.
    Read {
        /// Which keys.
        keys: Keys,
        /// As of which revision; `None` for the newest.
        at: Option<Revision>,
        /// Whether the member may answer from what it has.
        local: bool,
    },
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing, or nothing that says whether it was done: it may be done already, later, or never.
    Unknown,
    /// That nothing was done.
    Refused,
    /// That a write was carried out.
    Wrote {
        /// The revision afterwards.
        revision: Revision,
        /// Whether the guard held.
        held: bool,
        /// What the key of each step held before. If the guard did not hold: what its key holds.
        before: Vec<Option<Seen>>,
    },
    /// What was read.
    Read {
        /// The newest revision.
        revision: Revision,
        /// The keys, in order.
        found: Vec<Seen>,
    },
}

/// One call of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who asked whom, for reports, and to tell the lives of a member apart: `client@member.life`.
    pub who: String,
    /// The member's life that was asked: local reads of one do not go back.
    pub life: u64,
    /// What was asked for.
    pub action: Action,
    /// When it was asked.
    pub invoked: Moment,
    /// When the answer came; the end of time if none did.
    pub returned: Moment,
    /// The answer.
    pub outcome: Outcome,
}

impl Call {
    /// The revision that the answer names.
    pub fn revision(&self) -> Option<Revision> {
        match &self.outcome {
            Outcome::Wrote { revision, .. } | Outcome::Read { revision, .. } => Some(*revision),
            Outcome::Unknown | Outcome::Refused => None,
        }
    }

    /// Whether this read may be stale.
    pub fn is_local(&self) -> bool {
        matches!(self.action, Action::Read { local: true, .. })
    }
}

/// One event as a watcher got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedEvent {
    /// The change.
    pub change: Change,
    /// What the key held before, as the watcher was told.
    pub before: Option<Seen>,
}

/// How a watch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEnd {
    /// The run was over, or the member went away.
    Cut,
    /// What was to come next is compacted.
    Compacted {
        /// What was to come next.
        requested: Revision,
        /// The oldest revision that is left.
        compacted: Revision,
    },
}

/// One watch, from its start to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Who watched whom, for reports.
    pub who: String,
    /// Which keys.
    pub keys: Keys,
    /// The first revision that was wanted.
    pub start: Revision,
    /// What came: each revision with its events.
    pub batches: Vec<(Revision, Vec<WatchedEvent>)>,
    /// Up to here, the watcher said, everything was delivered.
    pub progress: Revision,
    /// How it ended.
    pub end: WatchEnd,
}
