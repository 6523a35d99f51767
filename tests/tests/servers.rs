//! Control planes of several members: `carrack server` on hosts of their own, that found a cluster, join it, die, come back
//! and leave, while clients go on at the others.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that fails")]

#[path = "servers/admission.rs"]
mod admission;
#[path = "servers/failures.rs"]
mod failures;
#[path = "servers/joining.rs"]
mod joining;
#[path = "servers/together.rs"]
mod together;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use carrack_tests::lan::Lan;
use carrack_tests::servers::Servers;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

/// How long the store may be without a leader.
const NO_LEADER: Duration = Duration::from_secs(5);

/// The addresses behind the `kubernetes` service.
async fn endpoints(client: &Client) -> Result<BTreeSet<String>> {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
    let slice = slices.get("kubernetes").await?;
    Ok(slice.endpoints.into_iter().flat_map(|endpoint| endpoint.addresses).collect())
}

fn maps(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), "default")
}

/// Creates a map; tries again for a while when the store has no leader, as it may on a busy machine.
async fn create_map(client: &Client, name: &str) -> Result<ConfigMap, kube::Error> {
    let began = Instant::now();
    loop {
        match try_create_map(client, name).await {
            Err(kube::Error::Api(status)) if status.code == 503 && began.elapsed() < NO_LEADER => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            result => return result,
        }
    }
}

async fn try_create_map(client: &Client, name: &str) -> Result<ConfigMap, kube::Error> {
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    maps(client).create(&PostParams::default(), &ConfigMap { metadata, ..ConfigMap::default() }).await
}

#[test]
fn three_servers_are_one_cluster() {
    let mut servers = Servers::found(Lan::new("servers", 3).unwrap()).unwrap();
    joining::who_may_not_join_is_told_why(&servers).unwrap();
    servers.join(1, 0, &[]).unwrap();
    servers.join(2, 1, &[]).unwrap();
    joining::all_belong_to_it(&servers).unwrap();
    together::all_see_all(&servers).unwrap();
    failures::the_leader_is_killed(&mut servers).unwrap();
    failures::the_leader_ends_in_order(&mut servers).unwrap();
    failures::a_member_is_removed(&mut servers).unwrap();
}

#[test]
fn a_learner_reads_nothing_older_than_asked() {
    let mut servers = Servers::found(Lan::new("learner", 2).unwrap()).unwrap();
    servers.join(1, 0, &["--learner"]).unwrap();
    together::a_learner_is_never_behind_what_is_asked(&mut servers).unwrap();
}
