//! Snapshots on their way from a leader to a member whose next entries the leader's log does not have any more.
//!
//! A part that gets no answer is sent again, and a part that comes again is answered without being taken twice: so a
//! lost message costs one timeout, and not the whole snapshot.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{NetworkError, ReplicationClosed, StreamingError, Unreachable};
use openraft::raft::SnapshotResponse;
use openraft::type_config::alias::SnapshotMetaOf;
use openraft::{AnyError, Snapshot};
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use super::machine::Image;
use super::{Node, RaftVote, Types, convert};
use crate::image::{Cursor, Export, Import, Item, RECEIVED};
use crate::log::{Position, SavedVote};
use crate::peer::TransportError;
use crate::peer::message::{self, Refused, Request, Response, SnapshotAnswer, SnapshotChunk};
use crate::shared::Shared;

/// How long a member may be at work with a part. After the last one it reads the whole snapshot into memory.
const WORK: Duration = Duration::from_secs(120);

/// How often a part is sent that gets no answer at all.
const TRIES: u32 = 3;

/// A snapshot that comes in.
pub(crate) struct Incoming {
    last: Position,
    attempt: u64,
    next_part: u64,
    /// Where it is written to; `None` once it has arrived to its end.
    import: Option<Arc<Import>>,
}

/// The right to work on what comes in. Nobody else begins a new snapshot meanwhile.
type Turn = OwnedMutexGuard<Option<Incoming>>;

type SendError = StreamingError<Types>;

fn lost(why: impl ToString) -> SendError {
    StreamingError::Network(NetworkError::from_string(why.to_string()))
}

fn unreachable(why: impl ToString) -> SendError {
    StreamingError::Unreachable(Unreachable::new(&AnyError::error(why)))
}

/// Sends a snapshot, part after part.
pub(super) async fn send(
    shared: &Arc<Shared>,
    target: u64,
    vote: RaftVote,
    export: Arc<Export>,
    cancel: impl Future<Output = ReplicationClosed>,
) -> Result<SnapshotResponse<Types>, SendError> {
    let Some(last) = export.marks().applied else {
        return Err(unreachable("the snapshot is empty"));
    };
    let attempt = shared.options.random.number();
    tracing::info!(member = %format_args!("{target:x}"), index = last.index, "sending a snapshot");
    // What follows the snapshot stays in the log until it has arrived.
    shared.exporting.lock().insert(attempt, last.index);
    let sending = parts(shared, target, vote, &export, (last, attempt));
    let sent = tokio::select! {
        biased;
        closed = cancel => Err(StreamingError::Closed(closed)),
        sent = sending => sent,
    };
    shared.exporting.lock().remove(&attempt);
    sent
}

async fn parts(
    shared: &Arc<Shared>,
    target: u64,
    vote: RaftVote,
    export: &Arc<Export>,
    (last, attempt): (Position, u64),
) -> Result<SnapshotResponse<Types>, SendError> {
    let mut cursor = Cursor::Start;
    for part in 0.. {
        let from = Arc::clone(export);
        let read = shared.options.blocking.run(move || from.part(cursor)).await;
        let (items, next) = read.map_err(unreachable)?.map_err(unreachable)?;
        let bytes = message::encode(&items).map_err(unreachable)?;
        let (checksum, done) = (crc32fast::hash(&bytes), next == Cursor::End);
        let chunk =
            SnapshotChunk { vote: convert::saved_vote(&vote), last, attempt, part, bytes, checksum, done };
        let theirs = convert::vote(part_of(shared, target, chunk).await?);
        if done || theirs > vote {
            return Ok(SnapshotResponse::new(theirs));
        }
        cursor = next;
    }
    Err(lost("too many parts"))
}

/// Sends one part until it is taken; gives the receiver's vote.
async fn part_of(shared: &Arc<Shared>, target: u64, chunk: SnapshotChunk) -> Result<SavedVote, SendError> {
    let until = Instant::now() + WORK;
    let mut unanswered = 0;
    loop {
        let request = Request::Snapshot(chunk.clone());
        match shared.call(target, request, shared.options.request_timeout).await {
            Ok(Response::Snapshot(SnapshotAnswer::Taken(theirs))) => return Ok(theirs),
            Ok(Response::Snapshot(SnapshotAnswer::Working)) if Instant::now() < until => unanswered = 0,
            Ok(Response::Snapshot(SnapshotAnswer::Working)) => {
                return Err(lost(format!("the member is not done with part {} after {WORK:?}", chunk.part)));
            }
            Ok(_) => return Err(lost("the member lost the parts before this one")),
            Err(error @ TransportError::NoAnswer(_)) => {
                unanswered += 1;
                tracing::info!(member = %format_args!("{target:x}"), part = chunk.part, %error, "a part of a snapshot got no answer");
                if unanswered == TRIES {
                    return Err(lost(error));
                }
            }
            Err(error) => return Err(lost(error)),
        }
    }
}

impl Node {
    /// Takes a part in; installs the snapshot after the last one. What takes long goes on by itself, and whoever asked
    /// is told to ask again.
    pub(super) async fn take_snapshot(&self, chunk: SnapshotChunk) -> Result<Response, Refused> {
        if crc32fast::hash(&chunk.bytes) != chunk.checksum {
            return Err(Refused::Bad("the checksum of a part of a snapshot is wrong".to_owned()));
        }
        let work = async {
            let turn = Arc::clone(&self.shared.incoming).lock_owned().await;
            let node = self.clone();
            // A task of its own: whoever asked may go away in the middle, and a snapshot that is half taken over must
            // not be begun anew beside that.
            let task = async move { node.unless_over(node.take_part(turn, chunk)).await };
            tokio::spawn(task).await.ok().flatten().unwrap_or(Err(Refused::Stopped))
        };
        let patience = self.shared.options.request_timeout / 2;
        let done = tokio::time::timeout(patience, work).await;
        done.unwrap_or(Ok(Response::Snapshot(SnapshotAnswer::Working)))
    }

    async fn take_part(&self, mut turn: Turn, chunk: SnapshotChunk) -> Result<Response, Refused> {
        let own = self.shared.log.lock().vote().unwrap_or_default();
        let taken = Ok(Response::Snapshot(SnapshotAnswer::Taken(own)));
        if convert::vote(own) > convert::vote(chunk.vote) {
            return taken;
        }
        let begun = turn.as_mut().filter(|now| (now.last, now.attempt) == (chunk.last, chunk.attempt));
        if begun.as_ref().is_some_and(|now| now.next_part > chunk.part) {
            // It comes again, since the answer was lost.
            return taken;
        }
        if chunk.part == 0 {
            // Closed before the new one is made in its place.
            *turn = None;
            *turn = Some(self.start_import(&chunk).await?);
        }
        let fits = |now: &&mut Incoming| {
            (now.last, now.attempt, now.next_part) == (chunk.last, chunk.attempt, chunk.part)
        };
        let Some((now, import)) =
            turn.as_mut().filter(fits).and_then(|now| now.import.clone().map(|import| (now, import)))
        else {
            return Ok(Response::Snapshot(SnapshotAnswer::Restart));
        };
        now.next_part += 1;
        let done = self.finish_part(now, import, chunk).await;
        if done.is_err() {
            *turn = None;
        }
        done.map(|vote| Response::Snapshot(SnapshotAnswer::Taken(vote.unwrap_or(own))))
    }

    /// Writes a part; after the last one, installs the snapshot and gives the vote after that.
    async fn finish_part(
        &self,
        now: &mut Incoming,
        import: Arc<Import>,
        chunk: SnapshotChunk,
    ) -> Result<Option<SavedVote>, Refused> {
        let complete = self.import(Arc::clone(&import), chunk.bytes).await?;
        if !chunk.done {
            return Ok(None);
        }
        let Some(membership) = complete else {
            return Err(Refused::Bad("the snapshot has no end".to_owned()));
        };
        now.import = None;
        let import = Arc::into_inner(import);
        import.map(Import::finish).ok_or_else(|| Refused::Bad("the snapshot is still written".to_owned()))?;
        self.install(chunk.vote, chunk.last, membership).await.map(Some)
    }

    async fn start_import(&self, chunk: &SnapshotChunk) -> Result<Incoming, Refused> {
        let options = &self.shared.options;
        let (disk, path, cache) =
            (Arc::clone(&options.disk), options.dir.join(RECEIVED), options.cache_bytes);
        let import = options.blocking.run(move || Import::start(&disk, path, cache)).await;
        let import = Arc::new(import.and_then(|import| import).map_err(Refused::Bad)?);
        Ok(Incoming { last: chunk.last, attempt: chunk.attempt, next_part: 0, import: Some(import) })
    }

    /// Writes a part; if it is the last one, gives the membership in it.
    async fn import(
        &self,
        import: Arc<Import>,
        bytes: Bytes,
    ) -> Result<Option<Option<(Position, Vec<u8>)>>, Refused> {
        let work = move || {
            let items: Vec<Item> = message::decode(&bytes).map_err(|error| error.to_string())?;
            let complete = import.take(&items).map_err(|error| error.to_string())?;
            let marks = match items.into_iter().next_back() {
                Some(Item::Marks(marks)) if complete => Some(marks.membership),
                _ => None,
            };
            Ok(marks)
        };
        let done: Result<_, String> = self.shared.options.blocking.run(work).await.and_then(|done| done);
        done.map_err(Refused::Bad)
    }

    async fn install(
        &self,
        vote: SavedVote,
        last: Position,
        membership: Option<(Position, Vec<u8>)>,
    ) -> Result<SavedVote, Refused> {
        let bad = |error: std::io::Error| Refused::Bad(error.to_string());
        let meta = SnapshotMetaOf::<Types> {
            last_log_id: Some(convert::log_id(last)),
            last_membership: convert::stored_membership(membership.as_ref()).map_err(bad)?,
        };
        let snapshot = Snapshot { meta, snapshot: Image::Received };
        let done = self.raft.install_full_snapshot(convert::vote(vote), snapshot).await;
        let theirs = done.map_err(|_| Refused::Stopped)?.vote;
        Ok(convert::saved_vote(&theirs))
    }
}
