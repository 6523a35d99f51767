//! Events go away after an hour: each is written with a lease, and many share one, since leases are entries of the
//! store's log too.

use std::time::Duration;

use carrack_store::{LeaseId, Store};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::ApiError;

/// How long an event lives after it was last written; upstream's default.
const EVENT_TTL: Duration = Duration::from_secs(3600);
/// How long a lease takes new events: so much longer than [`EVENT_TTL`] it lives.
const REUSE: Duration = Duration::from_secs(60);
/// Most events on one lease: they are deleted in one transaction. Upstream's figure.
const MAX_EVENTS: u32 = 1000;

/// The lease that new events get.
#[derive(Default)]
pub(crate) struct EventLeases(Mutex<Option<Current>>);

struct Current {
    id: LeaseId,
    granted: Instant,
    events: u32,
}

impl EventLeases {
    /// The lease for an event that is written now.
    pub(crate) async fn current(&self, store: &Store) -> Result<LeaseId, ApiError> {
        let mut slot = self.0.lock().await;
        if let Some(current) = slot.as_mut()
            && current.granted.elapsed() < REUSE
            && current.events < MAX_EVENTS
        {
            current.events += 1;
            return Ok(current.id);
        }
        let seconds = (EVENT_TTL + REUSE).as_secs();
        let granted = Instant::now();
        let lease = store.lease_grant(seconds.cast_signed()).await?;
        *slot = Some(Current { id: lease.id, granted, events: 1 });
        Ok(lease.id)
    }
}
