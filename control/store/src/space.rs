//! The gate in front of Raft: nothing is proposed that could not be kept.
//!
//! A storage error inside Raft is fatal, so a full disk has to be noticed before. Entries go into disk space that
//! was taken in advance; the gate lets in only what fits there. When space was short and someone writes, it is
//! looked for again, so that the first write after there is space succeeds.
//!
//! A follower has the same gate in front of the entries of its leader ([`Room`]): those that do not fit are refused,
//! and sent again by the leader. So a follower whose disk is full still votes and answers signs of life.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use crate::error::{Shortage, WriteError};
use crate::log::space_for;
use crate::options::IN_FLIGHT_PART;
use crate::shared::{Shared, until};

/// How often space is looked for while there is none.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How often it is looked for if nobody writes: only the alarm waits for it.
const LOOK_WHEN_IDLE: Duration = Duration::from_secs(1);

/// The unit in which writes under way are counted.
const UNIT: u64 = 512;

/// How much more than one checkpoint's worth of changes may wait in memory before writers have to wait.
const MAX_BACKLOG: usize = 4;

/// Knows how much space there is and how much is promised.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Bytes of log that can be written without new disk space.
    room: AtomicU64,
    /// Bytes of log that writes under way may need.
    promised: AtomicU64,
    /// Whether the last checkpoint failed for lack of space.
    no_checkpoint: AtomicBool,
    /// Whether an append is waiting for space.
    stuck: AtomicBool,
    under_way: Arc<Semaphore>,
    looked: Mutex<Option<Instant>>,
    stepped_aside: Mutex<Option<Instant>>,
    /// Something began to be short.
    short: Notify,
}

/// The right to propose something. Held until it is applied.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    gate: &'a Gate,
    bytes: u64,
    _under_way: OwnedSemaphorePermit,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.gate.promised.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// Log that is kept free for entries of the leader that are on their way into it.
pub(crate) struct Room {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shared.gate.promised.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

impl Room {
    /// Keeps `bytes` free; `None` if they are not there, and the disk does not have them either.
    pub(crate) async fn take(shared: &Arc<Shared>, bytes: u64) -> Option<Room> {
        let gate = &shared.gate;
        let mut fits = gate.fits(bytes);
        if !fits {
            gate.look_for_space(shared).await;
            fits = gate.fits(bytes);
        }
        if !fits && !gate.stuck.load(Ordering::Acquire) {
            // More is under way than what was taken in advance, which is no harm if the disk has it.
            let options = &shared.options;
            let free = options.disk.free_bytes(&options.dir).unwrap_or_default();
            if free > bytes.saturating_add(2 * options.segment_bytes) {
                gate.promised.fetch_add(bytes, Ordering::AcqRel);
                fits = true;
            }
        }
        fits.then(|| Room { shared: Arc::clone(shared), bytes })
    }
}

/// Looks for space now and then while there is none, so that the alarm ends also when nobody writes; until `stop`.
pub(crate) async fn run(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let looking = async {
        loop {
            // At start the log may have no room already, of which nobody was told.
            while shared.gate.shortage().is_some() {
                tokio::time::sleep(LOOK_WHEN_IDLE).await;
                shared.gate.look_for_space(&shared).await;
            }
            shared.gate.short.notified().await;
        }
    };
    tokio::select! {
        biased;
        () = until(&mut stop) => {}
        () = looking => {}
    }
}

impl Gate {
    /// A gate in front of a log with segments of this size.
    pub(crate) fn new(segment_bytes: u64) -> Gate {
        let units = segment_bytes / IN_FLIGHT_PART / UNIT;
        Gate {
            room: AtomicU64::new(0),
            promised: AtomicU64::new(0),
            no_checkpoint: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
            under_way: Arc::new(Semaphore::new(units as usize)),
            looked: Mutex::new(None),
            stepped_aside: Mutex::new(None),
            short: Notify::new(),
        }
    }

    /// Says how much log can be written.
    pub(crate) fn set_room(&self, bytes: u64) {
        if self.room.swap(bytes, Ordering::AcqRel) > 0 && bytes == 0 {
            self.short.notify_one();
        }
    }

    /// Says whether checkpoints fail for lack of space.
    pub(crate) fn set_no_checkpoint(&self, fails: bool) {
        if self.no_checkpoint.swap(fails, Ordering::AcqRel) != fails {
            if fails {
                self.short.notify_one();
                tracing::warn!("the disk is full: writes are refused until there is space");
            } else {
                tracing::info!("there is disk space again: writes go on");
            }
        }
    }

    /// Says whether an append waits for space.
    pub(crate) fn set_stuck(&self, stuck: bool) {
        if !self.stuck.swap(stuck, Ordering::AcqRel) && stuck {
            self.short.notify_one();
        }
    }

    /// What there is too little of at the moment.
    pub(crate) fn shortage(&self) -> Option<Shortage> {
        let short = self.no_checkpoint.load(Ordering::Acquire)
            || self.stuck.load(Ordering::Acquire)
            || self.room.load(Ordering::Acquire) == 0;
        short.then_some(Shortage::Disk)
    }

    /// Promises `bytes` of log to a client, if they are there.
    fn promise(&self, bytes: u64) -> bool {
        !self.no_checkpoint.load(Ordering::Acquire) && self.fits(bytes)
    }

    /// Promises `bytes` of log, if they are there.
    fn fits(&self, bytes: u64) -> bool {
        if self.stuck.load(Ordering::Acquire) {
            return false;
        }
        let promised = self.promised.fetch_add(bytes, Ordering::AcqRel) + bytes;
        let there = promised <= self.room.load(Ordering::Acquire);
        if !there {
            self.promised.fetch_sub(bytes, Ordering::AcqRel);
        }
        there
    }

    /// Lets a command of `len` bytes in: waits for its turn, refuses it if there is no space to keep it.
    pub(crate) async fn enter<'a>(&'a self, shared: &Shared, len: usize) -> Result<Pass<'a>, WriteError> {
        let bytes = space_for(len);
        let turn = Arc::clone(&self.under_way).acquire_many_owned((bytes / UNIT) as u32).await;
        let turn = turn.map_err(|_| WriteError::Stopped)?;
        self.wait_for_checkpoint(shared).await?;
        if !self.promise(bytes) {
            self.look_for_space(shared).await;
            if !self.promise(bytes) {
                return Err(WriteError::NoSpace(Shortage::Disk));
            }
        }
        Ok(Pass { gate: self, bytes, _under_way: turn })
    }

    /// When leadership was last to be handed to a member that has space. Who comes while that is tried waits for what comes
    /// of it.
    pub(crate) async fn stepping_aside(&self) -> MutexGuard<'_, Option<Instant>> {
        self.stepped_aside.lock().await
    }

    /// Nobody waits at the gate any more.
    pub(crate) fn close(&self) {
        self.under_way.close();
    }

    /// Holds writers back while checkpoints cannot keep up, which bounds what waits in memory.
    async fn wait_for_checkpoint(&self, shared: &Shared) -> Result<(), WriteError> {
        let most = shared.options.checkpoint_bytes.saturating_mul(MAX_BACKLOG);
        if shared.trigger.unflushed() <= most {
            return Ok(());
        }
        // With a full disk there is nothing to wait for: the write is going to be refused.
        while shared.trigger.unflushed() > most && !self.no_checkpoint.load(Ordering::Acquire) {
            if !shared.trigger.round(true).await {
                return Err(WriteError::Stopped);
            }
        }
        Ok(())
    }

    /// Tries again what failed for lack of space.
    pub(crate) async fn look_for_space(&self, shared: &Shared) {
        // Those who wait here find what the first one found.
        let mut looked = self.looked.lock().await;
        if looked.is_some_and(|last| last.elapsed() < LOOK_AGAIN) {
            return;
        }
        if self.no_checkpoint.load(Ordering::Acquire) {
            shared.trigger.round(true).await;
        }
        if !self.stuck.load(Ordering::Acquire) {
            // Takes a fraction of a millisecond: no data is written.
            let mut log = shared.log.lock();
            match log.reserve() {
                Ok(()) => self.set_room(log.room()),
                // Asked for again and again; the alarm says it too.
                Err(error) => tracing::debug!(%error, "cannot take disk space for the log"),
            }
        }
        *looked = Some(Instant::now());
    }
}
