//! tokio for openraft, with the store's own randomness, and a record of what went wrong.
//!
//! openraft asks its runtime for random numbers without saying for whom; the task that asks knows. So each task
//! hands the store that it works for on to the tasks it spawns.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use openraft::{AsyncRuntime, OptionalSend};
use openraft_rt_tokio::TokioRuntime;

use crate::random::Random;
use crate::shared::Shared;

tokio::task_local! {
    static STORE: Arc<Shared>;
}

/// Runs `work`, which is or makes the Raft of `shared`.
pub(super) fn within<F: Future>(shared: Arc<Shared>, work: F) -> impl Future<Output = F::Output> {
    STORE.scope(shared, work)
}

/// Records why a task panics: openraft only says that one did.
async fn recording<F: Future>(shared: Arc<Shared>, work: F) -> F::Output {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| {
        shared.fail(format_args!("Raft panicked: {}", text(panic.as_ref())));
        resume_unwind(panic)
    })
}

/// What a panic says.
fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it does not say why")
}

/// openraft's runtime.
#[derive(Debug)]
pub(crate) struct Runtime(TokioRuntime);

type Of<T> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = Of<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = Random;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        match STORE.try_with(Arc::clone) {
            Ok(shared) => tokio::spawn(STORE.scope(Arc::clone(&shared), recording(shared, future))),
            Err(_) => tokio::spawn(future),
        }
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Random {
        STORE.try_with(|shared| shared.options.random.clone()).unwrap_or_else(|_| Random::from_system())
    }

    fn new(threads: usize) -> Runtime {
        Runtime(TokioRuntime::new(threads))
    }

    fn block_on<F: Future<Output = T>, T>(&mut self, future: F) -> T {
        self.0.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use crate::store::Store;

    async fn fails() {
        panic!("an entry is missing");
    }

    #[tokio::test]
    async fn a_store_says_why_raft_panicked() {
        let dir = tempfile::tempdir().expect("dir");
        let store = Store::open(Options::new(dir.path().join("store"))).await.expect("opens");
        let spawned = within(Arc::clone(&store.inner.shared), async { Runtime::spawn(fails()).await });
        assert!(spawned.await.is_err());
        assert_eq!(store.status().failed.as_deref(), Some("Raft panicked: an entry is missing"));
        store.shutdown().await;
    }
}
