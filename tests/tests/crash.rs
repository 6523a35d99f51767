//! `kill -9` of everything but the pods, again and again: nothing acknowledged is lost, containers keep running, and
//! what ended meanwhile is known.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use carrack_tests::{Scene, eventually, on_a_scene};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ListParams, LogParams, Patch, PatchParams, PostParams};
use serde_json::json;

const ROUNDS: usize = 20;
const SOON: Duration = Duration::from_secs(60);

/// The first process of each running container of the steady pod, by the host's number.
async fn steady_process(scene: &Scene) -> Result<String> {
    let pod = scene.cluster.pods("default").get("steady").await?;
    let status = pod.status.and_then(|s| s.container_statuses).unwrap_or_default().into_iter().next();
    let status = status.context("no container")?;
    ensure!(status.restart_count == 0, "the steady container was restarted: {status:?}");
    let uid = pod.metadata.uid.context("no uid")?;
    let records = scene.cluster.data_dir().join("kubelet/pods").join(uid).join("carrack/containers.json");
    let records: serde_json::Value = serde_json::from_slice(&std::fs::read(records)?)?;
    let pid = records["main"]["run"]["Running"]["pid"].as_u64().context("the record shows no process")?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
    let start = stat.split(' ').nth(21).context("no start time")?;
    Ok(format!("{pid} started at {start}"))
}

#[test]
fn nothing_is_lost_when_carrack_is_killed() {
    on_a_scene("crash", |mut scene| async move {
        scene.run_pod("steady", "Always", "while true; do date +%s.%N; sleep 0.2; done", json!({})).await?;
        scene.container("steady", "runs", SOON, |s| s.ready).await?;
        scene.cluster.apply(&scene.web()?).await?;
        scene.cluster.pods_are_ready("app=web", 3, SOON).await?;
        let steady = steady_process(&scene).await?;
        let maps: Api<ConfigMap> = Api::namespaced(scene.cluster.client.clone(), "default");
        let deployments: Api<Deployment> = Api::namespaced(scene.cluster.client.clone(), "default");
        let mut acknowledged = 0;
        for round in 0..ROUNDS {
            // A rollout is under way, writes are being acknowledged, and a pod ends while nobody looks.
            let template = json!({ "metadata": { "annotations": { "round": round.to_string() } } });
            let patch = Patch::Strategic(json!({ "spec": { "template": template } }));
            deployments.patch("web", &PatchParams::default(), &patch).await?;
            let ending = format!("ending-{round}");
            scene.run_pod(&ending, "Never", "sleep 0.5; echo last words; exit 7", json!({})).await?;
            let began = std::time::Instant::now();
            let until = Duration::from_millis(u64::try_from(37 * round % 400)?);
            while began.elapsed() < until {
                let name = format!("kept-{acknowledged}");
                let map = ConfigMap {
                    metadata: kube::api::ObjectMeta { name: Some(name), ..Default::default() },
                    data: Some(BTreeMap::from([("n".to_owned(), acknowledged.to_string())])),
                    ..ConfigMap::default()
                };
                maps.create(&PostParams::default(), &map).await?;
                acknowledged += 1;
            }
            scene.cluster.kill()?;
            tokio::time::sleep(Duration::from_millis(600)).await;
            scene.cluster.restart().await?;
            let now = steady_process(&scene).await.with_context(|| format!("round {round}"))?;
            ensure!(now == steady, "round {round}: the steady process was {steady}, it is {now}");
        }
        let kept = maps.list(&ListParams::default()).await?.items;
        for n in 0..acknowledged {
            let name = format!("kept-{n}");
            let found = kept.iter().find(|m| m.metadata.name.as_deref() == Some(&name));
            let value = found.and_then(|m| m.data.as_ref()).and_then(|d| d.get("n"));
            ensure!(value == Some(&n.to_string()), "{name} was acknowledged and is {value:?}");
        }
        ended_pods_are_known(&scene).await?;
        let pods = scene.cluster.pods_are_ready("app=web", 3, SOON).await?;
        let last = (ROUNDS - 1).to_string();
        let current = |p: &k8s_openapi::api::core::v1::Pod| {
            p.metadata.annotations.as_ref().and_then(|a| a.get("round")) == Some(&last)
        };
        eventually("the last rollout is complete", SOON, || async {
            let list =
                scene.cluster.pods("default").list(&ListParams::default().labels("app=web")).await?.items;
            Ok((list.len() == 3 && list.iter().all(current)).then_some(()))
        })
        .await?;
        drop(pods);
        Ok(scene)
    });
}

/// Each pod that ended, while carrack was there or not, has its exit code and its log.
async fn ended_pods_are_known(scene: &Scene) -> Result<()> {
    let pods = scene.cluster.pods("default");
    for round in 0..ROUNDS {
        let name = format!("ending-{round}");
        let status = scene
            .container(&name, "ended", SOON, |s| s.state.as_ref().is_some_and(|s| s.terminated.is_some()))
            .await?;
        let exit = status.state.and_then(|s| s.terminated).context("no exit")?;
        ensure!(exit.exit_code == 7, "{name}: {exit:?}");
        // The node's own API may need a moment longer than the API server.
        let log = eventually(&format!("the log of {name}"), SOON, || async {
            Ok(Some(pods.logs(&name, &LogParams::default()).await?))
        })
        .await?;
        ensure!(log == "last words\n", "{name}: the log is {log:?}");
    }
    Ok(())
}
