//! Runs a controller: takes keys from its queue, gathers what its plan needs, applies the plan, backs off failures.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use carrack_client::{Key, WaitError};
use jiff::Timestamp;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cache::Caches;
use crate::executor::Executor;
use crate::plan::{Failure, Outcome, Plan, Written};
use crate::queue::Queue;

/// How long a cache may take to show what was written before the key backs off instead.
const CACHE_LIMIT: Duration = Duration::from_secs(5);

/// A controller: how to look, and how to decide. Looking may read the API; deciding does no I/O.
pub trait Controller: Send + Sync + 'static {
    /// Everything that the plan for one key needs to know.
    type Snapshot: Send + Sync;

    /// The name in logs.
    const NAME: &'static str;
    /// Keys worked on at once.
    const WORKERS: usize = 8;

    /// Gathers what there is to know about `key`; `None` when there is nothing left to control.
    fn snapshot(&self, key: &Key) -> impl Future<Output = Result<Option<Self::Snapshot>, LookError>> + Send;

    /// Decides what to do.
    fn plan(&self, snapshot: &Self::Snapshot, now: Timestamp) -> Plan;

    /// Decides what to do once it is known how the plan went: usually the status to write.
    fn settle(&self, _snapshot: &Self::Snapshot, _outcome: &Outcome, _now: Timestamp) -> Plan {
        Plan::none()
    }
}

/// Why a snapshot could not be made.
#[derive(Debug, Error)]
pub enum LookError {
    /// The API did not answer a read.
    #[error("could not read {what}: {source}")]
    Read {
        /// What was to be read.
        what: String,
        /// The failure.
        source: Box<kube::Error>,
    },
    /// The key must wait until the caches of other kinds are complete.
    #[error("{0}")]
    NotYet(&'static str),
}

/// Why one round for a key did not end well.
#[derive(Debug, Error)]
enum RoundError {
    #[error(transparent)]
    Behind(#[from] WaitError),
    #[error(transparent)]
    Look(#[from] LookError),
    #[error(transparent)]
    Act(#[from] Failure),
}

/// A controller with its queue.
pub(crate) struct Driver<C> {
    controller: C,
    queue: Arc<Queue>,
    executor: Arc<Executor>,
    caches: Arc<Caches>,
    /// What each key wrote that the caches have not shown yet, as far as anybody looked.
    written: Mutex<HashMap<Key, Vec<Written>>>,
}

impl<C: Controller> Driver<C> {
    /// Couples a controller with the queue that its hooks feed.
    pub(crate) fn new(
        controller: C,
        queue: Arc<Queue>,
        executor: Arc<Executor>,
        caches: Arc<Caches>,
    ) -> Arc<Self> {
        Arc::new(Self { controller, queue, executor, caches, written: Mutex::default() })
    }

    /// Works until `shutdown`; what is under way then is finished.
    pub(crate) async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let places = Arc::new(Semaphore::new(C::WORKERS));
        let mut workers = JoinSet::new();
        loop {
            let place = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                place = Arc::clone(&places).acquire_owned() => place,
            };
            let key = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                key = self.queue.next() => key,
            };
            while workers.try_join_next().is_some() {}
            let driver = Arc::clone(&self);
            workers.spawn(async move {
                driver.work(key).await;
                drop(place);
            });
        }
        while workers.join_next().await.is_some() {}
    }

    async fn work(&self, key: Key) {
        // Says that the key is free again even if a plan panics.
        let done = Done { queue: &self.queue, key: &key, retry: true };
        match self.round(&key).await {
            Ok(again) => {
                self.queue.forget(&key);
                if let Some(delay) = again {
                    self.queue.add_after(key.clone(), delay);
                }
            }
            Err(error) => {
                tracing::debug!(controller = C::NAME, %key, %error, "will be tried again");
                self.queue.retry(key.clone());
            }
        }
        done.well();
    }

    async fn round(&self, key: &Key) -> Result<Option<Duration>, RoundError> {
        self.wait_for_caches(key).await?;
        let Some(snapshot) = self.controller.snapshot(key).await? else { return Ok(None) };
        let plan = self.controller.plan(&snapshot, Timestamp::now());
        let mut again = plan.report.again;
        self.log(key, &plan);
        let outcome = self.executor.apply(plan).await;
        let settling = self.controller.settle(&snapshot, &outcome, Timestamp::now());
        again = again.into_iter().chain(settling.report.again).min();
        self.log(key, &settling);
        let settled = self.executor.apply(settling).await;
        let written: Vec<_> = outcome.written.into_iter().chain(settled.written).collect();
        if !written.is_empty() {
            self.written.lock().insert(key.clone(), written);
        }
        match outcome.failure.or(settled.failure) {
            Some(failure) => Err(failure.into()),
            None => Ok(again),
        }
    }

    /// Waits until the caches show what the last round for `key` wrote, so that nothing is done twice.
    async fn wait_for_caches(&self, key: &Key) -> Result<(), WaitError> {
        let written = self.written.lock().get(key).cloned().unwrap_or_default();
        for one in &written {
            self.caches.show(one, CACHE_LIMIT).await?;
        }
        if !written.is_empty() {
            self.written.lock().remove(key);
        }
        Ok(())
    }

    fn log(&self, key: &Key, plan: &Plan) {
        for note in &plan.report.notes {
            tracing::debug!(controller = C::NAME, %key, "{note}");
        }
        if tracing::enabled!(tracing::Level::TRACE) && !plan.steps.is_empty() {
            tracing::trace!(controller = C::NAME, %key, steps = ?plan.steps, "plan");
        }
    }
}

struct Done<'a> {
    queue: &'a Queue,
    key: &'a Key,
    /// Still set when the worker unwinds.
    retry: bool,
}

impl Done<'_> {
    fn well(mut self) {
        self.retry = false;
    }
}

impl Drop for Done<'_> {
    fn drop(&mut self) {
        if self.retry {
            // Else the process is ending, and with it this task.
            if std::thread::panicking() {
                tracing::error!(key = %self.key, "a controller panicked; the key is tried again");
            }
            self.queue.retry(self.key.clone());
        }
        self.queue.done(self.key);
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
