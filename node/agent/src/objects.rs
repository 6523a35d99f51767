//! Follows the ConfigMaps and Secrets that this node's pods name: one watch for each object, shared by all pods that
//! name it and gone with the last of them, so that there are never more watches than named objects.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::sync::{Arc, Weak};
use std::time::Duration;

use carrack_volumes::Needs;
use futures::StreamExt;
use futures::future::{BoxFuture, select_all};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long a pod waits for an object's first answer before it says that there is none; it is asked for on.
const PATIENCE: Duration = Duration::from_secs(10);

/// A kind whose objects pods name.
pub(crate) trait Followed:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + DeserializeOwned
    + Debug
    + Send
    + Sync
    + 'static
{
    /// Whether it says that its content never changes: it is read once then.
    fn is_immutable(&self) -> bool;
}

impl Followed for ConfigMap {
    fn is_immutable(&self) -> bool {
        self.immutable == Some(true)
    }
}

impl Followed for Secret {
    fn is_immutable(&self) -> bool {
        self.immutable == Some(true)
    }
}

/// What is known of an object.
#[derive(Clone, Debug)]
enum Seen<K> {
    /// Nothing yet.
    Unknown,
    /// It could not be asked for, and why.
    Failed(String),
    /// It is so, or there is none of that name.
    Known(Option<Arc<K>>),
}

/// One object that is followed for as long as somebody holds this.
struct Entry<K> {
    seen: watch::Sender<Seen<K>>,
    task: JoinHandle<()>,
}

impl<K> Drop for Entry<K> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// By namespace and name; gone when nobody holds it.
type Entries<K> = HashMap<(String, String), Weak<Entry<K>>>;

/// The objects of one kind that are followed.
struct Kind<K>(Mutex<Entries<K>>);

impl<K: Followed> Kind<K> {
    fn follow(&self, client: &Client, namespace: &str, name: &str) -> Arc<Entry<K>> {
        let mut entries = self.0.lock();
        entries.retain(|_, entry| entry.strong_count() > 0);
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(entry) = entries.get(&key).and_then(Weak::upgrade) {
            return entry;
        }
        let seen = watch::Sender::new(Seen::Unknown);
        let api = Api::namespaced(client.clone(), namespace);
        let task = tokio::spawn(watch_one::<K>(api, name.to_owned(), seen.clone()));
        let entry = Arc::new(Entry { seen, task });
        entries.insert(key, Arc::downgrade(&entry));
        entry
    }
}

/// Tells each state of one object; ends when the object says that it never changes.
async fn watch_one<K: Followed>(api: Api<K>, name: String, seen: watch::Sender<Seen<K>>) {
    if !is_name(&name) {
        seen.send_replace(Seen::Known(None));
        return;
    }
    let mut states = watcher::watch_object(api, &name).default_backoff().boxed();
    while let Some(state) = states.next().await {
        match state {
            Ok(object) => {
                let last = object.as_ref().is_some_and(K::is_immutable);
                seen.send_replace(Seen::Known(object.map(Arc::new)));
                if last {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(name, %error, "a watch on an object broke; taking it up again");
                seen.send_if_modified(|seen| {
                    let unknown = matches!(seen, Seen::Unknown);
                    if unknown {
                        *seen = Seen::Failed(error.to_string());
                    }
                    unknown
                });
            }
        }
    }
}

/// Whether an object can have this name; others would mean something else in a field selector.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
}

/// Everything of this node that is followed.
pub(crate) struct Objects {
    client: Client,
    config_maps: Kind<ConfigMap>,
    secrets: Kind<Secret>,
}

impl Objects {
    /// Follows nothing yet.
    pub(crate) fn new(client: Client) -> Self {
        Self { client, config_maps: Kind(Mutex::default()), secrets: Kind(Mutex::default()) }
    }
}

type Followers<K> = BTreeMap<String, (Arc<Entry<K>>, watch::Receiver<Seen<K>>)>;
type Found<K> = BTreeMap<String, Option<K>>;

/// The objects that one pod follows.
#[derive(Default)]
pub(crate) struct Following {
    config_maps: Followers<ConfigMap>,
    secrets: Followers<Secret>,
}

impl Following {
    /// Follows exactly the objects that `needs` names from now on.
    pub(crate) fn set(&mut self, objects: &Objects, namespace: &str, needs: &Needs) {
        let client = &objects.client;
        set(&mut self.config_maps, &objects.config_maps, client, namespace, &needs.config_maps);
        set(&mut self.secrets, &objects.secrets, client, namespace, &needs.secrets);
    }

    /// The objects as they are now; waits for those of which nothing is known yet. What is given counts as seen by
    /// [`Following::changed`].
    pub(crate) async fn known(&mut self) -> Result<(Found<ConfigMap>, Found<Secret>), String> {
        Ok((known("configmap", &mut self.config_maps).await?, known("secret", &mut self.secrets).await?))
    }

    /// Waits until one of the objects has changed. Never ends when nothing is followed.
    pub(crate) async fn changed(&mut self) {
        let maps = self.config_maps.values_mut().map(|(_, seen)| changed(seen));
        let all: Vec<_> = maps.chain(self.secrets.values_mut().map(|(_, seen)| changed(seen))).collect();
        if all.is_empty() {
            return std::future::pending().await;
        }
        select_all(all).await;
    }
}

fn set<K: Followed>(
    followers: &mut Followers<K>,
    kind: &Kind<K>,
    client: &Client,
    namespace: &str,
    names: &BTreeSet<String>,
) {
    followers.retain(|name, _| names.contains(name));
    for name in names {
        followers.entry(name.clone()).or_insert_with(|| {
            let entry = kind.follow(client, namespace, name);
            let seen = entry.seen.subscribe();
            (entry, seen)
        });
    }
}

async fn known<K: Followed>(kind: &str, followers: &mut Followers<K>) -> Result<Found<K>, String> {
    let mut found = Found::new();
    for (name, (_, seen)) in followers {
        let answer = tokio::time::timeout(PATIENCE, seen.wait_for(|s| !matches!(s, Seen::Unknown))).await;
        let failed = |why: &str| format!("failed to fetch {kind} \"{name}\": {why}");
        match answer {
            Ok(Ok(state)) => match &*state {
                Seen::Known(object) => found.insert(name.clone(), object.as_deref().cloned()),
                Seen::Failed(why) => return Err(failed(why)),
                Seen::Unknown => return Err(failed("nothing is known of it")),
            },
            Ok(Err(_)) => return Err(failed("nobody follows it any more")),
            Err(_) => return Err(failed("the API server does not answer; it is asked on")),
        };
    }
    Ok(found)
}

/// Ends when a state is new. The sender lives in the entry, which the pod holds.
fn changed<K: Send + Sync>(seen: &mut watch::Receiver<Seen<K>>) -> BoxFuture<'_, ()> {
    Box::pin(async move {
        if seen.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_mean_something_else_are_not_asked_for() {
        assert!(is_name("kube-root-ca.crt") && is_name("a"));
        assert!(!is_name("") && !is_name("a,metadata.name=b") && !is_name("a=b") && !is_name("a b"));
    }

    /// A pod that follows one ConfigMap whose states are told by hand.
    fn one() -> (Following, watch::Sender<Seen<ConfigMap>>) {
        let seen = watch::Sender::new(Seen::Unknown);
        let entry = Arc::new(Entry { seen: seen.clone(), task: tokio::spawn(async {}) });
        let mut following = Following::default();
        following.config_maps.insert("a".to_owned(), (entry, seen.subscribe()));
        (following, seen)
    }

    #[tokio::test(start_paused = true)]
    async fn states_are_waited_for_and_changes_are_told_once() {
        let (mut following, seen) = one();
        assert!(following.known().await.unwrap_err().contains("does not answer"));
        seen.send_replace(Seen::Known(None));
        following.changed().await;
        assert_eq!(following.known().await.unwrap().0["a"], None);
        let quiet = tokio::time::timeout(Duration::from_secs(1), following.changed()).await;
        assert!(quiet.is_err(), "what was given counts as seen");
        seen.send_replace(Seen::Known(Some(Arc::new(ConfigMap::default()))));
        following.changed().await;
        assert_eq!(following.known().await.unwrap().0["a"], Some(ConfigMap::default()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_that_can_not_be_asked_for_says_why() {
        let (mut following, seen) = one();
        seen.send_replace(Seen::Failed("forbidden".to_owned()));
        assert!(following.known().await.unwrap_err().contains("configmap \"a\": forbidden"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_without_objects_is_never_told_of_changes() {
        let nothing = tokio::time::timeout(Duration::from_secs(60), async {
            Following::default().changed().await;
        });
        assert!(nothing.await.is_err());
    }
}
