//! A control plane in this process, and a pretended node.

use std::collections::HashMap;
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use carrack_controllers::Options;
use carrack_server::authz::Rbac;
use carrack_server::{
    ApiError, ApiServer, Authenticator, Config, Credentials, NodeProxy, NodeRequest, RequestBody,
    ResponseBody, StoreObjects, TokenIssuer, UserInfo, admission,
};
use carrack_store::Store;
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// How long anything in these tests may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Nobody comes in from outside, and nodes cannot be asked.
struct Closed;

#[async_trait::async_trait]
impl Authenticator for Closed {
    async fn authenticate(&self, _: &Credentials) -> Result<Option<UserInfo>, ApiError> {
        Ok(None)
    }
    async fn review_token(&self, _: &str, _: &[String]) -> Result<(UserInfo, Vec<String>), ApiError> {
        Err(ApiError::unauthorized())
    }
}

#[async_trait::async_trait]
impl TokenIssuer for Closed {
    async fn issue(&self, _: &Value, _: Value, _: Option<&Value>) -> Result<Value, ApiError> {
        Err(ApiError::unauthorized())
    }
}

#[async_trait::async_trait]
impl NodeProxy for Closed {
    async fn forward(&self, _: NodeRequest) -> Result<http::Response<ResponseBody>, ApiError> {
        Err(ApiError::unauthorized())
    }
    async fn proxy(
        &self,
        _: &Value,
        _: &str,
        _: http::Request<RequestBody>,
    ) -> Result<http::Response<ResponseBody>, ApiError> {
        Err(ApiError::unauthorized())
    }
}

/// A control plane; its data goes with it.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    stop: CancellationToken,
    /// Whether the pretended node makes pods ready.
    healthy: Arc<AtomicBool>,
    _dir: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A cluster whose controllers run with changed options.
    pub(crate) async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let dir = tempfile::tempdir().unwrap();
        let api = server(dir.path()).await;
        let client = |user: &str, group: &str| {
            Client::new(api.as_user(UserInfo::new(user, [group, "system:authenticated"])), "default")
        };
        let stop = CancellationToken::new();
        let mut options = Options::new("-----BEGIN CERTIFICATE-----", "test");
        change(&mut options);
        let aggregation = "system:serviceaccount:kube-system:clusterrole-aggregation-controller";
        let controllers = carrack_controllers::Clients {
            all: client("system:kube-controller-manager", "system:authenticated"),
            aggregation: client(aggregation, "system:serviceaccounts"),
        };
        tokio::spawn(carrack_controllers::run(controllers, options, stop.clone()));
        let scheduler = client("system:kube-scheduler", "system:authenticated");
        tokio::spawn(carrack_scheduler::run(
            scheduler,
            carrack_scheduler::Options::new("test"),
            stop.clone(),
        ));
        let healthy = Arc::new(AtomicBool::new(true));
        let node = pretend_pods(client("kubernetes-admin", "system:masters"), Arc::clone(&healthy));
        let ended = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = node => {}
            }
        });
        let cluster = Self { client: client("kubernetes-admin", "system:masters"), stop, healthy, _dir: dir };
        // No pod gets in before its namespace has an account.
        let accounts = cluster.api::<k8s_openapi::api::core::v1::ServiceAccount>();
        until("the account", || async { accounts.get("default").await.map_err(|e| e.to_string()) }).await;
        cluster
    }

    /// Whether pods that start from now on become ready.
    pub(crate) fn pods_become_ready(&self, ready: bool) {
        self.healthy.store(ready, Ordering::SeqCst);
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    pub(crate) fn all<K: Resource<DynamicType = ()>>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    /// Creates an object of any kind.
    pub(crate) async fn create(&self, plural: &str, object: Value) -> DynamicObject {
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let types = object.types.clone().unwrap();
        let kind = kube::core::GroupVersionKind::try_from(&types).unwrap();
        let resource = ApiResource::from_gvk_with_plural(&kind, plural);
        let api: Api<DynamicObject> = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        api.create(&PostParams::default(), &object).await.unwrap()
    }

    /// A node that says it is ready.
    pub(crate) async fn node(&self, name: &str) {
        self.node_with(name, json!({ "cpu": "4", "memory": "8Gi", "pods": "110" })).await;
    }

    pub(crate) async fn node_with(&self, name: &str, allocatable: Value) {
        let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name } });
        self.create("nodes", node).await;
        let status = json!({ "status": {
            "capacity": allocatable, "allocatable": allocatable,
            "conditions": [{ "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready",
                "lastHeartbeatTime": now(), "lastTransitionTime": now() }],
        } });
        let nodes: Api<Node> = self.all();
        nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    }

    /// Deletes an object with a propagation policy.
    pub(crate) async fn delete<K>(&self, name: &str, how: DeleteParams)
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug,
    {
        self.api::<K>().delete(name, &how).await.unwrap();
    }
}

pub(crate) fn now() -> String {
    k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

async fn server(dir: &std::path::Path) -> ApiServer {
    let store = Store::open(carrack_store::Options::new(dir.join("store"))).await.unwrap();
    let rbac = Rbac::start(store.clone()).await.unwrap();
    let objects: Arc<dyn carrack_server::authn::Objects> = Arc::new(StoreObjects::new(store.clone()));
    let authorizers: Vec<Arc<dyn carrack_server::Authorizer>> = vec![rbac.clone()];
    let closed = Arc::new(Closed);
    let config = Config {
        store,
        advertise_address: IpAddr::from([192, 0, 2, 1]),
        secure_port: 6443,
        service_cidr: "10.96.0.0/16".into(),
        dns_address: IpAddr::from([10, 96, 0, 10]),
        authenticator: closed.clone(),
        admission: admission::plugins(&objects, &rbac, &authorizers),
        authorizers,
        tokens: closed.clone(),
        nodes: closed,
    };
    let api = ApiServer::new(config).unwrap();
    api.start().await.unwrap();
    api
}

/// Plays every node: pods that are bound run and are ready, pods that are deleted end at once.
async fn pretend_pods(client: Client, healthy: Arc<AtomicBool>) {
    let mut events = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default()).boxed();
    let mut addresses: HashMap<String, u16> = HashMap::new();
    while let Some(event) = events.next().await {
        let Ok(Event::Apply(pod) | Event::InitApply(pod)) = event else { continue };
        let bound = pod.spec.as_ref().is_some_and(|s| s.node_name.is_some());
        let name = pod.metadata.name.clone().unwrap();
        let api: Api<Pod> = Api::namespaced(client.clone(), pod.metadata.namespace.as_deref().unwrap());
        if pod.metadata.deletion_timestamp.is_some() {
            let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
            let _ = api.delete(&name, &at_once).await;
        } else if bound && pod.status.as_ref().is_none_or(|s| s.pod_ip.is_none()) {
            let next = u16::try_from(addresses.len() + 2).unwrap();
            let number = *addresses.entry(pod.metadata.uid.clone().unwrap()).or_insert(next);
            let ip = format!("10.244.{}.{}", number / 250, number % 250);
            let ready = if healthy.load(Ordering::SeqCst) { "True" } else { "False" };
            let condition = json!({ "type": "Ready", "status": ready, "lastTransitionTime": now() });
            let status = json!({ "status": {
                "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }], "conditions": [condition],
            } });
            let _ = api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(&status)).await;
        }
    }
}

/// Asks again and again until the answer is there; panics with the last look when it takes too long. Returns how long
/// it took.
pub(crate) async fn until<F, Fut, T>(what: &str, mut look: F) -> (T, Duration)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, String>>,
{
    let start = Instant::now();
    loop {
        match look().await {
            Ok(found) => return (found, start.elapsed()),
            Err(seen) if start.elapsed() > PATIENCE => {
                panic!("{what}: not within {PATIENCE:?}; last: {seen}")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

/// `Ok` when `holds`, else what was seen.
pub(crate) fn check(holds: bool, seen: impl Debug) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("{seen:?}")) }
}
