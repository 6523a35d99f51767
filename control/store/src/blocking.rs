//! The seam for work that blocks on the disk: on threads of its own, or, in a simulation, right where it is asked
//! for, so that one thread runs everything in one order.

/// Where work that blocks is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Blocking {
    /// On tokio's threads for blocking work.
    #[default]
    Threads,
    /// On the thread of the task that needs it, after other tasks had a turn. For simulations.
    Inline,
}

impl Blocking {
    /// Does `work`; an error says that it panicked, or that the runtime is going down.
    pub(crate) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        match self {
            Blocking::Threads => {
                tokio::task::spawn_blocking(work).await.map_err(|error| format!("blocking work: {error}"))
            }
            Blocking::Inline => {
                tokio::task::yield_now().await;
                Ok(work())
            }
        }
    }
}

/// Where Raft's tasks run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RaftRuntime {
    /// On a thread of their own: they hand over to each other without waking other threads.
    #[default]
    OwnThread,
    /// On the runtime that opens the store. For simulations, where it is a single thread with paused time.
    Current,
}
