//! What several servers do at once is as if one had done it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use carrack_tests::eventually;
use carrack_tests::servers::Servers;
use futures::{StreamExt, TryStreamExt};
use http::Request;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::{create_map, maps};

const SOON: Duration = Duration::from_secs(20);
/// Services made at once; each has an address and a port of a node.
const SERVICES: usize = 45;

pub(super) fn all_see_all(servers: &Servers) -> Result<()> {
    let clients = (0..3).map(|n| servers.client(n)).collect::<Result<Vec<_>>>()?;
    servers.runtime.block_on(async {
        what_one_writes_all_read(&clients).await.context("reads at other servers")?;
        nothing_is_given_out_twice(&clients).await.context("services at once")?;
        a_quota_holds_for_all(&clients).await.context("a quota")?;
        new_kinds_and_rights_count_everywhere(&clients).await.context("kinds and rights")?;
        a_watch_goes_on_elsewhere(&clients).await.context("a watch")
    })
}

async fn get(client: &Client, path: &str) -> Result<Value, kube::Error> {
    client.request(Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?).await
}

async fn post(client: &Client, path: &str, object: &Value) -> Result<Value, kube::Error> {
    let request = Request::post(path).header("content-type", "application/json");
    client.request(request.body(object.to_string().into_bytes()).map_err(kube::Error::HttpError)?).await
}

/// Right after a write is answered at one server, every other one shows it: to plain reads, and to those that ask for
/// its revision.
async fn what_one_writes_all_read(clients: &[Client]) -> Result<()> {
    for round in 0..30 {
        let (writer, reader) = (&clients[round % 3], &clients[(round + 1 + round / 3 % 2) % 3]);
        let name = format!("seen-{round}");
        let version = create_map(writer, &name).await?.metadata.resource_version.context("no version")?;
        let base = "/api/v1/namespaces/default/configmaps";
        match round % 3 {
            0 => drop(maps(reader).get(&name).await.context("a plain get")?),
            1 => drop(get(reader, &format!("{base}/{name}?resourceVersion={version}")).await?),
            _ => {
                let list = get(reader, &format!("{base}?resourceVersion={version}")).await?;
                ensure!(list.to_string().contains(&name), "the list of revision {version} is older");
            }
        }
    }
    let far = get(&clients[0], "/api/v1/namespaces/default/configmaps?resourceVersion=999999999").await;
    ensure!(
        matches!(far, Err(kube::Error::Api(status)) if status.code == 504),
        "a revision that nobody reached"
    );
    Ok(())
}

/// Services made through all servers at once have addresses and ports of their own.
async fn nothing_is_given_out_twice(clients: &[Client]) -> Result<()> {
    let make = |n: usize| {
        let services: Api<Service> = Api::namespaced(clients[n % 3].clone(), "default");
        async move {
            let service: Service = serde_json::from_value(json!({
                "metadata": {"name": format!("service-{n}")},
                "spec": {"type": "NodePort", "ports": [{"port": 80}]},
            }))?;
            services.create(&PostParams::default(), &service).await.with_context(|| format!("service {n}"))
        }
    };
    let made: Vec<Service> =
        futures::stream::iter((0..SERVICES).map(make)).buffer_unordered(15).try_collect().await?;
    let specs = || made.iter().filter_map(|service| service.spec.as_ref());
    let addresses: BTreeSet<_> = specs().filter_map(|spec| spec.cluster_ip.clone()).collect();
    let ports: BTreeSet<_> = specs().filter_map(|spec| spec.ports.as_ref()?.first()?.node_port).collect();
    ensure!(addresses.len() == SERVICES && ports.len() == SERVICES, "{addresses:?} {ports:?}");
    Ok(())
}

/// Twenty ask at once for what ten may have.
async fn a_quota_holds_for_all(clients: &[Client]) -> Result<()> {
    post(&clients[0], "/api/v1/namespaces", &json!({"metadata": {"name": "small"}})).await?;
    let quota = json!({"metadata": {"name": "ten"}, "spec": {"hard": {"count/services": "10"}}});
    post(&clients[0], "/api/v1/namespaces/small/resourcequotas", &quota).await?;
    eventually("the quota is counted", SOON, || async {
        let quota = get(&clients[1], "/api/v1/namespaces/small/resourcequotas/ten").await?;
        Ok((quota["status"]["used"]["count/services"] == "0").then_some(()))
    })
    .await?;
    let make = |n: usize| async move {
        let service = json!({"metadata": {"name": format!("s{n}")}, "spec": {"ports": [{"port": 80}]}});
        post(&clients[n % 3], "/api/v1/namespaces/small/services", &service).await
    };
    let answers: Vec<_> = futures::stream::iter((0..20).map(make)).buffer_unordered(12).collect().await;
    for answer in &answers {
        ensure!(answer.is_ok() || matches!(answer, Err(kube::Error::Api(s)) if s.code == 403), "{answer:?}");
    }
    let made = answers.iter().filter(|answer| answer.is_ok()).count();
    ensure!(made == 10, "{made} were made");
    Ok(())
}

/// A kind is served everywhere as soon as one server says so, and a right counts everywhere as soon as it is given.
async fn new_kinds_and_rights_count_everywhere(clients: &[Client]) -> Result<()> {
    for (n, plural) in ["boats", "ships", "rafts"].iter().enumerate() {
        let (maker, others) = (&clients[n], [&clients[(n + 1) % 3], &clients[(n + 2) % 3]]);
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{plural}.example.com")},
            "spec": {
                "group": format!("{plural}.example.com"), "scope": "Namespaced",
                "names": {"plural": plural, "kind": plural.to_uppercase()},
                "versions": [{"name": "v1", "served": true, "storage": true,
                              "schema": {"openAPIV3Schema": {"type": "object"}}}],
            },
        });
        post(maker, path, &definition).await?;
        eventually("the kind is established", SOON, || async {
            let found = get(maker, &format!("{path}/{plural}.{plural}.example.com")).await?;
            let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let established = conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True");
            Ok(established.then_some(()))
        })
        .await?;
        for client in others {
            let list = format!("/apis/{plural}.example.com/v1/{plural}");
            get(client, &list).await.with_context(|| format!("{plural} are not served elsewhere"))?;
        }
        rights_count_elsewhere(maker, others[0], plural).await?;
    }
    Ok(())
}

async fn rights_count_elsewhere(giver: &Client, asked: &Client, user: &str) -> Result<()> {
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    let binding = json!({
        "metadata": {"name": user},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    });
    post(giver, path, &binding).await?;
    let request = Request::get("/api/v1/pods").header("impersonate-user", user).body(Vec::new())?;
    let pods: Result<Value, _> = asked.request(request).await;
    pods.map(drop).with_context(|| format!("{user} was given a right that another server does not know"))
}

/// Names with their revisions, of events after a revision, until the last of them.
async fn events(client: &Client, after: &str, last: &str) -> Result<Vec<(String, String)>> {
    let params = WatchParams::default().timeout(20);
    let mut stream = maps(client).watch(&params, after).await?.boxed();
    let mut seen = Vec::new();
    while let Some(event) = stream.try_next().await? {
        let (WatchEvent::Added(map) | WatchEvent::Modified(map) | WatchEvent::Deleted(map)) = event else {
            continue;
        };
        let ConfigMap { metadata, .. } = map;
        let name = metadata.name.unwrap_or_default();
        let done = name == last;
        seen.push((name, metadata.resource_version.unwrap_or_default()));
        if done {
            return Ok(seen);
        }
    }
    bail!("the watch ended before {last}, with {} events", seen.len())
}

/// A watch that is taken up at another server, from any revision that the first one told, misses and repeats nothing.
async fn a_watch_goes_on_elsewhere(clients: &[Client]) -> Result<()> {
    let start = maps(&clients[0]).list(&ListParams::default()).await?.metadata.resource_version;
    let start = start.context("no version")?;
    let writing = async {
        for n in 0..40 {
            create_map(&clients[n % 3], &format!("watched-{n}")).await?;
        }
        create_map(&clients[0], "watched-last").await?;
        anyhow::Ok(())
    };
    let (seen, written) = futures::join!(events(&clients[0], &start, "watched-last"), writing);
    written?;
    let seen = seen?;
    ensure!(seen.len() == 41, "{} events", seen.len());
    for (n, at) in [(1, 0), (2, 7), (1, 20), (2, 39)] {
        let resumed = events(&clients[n], &seen[at].1, "watched-last").await?;
        ensure!(resumed == seen[at + 1..], "taken up at server {n} after event {at}: {resumed:?}");
    }
    Ok(())
}

/// A learner that is cut off answers from what it has only to who asks for nothing newer.
pub(super) fn a_learner_is_never_behind_what_is_asked(servers: &mut Servers) -> Result<()> {
    let (near, far) = (servers.client(0)?, servers.client(1)?);
    let status = serde_json::to_string(&servers.status(0)?)?;
    ensure!(status.contains("learner"), "{status}");
    servers.runtime.block_on(async {
        create_map(&far, "by-the-learner").await.context("a write through the learner")?;
        let version = create_map(&near, "old").await?.metadata.resource_version.context("no version")?;
        let path =
            |revision: &str| format!("/api/v1/namespaces/default/configmaps?resourceVersion={revision}");
        ensure!(get(&far, &path(&version)).await?.to_string().contains("\"old\""), "older than asked");
        servers.lan.cut_both(0, 1)?;
        let newer = create_map(&near, "new").await?.metadata.resource_version.context("no version")?;
        let began = Instant::now();
        let list = get(&far, &path("0")).await.context("any state while cut off")?.to_string();
        ensure!(list.contains("\"old\"") && !list.contains("\"new\""), "{list}");
        get(&far, &path(&version)).await.context("what it has while cut off")?;
        ensure!(began.elapsed() < Duration::from_secs(3), "local reads took {:?}", began.elapsed());
        for asked in [newer.as_str(), ""] {
            let answer = get(&far, &path(asked)).await;
            ensure!(answer.is_err(), "cut off, it answers resourceVersion={asked:?}: {answer:?}");
        }
        servers.lan.heal()?;
        let list =
            eventually("the learner is back", SOON, || async { Ok(Some(get(&far, &path(&newer)).await?)) });
        ensure!(list.await?.to_string().contains("\"new\""), "older than asked");
        anyhow::Ok(())
    })
}
