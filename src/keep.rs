//! Runs the parts of the process: one that ends or panics is told of on `/readyz` and started again with back-off.

use std::error::Error;
use std::future::Future;
use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

/// The first and the longest pause before a part that ended is started again.
const RESTART_FIRST: Duration = Duration::from_millis(100);
const RESTART_MAX: Duration = Duration::from_secs(10);
/// A part that ran this long starts at the first pause again.
const STEADY: Duration = Duration::from_secs(60);
/// A part that was started again counts as well when it has run this long: what it failed at, it has got past.
const PROVEN: Duration = Duration::from_secs(5);

/// How a part is: well, or why not.
type State = Result<(), String>;

/// Keeps a part running until `shutdown`. `report` gets the part's state whenever it changes: well when it starts for
/// the first time, a reason while it waits or has only just been started again.
pub(crate) fn keep<F, E>(
    name: &'static str,
    shutdown: &CancellationToken,
    report: impl Fn(State) + Send + 'static,
    start: impl Fn(CancellationToken) -> F + Send + 'static,
) -> JoinHandle<()>
where
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Error + Send + Sync + 'static,
{
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        let mut pause = RESTART_FIRST;
        report(Ok(()));
        loop {
            let began = Instant::now();
            // A task of its own, so that a panic ends the part and not its keeper.
            let mut part = tokio::spawn(start(shutdown.child_token()));
            let result = match tokio::time::timeout(PROVEN, &mut part).await {
                Ok(result) => result,
                Err(_) => {
                    report(Ok(()));
                    part.await
                }
            };
            if shutdown.is_cancelled() {
                return;
            }
            pause = next_pause(pause, began.elapsed());
            let why = reason(result);
            tracing::error!(part = name, "{why}; starting it again in {pause:?}");
            report(Err(format!("{why}; it is started again in {pause:?}")));
            tokio::select! {
                () = tokio::time::sleep(pause) => report(Err(format!("restarting: {why}"))),
                () = shutdown.cancelled() => return,
            }
        }
    })
}

/// The pause before the next start of a part that ran for `ran`.
fn next_pause(last: Duration, ran: Duration) -> Duration {
    if ran > STEADY { RESTART_FIRST } else { (last * 2).min(RESTART_MAX) }
}

/// Why a part does not run any more, in words.
fn reason<E: Error + Send + Sync + 'static>(result: Result<Result<(), E>, JoinError>) -> String {
    match result {
        Ok(Ok(())) => "it ended".to_owned(),
        Ok(Err(error)) => format!("it failed: {:#}", anyhow::Error::new(error)),
        Err(error) => format!("it failed: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn pauses_grow_and_a_steady_part_starts_over() {
        let mut pause = RESTART_FIRST;
        for _ in 0..20 {
            pause = next_pause(pause, Duration::ZERO);
        }
        assert_eq!(pause, RESTART_MAX);
        assert_eq!(next_pause(pause, STEADY + Duration::from_secs(1)), RESTART_FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_fails_or_panics_is_started_again_and_says_why() {
        let (told, mut states) = mpsc::unbounded_channel();
        let shutdown = CancellationToken::new();
        let starts = Arc::new(AtomicUsize::new(0));
        let task = keep(
            "sample",
            &shutdown,
            move |state| drop(told.send(state)),
            move |shutdown| {
                let nth = starts.fetch_add(1, Ordering::SeqCst);
                async move {
                    match nth {
                        0 => return Err(io::Error::other("no port is free")),
                        1 => panic!("a bug"),
                        _ => shutdown.cancelled().await,
                    }
                    Ok(())
                }
            },
        );
        let mut seen = Vec::new();
        while seen.len() < 6 {
            seen.push(states.recv().await.unwrap());
        }
        assert_eq!(seen[0], Ok(()));
        assert!(seen[1].as_ref().unwrap_err().contains("no port is free; it is started again in 200ms"));
        assert!(seen[2].as_ref().unwrap_err().starts_with("restarting: it failed: no port"));
        assert!(seen[3].as_ref().unwrap_err().contains("panicked"), "{seen:?}");
        assert!(seen[4].is_err());
        assert_eq!(seen[5], Ok(()), "well again once it has run for a while");
        shutdown.cancel();
        task.await.unwrap();
    }
}
