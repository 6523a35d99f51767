//! The node agent: keeps the pods that are bound to this node running and tells how they are.
//!
//! [`run`] is the whole of it. One [`worker`] per pod decides with the pure functions of [`plan`] and [`status`]; what
//! it does is done by the crates for images, volumes, network and containers. What runs is held by supervisors that
//! outlive the agent; the next one takes them over.

mod containers;
mod disk;
mod ephemeral;
mod errors;
mod events;
mod files;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod hooks;
pub mod http;
mod image_gc;
mod ledger;
mod leftovers;
mod manager;
mod node;
mod node_api;
mod objects;
mod options;
mod plan;
#[cfg(test)]
mod plan_tests;
mod pressure;
mod probes;
mod pull;
mod purge;
mod rates;
mod resize;
#[cfg(test)]
mod resize_tests;
mod resizing;
mod resolv;
mod restart;
mod sandbox;
mod service_env;
mod services;
mod shared;
mod sources;
mod spec;
mod state;
mod stats;
mod status;
mod status_loop;
mod terminal;
mod termination;
mod worker;
mod writer;

pub use options::{Options, Place};
pub use pressure::{DEFAULT_EVICTION_HARD, ThresholdError, Thresholds};
pub use purge::{PurgeError, purge};

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use carrack_cgroups::{CgroupError, Cgroups, Limits};
use carrack_images::{ImageError, ImageStore};
use carrack_network::{Config, Network, NetworkError};
use carrack_volumes::Volumes;
use futures::StreamExt;
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::events::Events;
use crate::ledger::Ledger;
use crate::manager::Pods;
use crate::node::Machine;
use crate::objects::Objects;
use crate::shared::Shared;

/// Why the agent ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A directory or file of its own.
    #[error("{path}")]
    Io {
        /// Which.
        path: std::path::PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// Control groups.
    #[error("control groups")]
    Cgroup(#[from] CgroupError),
    /// The image store.
    #[error("images")]
    Images(#[from] ImageError),
    /// The network.
    #[error("network")]
    Network(#[from] NetworkError),
    /// The API server refused what every node needs.
    #[error("the API server does not let this node register")]
    Api(#[from] kube::Error),
    /// A task that runs for ever has ended.
    #[error("{0} ended")]
    Ended(&'static str),
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> AgentError {
    let path = path.to_owned();
    move |source| AgentError::Io { path, source }
}

/// Runs the agent until `shutdown`. Pods keep running when it ends; the next agent takes them over.
pub async fn run(client: Client, options: Options, shutdown: CancellationToken) -> Result<(), AgentError> {
    let (network_ready, network) = watch::channel(None);
    let (services_seen, services) = watch::channel(None);
    let shared = Arc::new(open(client.clone(), options, network, services)?);
    let pods = Pods::default();
    manager::take_over(&shared, &pods).map_err(at(&shared.options.place.kubelet_dir()))?;
    let listener = tokio::net::TcpListener::bind(shared.options.listen)
        .await
        .map_err(at(Path::new(&shared.options.listen.to_string())))?;
    let api = Arc::new(node_api::Api::new(shared.clone(), pods.clone()));
    let http = http::serve(listener, shared.options.tls.clone(), api, shutdown.clone());
    let work = async {
        let nodes: Api<Node> = Api::all(client.clone());
        let node = register(&nodes, &shared.options).await;
        let beat = node::heartbeat(client.clone(), node);
        let tell = status_loop::run(shared.clone());
        let net = bring_up_network(&shared, &pods, &nodes, network_ready, services_seen);
        let follow = manager::run(shared.clone(), pods.clone());
        let collect = image_gc::run(shared.clone(), pods.clone());
        let measure = rates::run(shared.clone(), pods.clone());
        tokio::select! {
            () = beat => Err(AgentError::Ended("the heartbeat")),
            () = tell => Err(AgentError::Ended("the status loop")),
            () = follow => Err(AgentError::Ended("the watch on pods")),
            () = collect => Err(AgentError::Ended("the collection of images")),
            () = measure => Err(AgentError::Ended("the measuring of CPU use")),
            result = net => result.and(Err(AgentError::Ended("the service feed"))),
        }
    };
    let result = tokio::select! {
        result = work => result,
        result = http => result.map_err(at(Path::new("the node's API"))).and(Err(AgentError::Ended("the node's API"))),
        () = shutdown.cancelled() => Ok(()),
    };
    let running = shared.network.borrow().clone();
    if let Some(network) = running {
        network.stop().await;
    }
    if shutdown.is_cancelled() { Ok(()) } else { result }
}

fn open(
    client: Client,
    options: Options,
    network: watch::Receiver<Option<Arc<Network>>>,
    services: watch::Receiver<Option<Arc<Vec<carrack_network::Service>>>>,
) -> Result<Shared, AgentError> {
    for dir in
        [options.place.kubelet_dir(), options.place.run_dir.join("pods"), options.place.data_dir.join("logs")]
    {
        std::fs::create_dir_all(&dir).map_err(at(&dir))?;
    }
    let cgroups = Cgroups::open(&options.place.cgroup_base)?;
    for class in ["besteffort", "burstable"] {
        cgroups.create(class, &Limits::default())?;
    }
    Ok(Shared {
        cgroups,
        images: ImageStore::open(&options.place.image_dir())?,
        volumes: Volumes::new(&options.place.kubelet_dir()),
        events: Events::start(client.clone(), &options.node_name),
        objects: Objects::new(client.clone()),
        image_uses: image_gc::Uses::default(),
        ledger: Ledger::default(),
        rates: rates::Rates::default(),
        machine: Machine::read(&options).map_err(at(Path::new("/proc")))?,
        client,
        options,
        network,
        services,
    })
}

/// Registers the node; tries until the API server is there.
async fn register(nodes: &Api<Node>, options: &Options) -> Node {
    let mut delay = Duration::from_millis(50);
    loop {
        match node::register(nodes, options).await {
            Ok(node) => return node,
            Err(error) => tracing::warn!(%error, "the node is not registered yet; trying again"),
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(Duration::from_secs(10));
    }
}

/// Waits for the node's address range, starts the network with it and feeds it with services.
async fn bring_up_network(
    shared: &Arc<Shared>,
    pods: &Pods,
    nodes: &Api<Node>,
    ready: watch::Sender<Option<Arc<Network>>>,
    services_seen: watch::Sender<Option<Arc<Vec<carrack_network::Service>>>>,
) -> Result<(), AgentError> {
    let cidr = pod_cidr(shared, nodes).await?;
    let network = Arc::new(Network::start(network_config(&shared.options, &shared.cgroups, cidr)).await?);
    // Before any pod can ask for an address: links of pods that nobody knows are what a crash has left.
    network.retain(&pods.uids()).await?;
    ready.send_replace(Some(network.clone()));
    services::run(shared.client.clone(), network, shared.options.node_name.clone(), services_seen).await;
    Ok(())
}

/// The node's address range. Once known it is kept on disk, so that a restart needs no API server for it.
async fn pod_cidr(shared: &Shared, nodes: &Api<Node>) -> Result<Ipv4Net, AgentError> {
    let file = shared.options.place.network_dir().join("pod-cidr");
    if let Some(cidr) = kept_cidr(&shared.options) {
        return Ok(cidr);
    }
    let config = watcher::Config::default().fields(&format!("metadata.name={}", shared.options.node_name));
    let mut events = watcher(nodes.clone(), config).default_backoff().applied_objects().boxed();
    while let Some(event) = events.next().await {
        let Ok(node) = event else { continue };
        let Some(cidr) = node.spec.and_then(|s| s.pod_cidr) else { continue };
        let Ok(cidr) = cidr.parse::<Ipv4Net>() else {
            tracing::error!(cidr, "the node's podCIDR is not an IPv4 network");
            continue;
        };
        std::fs::create_dir_all(shared.options.place.network_dir())
            .map_err(at(&shared.options.place.network_dir()))?;
        std::fs::write(&file, cidr.to_string()).map_err(at(&file))?;
        return Ok(cidr);
    }
    Err(AgentError::Ended("the watch on the node"))
}

fn kept_cidr(options: &Options) -> Option<Ipv4Net> {
    std::fs::read_to_string(options.place.network_dir().join("pod-cidr")).ok()?.trim().parse().ok()
}

fn network_config(options: &Options, cgroups: &Cgroups, pod_cidr: Ipv4Net) -> Config {
    let own = cgroups.v2_path();
    // The whole of the version 2 tree is as many levels up from `<tree>/<base>` as the base is deep.
    let depth = options.place.cgroup_base.split('/').filter(|part| !part.is_empty()).count();
    let tree = own.ancestors().nth(depth).unwrap_or(&own).to_owned();
    Config {
        run_dir: options.place.run_dir.clone(),
        state_dir: options.place.network_dir(),
        pod_cidr,
        node_ip: options.node_ip,
        uplink: options.uplink.clone(),
        service_cgroup: if options.host_services { tree } else { own },
        dns_address: options.cluster_dns,
        cluster_domain: options.cluster_domain.clone(),
        upstream_dns: options.upstream_dns.clone(),
        mtu: None,
    }
}
