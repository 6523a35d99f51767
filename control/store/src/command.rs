//! What goes through the log, and what applying it answers. Both are the same on every member.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec;
use crate::error::WriteError;
use crate::kv::{LeaseId, Revision};
use crate::txn::{Txn, TxnResponse};

/// A change of the store.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    /// A transaction.
    Txn(Txn),
    /// Forget what only reads at revisions before this one need.
    Compact(Revision),
    /// Make a lease.
    LeaseGrant {
        /// Its name, chosen by the proposer.
        id: LeaseId,
        /// Seconds between keep-alives.
        ttl: i64,
    },
    /// End a lease and delete its keys.
    LeaseRevoke {
        /// Its name.
        id: LeaseId,
    },
}

/// A command on its way through Raft, with its encoding, which is made once, by the proposer, off Raft's thread.
#[derive(Clone)]
pub(crate) struct Proposal(Arc<(Command, Bytes)>);

impl Proposal {
    pub(crate) fn new(command: Command) -> Proposal {
        let encoded = codec::encode_command(&command);
        Proposal(Arc::new((command, encoded.into())))
    }

    pub(crate) fn decode(encoded: Bytes) -> Result<Proposal, codec::DecodeError> {
        let command = codec::decode_command(&encoded)?;
        Ok(Proposal(Arc::new((command, encoded))))
    }

    pub(crate) fn command(&self) -> &Command {
        &self.0.0
    }

    pub(crate) fn encoded(&self) -> &Bytes {
        &self.0.1
    }
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.command(), f)
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.command() {
            Command::Txn(txn) => write!(f, "txn of {} steps", txn.then.len().max(txn.otherwise.len())),
            Command::Compact(revision) => write!(f, "compact {revision}"),
            Command::LeaseGrant { id, ttl } => write!(f, "grant lease {id:#x} for {ttl} s"),
            Command::LeaseRevoke { id } => write!(f, "revoke lease {id:#x}"),
        }
    }
}

impl Serialize for Proposal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.encoded())
    }
}

impl<'de> Deserialize<'de> for Proposal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let encoded = Vec::<u8>::deserialize(deserializer)?;
        Proposal::decode(encoded.into()).map_err(serde::de::Error::custom)
    }
}

/// What applying a command answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// Nothing to say: an entry of Raft's own.
    Nothing,
    /// The transaction's answer.
    Txn(TxnResponse),
    /// Compacted, granted or revoked, at this revision.
    Done(Revision),
    /// Refused; nothing changed.
    Refused(Refusal),
}

/// Why a command that was agreed on was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    Compacted { requested: Revision, compacted: Revision },
    FutureRevision { requested: Revision, current: Revision },
    LeaseNotFound(LeaseId),
    LeaseExists(LeaseId),
}

impl From<Refusal> for WriteError {
    fn from(refusal: Refusal) -> WriteError {
        match refusal {
            Refusal::Compacted { requested, compacted } => WriteError::Compacted { requested, compacted },
            Refusal::FutureRevision { requested, current } => {
                WriteError::FutureRevision { requested, current }
            }
            Refusal::LeaseNotFound(id) => WriteError::LeaseNotFound(id),
            Refusal::LeaseExists(id) => WriteError::LeaseExists(id),
        }
    }
}
