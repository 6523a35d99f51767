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
use crate::discovery::{self, Found, Kind};
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

/// Kinds are looked up again this often while some are not known; upstream's figure.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// The watches that feed the graph.
pub struct Monitors {
    client: Client,
    graph: Arc<Graph>,
    sink: Arc<dyn MetaSink>,
    /// The kinds that are followed.
    kinds: Vec<Kind>,
    watches: HashMap<Resource, AbortHandle>,
    tasks: JoinSet<()>,
}

impl Monitors {
    /// Watches through `client`; news go to `sink`, of which `graph` is a part.
    #[must_use]
    pub fn new(client: Client, graph: Arc<Graph>, sink: Arc<dyn MetaSink>) -> Self {
        Self { client, graph, sink, kinds: Vec::new(), watches: HashMap::new(), tasks: JoinSet::new() }
    }

    /// Looks up the kinds and watches them, again whenever kinds may have come or gone. Never ends; dropping it ends
    /// the watches.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            match discovery::deletable(&self.client).await {
                Ok(found) => {
                    backoff.reset();
                    let wait = found.failure().map(|why| {
                        tracing::warn!(why, "garbage collection goes on with the kinds that are known");
                        LOOK_AGAIN
                    });
                    self.follow(with_kept(found, &self.kinds));
                    let wanted = self.graph.kinds_wanted.notified();
                    match wait {
                        // Either way it is time.
                        Some(wait) => drop(tokio::time::timeout(wait, wanted).await),
                        None => wanted.await,
                    }
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
        self.kinds.clone_from(&kinds);
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

/// What is to be followed: what was found, and what was followed of group versions whose server is away at the moment.
fn with_kept(found: Found, before: &[Kind]) -> Vec<Kind> {
    let Found { mut kinds, failed } = found;
    for kind in before.iter().filter(|kind| failed.contains(&kind.resource.api_version())) {
        let same = |other: &&Kind| other.resource.full_name() == kind.resource.full_name();
        if !kinds.iter().any(|other| same(&other)) {
            kinds.push(kind.clone());
        }
    }
    kinds
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{CONFIG_MAP, DEPLOYMENT, POD};

    #[test]
    fn kinds_of_a_server_that_is_away_stay_and_others_go() {
        let kind =
            |resource: &Resource| Kind { resource: resource.clone(), delete_collection: true, watch: true };
        let names = |kinds: &[Kind]| kinds.iter().map(|k| k.resource.full_name()).collect::<Vec<_>>();
        let before = [kind(&POD), kind(&DEPLOYMENT), kind(&CONFIG_MAP)];
        let found = Found { kinds: vec![kind(&POD)], failed: vec!["apps/v1".into()] };
        assert_eq!(names(&with_kept(found, &before)), ["pods", "deployments.apps"]);
        // Another version of the group may still be served.
        let newer = Resource { version: "v2".into(), ..DEPLOYMENT };
        let found = Found { kinds: vec![kind(&newer)], failed: vec!["apps/v1".into()] };
        assert_eq!(with_kept(found, &before), [kind(&newer)]);
        assert!(with_kept(Found::default(), &before).is_empty());
    }
}
