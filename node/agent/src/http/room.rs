//! A bound on what the streams of one connection hold in memory together.
//!
//! The queue of each stream is short, but a client may open many streams to something that reads none of them, and fill
//! every queue with the largest pieces there are.

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many bytes of a connection may wait for their readers; more than the largest piece has.
pub(super) const MAX_WAITING: u32 = 4 << 20;

/// The room of one connection.
pub(super) struct Room(Arc<Semaphore>);

/// Bytes that take up room until they are dropped.
pub(super) struct Piece {
    data: Bytes,
    _place: OwnedSemaphorePermit,
}

impl Room {
    pub(super) fn new() -> Self {
        Room(Arc::new(Semaphore::new(MAX_WAITING as usize)))
    }

    /// Waits until there is room for `data`; `None` never comes, since nobody closes the room.
    pub(super) async fn take(&self, data: Bytes) -> Option<Piece> {
        let bytes = u32::try_from(data.len()).unwrap_or(u32::MAX).min(MAX_WAITING);
        let place = self.0.clone().acquire_many_owned(bytes).await.ok()?;
        Some(Piece { data, _place: place })
    }
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.data
    }
}
