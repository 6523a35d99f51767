//! Tells the API server a pod's status, newest first: a status that was overtaken before it was sent is never sent. It
//! tries until the server has taken it or the pod is gone, so that a server that is away loses nothing.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::status::PASSING;

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// What is to be told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Report {
    /// The status; none before the first.
    pub status: Option<PodStatus>,
    /// Everything of the pod is gone from the node: the object may go too.
    pub removed: bool,
}

/// Which pod.
#[derive(Clone, Debug)]
pub(crate) struct PodKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid: another pod of that name is none of ours.
    pub uid: String,
}

/// Sends what `reports` says until it says that the pod is removed, or its sender is dropped.
pub(crate) async fn run(client: kube::Client, key: PodKey, mut reports: watch::Receiver<Report>) {
    let api: Api<Pod> = Api::namespaced(client, &key.namespace);
    let mut sent: Option<PodStatus> = None;
    let mut delay = RETRY_FIRST;
    loop {
        let report = reports.borrow_and_update().clone();
        match send(&api, &key, &report, &mut sent).await {
            Ok(()) if report.removed => return,
            Ok(()) => {
                delay = RETRY_FIRST;
                if reports.changed().await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(pod = key.name, %error, "the status of a pod was not taken; trying again");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(RETRY_MAX);
            }
        }
    }
}

async fn send(
    api: &Api<Pod>,
    key: &PodKey,
    report: &Report,
    sent: &mut Option<PodStatus>,
) -> Result<(), kube::Error> {
    if report.status.is_some() && *sent != report.status {
        let mut patch = json!({ "metadata": { "uid": key.uid }, "status": report.status });
        drop_passed(&mut patch);
        replace_addresses(&mut patch);
        match api.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch)).await {
            Ok(_) => sent.clone_from(&report.status),
            Err(error) if is_gone(&error) => sent.clone_from(&report.status),
            Err(error) => return Err(error),
        }
    }
    if report.removed {
        let uid = Preconditions { uid: Some(key.uid.clone()), resource_version: None };
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(uid),
            ..DeleteParams::default()
        };
        match api.delete(&key.name, &params).await {
            Ok(_) => {}
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Conditions are merged by their type: those that hold no more have to be named to go.
fn drop_passed(patch: &mut Value) {
    let conditions = patch.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
    if let Some(conditions) = conditions {
        let gone = PASSING.iter().filter(|kind| !conditions.iter().any(|c| c["type"] == **kind));
        let gone: Vec<Value> = gone.map(|kind| json!({ "$patch": "delete", "type": kind })).collect();
        conditions.extend(gone);
    }
}

/// Addresses are merged as well: those of a sandbox that is gone, or that the node had before, are not to stay.
fn replace_addresses(patch: &mut Value) {
    for field in ["podIPs", "hostIPs"] {
        if let Some(addresses) = patch["status"].get_mut(field).and_then(Value::as_array_mut) {
            addresses.push(json!({ "$patch": "replace" }));
        }
    }
}

/// The pod does not exist any more (404), or one of another uid has taken its name (409).
fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404 || status.code == 409)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_take_the_place_of_those_before() {
        let mut patch = json!({ "status": { "hostIPs": [{ "ip": "10.0.0.1" }] } });
        replace_addresses(&mut patch);
        let addresses = json!([{ "ip": "10.0.0.1" }, { "$patch": "replace" }]);
        assert_eq!(patch, json!({ "status": { "hostIPs": addresses } }));
    }

    #[test]
    fn conditions_that_have_passed_are_named_to_go() {
        let holds = json!({ "type": "PodResizePending", "status": "True" });
        let mut patch = json!({ "status": { "conditions": [{ "type": "Ready" }, holds] } });
        drop_passed(&mut patch);
        replace_addresses(&mut patch);
        let gone = json!({ "$patch": "delete", "type": "PodResizeInProgress" });
        assert_eq!(patch["status"]["conditions"], json!([{ "type": "Ready" }, holds, gone]));
    }
}
