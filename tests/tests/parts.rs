//! What a user sees of the parts of the process: each of them on `/readyz`, one that fails with its reason, and the end
//! of the process when its store can not go on.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use carrack_tests::{Cluster, Host, Options, eventually};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};

const SOON: Duration = Duration::from_secs(30);

/// Files that can not be written to, until this value goes.
struct Frozen(Vec<PathBuf>);

impl Frozen {
    fn below(dir: &Path) -> Result<Self> {
        let mut files = Vec::new();
        let mut open = vec![dir.to_owned()];
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(dir)? {
                let entry = entry?;
                let list = if entry.file_type()?.is_dir() { &mut open } else { &mut files };
                list.push(entry.path());
            }
        }
        let frozen = Self(files);
        frozen.chattr("+i")?;
        Ok(frozen)
    }

    fn chattr(&self, flag: &str) -> Result<()> {
        let status = Command::new("chattr").arg(flag).args(&self.0).status().context("chattr (e2fsprogs)")?;
        ensure!(status.success(), "chattr {flag} fails: {status}");
        Ok(())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Err(error) = self.chattr("-i") {
            eprintln!("some files stay immutable: {error}");
        }
    }
}

async fn readyz(cluster: &Cluster) -> Result<String> {
    let request = http::Request::get("/readyz?verbose").body(Vec::new())?;
    match cluster.client.request_text(request).await {
        Ok(text) => Ok(text),
        Err(kube::Error::Api(status)) => Ok(status.message),
        Err(error) => Err(error.into()),
    }
}

#[test]
fn parts_are_shown_and_a_failed_store_ends_the_process() {
    let name = "parts";
    let host = std::sync::Arc::new(Host::isolated(name).unwrap());
    let inner = host.clone();
    let result = host.run(async move {
        let mut cluster = Cluster::start(inner, Options::new(name)).await?;
        let text = readyz(&cluster).await?;
        for part in ["etcd", "certificates", "controllers", "scheduler", "node"] {
            ensure!(text.contains(&format!("[+]{part} ok\n")), "no {part} in {text}");
        }
        node_fails(&mut cluster).await.context("a node agent that can not start")?;
        store_fails(&mut cluster).await.context("a store that can not write")?;
        cluster.take_down()?;
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error:?}");
    }
}

/// The port of the node's API is taken: the agent says so, is tried again, and is well once the port is free.
async fn node_fails(cluster: &mut Cluster) -> Result<()> {
    cluster.kill()?;
    let taken = std::net::TcpListener::bind((cluster.host.address, 10250))?;
    cluster.restart().await?;
    let text = eventually("the node's failure is shown", SOON, || async {
        let text = readyz(cluster).await?;
        Ok(text.contains("[-]node failed: ").then_some(text))
    })
    .await?;
    ensure!(text.contains("in use"), "no reason in {text}");
    drop(taken);
    eventually("the node is well again", SOON, || async {
        Ok(readyz(cluster).await?.contains("[+]node ok\n").then_some(()))
    })
    .await
}

async fn store_fails(cluster: &mut Cluster) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "default");
    let map = |name: &str| ConfigMap {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        ..ConfigMap::default()
    };
    maps.create(&PostParams::default(), &map("before")).await?;
    let frozen = Frozen::below(&cluster.data_dir().join("store"))?;
    ensure!(
        maps.create(&PostParams::default(), &map("lost")).await.is_err(),
        "a write without a disk is taken"
    );
    let status = cluster.ends_within(SOON).await?;
    ensure!(!status.success(), "the process ended with {status}");
    let log = cluster.log();
    ensure!(log.contains("has failed") && log.contains("start carrack again"), "{log}");
    drop(frozen);
    cluster.restart().await?;
    maps.get("before").await.context("what was acknowledged")?;
    Ok(())
}
