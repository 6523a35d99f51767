//! Snapshots: the whole store in one file, the file that `etcdctl snapshot save` writes, so that etcd's own tools can
//! look at it, and a store can move between etcd and here. It is a database in etcd's format with a SHA-256 behind it.

mod bolt;
mod reader;
pub(crate) mod record;
mod restore;

use std::io::{self, Write};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::store::Store;
use crate::upkeep::UpkeepError;
use crate::view::View;

pub use restore::{RestoreError, SnapshotStatus, restore, status};

/// Bytes of a piece of a snapshot on its way.
const PIECE_BYTES: usize = 64 << 10;

/// Pieces that wait for a slow receiver.
const PIECES: usize = 4;

/// Bytes of the checksum at the end.
const CHECKSUM_BYTES: usize = 32;

const LEASES: &[u8] = b"lease";
const META: &[u8] = b"meta";
const COMPACTED: &[u8] = b"finishedCompactRev";

/// A snapshot on its way. Dropping it ends it.
#[derive(Debug)]
pub struct Snapshot {
    /// Its length, in bytes.
    pub bytes: u64,
    pieces: mpsc::Receiver<Result<Bytes, UpkeepError>>,
}

impl Snapshot {
    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, UpkeepError>> {
        self.pieces.recv().await
    }
}

impl Store {
    /// Takes a snapshot of everything that is acknowledged by now. Serving goes on; memory is bounded.
    pub async fn snapshot(&self) -> Result<Snapshot, UpkeepError> {
        let (pieces, received) = mpsc::channel(PIECES);
        let (length, planned) = tokio::sync::oneshot::channel();
        let store = self.clone();
        tokio::spawn(async move {
            let to = pieces.clone();
            let written = store.with_view(move |view| write(view, &to, length)).await;
            if let Err(error) = written {
                // Fails if nobody is interested any more.
                let _ = pieces.send(Err(error)).await;
            }
        });
        match planned.await {
            Ok(bytes) => Ok(Snapshot { bytes, pieces: received }),
            Err(_) => Err(Snapshot { bytes: 0, pieces: received }.failure().await),
        }
    }
}

impl Snapshot {
    /// Why it did not begin.
    async fn failure(mut self) -> UpkeepError {
        match self.next().await {
            Some(Err(error)) => error,
            _ => UpkeepError::History("the snapshot did not begin".to_owned()),
        }
    }
}

fn write(
    view: &View,
    to: &mpsc::Sender<Result<Bytes, UpkeepError>>,
    length: tokio::sync::oneshot::Sender<u64>,
) -> Result<(), UpkeepError> {
    let bucket = |name: &'static [u8]| (name, Bucket { name, view });
    // In the order of their names. Those of members are there so that etcd's tools find them; they are empty, since
    // what is restored is a cluster of its own.
    let names = [record::BUCKET, LEASES, b"members", b"members_removed", META];
    let file = bolt::File::plan(names.map(bucket).into())?;
    if length.send(file.len() + CHECKSUM_BYTES as u64).is_err() {
        return Ok(());
    }
    let mut out = Pieces { to, piece: Vec::with_capacity(PIECE_BYTES), sum: Sha256::new() };
    file.write(&mut out)?;
    let sum = out.sum.finalize_reset();
    out.write_all(&sum)?;
    out.flush()?;
    Ok(())
}

/// The records of one bucket.
struct Bucket<'a> {
    name: &'static [u8],
    view: &'a View,
}

impl From<io::Error> for UpkeepError {
    fn from(error: io::Error) -> UpkeepError {
        UpkeepError::History(error.to_string())
    }
}

impl bolt::Source for Bucket<'_> {
    type Error = UpkeepError;

    fn each(&self, visit: &mut dyn FnMut(Vec<u8>, Vec<u8>) -> io::Result<()>) -> Result<(), UpkeepError> {
        match self.name {
            record::BUCKET => {
                self.view.each(|kv| Ok::<_, UpkeepError>(visit(record::key(&kv), record::value(&kv))?))
            }
            LEASES => {
                let mut leases = self.view.leases()?;
                // They sort as unsigned numbers there.
                leases.sort_by_key(|(id, _)| *id as u64);
                for (id, ttl) in leases {
                    let lease = LeaseRecord { id, ttl };
                    visit(id.to_be_bytes().to_vec(), prost::Message::encode_to_vec(&lease))?;
                }
                Ok(())
            }
            META => {
                let marks = &self.view.marks;
                let index = marks.applied.map_or(0, |at| at.index);
                visit(b"consistent_index".to_vec(), index.to_be_bytes().to_vec())?;
                if marks.compacted > 0 {
                    let compacted = record::revision(marks.compacted, 0);
                    visit(COMPACTED.to_vec(), compacted.clone())?;
                    visit(b"scheduledCompactRev".to_vec(), compacted)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// `leasepb.Lease`.
#[derive(Clone, PartialEq, prost::Message)]
struct LeaseRecord {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
}

/// Cuts what is written into pieces, and sums it up.
struct Pieces<'a> {
    to: &'a mpsc::Sender<Result<Bytes, UpkeepError>>,
    piece: Vec<u8>,
    sum: Sha256,
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sum.update(bytes);
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE_BYTES));
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody receives the snapshot any more");
        self.to.blocking_send(Ok(piece.into())).map_err(gone)
    }
}
