//! `carrack up`: everything on one host, in one process, in the foreground.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use carrack_server::pki::Pki;
use carrack_server::{ApiServer, UserInfo};
use carrack_store::Store;
use kube::Client;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::Up;
use crate::keep::keep;
use crate::parts::Settings;
use crate::{down, face, instance, server};

/// How long the parts are given to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs until Ctrl-C or SIGTERM.
pub(crate) fn run(options: Up) -> Result<()> {
    start_log(&options.log)?;
    let place = options.place.clone();
    let _instance = instance::take(&place.data_dir)?;
    let purge = options.purge;
    let settings = Settings::new(options)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let result = runtime.block_on(everything(settings));
    // What still hangs in a system call does not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result?;
    if purge {
        down::remove(&place)?;
        tracing::info!("the cluster is down");
    } else {
        tracing::info!(
            "carrack has ended; pods keep running, `carrack up` takes them over and `carrack down` ends them"
        );
    }
    Ok(())
}

/// Logs to standard error.
pub(crate) fn start_log(filter: &str) -> Result<()> {
    use std::io::IsTerminal;
    let filter =
        tracing_subscriber::EnvFilter::try_new(filter).with_context(|| format!("--log {filter:?}"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    Ok(())
}

async fn everything(settings: Settings) -> Result<()> {
    let began = Instant::now();
    let shutdown = CancellationToken::new();
    let ended = CancellationToken::new();
    let pki = Arc::new(settings.pki().context("keys and certificates")?);
    let store = Store::open(server::store_options(&settings)).await.context("the store")?;
    let api = server::assemble(&settings, &pki, &store, &shutdown).await?;
    let address = std::net::SocketAddr::new(settings.up.bind, settings.up.port);
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("the API server can not listen on {address}"))?;
    let proxies = settings.up.access.proxy_authority()?;
    let mut front = tokio::spawn({
        let (api, tls, ended) = (api.clone(), pki.server_tls_with(proxies.as_deref())?, ended.clone());
        async move { api.serve(listener, tls, ended).await }
    });
    let kubeconfig = settings.up.place.data_dir.join("admin.kubeconfig");
    Pki::write_secret(&kubeconfig, &pki.admin_kubeconfig(&settings.server_url()))?;
    tracing::info!(
        after = ?began.elapsed(), url = settings.server_url(), kubeconfig = %kubeconfig.display(),
        "the API server answers"
    );
    let mut parts = start_parts(&settings, &pki, &api, &shutdown)?;
    parts.extend(face::start(&settings, &store, &shutdown)?);
    if !settings.up.no_node {
        tell_when_ready(&settings, &api, began);
    }
    tokio::select! {
        signalled = wait_for_signal() => signalled?,
        // Nothing can be acknowledged any more, so nothing is waited for; the next start reads what is on disk.
        why = store.failed() => return Err(store_failed(&why, &settings)),
        ended = &mut front => bail!("the API server's front has ended: {ended:?}; start carrack again"),
    }
    tracing::info!("ending");
    api.begin_ending();
    tokio::time::sleep(settings.up.shutdown_delay_duration.unsigned_abs()).await;
    shutdown.cancel();
    let all = futures::future::join_all(parts);
    if tokio::time::timeout(PATIENCE, all).await.is_err() {
        tracing::warn!("some parts did not end in {PATIENCE:?} and are left");
    }
    ended.cancel();
    if tokio::time::timeout(PATIENCE, front).await.is_err() {
        tracing::warn!("some connections did not end in {PATIENCE:?} and are cut");
    }
    store.shutdown().await;
    Ok(())
}

/// A client of the API server in this process, with an identity of its own.
fn client(api: &ApiServer, name: &str, groups: &[&str]) -> Client {
    Client::new(api.as_user(UserInfo::new(name, groups.iter().copied())), "default")
}

/// The same as a ServiceAccount.
fn account(api: &ApiServer, namespace: &str, name: &str) -> Client {
    let groups = ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")];
    client(api, &format!("system:serviceaccount:{namespace}:{name}"), &groups)
}

/// What a user is told when the store can not go on.
fn store_failed(why: &str, settings: &Settings) -> anyhow::Error {
    let dir = server::store_options(settings).dir;
    anyhow!(
        "the store in {} has failed: {why}. Nothing that was acknowledged is lost, and pods keep running; check the \
         disk and the kernel's log, then start carrack again",
        dir.display()
    )
}

type Part = tokio::task::JoinHandle<()>;

fn start_parts(
    settings: &Settings,
    pki: &Arc<Pki>,
    api: &ApiServer,
    shutdown: &CancellationToken,
) -> Result<Vec<Part>> {
    let controllers = carrack_controllers::Clients {
        all: client(api, "system:kube-controller-manager", &[]),
        aggregation: account(api, "kube-system", "clusterrole-aggregation-controller"),
    };
    let scheduler = client(api, "system:kube-scheduler", &[]);
    let scheduler_options = carrack_scheduler::Options::new(settings.node_name.clone());
    let node_user = format!("system:node:{}", settings.node_name);
    let node = client(api, &node_user, &["system:nodes"]);
    let controller_options = settings.controllers(pki)?;
    let agent_options = settings.agent(pki)?;
    let report = |name: &'static str| {
        let api = api.clone();
        move |state| api.report(name, state)
    };
    let pki = pki.clone();
    let mut parts = vec![
        keep("certificates", shutdown, report("certificates"), move |shutdown| {
            let pki = pki.clone();
            async move {
                tokio::select! {
                    () = pki.keep_fresh() => {}
                    () = shutdown.cancelled() => {}
                }
                Ok::<_, std::convert::Infallible>(())
            }
        }),
        keep("controllers", shutdown, report("controllers"), move |shutdown| {
            carrack_controllers::run(controllers.clone(), controller_options.clone(), shutdown)
        }),
        keep("scheduler", shutdown, report("scheduler"), move |shutdown| {
            carrack_scheduler::run(scheduler.clone(), scheduler_options.clone(), shutdown)
        }),
    ];
    if !settings.up.no_node {
        parts.push(keep("node", shutdown, report("node"), move |shutdown| {
            carrack_agent::run(node.clone(), agent_options.clone(), shutdown)
        }));
    }
    Ok(parts)
}

/// Says when the node is Ready for the first time.
fn tell_when_ready(settings: &Settings, api: &ApiServer, began: Instant) {
    use k8s_openapi::api::core::v1::Node;
    let nodes: kube::Api<Node> =
        kube::Api::all(client(api, &format!("system:node:{}", settings.node_name), &["system:nodes"]));
    let name = settings.node_name.clone();
    tokio::spawn(async move {
        let is_ready = |node: Option<&Node>| {
            let conditions = node.and_then(|n| n.status.as_ref()).and_then(|s| s.conditions.as_deref());
            conditions.unwrap_or_default().iter().any(|c| c.type_ == "Ready" && c.status == "True")
        };
        match kube::runtime::wait::await_condition(nodes, &name, is_ready).await {
            Ok(_) => tracing::info!(after = ?began.elapsed(), node = name, "the node is Ready"),
            Err(error) => tracing::debug!(%error, "the node was not waited for"),
        }
    });
}

/// Waits for Ctrl-C or SIGTERM.
pub(crate) async fn wait_for_signal() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
