//! Watches the metadata of every kind that no informer holds whole.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use carrack_client::Backoff;
use futures::StreamExt;
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::task::{AbortHandle, JoinSet};

use super::graph::Graph;
use super::{MetaNews, MetaSink};
use crate::cache::WHOLE;
use crate::discovery::{self, Kind};
use crate::namespace::describe;
use crate::resource::Resource;

/// Kinds that own nothing, that nothing waits for, and that come in masses.
const IGNORED: [&str; 2] = ["events", "events.events.k8s.io"];
/// Kinds whose objects bring other kinds with them.
const BRINGERS: [&str; 2] =
    ["customresourcedefinitions.apiextensions.k8s.io", "apiservices.apiregistration.k8s.io"];
/// First and longest delay after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(10));
/// New kinds are looked up this long after the news, so that several come together.
const SETTLE: Duration = Duration::from_millis(200);

/// The watches that feed the graph.
pub struct Monitors {
    client: Client,
    graph: Arc<Graph>,
    sink: Arc<dyn MetaSink>,
    watches: HashMap<Resource, AbortHandle>,
    tasks: JoinSet<()>,
}

impl Monitors {
    /// Watches through `client`; news go to `sink`, of which `graph` is a part.
    #[must_use]
    pub fn new(client: Client, graph: Arc<Graph>, sink: Arc<dyn MetaSink>) -> Self {
        Self { client, graph, sink, watches: HashMap::new(), tasks: JoinSet::new() }
    }

    /// Looks up the kinds and watches them, again whenever kinds may have come or gone. Never ends; dropping it ends
    /// the watches.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            match discovery::deletable(&self.client).await {
                Ok(kinds) => {
                    backoff.reset();
                    self.follow(kinds);
                    self.graph.kinds_wanted.notified().await;
                    tokio::time::sleep(SETTLE).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "kinds not known yet");
                    tokio::time::sleep(backoff.delay()).await;
                }
            }
        }
    }

    fn follow(&mut self, kinds: Vec<Kind>) {
        let watched: HashSet<Resource> = kinds
            .iter()
            .filter(|kind| kind.watch && !IGNORED.contains(&kind.resource.full_name().as_str()))
            .map(|kind| kind.resource.clone())
            .collect();
        self.graph.set_kinds(kinds, watched.clone());
        let (graph, before) = (&self.graph, &mut self.watches);
        before.retain(|resource, watch| {
            let served = watched.contains(resource);
            if !served {
                watch.abort();
                graph.forget_kind(resource);
            }
            served
        });
        for resource in watched {
            if WHOLE.contains(&resource) || self.watches.contains_key(&resource) {
                continue;
            }
            let (client, graph) = (self.client.clone(), Arc::clone(&self.graph));
            let (sink, kind) = (Arc::clone(&self.sink), resource.clone());
            let task = self.tasks.spawn(async move { monitor(client, kind, &graph, sink.as_ref()).await });
            self.watches.insert(resource, task);
        }
    }
}

async fn monitor(client: Client, resource: Resource, graph: &Graph, sink: &dyn MetaSink) {
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &describe(&resource));
    let mut events = watcher(api, watcher::Config::default()).boxed();
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    let mut listed: Option<HashSet<String>> = None;
    let brings = BRINGERS.contains(&resource.full_name().as_str());
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed = Some(HashSet::new()),
            Ok(Event::InitApply(object)) => {
                if let (Some(listed), Some(uid)) = (&mut listed, &object.metadata.uid) {
                    listed.insert(uid.clone());
                }
                sink.news(&resource, MetaNews::Seen(&object.metadata));
            }
            Ok(Event::InitDone) => {
                backoff.reset();
                graph.relisted(&resource, &listed.take().unwrap_or_default());
                sink.synced(&resource);
            }
            Ok(Event::Apply(object)) => sink.news(&resource, MetaNews::Seen(&object.metadata)),
            Ok(Event::Delete(object)) => sink.news(&resource, MetaNews::Gone(&object.metadata)),
            Err(error) => {
                tracing::debug!(kind = %resource.full_name(), %error, "watch failed, trying again");
                tokio::time::sleep(backoff.delay()).await;
                continue;
            }
        }
        if brings && listed.is_none() {
            graph.ask_for_kinds();
        }
    }
}
