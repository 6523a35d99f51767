//! Servers that die, end in order, and are removed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use carrack_tests::servers::{Servers, name};
use carrack_tests::{eventually, eventually_sync, patience};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ServiceAccount};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::{endpoints, maps, try_create_map};

/// How long after a leader's death writes may be back at another server. The promise is about two seconds, on a machine
/// that has nothing else to do.
const WRITES_BACK: Duration = Duration::from_secs(3);
/// The scheduler and the controllers take over when a lease of 15 s has run out.
const TAKE_OVER: Duration = Duration::from_secs(25);
/// How long a dead server may be listed.
const FORGOTTEN: Duration = Duration::from_secs(15);

/// Writes through one server, as fast as it answers.
struct Writer {
    task: tokio::task::JoinHandle<Written>,
    stop: Arc<AtomicBool>,
}

struct Written {
    /// What was acknowledged.
    acknowledged: Vec<String>,
    /// The longest time between two acknowledged writes.
    gap: Duration,
}

impl Writer {
    fn start(servers: &Servers, client: Client, prefix: String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let task = servers.runtime.spawn(async move {
            let (mut acknowledged, mut gap, mut last) = (Vec::new(), Duration::ZERO, Instant::now());
            for n in 0.. {
                if told.load(Ordering::Relaxed) {
                    break;
                }
                let name = format!("{prefix}-{n}");
                if try_create_map(&client, &name).await.is_ok() {
                    gap = gap.max(last.elapsed());
                    last = Instant::now();
                    acknowledged.push(name);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Written { acknowledged, gap: gap.max(last.elapsed()) }
        });
        Self { task, stop }
    }

    fn end(self, servers: &Servers) -> Result<Written> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(servers.runtime.block_on(self.task)?)
    }
}

/// A node without an agent, and a pod that the scheduler puts there.
async fn node(client: &Client) -> Result<()> {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "pier"}});
    let nodes: Api<Node> = Api::all(client.clone());
    nodes.create(&PostParams::default(), &serde_json::from_value(node)?).await?;
    let now = k8s_openapi::jiff::Timestamp::now().to_string();
    let status = json!({"status": {
        "capacity": {"cpu": "4", "memory": "8Gi", "pods": "100"},
        "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "100"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "Moored", "message": "",
                        "lastHeartbeatTime": now, "lastTransitionTime": now}],
    }});
    nodes.patch_status("pier", &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}

/// Waits until the controllers make what every namespace has, and the scheduler puts a pod on the node.
async fn controllers_and_scheduler_work(client: &Client, name: &str, limit: Duration) -> Result<()> {
    let namespace = json!({"metadata": {"name": name}});
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.create(&PostParams::default(), &serde_json::from_value(namespace)?).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), name);
    eventually("the controllers make an account", limit, || async { Ok(accounts.get_opt("default").await?) })
        .await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), name);
    let pod = json!({
        "metadata": {"name": "crate"},
        "spec": {
            "containers": [{"name": "main", "image": "none.example.com/none"}],
            "tolerations": [{"operator": "Exists"}],
        },
    });
    let pod: Pod = serde_json::from_value(pod)?;
    pods.create(&PostParams::default(), &pod).await?;
    eventually("the scheduler puts the pod on a node", limit, || async {
        Ok(pods.get("crate").await?.spec.and_then(|spec| spec.node_name))
    })
    .await
    .map(drop)
}

async fn all_kept(client: &Client, written: &Written) -> Result<()> {
    let kept = maps(client).list(&ListParams::default()).await?.items;
    for name in &written.acknowledged {
        let found = kept.iter().any(|map| map.metadata.name.as_ref() == Some(name));
        ensure!(found, "{name} was acknowledged and is lost");
    }
    Ok(())
}

/// The leader of the store is killed, and with it its API server, and the scheduler and controllers if it leads them.
pub(super) fn the_leader_is_killed(servers: &mut Servers) -> Result<()> {
    let leader = servers.leader(0)?;
    let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let clients = [servers.client(one)?, servers.client(other)?];
    servers.runtime.block_on(async {
        node(&clients[0]).await.context("a node")?;
        controllers_and_scheduler_work(&clients[0], "before", TAKE_OVER).await.context("before")
    })?;
    let writers = [one, other].map(|n| (n, servers.client(n)));
    let writers: Vec<Writer> = writers
        .into_iter()
        .map(|(n, client)| Ok(Writer::start(servers, client?, format!("written-{n}"))))
        .collect::<Result<_>>()?;
    std::thread::sleep(Duration::from_millis(500));
    servers.end(leader, "KILL")?;
    let killed = Instant::now();
    std::thread::sleep(Duration::from_secs(4));
    for writer in writers {
        let written = writer.end(servers)?;
        println!(
            "leader killed: {} writes acknowledged, the longest gap {:.2?}",
            written.acknowledged.len(),
            written.gap
        );
        ensure!(written.gap < patience(WRITES_BACK), "writes were back after {:?}", written.gap);
        for client in &clients {
            servers.runtime.block_on(all_kept(client, &written))?;
        }
    }
    let wanted = [one, other].map(|n| servers.lan.address(n).to_string()).into();
    servers.runtime.block_on(async {
        let rest = patience(FORGOTTEN).saturating_sub(killed.elapsed());
        eventually("the dead server is forgotten", rest, || async {
            Ok((endpoints(&clients[1]).await? == wanted).then_some(()))
        })
        .await?;
        println!("leader killed: its endpoint is gone after {:.1?}", killed.elapsed());
        controllers_and_scheduler_work(&clients[1], "after", TAKE_OVER).await.context("after")
    })?;
    println!("leader killed: controllers and scheduler work after {:.1?}", killed.elapsed());
    servers.start(leader, &[])?;
    servers.serves(leader)?;
    listed(servers, one, &[0, 1, 2])
}

/// Waits until just these servers are behind the `kubernetes` service, as server `by` sees it.
fn listed(servers: &Servers, by: usize, these: &[usize]) -> Result<()> {
    let wanted = these.iter().map(|n| servers.lan.address(*n).to_string()).collect();
    let client = servers.client(by)?;
    eventually_sync(Duration::from_secs(30), || {
        let found = servers.runtime.block_on(endpoints(&client))?;
        Ok((found == wanted).then_some(()))
    })
    .with_context(|| format!("just {these:?} are listed"))
}

/// A leader that is told to end hands over first: writes at others go on as soon as after a death, and it is not listed any more.
pub(super) fn the_leader_ends_in_order(servers: &mut Servers) -> Result<()> {
    let leader = servers.leader(0)?;
    let one = (leader + 1) % 3;
    let writer = Writer::start(servers, servers.client(one)?, "orderly".to_owned());
    std::thread::sleep(Duration::from_millis(300));
    ensure!(servers.end(leader, "TERM")?, "it ended badly: {}", servers.log(leader));
    let ended = Instant::now();
    let rest: Vec<usize> = (0..3).filter(|n| *n != leader).collect();
    listed(servers, one, &rest)?;
    ensure!(ended.elapsed() < patience(Duration::from_secs(3)), "it was listed for {:?}", ended.elapsed());
    let written = writer.end(servers)?;
    println!("leader ended: the longest gap between writes {:.2?}", written.gap);
    ensure!(written.gap < patience(WRITES_BACK), "a gap of {:?}", written.gap);
    servers.runtime.block_on(all_kept(&servers.client(one)?, &written))?;
    servers.start(leader, &[])?;
    servers.serves(leader)
}

/// A member that is removed ends and says why, and its server is not listed any more.
pub(super) fn a_member_is_removed(servers: &mut Servers) -> Result<()> {
    let leader = servers.leader(0)?;
    let (by, gone) = ((leader + 1) % 3, (leader + 2) % 3);
    servers.carrack(by, &["ctl", "-o", "json", "member", "remove", &name(gone)])?;
    let rest: Vec<usize> = (0..3).filter(|n| *n != gone).collect();
    listed(servers, by, &rest)?;
    ensure!(!servers.ended(gone, Duration::from_secs(20))?, "it says that all is well");
    let log = servers.log(gone);
    ensure!(log.contains("removed"), "it does not say why: {log}");
    Ok(())
}
