//! etcd's own errors: clients compare codes and texts, so both are exactly its
//! (`api/v3rpc/rpctypes/error.go` in etcd).

use tonic::{Code, Status};

use crate::cluster::MemberError;
use crate::error::{ReadError, WatchError, WriteError};

/// An error that etcd's clients know.
pub(crate) type Known = (Code, &'static str);

pub(crate) const EMPTY_KEY: Known = (Code::InvalidArgument, "etcdserver: key is not provided");
pub(crate) const KEY_NOT_FOUND: Known = (Code::InvalidArgument, "etcdserver: key not found");
pub(crate) const VALUE_PROVIDED: Known = (Code::InvalidArgument, "etcdserver: value is provided");
pub(crate) const LEASE_PROVIDED: Known = (Code::InvalidArgument, "etcdserver: lease is provided");
pub(crate) const INVALID_SORT: Known = (Code::InvalidArgument, "etcdserver: invalid sort option");
pub(crate) const TOO_MANY_OPS: Known =
    (Code::InvalidArgument, "etcdserver: too many operations in txn request");
pub(crate) const DUPLICATE_KEY: Known =
    (Code::InvalidArgument, "etcdserver: duplicate key given in txn request");
pub(crate) const TOO_LARGE: Known = (Code::InvalidArgument, "etcdserver: request is too large");
pub(crate) const COMPACTED: Known =
    (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted");
pub(crate) const FUTURE_REVISION: Known =
    (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision");
pub(crate) const NO_SPACE: Known = (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded");
pub(crate) const LEASE_NOT_FOUND: Known = (Code::NotFound, "etcdserver: requested lease not found");
pub(crate) const LEASE_EXISTS: Known = (Code::FailedPrecondition, "etcdserver: lease already exists");
pub(crate) const LEASE_TTL: Known = (Code::OutOfRange, "etcdserver: too large lease TTL");
pub(crate) const MEMBER_NOT_FOUND: Known = (Code::NotFound, "etcdserver: member not found");
pub(crate) const PEER_URL_EXISTS: Known = (Code::FailedPrecondition, "etcdserver: Peer URLs already exists");
pub(crate) const BAD_MEMBER_URLS: Known =
    (Code::InvalidArgument, "etcdserver: given member URLs are invalid");
pub(crate) const NOT_ENOUGH_STARTED: Known =
    (Code::FailedPrecondition, "etcdserver: re-configuration failed due to not enough started members");
pub(crate) const NOT_LEARNER: Known =
    (Code::FailedPrecondition, "etcdserver: can only promote a learner member");
pub(crate) const LEARNER_NOT_READY: Known =
    (Code::FailedPrecondition, "etcdserver: can only promote a learner member which is in sync with leader");
pub(crate) const UNHEALTHY: Known = (Code::Unavailable, "etcdserver: unhealthy cluster");
pub(crate) const TRANSFER_TIMEOUT: Known =
    (Code::Unavailable, "etcdserver: request timed out, leader transfer took too long");
pub(crate) const BAD_LEADER_TRANSFEREE: Known =
    (Code::FailedPrecondition, "etcdserver: bad leader transferee");
pub(crate) const NO_LEADER: Known = (Code::Unavailable, "etcdserver: no leader");
pub(crate) const NOT_LEADER: Known = (Code::FailedPrecondition, "etcdserver: not leader");
pub(crate) const STOPPED: Known = (Code::Unavailable, "etcdserver: server stopped");
pub(crate) const UNKNOWN_OUTCOME: Known =
    (Code::Unavailable, "etcdserver: request timed out, possibly due to previous leader failure");
pub(crate) const CORRUPT: Known = (Code::DataLoss, "etcdserver: corrupt cluster");
pub(crate) const ELECTION_NO_LEADER: Known = (Code::Unknown, "election: no leader");
pub(crate) const ELECTION_NOT_LEADER: Known = (Code::Unknown, "election: not leader");
pub(crate) const SESSION_EXPIRED: Known = (Code::Unknown, "mutex: session is expired");

/// The status that carries a known error.
pub(crate) fn status((code, text): Known) -> Status {
    Status::new(code, text)
}

/// What a client is told of a write that failed.
pub(crate) fn of_write(error: WriteError) -> Status {
    status(match error {
        WriteError::NoSpace(_) => NO_SPACE,
        WriteError::TooLarge { .. } => TOO_LARGE,
        WriteError::TooManyOps { .. } => TOO_MANY_OPS,
        WriteError::DuplicateKey(_) => DUPLICATE_KEY,
        WriteError::EmptyKey => EMPTY_KEY,
        WriteError::KeyNotFound(_) => KEY_NOT_FOUND,
        WriteError::Corrupt => CORRUPT,
        WriteError::LeaseNotFound(_) => LEASE_NOT_FOUND,
        WriteError::LeaseExists(_) => LEASE_EXISTS,
        WriteError::LeaseTtl { .. } => LEASE_TTL,
        WriteError::Compacted { .. } => COMPACTED,
        WriteError::FutureRevision { .. } => FUTURE_REVISION,
        WriteError::NotLeader { leader: None } => NO_LEADER,
        WriteError::NotLeader { leader: Some(_) } => NOT_LEADER,
        WriteError::Unknown => UNKNOWN_OUTCOME,
        WriteError::Stopped => STOPPED,
        WriteError::Unreadable(_) | WriteError::Failed(_) => return Status::internal(error.to_string()),
    })
}

/// What a client is told of a change of the membership that failed.
pub(crate) fn of_member(error: MemberError) -> Status {
    status(match error {
        MemberError::NotFound(_) => MEMBER_NOT_FOUND,
        MemberError::PeerUrlExists(_) => PEER_URL_EXISTS,
        MemberError::BadPeerUrl(_) => BAD_MEMBER_URLS,
        MemberError::NotLearner(_) => NOT_LEARNER,
        MemberError::LearnerNotReady { .. } => LEARNER_NOT_READY,
        MemberError::LastVoter => NOT_ENOUGH_STARTED,
        MemberError::Unhealthy(_) | MemberError::InProgress => UNHEALTHY,
        MemberError::CannotLead(_) => BAD_LEADER_TRANSFEREE,
        MemberError::NotLeader { .. } => NO_LEADER,
        MemberError::NotTransferred => TRANSFER_TIMEOUT,
        MemberError::Unknown => UNKNOWN_OUTCOME,
        MemberError::Stopped => STOPPED,
        MemberError::Failed(_) => return Status::internal(error.to_string()),
    })
}

/// What a client is told of a read that failed.
pub(crate) fn of_read(error: ReadError) -> Status {
    status(match error {
        ReadError::Compacted { .. } => COMPACTED,
        ReadError::FutureRevision { .. } => FUTURE_REVISION,
        ReadError::NotLeader { .. } => NO_LEADER,
        ReadError::Corrupt => CORRUPT,
        ReadError::Stopped => STOPPED,
        ReadError::History(_) | ReadError::Unreadable(_) | ReadError::Failed(_) => {
            return Status::internal(error.to_string());
        }
    })
}

/// What a client is told of a watch that failed.
pub(crate) fn of_watch(error: WatchError) -> Status {
    status(match error {
        WatchError::Compacted { .. } => COMPACTED,
        WatchError::BadRevision(_) => FUTURE_REVISION,
        WatchError::Stopped => STOPPED,
        WatchError::History(_) | WatchError::Unreadable(_) => return Status::internal(error.to_string()),
    })
}
