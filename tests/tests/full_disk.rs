//! A full disk below the data directory: writes are refused with a clear error, reads and pods go on, and everything
//! works again when there is space.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use carrack_tests::small_disk::SmallDisk;
use carrack_tests::{Cluster, Host, Options, eventually};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ListParams, ObjectMeta, PostParams};

fn map(name: &str) -> ConfigMap {
    let data = [("fill".to_owned(), "x".repeat(100_000))].into();
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    ConfigMap { metadata, data: Some(data), ..ConfigMap::default() }
}

#[test]
fn a_full_disk_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SmallDisk::new(dir.path(), 400).unwrap();
    let host = Arc::new(Host::isolated("full").unwrap());
    let inner = host.clone();
    let options = Options { dir: Some(dir.path().to_owned()), ..Options::new("full") };
    let result = host.run(async move {
        let mut cluster = Cluster::start(inner, options).await?;
        let maps: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), "default");
        maps.create(&PostParams::default(), &map("before")).await?;
        let filler = disk.fill()?;
        // What is preallocated may take some writes yet; then they are refused.
        let mut refused = None;
        let mut taken = vec!["before".to_owned()];
        for n in 0..5000 {
            let name = format!("during-{n}");
            match maps.create(&PostParams::default(), &map(&name)).await {
                Ok(_) => taken.push(name),
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        let error = refused.context("a full disk takes every write")?;
        let kube::Error::Api(status) = &error else { return Err(error).context("the server went away") };
        ensure!(status.message.contains("space"), "the refusal does not say why: {status:?}");
        for name in &taken {
            maps.get(name).await.with_context(|| format!("{name} was acknowledged"))?;
        }
        std::fs::remove_file(filler)?;
        eventually("writes are taken again", Duration::from_secs(20), || async {
            Ok(maps.create(&PostParams::default(), &map("after")).await.ok())
        })
        .await?;
        cluster.kill()?;
        cluster.restart().await?;
        let kept = maps.list(&ListParams::default()).await?.items;
        for name in taken.iter().map(String::as_str).chain(["after"]) {
            ensure!(kept.iter().any(|m| m.metadata.name.as_deref() == Some(name)), "{name} is lost");
        }
        cluster.take_down()?;
        drop(cluster);
        drop(disk);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error:?}");
    }
}
