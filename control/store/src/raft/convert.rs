//! Between openraft's types and what the log keeps.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, Vote};

use super::{Entry, LogId, Members, RaftVote, StoredMembership, Types};
use crate::command::Proposal;
use crate::log::{Position, Record, RecordKind, SavedVote};
use crate::peer::message::{Append, AppendAnswer, Ballot, BallotAnswer, PeerEntry, Transfer};

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
pub(super) fn body(entry: &Entry) -> io::Result<(RecordKind, Bytes)> {
    Ok(match &entry.payload {
        EntryPayload::Blank => (RecordKind::Blank, Bytes::new()),
        EntryPayload::Normal(proposal) => (RecordKind::Normal, proposal.encoded().clone()),
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
            let proposal =
                Proposal::decode(record.body.into()).map_err(|error| unreadable(error.to_string()))?;
            EntryPayload::Normal(proposal)
        }
        RecordKind::Membership => {
            let members: Members =
                serde_json::from_slice(&record.body).map_err(|error| unreadable(error.to_string()))?;
            if !can_decide(&members) {
                return Err(unreadable(
                    "nobody votes in this membership, or somebody who is no member".to_owned(),
                ));
            }
            EntryPayload::Membership(members)
        }
        RecordKind::Other(code) => {
            return Err(unreadable(format!("its kind {code} is unknown; a newer version wrote it")));
        }
    };
    Ok(Entry { log_id: log_id(record.at), payload })
}

pub(super) fn append(rpc: &AppendEntriesRequest<Types>) -> io::Result<Append> {
    let entry = |entry: &Entry| {
        let (kind, body) = body(entry)?;
        Ok(PeerEntry { at: position(&entry.log_id), kind: kind.code(), body })
    };
    Ok(Append {
        vote: saved_vote(&rpc.vote),
        prev: rpc.prev_log_id.as_ref().map(position),
        entries: rpc.entries.iter().map(entry).collect::<io::Result<_>>()?,
        commit: rpc.leader_commit.as_ref().map(position),
    })
}

pub(super) fn append_request(append: Append) -> io::Result<AppendEntriesRequest<Types>> {
    let of_peer = |sent: PeerEntry| {
        entry(Record { at: sent.at, kind: RecordKind::of_code(sent.kind), body: sent.body.into() })
    };
    Ok(AppendEntriesRequest {
        vote: vote(append.vote),
        prev_log_id: append.prev.map(log_id),
        entries: append.entries.into_iter().map(of_peer).collect::<io::Result<_>>()?,
        leader_commit: append.commit.map(log_id),
    })
}

pub(super) fn append_answer(response: &AppendEntriesResponse<Types>) -> AppendAnswer {
    match response {
        AppendEntriesResponse::Success => AppendAnswer::Done,
        AppendEntriesResponse::PartialSuccess(upto) => AppendAnswer::Partly(upto.as_ref().map(position)),
        AppendEntriesResponse::Conflict => AppendAnswer::Conflict,
        AppendEntriesResponse::HigherVote(vote) => AppendAnswer::HigherVote(saved_vote(vote)),
    }
}

pub(super) fn append_response(answer: AppendAnswer) -> AppendEntriesResponse<Types> {
    match answer {
        AppendAnswer::Done => AppendEntriesResponse::Success,
        AppendAnswer::Partly(upto) => AppendEntriesResponse::PartialSuccess(upto.map(log_id)),
        AppendAnswer::Conflict => AppendEntriesResponse::Conflict,
        AppendAnswer::HigherVote(saved) => AppendEntriesResponse::HigherVote(vote(saved)),
    }
}

pub(super) fn ballot(rpc: &VoteRequest<Types>) -> Ballot {
    let last = rpc.last_log_id.as_ref().map(position);
    Ballot { vote: saved_vote(&rpc.vote), last, transfer: rpc.leadership_transfer }
}

pub(super) fn vote_request(ballot: &Ballot) -> VoteRequest<Types> {
    VoteRequest {
        vote: vote(ballot.vote),
        last_log_id: ballot.last.map(log_id),
        leadership_transfer: ballot.transfer,
    }
}

pub(super) fn ballot_answer(response: &VoteResponse<Types>) -> BallotAnswer {
    let last = response.last_log_id.as_ref().map(position);
    BallotAnswer { vote: saved_vote(&response.vote), granted: response.vote_granted, last }
}

pub(super) fn vote_response(answer: &BallotAnswer) -> VoteResponse<Types> {
    VoteResponse::new(vote(answer.vote), answer.last.map(log_id), answer.granted)
}

pub(super) fn transfer(rpc: &TransferLeaderRequest<Types>) -> Transfer {
    let last = rpc.last_log_id().map(position);
    Transfer { from: saved_vote(rpc.from_leader()), to: *rpc.to_node_id(), last }
}

pub(super) fn transfer_request(transfer: &Transfer) -> TransferLeaderRequest<Types> {
    TransferLeaderRequest::new(vote(transfer.from), transfer.to, transfer.last.map(log_id))
}

/// The membership as the state keeps it.
pub(super) fn stored_membership(saved: Option<&(Position, Vec<u8>)>) -> io::Result<StoredMembership> {
    let members = members(saved)?;
    Ok(match saved.zip(members) {
        None => StoredMembership::default(),
        Some(((at, _), members)) => StoredMembership::new(Some(log_id(*at)), members),
    })
}

pub(super) fn members(saved: Option<&(Position, Vec<u8>)>) -> io::Result<Option<Members>> {
    saved.map(|(_, members)| serde_json::from_slice(members)).transpose().map_err(io::Error::from)
}

/// Where members are.
pub(super) fn addresses(members: &Members) -> BTreeMap<u64, Vec<String>> {
    members.nodes().map(|(id, info)| (*id, info.peer_urls.clone())).collect()
}

/// Whether there are voters, and each of them is known.
fn can_decide(members: &Members) -> bool {
    let configs = members.get_joint_config();
    let known = |voter: &u64| members.get_node(voter).is_some();
    !configs.is_empty() && configs.iter().all(|voters| !voters.is_empty() && voters.iter().all(known))
}

/// Whether `member` is the only one that votes.
pub(super) fn is_alone(members: &Members, member: u64) -> bool {
    members.voter_ids().eq([member])
}
