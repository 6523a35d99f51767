//! Whether one of Raft's messages can be what it says. openraft takes peers at their word: what Raft's rules exclude would
//! trip its assertions, or be taken into the log.
//!
//! The rules are those of the Raft paper (section 5.3 and 5.4): a log has no gaps, its terms never fall, a leader has no
//! entries of terms after its own, and whoever leads later has all that was committed before.

use std::cmp::Ordering;

use super::convert;
use crate::log::{Position, SavedVote};
use crate::peer::message::{Append, Ballot, Request, SnapshotChunk};

/// Terms and places in the log are smaller: nothing counts this far, and what is added to one of them does not overflow.
const NUMBERS: u64 = 1 << 62;

/// What a member is sure of when a message comes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// Its vote, and so the newest leader or candidate that it heard of.
    pub(super) vote: SavedVote,
    /// What was committed under this vote, or one before.
    pub(super) committed: Option<Position>,
}

/// Why a message cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Implausible {
    #[error("number {0} of a term or an entry is too large")]
    Number(u64),
    #[error("the sender says that it leads, and that it is not elected")]
    NotElected,
    #[error("the sender asks for votes, and says that it is elected")]
    Elected,
    #[error("entry {} (term {}) does not follow {before:?}", .at.index, .at.term)]
    Gap { before: Option<Position>, at: Position },
    #[error("entry {} is of term {}, after the sender's term {term}", .at.index, .at.term)]
    Future { at: Position, term: u64 },
    #[error("one log cannot have term {} at entry {} and term {} at entry {}", .0.term, .0.index, .1.term, .1.index)]
    Contradiction(Position, Position),
}

type Result = std::result::Result<(), Implausible>;

/// Checks a message; those that are not of Raft itself are fine.
pub(super) fn check(request: &Request, known: &Known) -> Result {
    match request {
        Request::Append(append) => append_is_plausible(append, known),
        Request::Vote(ballot) | Request::PreVote(ballot) => ballot_is_plausible(ballot),
        Request::TransferLeader(transfer) => leads(transfer.from, transfer.last.as_slice()),
        Request::Snapshot(chunk) => snapshot_is_plausible(chunk, known),
        _ => Ok(()),
    }
}

fn append_is_plausible(append: &Append, known: &Known) -> Result {
    let committed = binding(known, append.vote);
    leads(append.vote, append.commit.as_slice())?;
    leads(append.vote, append.prev.as_slice())?;
    if let (Some(theirs), Some(ours)) = (append.commit, committed) {
        in_one_log(theirs, ours)?;
    }
    let agrees =
        |at| [append.commit, committed].into_iter().flatten().try_for_each(|other| in_one_log(at, other));
    append.prev.map_or(Ok(()), agrees)?;
    let mut before = append.prev;
    for entry in &append.entries {
        numbers(append.vote, &[entry.at])?;
        follows(before, entry.at)?;
        agrees(entry.at)?;
        before = Some(entry.at);
    }
    Ok(())
}

fn ballot_is_plausible(ballot: &Ballot) -> Result {
    if ballot.vote.committed {
        return Err(Implausible::Elected);
    }
    numbers(ballot.vote, ballot.last.as_slice())
}

fn snapshot_is_plausible(chunk: &SnapshotChunk, known: &Known) -> Result {
    leads(chunk.vote, &[chunk.last])?;
    binding(known, chunk.vote).map_or(Ok(()), |committed| in_one_log(chunk.last, committed))
}

/// What a leader must have: leaders before the one that this member follows are told so by Raft, whatever they have.
fn binding(known: &Known, leader: SavedVote) -> Option<Position> {
    known.committed.filter(|_| convert::vote(leader) >= convert::vote(known.vote))
}

/// Whether `vote` is a leader's, who may have entries at `places`.
fn leads(vote: SavedVote, places: &[Position]) -> Result {
    if !vote.committed {
        return Err(Implausible::NotElected);
    }
    numbers(vote, places)
}

/// Whether a log whose owner is in the term of `vote` may have entries at `places`.
fn numbers(vote: SavedVote, places: &[Position]) -> Result {
    let all = places.iter().flat_map(|at| [at.term, at.index]).chain([vote.term]);
    if let Some(large) = all.into_iter().find(|number| *number >= NUMBERS) {
        return Err(Implausible::Number(large));
    }
    let future = places.iter().find(|at| at.term > vote.term);
    future.map_or(Ok(()), |at| Err(Implausible::Future { at: *at, term: vote.term }))
}

/// Whether the entry at `at` can be the next one.
fn follows(before: Option<Position>, at: Position) -> Result {
    let (next, term) = before.map_or((0, 0), |before| (before.index + 1, before.term));
    if at.index != next || at.term < term {
        return Err(Implausible::Gap { before, at });
    }
    Ok(())
}

fn in_one_log(a: Position, b: Position) -> Result {
    let agree = match a.index.cmp(&b.index) {
        Ordering::Less => a.term <= b.term,
        Ordering::Equal => a.term == b.term,
        Ordering::Greater => a.term >= b.term,
    };
    if agree { Ok(()) } else { Err(Implausible::Contradiction(a, b)) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::peer::message::{PeerEntry, Transfer};

    fn at(term: u64, index: u64) -> Position {
        Position { term, index }
    }

    fn vote(term: u64, committed: bool) -> SavedVote {
        SavedVote { term, node: 7, committed }
    }

    fn append(prev: Option<Position>, entries: &[Position], commit: Option<Position>) -> Request {
        let entry = |at: &Position| PeerEntry { at: *at, kind: 1, body: Bytes::new() };
        let entries = entries.iter().map(entry).collect();
        Request::Append(Append { vote: vote(5, true), prev, entries, commit })
    }

    /// Of a member that follows term 5 and knows that (4, 10) is committed.
    fn checked(request: &Request) -> Result {
        check(request, &Known { vote: vote(5, true), committed: Some(at(4, 10)) })
    }

    #[test]
    fn what_leaders_say_is_plausible() {
        for honest in [
            append(None, &[], None),
            append(None, &[at(0, 0), at(1, 1)], Some(at(1, 1))),
            append(Some(at(4, 10)), &[at(4, 11), at(5, 12)], Some(at(4, 10))),
            append(Some(at(2, 3)), &[], Some(at(5, 40))),
            append(Some(at(5, 50)), &[], Some(at(4, 10))),
        ] {
            assert_eq!(checked(&honest), Ok(()), "{honest:?}");
        }
    }

    #[test]
    fn what_no_log_can_hold_is_refused() {
        let gap = |before, at| Err(Implausible::Gap { before, at });
        let contradiction = |a, b| Err(Implausible::Contradiction(a, b));
        let future = |at| Err(Implausible::Future { at, term: 5 });
        for (made_up, why) in [
            (append(None, &[at(1, 1)], None), gap(None, at(1, 1))),
            (append(Some(at(4, 10)), &[at(4, 12)], None), gap(Some(at(4, 10)), at(4, 12))),
            (append(Some(at(4, 11)), &[at(5, 12), at(4, 13)], None), gap(Some(at(5, 12)), at(4, 13))),
            (append(Some(at(4, 10)), &[at(6, 11)], None), future(at(6, 11))),
            (append(Some(at(6, 10)), &[], None), future(at(6, 10))),
            (append(None, &[], Some(at(6, 10))), future(at(6, 10))),
            // Against what is committed: before, at and behind it.
            (append(Some(at(5, 9)), &[], None), contradiction(at(5, 9), at(4, 10))),
            (append(Some(at(3, 10)), &[], None), contradiction(at(3, 10), at(4, 10))),
            (append(Some(at(3, 11)), &[], None), contradiction(at(3, 11), at(4, 10))),
            (append(Some(at(4, 8)), &[at(5, 9)], None), contradiction(at(5, 9), at(4, 10))),
            (append(None, &[], Some(at(3, 99))), contradiction(at(3, 99), at(4, 10))),
            // Against its own word about what is committed.
            (append(Some(at(5, 20)), &[], Some(at(4, 21))), contradiction(at(5, 20), at(4, 21))),
            (append(Some(at(4, 1 << 62)), &[], None), Err(Implausible::Number(1 << 62))),
        ] {
            assert_eq!(checked(&made_up), why, "{made_up:?}");
        }
    }

    #[test]
    fn leaders_before_are_left_to_raft() {
        let known = Known { vote: vote(6, true), committed: Some(at(3, 10)) };
        let stale = append(Some(at(5, 9)), &[], None);
        assert_eq!(check(&stale, &known), Ok(()));
        let known = Known { vote: vote(5, false), ..known };
        assert_eq!(check(&stale, &known), Err(Implausible::Contradiction(at(5, 9), at(3, 10))));
    }

    #[test]
    fn who_leads_is_elected_and_who_stands_is_not() {
        let ballot = |vote, last| Ballot { vote, last, transfer: false };
        assert_eq!(checked(&Request::Vote(ballot(vote(6, false), Some(at(5, 9))))), Ok(()));
        assert_eq!(checked(&Request::PreVote(ballot(vote(6, true), None))), Err(Implausible::Elected));
        let late = ballot(vote(6, false), Some(at(7, 9)));
        assert_eq!(checked(&Request::Vote(late)), Err(Implausible::Future { at: at(7, 9), term: 6 }));
        let transfer = |from| Request::TransferLeader(Transfer { from, to: 1, last: None });
        assert_eq!(checked(&transfer(vote(5, true))), Ok(()));
        assert_eq!(checked(&transfer(vote(5, false))), Err(Implausible::NotElected));
        let endless = vote(u64::MAX, true);
        assert_eq!(checked(&transfer(endless)), Err(Implausible::Number(u64::MAX)));
    }

    #[test]
    fn snapshots_contain_what_is_committed_or_come_late() {
        let chunk = |last| {
            let (vote, bytes) = (vote(5, true), Bytes::new());
            Request::Snapshot(SnapshotChunk {
                vote,
                last,
                attempt: 1,
                part: 0,
                bytes,
                checksum: 0,
                done: false,
            })
        };
        assert_eq!(checked(&chunk(at(5, 20))), Ok(()));
        assert_eq!(checked(&chunk(at(2, 5))), Ok(()));
        assert_eq!(checked(&chunk(at(5, 10))), Err(Implausible::Contradiction(at(5, 10), at(4, 10))));
        assert_eq!(checked(&chunk(at(6, 20))), Err(Implausible::Future { at: at(6, 20), term: 5 }));
    }
}
