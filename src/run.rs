//! The parts of the process that are clients of its API server: each with an identity of its own, and kept running.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use carrack_server::pki::Pki;
use carrack_server::{ApiServer, UserInfo};
use carrack_store::Store;
use kube::Client;
use tokio_util::sync::CancellationToken;

use crate::keep::keep;
use crate::kubeconfigs;
use crate::parts::Settings;

/// A client of the API server in this process, with an identity of its own.
fn client(api: &ApiServer, name: &str, groups: &[&str]) -> Client {
    Client::new(api.as_user(UserInfo::new(name, groups.iter().copied())), "default")
}

/// The same as a ServiceAccount.
fn account(api: &ApiServer, namespace: &str, name: &str) -> Client {
    let groups = ["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")];
    client(api, &format!("system:serviceaccount:{namespace}:{name}"), &groups)
}

/// A part that runs.
pub(crate) type Part = tokio::task::JoinHandle<()>;

/// Starts the parts; they end with `shutdown`.
pub(crate) fn start(
    settings: &Settings,
    pki: &Arc<Pki>,
    api: &ApiServer,
    store: &Store,
    shutdown: &CancellationToken,
) -> Result<Vec<Part>> {
    let report = |name: &'static str| {
        let api = api.clone();
        move |state| api.report(name, state)
    };
    let fresh = pki.clone();
    let mut parts = vec![keep("certificates", shutdown, report("certificates"), move |shutdown| {
        let pki = fresh.clone();
        async move {
            tokio::select! {
                () = pki.keep_fresh() => {}
                () = shutdown.cancelled() => {}
            }
            Ok::<_, std::convert::Infallible>(())
        }
    })];
    parts.push(tokio::spawn(kubeconfigs::keep(settings, pki, store, shutdown)));
    // A learner is far from the leader, where each write has to go.
    if !settings.server.join.learner {
        let candidate = settings.candidate(store.member_id());
        let controllers = carrack_controllers::Clients {
            all: client(api, "system:kube-controller-manager", &[]),
            aggregation: account(api, "kube-system", "clusterrole-aggregation-controller"),
        };
        let options = settings.controllers(pki, candidate.clone())?;
        parts.push(keep("controllers", shutdown, report("controllers"), move |shutdown| {
            carrack_controllers::run(controllers.clone(), options.clone(), shutdown)
        }));
        let scheduler = client(api, "system:kube-scheduler", &[]);
        let options = carrack_scheduler::Options::new(candidate);
        parts.push(keep("scheduler", shutdown, report("scheduler"), move |shutdown| {
            carrack_scheduler::run(scheduler.clone(), options.clone(), shutdown)
        }));
    }
    if let Some(options) = settings.agent(pki)? {
        let node = client(api, &format!("system:node:{}", settings.node_name), &["system:nodes"]);
        parts.push(keep("node", shutdown, report("node"), move |shutdown| {
            carrack_agent::run(node.clone(), options.clone(), shutdown)
        }));
    }
    Ok(parts)
}

/// Says when the node is Ready for the first time.
pub(crate) fn tell_when_ready(settings: &Settings, api: &ApiServer, began: Instant) {
    use k8s_openapi::api::core::v1::Node;
    let nodes: kube::Api<Node> =
        kube::Api::all(client(api, &format!("system:node:{}", settings.node_name), &["system:nodes"]));
    let name = settings.node_name.clone();
    tokio::spawn(async move {
        let is_ready = |node: Option<&Node>| {
            let conditions = node.and_then(|n| n.status.as_ref()).and_then(|s| s.conditions.as_deref());
            conditions.unwrap_or_default().iter().any(|c| c.type_ == "Ready" && c.status == "True")
        };
        match kube::runtime::wait::await_condition(nodes, &name, is_ready).await {
            Ok(_) => tracing::info!(after = ?began.elapsed(), node = name, "the node is Ready"),
            Err(error) => tracing::debug!(%error, "the node was not waited for"),
        }
    });
}
