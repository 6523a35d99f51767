//! How the parts of the control plane are, as ComponentStatus objects: the scheduler and the controllers by the Leases
//! that they renew for as long as they work, the store by a read that its leader has to confirm.

use std::time::Duration;

use carrack_api::find;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::authn::{Objects, text};
use crate::registry::Registry;
use crate::{ApiError, StoreObjects};

/// Names as people know them, and the Leases in kube-system.
const LEADERS: [(&str, &str); 2] =
    [("controller-manager", "carrack-controllers"), ("scheduler", "carrack-scheduler")];
/// The store's name, as if it were etcd.
const STORE: &str = "etcd-0";
/// How long the store may take to confirm a read.
const PATIENCE: Duration = Duration::from_secs(5);

/// All of them, in the order of their names.
pub(crate) async fn all(registry: &Registry) -> Result<Vec<Value>, ApiError> {
    let objects = StoreObjects::new(registry.store().clone());
    let now = Timestamp::now();
    let mut all = Vec::new();
    let store = store(registry).await;
    for (name, lease) in LEADERS {
        // A store that does not answer tells nothing of who renewed what.
        let state = match &store {
            Ok(()) => {
                let found = objects.get("coordination.k8s.io", "leases", "kube-system", lease).await?;
                leads(found.as_deref(), lease, now).map_err(|why| ("False", why))
            }
            Err(_) => Err(("Unknown", format!("Lease kube-system/{lease} cannot be read from the store"))),
        };
        all.push(component(name, state));
    }
    all.insert(1, component(STORE, store.map_err(|why| ("False", why))));
    Ok(all)
}

/// Whether the store can be written, and read as of now.
async fn store(registry: &Registry) -> Result<(), String> {
    let status = registry.store().status();
    if let Some(why) = status.failed {
        return Err(why);
    }
    if let Some(shortage) = status.shortage {
        return Err(shortage.to_string());
    }
    let Some(namespaces) = find("", "v1", "namespaces") else { return Ok(()) };
    match tokio::time::timeout(PATIENCE, registry.get(namespaces, "", "kube-system")).await {
        Ok(read) => read.map(|_| ()).map_err(|error| error.message.clone()),
        Err(_) => Err(format!("a read was not confirmed within {} s", PATIENCE.as_secs())),
    }
}

/// Whether somebody holds the Lease now.
fn leads(lease: Option<&Value>, name: &str, now: Timestamp) -> Result<(), String> {
    let missing = || format!("Lease kube-system/{name} is not there: no candidate has started yet");
    let lease = lease.ok_or_else(missing)?;
    let holder = text(lease, "/spec/holderIdentity");
    if holder.is_empty() {
        return Err(format!("nobody holds Lease kube-system/{name}"));
    }
    let renewed: Option<Timestamp> = text(lease, "/spec/renewTime").parse().ok();
    let seconds = lease.pointer("/spec/leaseDurationSeconds").and_then(Value::as_i64).unwrap_or_default();
    let until = renewed.and_then(|at| at.checked_add(SignedDuration::from_secs(seconds)).ok());
    match until {
        Some(until) if now <= until => Ok(()),
        _ => Err(format!(
            "{holder} holds Lease kube-system/{name} and has not renewed it since {}",
            text(lease, "/spec/renewTime")
        )),
    }
}

/// The object; upstream's message where all is well.
fn component(name: &str, state: Result<(), (&'static str, String)>) -> Value {
    let (status, message) = match state {
        Ok(()) => ("True", "ok".to_owned()),
        Err((status, why)) => (status, why),
    };
    json!({
        "kind": "ComponentStatus",
        "apiVersion": "v1",
        "metadata": {"name": name},
        "conditions": [{"type": "Healthy", "status": status, "message": message}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leads_has_renewed_in_time() {
        let now: Timestamp = "2026-01-01T00:00:15.5Z".parse().unwrap();
        let lease = |holder: &str, renewed: &str| json!({"spec": {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 15}});
        let said = |lease: Option<Value>| leads(lease.as_ref(), "l", now);
        assert_eq!(said(Some(lease("a", "2026-01-01T00:00:01.000000Z"))), Ok(()));
        let late = said(Some(lease("a", "2026-01-01T00:00:00.400000Z"))).unwrap_err();
        assert!(late.contains("a holds Lease kube-system/l and has not renewed it since 2026"), "{late}");
        assert!(said(Some(lease("", "2026-01-01T00:00:15Z"))).unwrap_err().contains("nobody holds"));
        assert!(said(Some(lease("a", ""))).is_err());
        assert!(said(None).unwrap_err().contains("is not there"));
    }
}
