//! What members say to each other. All of it is plain data, so that any transport can carry it: over the network it
//! goes as bytes ([`Envelope::encode`]), in a simulation as it is.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::cluster::{Member, MemberChange};
use crate::kv::{LeaseId, Revision};
pub use crate::log::{Position, SavedVote};
use crate::upkeep::Hash;

/// A message with who sends it to whom. A member refuses what is not for it, or from another cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// The sender's cluster; 0 if it does not know yet, when it asks for [`Request::Members`].
    pub cluster_id: u64,
    /// The sender; 0 likewise.
    pub from: u64,
    /// Who it is for; 0 if the sender does not know yet.
    pub to: u64,
    /// What it wants.
    pub request: Request,
}

impl Request {
    /// The vote in the name of which it is sent, if it is one of Raft's.
    pub(crate) fn vote(&self) -> Option<SavedVote> {
        match self {
            Request::Append(append) => Some(append.vote),
            Request::Vote(ballot) | Request::PreVote(ballot) => Some(ballot.vote),
            Request::TransferLeader(transfer) => Some(transfer.from),
            Request::Snapshot(chunk) => Some(chunk.vote),
            _ => None,
        }
    }
}

/// What a member wants from another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// A leader's entries, or its sign of life.
    Append(Append),
    /// A candidate's wish to lead.
    Vote(Ballot),
    /// The question whether a vote would be granted.
    PreVote(Ballot),
    /// A leader's wish that the receiver takes over.
    TransferLeader(Transfer),
    /// A part of a snapshot.
    Snapshot(SnapshotChunk),
    /// An encoded command, for the leader to propose. Answered by [`Response::Written`].
    Write(Bytes),
    /// For the leader: up to which entry must be applied before a linearizable read is answered?
    ReadIndex,
    /// For the leader: the holder of this lease lives.
    KeepAlive(LeaseId),
    /// For the leader: how long does this lease live on?
    LeaseTtl(LeaseId),
    /// Who belongs to the cluster? The one request that strangers may send: a member that joins has to ask.
    Members,
    /// For the leader: a change of the membership.
    Change(MemberChange),
    /// What is the hash of the history up to this revision?
    Hash(Revision),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Response {
    /// To [`Request::Append`].
    Append(AppendAnswer),
    /// To [`Request::Vote`] and [`Request::PreVote`].
    Vote(BallotAnswer),
    /// To [`Request::TransferLeader`]: whether the receiver stands for election.
    Transfer(bool),
    /// To [`Request::Snapshot`].
    Snapshot(SnapshotAnswer),
    /// To [`Request::Write`]: the encoded outcome, good or bad.
    Written(Bytes),
    /// To [`Request::ReadIndex`].
    ReadIndex(u64),
    /// To [`Request::KeepAlive`] (the TTL) and [`Request::LeaseTtl`] (what is left), in seconds; `None` if there is
    /// no such lease.
    Lease(Option<i64>),
    /// To [`Request::Members`].
    Members {
        /// The cluster.
        cluster_id: u64,
        /// Its members.
        members: Vec<Member>,
    },
    /// To [`Request::Change`]: the encoded outcome, good or bad.
    Changed(Bytes),
    /// To [`Request::Hash`]; `None` if the member does not have this revision, yet or any more.
    Hash(Option<Hash>),
}

/// Why a member does not take a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refused {
    /// Other cluster.
    #[error("the peer belongs to cluster {theirs:x}, not to {ours:x}")]
    WrongCluster {
        /// The cluster of the member that refuses.
        theirs: u64,
        /// The cluster in the message.
        ours: u64,
    },
    /// Not for this member: its address was given to another one.
    #[error("the message is for member {to:x}, but at this address is member {is:x}")]
    WrongMember {
        /// Who it was for.
        to: u64,
        /// Who is there.
        is: u64,
    },
    /// The sender was removed from the cluster for good.
    #[error("member {0:x} was removed from the cluster")]
    Removed(u64),
    /// Only the leader can do that.
    #[error("the peer does not lead")]
    NotLeader(Option<u64>),
    /// Too much is under way.
    #[error("the peer is busy")]
    Busy,
    /// It is shut down, or failed.
    #[error("the peer is shut down")]
    Stopped,
    /// The message makes no sense to it.
    #[error("the peer does not understand the message: {0}")]
    Bad(String),
    /// It has no space for the entries.
    #[error("the disk of the peer is full")]
    NoSpace,
}

/// Entries for a follower.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Append {
    /// The leader's vote.
    pub vote: SavedVote,
    /// The entry before the first one.
    pub prev: Option<Position>,
    /// The entries; none for a sign of life.
    pub entries: Vec<PeerEntry>,
    /// Up to which entry the leader has committed.
    pub commit: Option<Position>,
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerEntry {
    /// Its place.
    pub at: Position,
    /// What it is, as in the log's files.
    pub kind: u8,
    /// Its contents, as in the log's files.
    pub body: Bytes,
}

/// What a follower says to entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppendAnswer {
    /// All are durable.
    Done,
    /// Those up to this one are.
    Partly(Option<Position>),
    /// The entry before the first one is not there.
    Conflict,
    /// There is a newer leader or candidate.
    HigherVote(SavedVote),
}

/// A candidate's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    /// What it wants to be granted.
    pub vote: SavedVote,
    /// Its last entry.
    pub last: Option<Position>,
    /// Whether the leader asked it to stand.
    pub transfer: bool,
}

/// A voter's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BallotAnswer {
    /// The voter's vote now.
    pub vote: SavedVote,
    /// Whether it was granted.
    pub granted: bool,
    /// The voter's last entry.
    pub last: Option<Position>,
}

/// A leader hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// The leader's vote.
    pub from: SavedVote,
    /// Who is to take over.
    pub to: u64,
    /// The entry that it must have.
    pub last: Option<Position>,
}

/// A part of a snapshot. Parts are sent one after the other; each is answered before the next one is sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotChunk {
    /// The leader's vote.
    pub vote: SavedVote,
    /// Which snapshot: its last entry.
    pub last: Position,
    /// Which attempt to send it.
    pub attempt: u64,
    /// Number of this part, from 0.
    pub part: u64,
    /// The part; see the module `snapshot` for what is in it.
    pub bytes: Bytes,
    /// CRC-32 of the part.
    pub checksum: u32,
    /// Whether it is the last one. It is answered once the snapshot is installed.
    pub done: bool,
}

/// What a member says to a part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotAnswer {
    /// Go on, or, after the last part, installed. With the receiver's vote.
    Taken(SavedVote),
    /// Start again: it has not got the parts before this one.
    Restart,
    /// Ask again with the same part: it is still at work with it.
    Working,
}

/// Bytes that do not mean a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of a peer cannot be read: {0}")]
pub struct MessageError(String);

/// Turns a message into bytes.
pub fn encode<T: Serialize>(message: &T) -> Result<Bytes, MessageError> {
    postcard::to_allocvec(message).map(Bytes::from).map_err(|error| MessageError(error.to_string()))
}

/// Turns bytes into a message.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, MessageError> {
    postcard::from_bytes(bytes).map_err(|error| MessageError(error.to_string()))
}

/// A message has at most so many bytes on the wire: a full append, or a part of a snapshot.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;
