//! A member of the control plane as a process: `carrack server`, and what `carrack up` runs beside its node.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use carrack_server::ApiServer;
use carrack_server::pki::Pki;
use carrack_store::Store;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::Server;
use crate::parts::{Order, Settings};
use crate::{assemble, checked, cluster, face, instance, kubeconfigs, run};

/// How long the parts are given to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// Wait between two looks whether the store has a leader, and how often it is told that it has none.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const TELL_EVERY: Duration = Duration::from_secs(10);

/// `carrack server`: runs until Ctrl-C or SIGTERM.
pub(crate) fn run(options: Server) -> Result<()> {
    start_log(&options.log)?;
    let Server { dirs, server, .. } = options;
    block_on(checked::check(&server, &dirs))?;
    let _instance = instance::take(&dirs.data_dir)?;
    block_on(serve(Order { dirs, server, node: None, expects_others: true }))?;
    tracing::info!("carrack has ended; the other members of the cluster go on");
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

/// Runs on a runtime of its own; what still hangs in a system call then does not keep the process.
pub(crate) fn block_on(work: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let result = runtime.block_on(work);
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// The member of the control plane, and the node if there is to be one, until Ctrl-C or SIGTERM.
pub(crate) async fn serve(order: Order) -> Result<()> {
    let began = Instant::now();
    let settings = Settings::find(order).await?;
    let pki = Arc::new(settings.pki().context("keys and certificates")?);
    let store = Store::open(settings.store(&pki)?).await.context("the store")?;
    cluster::entered(&settings.dirs.data_dir)?;
    let ready = tokio::select! {
        ready = until_ready(&store, &settings) => ready,
        signalled = wait_for_signal() => signalled.map(|()| false),
        why = store.failed() => Err(store_failed(&why, &settings)),
    };
    if ready? {
        serve_with(&settings, &pki, &store, began).await?;
    }
    store.shutdown().await;
    Ok(())
}

/// Waits until the store has a leader and this member has all that was written before; true then.
async fn until_ready(store: &Store, settings: &Settings) -> Result<bool> {
    let mut told = Instant::now();
    while store.ready().await.is_err() {
        if told.elapsed() > TELL_EVERY {
            tracing::info!("waiting for a leader of the store: a majority of its members has to run");
            told = Instant::now();
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    move_if_needed(store, settings).await;
    Ok(true)
}

/// Tells the others where this member is now, if its address has changed.
async fn move_if_needed(store: &Store, settings: &Settings) {
    let Some(port) = settings.cluster.peer_port else { return };
    let (own, here) = (store.member_id(), vec![format!("https://{}:{port}", settings.node_ip)]);
    let moved = store.members().iter().any(|member| member.id == own && member.peer_urls != here);
    if moved && let Err(error) = store.member_update(own, here).await {
        tracing::warn!(%error, "the other members could not be told this member's address");
    }
}

async fn serve_with(settings: &Settings, pki: &Arc<Pki>, store: &Store, began: Instant) -> Result<()> {
    let shutdown = CancellationToken::new();
    let ended = CancellationToken::new();
    let api = assemble::assemble(settings, pki, store, &shutdown).await?;
    let address = std::net::SocketAddr::new(settings.server.bind, settings.cluster.settings.port);
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("the API server can not listen on {address}"))?;
    let proxies = settings.server.access.proxy_authority()?;
    let mut front = tokio::spawn({
        let (api, tls, ended) = (api.clone(), pki.server_tls_with(proxies.as_deref())?, ended.clone());
        async move { api.serve(listener, tls, ended).await }
    });
    let kubeconfig = kubeconfigs::write(settings, pki)?;
    tracing::info!(
        after = ?began.elapsed(), url = settings.server_url(), kubeconfig = %kubeconfig.display(),
        "the API server answers"
    );
    let mut parts = run::start(settings, pki, &api, store, &shutdown)?;
    parts.extend(face::start(settings, pki, store, &shutdown).await?);
    if settings.node.is_some() {
        run::tell_when_ready(settings, &api, began);
    }
    tokio::select! {
        signalled = wait_for_signal() => signalled?,
        // Nothing can be acknowledged any more, so nothing is waited for; the next start reads what is on disk.
        why = store.failed() => return Err(store_failed(&why, settings)),
        ended = &mut front => bail!("the API server's front has ended: {ended:?}; start carrack again"),
    }
    tracing::info!("ending");
    end(settings, &api, parts, front, &shutdown, &ended).await;
    Ok(())
}

/// Ends everything but the store, in order.
async fn end(
    settings: &Settings,
    api: &ApiServer,
    parts: Vec<run::Part>,
    front: run::Part,
    shutdown: &CancellationToken,
    ended: &CancellationToken,
) {
    api.begin_ending();
    tokio::time::sleep(settings.server.shutdown_delay_duration.unsigned_abs()).await;
    shutdown.cancel();
    let all = futures::future::join_all(parts);
    if tokio::time::timeout(PATIENCE, all).await.is_err() {
        tracing::warn!("some parts did not end in {PATIENCE:?} and are left");
    }
    ended.cancel();
    if tokio::time::timeout(PATIENCE, front).await.is_err() {
        tracing::warn!("some connections did not end in {PATIENCE:?} and are cut");
    }
}

/// What a user is told when the store can not go on.
fn store_failed(why: &str, settings: &Settings) -> anyhow::Error {
    anyhow!(
        "the store in {} has failed: {why}. Nothing that was acknowledged is lost, and pods keep running; check the \
         disk and the kernel's log, then start carrack again",
        settings.dirs.data_dir.join("store").display()
    )
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
