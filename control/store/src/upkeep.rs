//! The store as its keepers see it: who it is, alarms, hashes, defragmentation.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::alarm::{Alarm, AlarmKind};
use crate::backend::BackendError;
use crate::command::Command;
use crate::corrupt;
use crate::error::WriteError;
use crate::hash;
use crate::kv::Revision;
use crate::shared::Progress;
use crate::store::Store;
use crate::view::View;

/// Why upkeep was not done.
#[derive(Debug, thiserror::Error)]
pub enum UpkeepError {
    /// What waits in memory could not be written down first.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The revision is gone.
    #[error("revision {requested} has been compacted (the oldest kept is {compacted})")]
    Compacted {
        /// The revision asked for.
        requested: Revision,
        /// The oldest that is kept.
        compacted: Revision,
    },
    /// The revision does not exist yet.
    #[error("revision {requested} is in the future: the newest is {current}")]
    FutureRevision {
        /// The revision asked for.
        requested: Revision,
        /// The newest.
        current: Revision,
    },
    /// There is no space for a copy.
    #[error("the disk is full: free some space, then try again")]
    Full,
    /// The history cannot be read or written.
    #[error("cannot work on the history: {0}")]
    History(String),
}

impl From<Box<BackendError>> for UpkeepError {
    fn from(error: Box<BackendError>) -> UpkeepError {
        match *error {
            BackendError::Full => UpkeepError::Full,
            other => UpkeepError::History(other.to_string()),
        }
    }
}

/// A hash of the history: the same on all members that keep the same revisions, and the same as etcd's over the same
/// history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hash {
    /// CRC-32C.
    pub hash: u32,
    /// It is about what can be read from this revision on; 0 if nothing was ever compacted.
    pub compacted: Revision,
    /// And up to this one.
    pub revision: Revision,
}

impl Store {
    /// Who this is: the cluster and the member.
    pub fn ids(&self) -> (u64, u64) {
        let identity = &self.inner.shared.identity;
        (identity.cluster_id, identity.member_id)
    }

    /// Raft's term.
    pub fn term(&self) -> u64 {
        self.inner.node.status().term
    }

    /// The largest transaction, in bytes.
    pub fn max_request_bytes(&self) -> usize {
        self.inner.shared.options.max_request_bytes
    }

    /// The shortest life of a lease that clients of etcd get, in seconds: as there, one and a half times the election
    /// timeout, rounded up, so that a change of leaders does not end leases.
    pub(crate) fn least_lease_ttl(&self) -> i64 {
        self.inner.shared.options.election.mul_f64(1.5).as_secs_f64().ceil() as i64
    }

    /// Changes whenever there may be something new for watchers.
    pub(crate) fn changes(&self) -> watch::Receiver<Progress> {
        self.inner.shared.progress.subscribe()
    }

    pub(crate) fn own_alarm(&self, kind: AlarmKind) -> Alarm {
        Alarm { member: self.inner.shared.identity.member_id, kind }
    }

    /// The alarms that are raised. A full disk shows as this member's alarm for as long as it is full.
    pub fn alarms(&self) -> BTreeSet<Alarm> {
        let shared = &self.inner.shared;
        let mut alarms = shared.state.read().alarms().clone();
        if shared.gate.shortage().is_some() {
            alarms.insert(self.own_alarm(AlarmKind::NoSpace));
        }
        alarms
    }

    /// Raises an alarm, or ends it, on all members. The store itself raises NOSPACE when the quota is used up, and
    /// does so again at the next put if it still is.
    pub async fn alarm(&self, alarm: Alarm, raise: bool) -> Result<(), WriteError> {
        self.write(Command::Alarm { alarm, raise }).await.map(drop)
    }

    /// Hashes what was changed up to `revision` (0: the newest), as etcd's `HashKV` does. Reads all of the history.
    pub async fn hash_kv(&self, revision: Revision) -> Result<Hash, UpkeepError> {
        corrupt::hash_kv(&self.inner.shared, revision).await
    }

    /// Hashes all that is kept, leases included.
    pub async fn hash(&self) -> Result<u32, UpkeepError> {
        self.with_view(hash::of_all).await
    }

    /// Gives back the disk space of what was deleted and compacted, while serving. Needs free space for a copy of
    /// what is left.
    pub async fn defragment(&self) -> Result<(), UpkeepError> {
        self.checkpoint().await?;
        let shared = Arc::clone(&self.inner.shared);
        let done = shared.options.blocking.run(move || shared.backend.defragment()).await;
        done.map_err(UpkeepError::History)?.map_err(UpkeepError::from)
    }

    /// Works on a view of everything that is acknowledged by now, off the threads that serve.
    pub(crate) async fn with_view<T: Send + 'static>(
        &self,
        work: impl FnOnce(&View) -> Result<T, UpkeepError> + Send + 'static,
    ) -> Result<T, UpkeepError> {
        self.inner.shared.with_view(work).await
    }
}
