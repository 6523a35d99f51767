//! Starts the scheduler: the watches at once, decisions as soon as this process leads.

use carrack_client::{Elector, Lost, Recorder, Timings};
use kube::Client;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::bind::DefaultBinder;
use crate::core::Core;
use crate::driver::Driver;
use crate::plugins::default_framework;
use crate::pod::DEFAULT_SCHEDULER;

/// The name of the Lease.
const LEASE: &str = "carrack-scheduler";

/// What [`run`] needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Pods with this `spec.schedulerName` are ours; pods without one are `default-scheduler`'s.
    pub scheduler_name: String,
    /// How to elect a leader; `None` runs without, which is right only where no second copy can run.
    pub election: Option<Election>,
}

/// A Lease in kube-system decides who leads.
#[derive(Clone, Debug)]
pub struct Election {
    /// The name of this candidate. It must name one running process at a time; one that stays the same over restarts
    /// (the control plane's own name) lets a restart after a crash take over at once.
    pub identity: String,
    /// 15 s, 10 s and 2 s by default.
    pub timings: Timings,
}

impl Options {
    /// The usual options, for the candidate `identity`.
    #[must_use]
    pub fn new(identity: impl Into<String>) -> Self {
        let election = Election { identity: identity.into(), timings: Timings::default() };
        Self { scheduler_name: DEFAULT_SCHEDULER.into(), election: Some(election) }
    }
}

/// Why the scheduler stopped.
#[derive(Debug, Error)]
pub enum Error {
    /// Another process leads now; start again to become a candidate again.
    #[error("the scheduler has stopped: {0}")]
    LostLeadership(#[from] Lost),
}

/// Runs the scheduler until `shutdown` is cancelled.
///
/// The table of nodes is filled at once, so that taking over is quick; pods are bound only while this process leads.
///
/// # Errors
/// When leadership is lost: the caller starts it again.
pub async fn run(client: Client, options: Options, shutdown: CancellationToken) -> Result<(), Error> {
    // Events carry the name that people know, whatever the Lease is called.
    let (recorder, write_events) = Recorder::new(client.clone(), DEFAULT_SCHEDULER);
    let _events = AbortOnDrop(tokio::spawn(write_events));
    let core = Core::new(&options.scheduler_name, default_framework());
    let binders = vec![Box::new(DefaultBinder::new(client.clone())) as _];
    let mut driver = Driver::new(client.clone(), core, recorder, binders);

    let Some(election) = &options.election else {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = driver.run() => {}
        }
        return Ok(());
    };
    let elector = Elector::new(client, "kube-system", LEASE, &election.identity, election.timings);
    let lease = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        lease = elector.acquire() => lease,
        () = driver.watch() => return Ok(()),
    };
    tracing::info!(identity = %election.identity, "scheduler leads");
    let ended = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        () = driver.run() => Ok(()),
        lost = elector.hold(lease) => Err(lost.into()),
    };
    drop(driver);
    if ended.is_ok() {
        elector.release().await;
    }
    ended
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
