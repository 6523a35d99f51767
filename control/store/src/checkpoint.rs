//! Checkpoints: making the history durable, so that the log up to there is not needed any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use crate::backend::BackendError;
use crate::raft::Node;
use crate::shared::{Shared, until};

/// When to try again after a checkpoint found the disk full, if nobody asks before.
const RETRY_FULL: Duration = Duration::from_secs(5);

/// Free space without which a checkpoint does not even try: how many times the new records' bytes (redb writes whole
/// pages, and copies what it changes), and at least so many bytes.
const FREE_FACTOR: u64 = 4;
const FREE_LEAST: u64 = 4 << 20;

/// How the rest of the store asks for checkpoints, and learns of them.
#[derive(Debug)]
pub(crate) struct Trigger {
    /// Something waits that did not before: the age of the next checkpoint counts from here.
    first: Notify,
    /// Enough waits for a checkpoint.
    due: Notify,
    /// Someone wants one now.
    asked: Notify,
    rounds: watch::Sender<Rounds>,
    unflushed: AtomicUsize,
}

/// Attempts to write a checkpoint.
#[derive(Clone, Copy, Debug, Default)]
struct Rounds {
    made: u64,
    /// There will be no more.
    over: bool,
}

impl Trigger {
    pub(crate) fn new() -> Trigger {
        Trigger {
            first: Notify::new(),
            due: Notify::new(),
            asked: Notify::new(),
            rounds: watch::Sender::new(Rounds::default()),
            unflushed: AtomicUsize::new(0),
        }
    }

    /// Says that changes wait: so many bytes, and whether they are the first.
    pub(crate) fn waiting(&self, unflushed: usize, first: bool, enough: bool) {
        self.unflushed.store(unflushed, Ordering::Release);
        if first {
            self.first.notify_one();
        }
        if enough {
            self.due.notify_one();
        }
    }

    /// Bytes that wait.
    pub(crate) fn unflushed(&self) -> usize {
        self.unflushed.load(Ordering::Acquire)
    }

    /// Waits for the end of the next attempt, which is asked for if `now`, and is going to happen otherwise. False
    /// if there will be none.
    pub(crate) async fn round(&self, now: bool) -> bool {
        let mut rounds = self.rounds.subscribe();
        if rounds.borrow().over {
            return false;
        }
        if now {
            self.asked.notify_one();
        }
        rounds.changed().await.is_ok() && !rounds.borrow().over
    }
}

/// Writes checkpoints until `stop`.
pub(crate) async fn run(shared: Arc<Shared>, node: Node, mut stop: watch::Receiver<bool>) {
    let mut full = false;
    loop {
        let trigger = &shared.trigger;
        let go = async {
            if full {
                tokio::time::sleep(RETRY_FULL).await;
                return;
            }
            trigger.first.notified().await;
            tokio::select! {
                biased;
                () = trigger.due.notified() => {}
                () = tokio::time::sleep(shared.options.checkpoint_age) => {}
            }
        };
        tokio::select! {
            biased;
            () = until(&mut stop) => break,
            () = trigger.asked.notified() => {}
            () = go => {}
        }
        let to_do = Arc::clone(&shared);
        let done = shared.options.blocking.run(move || write(&to_do)).await;
        full = match done {
            Ok(Ok(())) => false,
            Ok(Err(CheckpointError::Full)) => true,
            Ok(Err(error)) => {
                shared.fail(error);
                break;
            }
            Err(panicked) => {
                shared.fail(format_args!("a checkpoint was not written: {panicked}"));
                break;
            }
        };
        shared.gate.set_no_checkpoint(full);
        if !full {
            node.log_not_needed().await;
        }
        shared.trigger.rounds.send_modify(|rounds| rounds.made += 1);
    }
    shared.trigger.rounds.send_modify(|rounds| rounds.over = true);
}

/// Why a checkpoint was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    /// The disk is full; everything is as before, and it can be tried again.
    #[error("the disk is full")]
    Full,
    /// The history cannot be written.
    #[error("cannot write the history: {0}")]
    Backend(Box<BackendError>),
    /// The log cannot be made durable.
    #[error("cannot sync the log: {0}")]
    Log(std::io::Error),
}

/// Writes everything that waits. Blocks on the disk.
pub(crate) fn write(shared: &Shared) -> Result<(), CheckpointError> {
    let _alone = shared.checkpointing.lock();
    let sealed = shared.state.write().seal();
    if sealed.layer.commands == 0 {
        shared.state.write().flushed();
        return Ok(());
    }
    let needed = (sealed.layer.bytes as u64).saturating_mul(FREE_FACTOR).max(FREE_LEAST);
    let free = shared.options.disk.free_bytes(&shared.options.dir);
    if free.is_ok_and(|free| free < needed) {
        return Err(CheckpointError::Full);
    }
    sync_log(shared).map_err(CheckpointError::Log)?;
    let started = Instant::now();
    shared.backend.write(&sealed).map_err(|error| match *error {
        BackendError::Full => CheckpointError::Full,
        _ => CheckpointError::Backend(error),
    })?;
    shared.counters.checkpoint.record(started.elapsed());
    *shared.checkpointed.lock() = sealed.marks.clone();
    let mut state = shared.state.write();
    state.flushed();
    let waits = state.pending().commands > 0;
    shared.trigger.waiting(state.unflushed_bytes(), waits, enough(shared, &state));
    Ok(())
}

/// Makes all of the log durable. A follower applies what a majority has, though it may not have synced it itself; its history must
/// not be ahead of its log when it comes back.
fn sync_log(shared: &Shared) -> std::io::Result<()> {
    let ticket = shared.log.lock().unsynced()?;
    if let Some(ticket) = ticket {
        ticket.sync()?;
        shared.log.lock().synced(&ticket);
    }
    Ok(())
}

/// Whether so much waits that a checkpoint is due.
pub(crate) fn enough(shared: &Shared, state: &crate::mvcc::Mvcc) -> bool {
    let waiting = state.pending();
    waiting.bytes >= shared.options.checkpoint_bytes || waiting.commands >= shared.options.checkpoint_changes
}
