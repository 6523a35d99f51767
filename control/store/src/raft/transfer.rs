//! Snapshots on their way from a leader to a member whose next entries the leader's log does not have any more.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{NetworkError, ReplicationClosed, StreamingError, Unreachable};
use openraft::raft::SnapshotResponse;
use openraft::type_config::alias::SnapshotMetaOf;
use openraft::{AnyError, Snapshot};

use super::machine::Image;
use super::{Node, RaftVote, Types, convert};
use crate::log::Position;
use crate::peer::message::{self, Refused, Request, Response, SnapshotAnswer, SnapshotChunk};
use crate::shared::Shared;
use crate::snapshot::{Cursor, Export, Import, Item, RECEIVED};

/// How long a member may take for the last part: it reads the whole snapshot into memory.
const INSTALL: Duration = Duration::from_secs(120);

/// A snapshot that comes in.
pub(crate) struct Incoming {
    last: Position,
    attempt: u64,
    next_part: u64,
    import: Arc<Import>,
}

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
        let patience = if done { INSTALL } else { shared.options.request_timeout };
        match shared.call(target, Request::Snapshot(chunk), patience).await {
            Ok(Response::Snapshot(SnapshotAnswer::Taken(theirs))) => {
                let theirs = convert::vote(theirs);
                if done || theirs > vote {
                    return Ok(SnapshotResponse::new(theirs));
                }
            }
            Ok(_) => return Err(lost("the member lost the parts before this one")),
            Err(error) => return Err(lost(error)),
        }
        cursor = next;
    }
    Err(lost("too many parts"))
}

impl Node {
    /// Takes a part in; installs the snapshot after the last one.
    pub(super) async fn take_snapshot(&self, chunk: SnapshotChunk) -> Result<Response, Refused> {
        if crc32fast::hash(&chunk.bytes) != chunk.checksum {
            return Err(Refused::Bad("the checksum of a part of a snapshot is wrong".to_owned()));
        }
        let mut incoming = self.shared.incoming.lock().await;
        let own = self.shared.log.lock().vote().unwrap_or_default();
        if convert::vote(own) > convert::vote(chunk.vote) {
            return Ok(Response::Snapshot(SnapshotAnswer::Taken(own)));
        }
        if chunk.part == 0 {
            // Closed before the new one is made in its place.
            *incoming = None;
            *incoming = Some(self.start_import(&chunk).await?);
        }
        let fits = |now: &&mut Incoming| {
            (now.last, now.attempt, now.next_part) == (chunk.last, chunk.attempt, chunk.part)
        };
        let Some(now) = incoming.as_mut().filter(fits) else {
            return Ok(Response::Snapshot(SnapshotAnswer::Restart));
        };
        let complete = self.import(Arc::clone(&now.import), chunk.bytes).await?;
        now.next_part += 1;
        if !chunk.done {
            return Ok(Response::Snapshot(SnapshotAnswer::Taken(own)));
        }
        let Some(done) = incoming.take().filter(|_| complete.is_some()) else {
            return Err(Refused::Bad("the snapshot has no end".to_owned()));
        };
        let import = Arc::into_inner(done.import);
        import.map(Import::finish).ok_or_else(|| Refused::Bad("the snapshot is still written".to_owned()))?;
        self.install(chunk.vote, chunk.last, complete.flatten()).await
    }

    async fn start_import(&self, chunk: &SnapshotChunk) -> Result<Incoming, Refused> {
        let options = &self.shared.options;
        let (disk, path, cache) =
            (Arc::clone(&options.disk), options.dir.join(RECEIVED), options.cache_bytes);
        let import = options.blocking.run(move || Import::start(&disk, path, cache)).await;
        let import = Arc::new(import.and_then(|import| import).map_err(Refused::Bad)?);
        Ok(Incoming { last: chunk.last, attempt: chunk.attempt, next_part: 0, import })
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
        vote: crate::log::SavedVote,
        last: Position,
        membership: Option<(Position, Vec<u8>)>,
    ) -> Result<Response, Refused> {
        let bad = |error: std::io::Error| Refused::Bad(error.to_string());
        let meta = SnapshotMetaOf::<Types> {
            last_log_id: Some(convert::log_id(last)),
            last_membership: convert::stored_membership(membership.as_ref()).map_err(bad)?,
        };
        let snapshot = Snapshot { meta, snapshot: Image::Received };
        let done = self.raft.install_full_snapshot(convert::vote(vote), snapshot).await;
        let theirs = done.map_err(|_| Refused::Stopped)?.vote;
        Ok(Response::Snapshot(SnapshotAnswer::Taken(convert::saved_vote(&theirs))))
    }
}
