//! What members run besides the store: API servers, and the parts that one of them leads.

use std::collections::BTreeMap;

use anyhow::Result;
use carrack_server::{ListedServer, SERVERS, server_key};
use carrack_store::etcd::client::Client;

/// Where the elections of the scheduler and the controllers are.
const ELECTIONS: &str = "/registry/leases/kube-system/";

/// What a cluster runs, by the ids of members.
pub(super) struct Runs {
    servers: BTreeMap<String, ListedServer>,
    /// Candidates that lead, and what.
    leaders: Vec<(String, String)>,
}

impl Runs {
    /// As this member knows it.
    pub(super) async fn ask(client: &Client) -> Result<Self> {
        let mut servers = BTreeMap::new();
        for (key, value) in client.list(SERVERS).await? {
            if let Ok(server) = serde_json::from_slice(&value) {
                servers.insert(String::from_utf8_lossy(&key).into_owned(), server);
            }
        }
        let mut leaders = Vec::new();
        for (key, value) in client.list(ELECTIONS).await? {
            let lease: serde_json::Value = serde_json::from_slice(&value)?;
            let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
            let what = String::from_utf8_lossy(&key[ELECTIONS.len()..]).into_owned();
            leaders.push((holder.to_owned(), what));
        }
        Ok(Self { servers, leaders })
    }

    /// What this member runs, in words.
    pub(super) fn of(&self, member: u64) -> Vec<String> {
        let server = self.servers.get(&server_key(member));
        let server = server.map(|server| format!("api {}:{}", server.address, server.port));
        let suffix = format!("_{member:016x}");
        let led = self.leaders.iter().filter(|(holder, _)| holder.ends_with(&suffix));
        server.into_iter().chain(led.map(|(_, what)| what.clone())).collect()
    }
}
