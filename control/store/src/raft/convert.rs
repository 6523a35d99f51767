//! Between openraft's types and what the log keeps.

use std::io;

use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, Vote};

use super::{Entry, LogId, Members, RaftVote, StoredMembership};
use crate::command::Proposal;
use crate::log::{Position, Record, RecordKind, SavedVote};

type LeaderId = openraft::type_config::alias::LeaderIdOf<super::Types>;
type CommittedLeaderId = openraft::type_config::alias::CommittedLeaderIdOf<super::Types>;

pub(super) fn position(id: &LogId) -> Position {
    Position { term: id.committed_leader_id().term, index: id.index() }
}

pub(super) fn log_id(at: Position) -> LogId {
    LogId::new(CommittedLeaderId::new(at.term), at.index)
}

pub(super) fn saved_vote(vote: &RaftVote) -> SavedVote {
    SavedVote { term: vote.leader_id.term, node: vote.leader_id.voted_for, committed: vote.committed }
}

pub(super) fn vote(saved: SavedVote) -> RaftVote {
    Vote { leader_id: LeaderId::new(saved.term, saved.node), committed: saved.committed }
}

/// The bytes of an entry; membership changes are rare, so JSON does for them.
pub(super) fn body(entry: &Entry) -> io::Result<(RecordKind, std::borrow::Cow<'_, [u8]>)> {
    Ok(match &entry.payload {
        EntryPayload::Blank => (RecordKind::Blank, [].as_slice().into()),
        EntryPayload::Normal(proposal) => (RecordKind::Normal, proposal.encoded().into()),
        EntryPayload::Membership(members) => (RecordKind::Membership, serde_json::to_vec(members)?.into()),
    })
}

pub(super) fn entry(record: Record) -> io::Result<Entry> {
    let unreadable = |what: String| {
        io::Error::new(io::ErrorKind::InvalidData, format!("entry {} of the log: {what}", record.at.index))
    };
    let payload = match record.kind {
        RecordKind::Blank => EntryPayload::Blank,
        RecordKind::Normal => {
            let proposal = Proposal::decode(record.body).map_err(|error| unreadable(error.to_string()))?;
            EntryPayload::Normal(proposal)
        }
        RecordKind::Membership => {
            let members =
                serde_json::from_slice(&record.body).map_err(|error| unreadable(error.to_string()))?;
            EntryPayload::Membership(members)
        }
        RecordKind::Other(code) => {
            return Err(unreadable(format!("its kind {code} is unknown; a newer version wrote it")));
        }
    };
    Ok(Entry { log_id: log_id(record.at), payload })
}

/// The membership as the state keeps it.
pub(super) fn stored_membership(saved: Option<&(Position, Vec<u8>)>) -> io::Result<StoredMembership> {
    match saved {
        None => Ok(StoredMembership::default()),
        Some((at, members)) => {
            let members: Members = serde_json::from_slice(members)?;
            Ok(StoredMembership::new(Some(log_id(*at)), members))
        }
    }
}

/// Whether `member` is the only one that votes.
pub(super) fn is_alone(members: &Members, member: u64) -> bool {
    members.voter_ids().eq([member])
}
