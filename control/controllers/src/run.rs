//! Starts everything: informers at once, controllers as soon as this process leads.

use std::sync::Arc;

use carrack_client::{Elector, Key, Lost, Recorder, Timings};
use ipnet::IpNet;
use kube::Client;
use thiserror::Error;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::accounts::Accounts;
use crate::cache::{Caches, Feeds};
use crate::cluster_roles::ClusterRoles;
use crate::deployment::Deployments;
use crate::disruption::{Budgets, StaleMarks};
use crate::driver::{Controller, Driver};
use crate::endpoints::{LegacyEndpoints, Slices};
use crate::executor::Executor;
use crate::garbage::{Garbage, Graph, MetaNews, MetaSink, Monitors};
use crate::namespace::Namespaces;
use crate::nodes::cidr::{PodCidrs, Range};
use crate::nodes::eviction::Eviction;
use crate::nodes::health::{Health, Limits};
use crate::podgc::PodGc;
use crate::protection::{ClaimProtection, VolumeProtection};
use crate::queue::Queue;
use crate::quota::Quotas;
use crate::replicaset::ReplicaSets;
use crate::resource::Resource;
use crate::rootca::RootCa;

/// The name in Events and in the Lease.
const COMPONENT: &str = "carrack-controllers";

/// Who the controllers are. All have one identity, but for those that may do what no other may.
#[derive(Clone)]
pub struct Clients {
    /// `system:kube-controller-manager`.
    pub all: Client,
    /// The ServiceAccount `clusterrole-aggregation-controller` in kube-system, which may write rules that it does not
    /// have itself.
    pub aggregation: Client,
}

/// What [`run`] needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cluster's CA certificate, PEM; published in every namespace.
    pub root_ca: String,
    /// How to elect a leader; `None` runs without, which is right only where no second copy can run.
    pub election: Option<Election>,
    /// The address ranges that pods get theirs from, one for each family, and the prefix length of a node's part.
    /// Empty leaves the ranges of nodes to somebody else.
    pub cluster_cidrs: Vec<(IpNet, u8)>,
    /// How long a node may be silent before it counts as Unknown.
    pub node_grace: std::time::Duration,
    /// The same for a node that never said anything.
    pub node_startup_grace: std::time::Duration,
    /// Ended pods that may stay; 0 keeps all.
    pub ended_pods: usize,
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
    /// The usual options of a cluster with this CA certificate, for the candidate `identity`: pods in 10.244.0.0/16
    /// with a /24 for each node, a grace of 40 s, 12500 ended pods.
    #[must_use]
    pub fn new(root_ca: impl Into<String>, identity: impl Into<String>) -> Self {
        let pods = std::net::Ipv4Addr::new(10, 244, 0, 0);
        let election = Election { identity: identity.into(), timings: Timings::default() };
        Self {
            root_ca: root_ca.into(),
            election: Some(election),
            cluster_cidrs: IpNet::new(pods.into(), 16).map(|net| (net, 24)).into_iter().collect(),
            node_grace: std::time::Duration::from_secs(40),
            node_startup_grace: std::time::Duration::from_secs(60),
            ended_pods: 12_500,
        }
    }
}

/// Why the controllers stopped, or did not start.
#[derive(Debug, Error)]
pub enum Error {
    /// The options do not fit together.
    #[error("the cluster's pod ranges are wrong: {0}")]
    Ranges(String),
    /// Another process leads now; start again to become a candidate again.
    #[error("the controllers have stopped: {0}")]
    LostLeadership(#[from] Lost),
    /// A task ended that never should; start again.
    #[error("a task of the controllers ended unexpectedly")]
    TaskEnded,
}

/// Runs every controller until `shutdown` is cancelled.
///
/// Caches are filled at once, so that taking over is quick; controllers work only while this process leads.
///
/// # Errors
/// When the options are wrong, when leadership is lost, or when a task dies: the caller starts it again.
pub async fn run(clients: Clients, options: Options, shutdown: CancellationToken) -> Result<(), Error> {
    let client = clients.all.clone();
    let ranges: Result<Vec<Range>, String> =
        options.cluster_cidrs.iter().map(|(net, prefix)| Range::new(*net, *prefix)).collect();
    let ranges = ranges.map_err(Error::Ranges)?;
    // Whatever way this ends, everything started below ends with it.
    let stop = shutdown.child_token();
    let _stop_all = stop.clone().drop_guard();

    let (recorder, write_events) = Recorder::new(client.clone(), COMPONENT);
    let mut background = JoinSet::new();
    background.spawn(write_events);
    let mut house = House::new(clients, recorder, stop.clone());
    house.furnish(&options, ranges);
    house.open(&mut background);

    let Some(election) = &options.election else {
        return house.work(&mut background).await;
    };
    let elector = Elector::new(client, "kube-system", COMPONENT, &election.identity, election.timings);
    let lease = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        lease = elector.acquire() => lease,
    };
    tracing::info!(identity = %election.identity, "controllers lead");
    let ended = tokio::select! {
        ended = house.work(&mut background) => ended,
        lost = elector.hold(lease) => {
            stop.cancel();
            house.rest().await;
            return Err(lost.into());
        }
    };
    elector.release().await;
    ended
}

/// Starts one controller.
type Start = Box<dyn FnOnce(&mut JoinSet<()>) + Send>;

/// Everything that runs, before and while it runs.
struct House {
    client: Client,
    caches: Arc<Caches>,
    executor: Arc<Executor>,
    /// The same, as who may write rules of roles.
    aggregation: Arc<Executor>,
    feeds: Feeds,
    sink: Arc<dyn MetaSink>,
    graph: Arc<Graph>,
    monitors: Option<Monitors>,
    stop: CancellationToken,
    /// Controllers, started once this process leads.
    starts: Vec<Start>,
    workers: JoinSet<()>,
}

/// Tells the graph, and the namespace controller when something is gone that a namespace may have waited for.
struct Sink {
    graph: Arc<Graph>,
    caches: Arc<Caches>,
    namespaces: Arc<Queue>,
}

impl MetaSink for Sink {
    fn news(&self, resource: &Resource, news: MetaNews<'_>) {
        if let MetaNews::Gone(meta) = &news
            && let Some(name) = &meta.namespace
        {
            let key = Key::cluster(name.clone());
            let leaving = self.caches.namespaces.get(&key);
            if leaving.is_some_and(|ns| ns.metadata.deletion_timestamp.is_some()) {
                self.namespaces.add(key);
            }
        }
        self.graph.news(resource, news);
    }

    fn synced(&self, resource: &Resource) {
        self.graph.synced(resource);
    }
}

impl House {
    fn new(clients: Clients, recorder: Recorder, stop: CancellationToken) -> Self {
        let caches = Arc::new(Caches::default());
        let executor = |client| Arc::new(Executor::new(client, recorder.clone(), Arc::clone(&caches)));
        let (executor, aggregation) = (executor(clients.all.clone()), executor(clients.aggregation));
        let client = clients.all;
        let mut feeds = Feeds::default();
        let garbage = Arc::new(Queue::default());
        let graph = Arc::new(Graph::new(Arc::clone(&garbage)));
        let namespaces = Arc::new(Queue::default());
        Namespaces::hook(&mut feeds, &namespaces);
        let sink: Arc<dyn MetaSink> = Arc::new(Sink {
            graph: Arc::clone(&graph),
            caches: Arc::clone(&caches),
            namespaces: Arc::clone(&namespaces),
        });
        let monitors = Monitors::new(client.clone(), Arc::clone(&graph), Arc::clone(&sink));
        let mut house = Self {
            client: client.clone(),
            caches: Arc::clone(&caches),
            executor,
            aggregation,
            feeds,
            sink,
            graph: Arc::clone(&graph),
            monitors: Some(monitors),
            stop,
            starts: Vec::new(),
            workers: JoinSet::new(),
        };
        house.add(Namespaces::new(caches, client.clone()), namespaces);
        house.add_garbage(Garbage::new(graph, Arc::clone(&garbage), client), garbage);
        house
    }

    /// Adds the controllers that need nothing but caches and options.
    fn furnish(&mut self, options: &Options, ranges: Vec<Range>) {
        let caches = Arc::clone(&self.caches);
        let queue = || Arc::new(Queue::default());

        let (accounts, root_ca) = (queue(), queue());
        Accounts::hook(&mut self.feeds, &accounts);
        self.add(Accounts::new(Arc::clone(&caches)), accounts);
        RootCa::hook(&mut self.feeds, &root_ca);
        self.add(RootCa::new(Arc::clone(&caches), &options.root_ca), root_ca);

        let (deployments, sets) = (queue(), queue());
        Deployments::hook(&caches, &mut self.feeds, &deployments);
        self.add(Deployments::new(Arc::clone(&caches)), deployments);
        ReplicaSets::hook(&caches, &mut self.feeds, &sets);
        self.add(ReplicaSets::new(Arc::clone(&caches)), sets);

        let (quotas, roles) = (queue(), queue());
        Quotas::hook(&caches, &mut self.feeds, &quotas);
        self.add(Quotas::new(Arc::clone(&caches), self.client.clone()), quotas);
        ClusterRoles::hook(&caches, &mut self.feeds, &roles);
        let executor = Arc::clone(&self.aggregation);
        self.add_as(executor, ClusterRoles::new(Arc::clone(&caches)), roles);
        let (claims, volumes) = (queue(), queue());
        ClaimProtection::hook(&caches, &mut self.feeds, &claims);
        self.add(ClaimProtection::new(Arc::clone(&caches), self.client.clone()), claims);
        VolumeProtection::hook(&mut self.feeds, &volumes);
        self.add(VolumeProtection::new(Arc::clone(&caches)), volumes);

        let (budgets, marks) = (queue(), queue());
        Budgets::hook(&caches, &mut self.feeds, &budgets);
        self.add(Budgets::new(Arc::clone(&caches), self.client.clone()), budgets);
        StaleMarks::hook(&mut self.feeds, &marks);
        self.add(StaleMarks::new(Arc::clone(&caches)), marks);

        let (slices, endpoints) = (queue(), queue());
        crate::endpoints::hook(&caches, &mut self.feeds, &slices, &endpoints);
        self.add(Slices::new(Arc::clone(&caches)), slices);
        self.add(LegacyEndpoints::new(Arc::clone(&caches)), endpoints);

        let (health, eviction, pod_gc) = (queue(), queue(), queue());
        let limits = Limits { grace: options.node_grace, startup_grace: options.node_startup_grace };
        let lifecycle = Health::new(Arc::clone(&caches), limits);
        lifecycle.hook(&mut self.feeds, &health);
        self.add(lifecycle, health);
        Eviction::hook(&caches, &mut self.feeds, &eviction);
        self.add(Eviction::new(Arc::clone(&caches)), eviction);
        PodGc::hook(&caches, &mut self.feeds, &pod_gc, options.ended_pods);
        self.add(PodGc::new(Arc::clone(&caches), self.client.clone(), options.ended_pods), pod_gc);
        if !ranges.is_empty() {
            let cidrs = queue();
            PodCidrs::hook(&mut self.feeds, &cidrs);
            self.add(PodCidrs::new(caches, ranges), cidrs);
        }
    }

    fn add<C: Controller>(&mut self, controller: C, queue: Arc<Queue>) {
        self.add_as(Arc::clone(&self.executor), controller, queue);
    }

    fn add_as<C: Controller>(&mut self, executor: Arc<Executor>, controller: C, queue: Arc<Queue>) {
        let driver = Driver::new(controller, queue, executor, Arc::clone(&self.caches));
        let stop = self.stop.clone();
        self.starts.push(Box::new(move |workers| {
            workers.spawn(driver.run(stop));
        }));
    }

    /// The garbage collector also waits until every kind has been listed: before that, everything looks orphaned.
    fn add_garbage(&mut self, controller: Garbage, queue: Arc<Queue>) {
        let driver = Driver::new(controller, queue, Arc::clone(&self.executor), Arc::clone(&self.caches));
        let (stop, graph) = (self.stop.clone(), Arc::clone(&self.graph));
        self.starts.push(Box::new(move |workers| {
            workers.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = graph.wait_complete() => driver.run(stop.clone()).await,
                }
            });
        }));
    }

    /// Starts the informers and monitors.
    fn open(&mut self, background: &mut JoinSet<()>) {
        let feeds = std::mem::take(&mut self.feeds);
        feeds.start(&self.client, &self.caches, &self.sink, background);
        if let Some(monitors) = self.monitors.take() {
            background.spawn(monitors.run());
        }
    }

    /// Runs the controllers until the end.
    async fn work(&mut self, background: &mut JoinSet<()>) -> Result<(), Error> {
        tokio::select! {
            () = self.stop.cancelled() => return Ok(()),
            () = self.caches.synced() => {}
        }
        for start in self.starts.drain(..) {
            start(&mut self.workers);
        }
        tracing::info!(controllers = self.workers.len(), "controllers started");
        let ended = tokio::select! {
            () = self.stop.cancelled() => Ok(()),
            _ = self.workers.join_next() => Err(Error::TaskEnded),
            _ = background.join_next() => Err(Error::TaskEnded),
        };
        let ended = if self.stop.is_cancelled() { Ok(()) } else { ended };
        self.stop.cancel();
        self.rest().await;
        ended
    }

    /// Waits until work under way is finished.
    async fn rest(&mut self) {
        while self.workers.join_next().await.is_some() {}
    }
}
