//! Runs a container's probes and tells its worker what changes. One task per run of a container; it ends with the run.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod grpc;
mod http;
mod reach;
#[cfg(test)]
mod tests;

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::state::Condemned;
use crate::worker::Message;
pub(crate) use http::http_get;
pub(crate) use reach::{ExecFn, Target};
use reach::{dial, host, port};

/// What a probe found out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Finding {
    /// The startup probe passed, or there is none.
    Started,
    /// The readiness probe changed its mind.
    Ready(bool),
    /// A probe failed; what it said. The verdict is not changed by it yet.
    Failed(&'static str, String),
    /// The startup or liveness probe has failed too often.
    Condemned(Condemned),
}

/// What was known of a container that an earlier agent had probed already.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    /// It had passed its startup probe.
    pub started: bool,
    /// It was ready.
    pub ready: bool,
}

/// Reports the findings about one run of a container to its pod's worker.
pub(crate) struct Tell {
    worker: mpsc::Sender<Message>,
    container: String,
    id: String,
}

impl Tell {
    /// For the run `id` of `container`.
    pub(crate) fn new(worker: mpsc::Sender<Message>, container: String, id: String) -> Self {
        Self { worker, container, id }
    }

    async fn tell(&self, finding: Finding) {
        let message = Message::Probe { container: self.container.clone(), id: self.id.clone(), finding };
        // A worker that has ended wants to hear nothing.
        let _ = self.worker.send(message).await;
    }
}

/// Runs all probes of a container; `tell` gets each change. Never returns while there is something to probe.
pub(crate) async fn run(container: Container, target: Target, known: Known, tell: Tell) {
    if let Some(probe) = container.startup_probe.as_ref().filter(|_| !known.started)
        && !until_started(&container, probe, &target, &tell).await
    {
        return;
    }
    tell.tell(Finding::Started).await;
    let liveness = async {
        if let Some(probe) = &container.liveness_probe {
            watch_liveness(&container, probe, &target, &tell).await;
        }
    };
    let readiness = async {
        match &container.readiness_probe {
            Some(probe) => watch_readiness(&container, probe, &target, known.ready, &tell).await,
            None => tell.tell(Finding::Ready(true)).await,
        }
    };
    tokio::join!(liveness, readiness);
}

async fn until_started(container: &Container, probe: &Probe, target: &Target, tell: &Tell) -> bool {
    let mut failures = 0;
    let mut timing = Timing::of(probe);
    timing.initial().await;
    loop {
        match attempt(container, probe, target).await {
            Ok(()) => return true,
            Err(message) => {
                tell.tell(Finding::Failed("Startup", message)).await;
                failures += 1;
                if failures >= timing.failure_threshold {
                    tell.tell(condemned(container, probe, "startup")).await;
                    return false;
                }
            }
        }
        sleep(timing.period).await;
    }
}

async fn watch_liveness(container: &Container, probe: &Probe, target: &Target, tell: &Tell) {
    let mut timing = Timing::of(probe);
    let mut failures = 0;
    timing.initial().await;
    loop {
        match attempt(container, probe, target).await {
            Ok(()) => failures = 0,
            Err(message) => {
                tell.tell(Finding::Failed("Liveness", message)).await;
                failures += 1;
                if failures >= timing.failure_threshold {
                    tell.tell(condemned(container, probe, "liveness")).await;
                    return;
                }
            }
        }
        sleep(timing.period).await;
    }
}

async fn watch_readiness(container: &Container, probe: &Probe, target: &Target, known: bool, tell: &Tell) {
    let mut timing = Timing::of(probe);
    let (mut ready, mut streak) = (known, 0);
    tell.tell(Finding::Ready(ready)).await;
    timing.initial().await;
    loop {
        let result = attempt(container, probe, target).await;
        let good = result.is_ok();
        if let Err(message) = result {
            tell.tell(Finding::Failed("Readiness", message)).await;
        }
        streak = if good == ready { 0 } else { streak + 1 };
        let needed = if good { timing.success_threshold } else { timing.failure_threshold };
        if streak >= needed {
            (ready, streak) = (good, 0);
            tell.tell(Finding::Ready(ready)).await;
        }
        // Until it is ready for the first time a container is asked more often: a user waits for it.
        let eager = !ready && timing.eager > 0 && !good;
        timing.eager = timing.eager.saturating_sub(1);
        sleep(if eager { timing.period.min(EAGER_PERIOD) } else { timing.period }).await;
    }
}

/// How often, and how many times, a container that has just started is asked whether it is ready: a server that needs
/// 20 ms to listen is not made to wait for a whole period. Those attempts do not count as failures anywhere.
const EAGER_PERIOD: Duration = Duration::from_millis(50);
const EAGER_ATTEMPTS: u32 = 20;

struct Timing {
    delay: Duration,
    period: Duration,
    failure_threshold: i32,
    success_threshold: i32,
    eager: u32,
}

impl Timing {
    fn of(probe: &Probe) -> Self {
        Self {
            delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            failure_threshold: probe.failure_threshold.unwrap_or(3),
            success_threshold: probe.success_threshold.unwrap_or(1),
            eager: EAGER_ATTEMPTS,
        }
    }

    async fn initial(&mut self) {
        sleep(self.delay).await;
    }
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.and_then(|v| u64::try_from(v).ok()).unwrap_or(default))
}

fn condemned(container: &Container, probe: &Probe, kind: &str) -> Finding {
    Finding::Condemned(Condemned {
        message: format!("Container {} failed {kind} probe, will be restarted", container.name),
        grace_seconds: probe.termination_grace_period_seconds,
    })
}

/// One attempt: passes, or says why not, in the words of the kubelet.
async fn attempt(container: &Container, probe: &Probe, target: &Target) -> Result<(), String> {
    let limit = seconds(probe.timeout_seconds, 1).max(Duration::from_millis(1));
    if let Some(exec) = &probe.exec {
        return match (target.exec)(exec.command.clone().unwrap_or_default(), limit).await? {
            (0, _) => Ok(()),
            (_, output) => Err(output),
        };
    }
    let work = async {
        if let Some(get) = &probe.http_get {
            return http_get(container, get, target).await;
        }
        if let Some(tcp) = &probe.tcp_socket {
            let port = port(container, &tcp.port)?;
            return dial(&host(tcp.host.as_deref(), target), port).await.map(drop);
        }
        if let Some(call) = &probe.grpc {
            return grpc::check(call, &target.address.to_string()).await;
        }
        Err("the probe says nothing to do".to_owned())
    };
    match timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(format!("probe timed out after {limit:?}")),
    }
}
