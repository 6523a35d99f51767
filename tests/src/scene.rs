//! The usual scene of a test: a host of its own, a registry with a busybox image, a cluster.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, Service};
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::image::Image;
use crate::{Cluster, Host, Options, Registry, eventually, host, root};

/// A host, a registry and a cluster.
pub struct Scene {
    pub registry: Registry,
    pub cluster: Cluster,
}

/// Runs a test on a host of its own and checks that nothing of its cluster is left in the end.
pub fn on_a_cluster<F: Future<Output = Result<()>>>(name: &str, test: impl FnOnce(Arc<Scene>) -> F) {
    on_a_scene(name, |scene| async move {
        let scene = Arc::new(scene);
        test(scene.clone()).await?;
        Arc::into_inner(scene).context("the test keeps the scene")
    });
}

/// The same for a test that needs the scene for itself, to kill and restart the cluster.
pub fn on_a_scene<F: Future<Output = Result<Scene>>>(name: &str, test: impl FnOnce(Scene) -> F) {
    let run = || -> Result<()> {
        let host = Arc::new(Host::isolated(name)?);
        let inner = host.clone();
        host.run(async move {
            let registry = Registry::start(&inner, 5000).await?;
            registry.push(&Image::busybox()?, "carrack/busybox", "1").await?;
            let cluster = Cluster::start(inner, Options::new(name)).await?;
            host::join_cgroup(&cluster.cgroup())?;
            let mut scene = test(Scene { registry, cluster }).await?;
            scene.cluster.take_down()?;
            let left = scene.cluster.leftovers()?;
            ensure!(left.is_empty(), "something is left of the cluster:\n{}", left.join("\n"));
            Ok(())
        })
    };
    fail_on(run());
}

/// Runs a test on a control plane alone, where no pod runs.
pub fn on_a_control_plane<F: Future<Output = Result<()>>>(name: &str, test: impl FnOnce(Arc<Cluster>) -> F) {
    let run = || -> Result<()> {
        let host = Arc::new(Host::isolated(name)?);
        let inner = host.clone();
        host.run(async move {
            let options = Options { node: false, ..Options::new(name) };
            let cluster = Arc::new(Cluster::start(inner, options).await?);
            test(cluster.clone()).await?;
            let mut cluster = Arc::into_inner(cluster).context("the test keeps the cluster")?;
            cluster.take_down().map(drop)
        })
    };
    fail_on(run());
}

fn fail_on(result: Result<()>) {
    if let Err(error) = result {
        let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
        panic!("{}", causes.join("\n  because: "));
    }
}

impl Scene {
    /// `examples/web.yaml`.
    pub fn web(&self) -> Result<String> {
        let text = std::fs::read_to_string(root().join("examples/web.yaml"))?;
        Ok(text.replace("localhost:5000/carrack/busybox:1", &self.image()))
    }

    pub fn image(&self) -> String {
        self.registry.reference("carrack/busybox:1")
    }

    /// A pod of one container, `main`, that runs a shell line; `more` is merged into the container.
    pub async fn run_pod(&self, name: &str, policy: &str, line: &str, more: Value) -> Result<()> {
        let mut container =
            json!({ "name": "main", "image": self.image(), "command": ["/bin/sh", "-c", line] });
        merge(&mut container, more);
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": { "app": name } },
            "spec": { "restartPolicy": policy, "terminationGracePeriodSeconds": 1, "containers": [container] },
        });
        self.cluster.apply(&pod.to_string()).await
    }

    /// The status of a pod's container `main`, once `check` holds for it.
    pub async fn container(
        &self,
        pod: &str,
        what: &str,
        limit: Duration,
        check: impl Fn(&ContainerStatus) -> bool,
    ) -> Result<ContainerStatus> {
        let pods = self.cluster.pods("default");
        let seen = std::sync::Mutex::new(String::new());
        let found = eventually(&format!("{pod}: {what}"), limit, || async {
            let found: Pod = pods.get(pod).await?;
            let status =
                found.status.and_then(|s| s.container_statuses).unwrap_or_default().into_iter().next();
            if let (Some(status), Ok(mut seen)) = (&status, seen.lock()) {
                *seen = serde_json::to_string(status)?;
            }
            Ok(status.filter(&check))
        })
        .await;
        let last = seen.into_inner().unwrap_or_default();
        found.with_context(|| format!("last seen: {last}")).with_context(|| self.cluster.log())
    }

    /// Where a Service answers.
    pub async fn address(&self, service: &str, port: u16) -> Result<SocketAddr> {
        let api: Api<Service> = Api::namespaced(self.cluster.client.clone(), "default");
        let ip = api.get(service).await?.spec.and_then(|s| s.cluster_ip).context("no cluster IP")?;
        Ok(SocketAddr::new(ip.parse::<IpAddr>()?, port))
    }

    /// Deletes a pod and waits until it is gone.
    pub async fn delete_pod(&self, name: &str) -> Result<()> {
        let pods = self.cluster.pods("default");
        pods.delete(name, &DeleteParams::default()).await?;
        eventually(&format!("{name} is gone"), Duration::from_secs(30), || async {
            Ok(pods.get_opt(name).await?.is_none().then_some(()))
        })
        .await
    }

    /// Waits until no pod of a label is left.
    pub async fn no_pods_left(&self, selector: &str, limit: Duration) -> Result<()> {
        let pods = self.cluster.pods("default");
        let params = ListParams::default().labels(selector);
        eventually(&format!("no pod of {selector} is left"), limit, || async {
            Ok(pods.list(&params).await?.items.is_empty().then_some(()))
        })
        .await
    }
}

fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}
