//! ClusterRoles that are made of others: their rules follow those of the roles that their selectors match.

use std::time::Duration;

use carrack_store::Event;
use serde_json::Value;

use super::{CareError, Job, list};
use crate::authz::{GROUP, bootstrap};
use crate::server::ApiServer;
use crate::start::encode;

/// Roles made of roles made of roles: as deep as upstream's `admin` is, and a few more.
const ROUNDS: usize = 8;

pub(super) struct Aggregation;

#[async_trait::async_trait]
impl Job for Aggregation {
    fn name(&self) -> &'static str {
        "aggregated roles"
    }

    fn watched(&self) -> &'static [(&'static str, &'static str)] {
        &[(GROUP, "clusterroles")]
    }

    fn concerns(&self, _: &Event) -> bool {
        true
    }

    async fn sweep(&self, api: &ApiServer) -> Result<Option<Duration>, CareError> {
        let stored = list(api, GROUP, "clusterroles", "").await?;
        let mut roles: Vec<Value> = stored.iter().map(|role| Value::clone(role)).collect();
        let mut changed = vec![false; roles.len()];
        for _ in 0..ROUNDS {
            let mut again = false;
            for index in 0..roles.len() {
                let Some(rules) = bootstrap::aggregate(&roles[index], roles.iter()) else { continue };
                let held = roles[index].get("rules").cloned().unwrap_or_default();
                let same = held == rules || (held.is_null() && rules.as_array().is_some_and(Vec::is_empty));
                if !same {
                    roles[index]["rules"] = rules;
                    (changed[index], again) = (true, true);
                }
            }
            if !again {
                break;
            }
        }
        for (role, _) in roles.iter().zip(changed).filter(|(_, changed)| *changed) {
            let name = role.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            api.replace(&format!("/apis/{GROUP}/v1/clusterroles/{}", encode(name)), role).await?;
        }
        Ok(None)
    }
}
