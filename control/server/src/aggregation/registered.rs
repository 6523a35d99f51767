//! The APIServices of custom resources: one for each group and version that is served, made and taken away as definitions
//! come and go. Upstream: `crdregistration` and `autoregister` controllers.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use carrack_api::discovery::CUSTOM_PRIORITY;
use carrack_api::{Catalogue, Resource, meta};
use carrack_store::{Watch, Watcher};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::authn::{Objects, text};
use crate::server::{ApiServer, Inner};
use crate::start::{StartError, row};
use crate::{ApiError, StoreObjects};

const GROUP: &str = "apiregistration.k8s.io";
const PLURAL: &str = "apiservices";
const COLLECTION: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
/// Says that the server looks after an APIService; who wants to do so himself takes it away.
const LABEL: &str = "kube-aggregator.kubernetes.io/automanaged";
/// Upstream's figure: versions come by their names.
const VERSION_PRIORITY: i64 = 100;
/// Changes come in groups: this long is waited for the next one.
const SETTLE: Duration = Duration::from_millis(100);
/// Wait before what failed is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What is to be done about one APIService.
#[derive(Debug, PartialEq)]
enum Step {
    Create(Value),
    Replace(Value),
    Remove(Value),
}

/// The APIServices that custom resources want, by their names; groups and versions of built-in kinds have theirs.
fn wanted<'r>(custom: impl Iterator<Item = &'r Resource>) -> BTreeMap<String, Value> {
    let builtin = Catalogue::builtin();
    let is_own = |row: &&Resource| {
        !builtin.rows().any(|other| (other.group, other.version) == (row.group, row.version))
    };
    let service = |row: &Resource| {
        let name = format!("{}.{}", row.version, row.group);
        let service = json!({
            "metadata": {"name": name, "labels": {LABEL: "true"}},
            "spec": {
                "group": row.group, "version": row.version,
                "groupPriorityMinimum": CUSTOM_PRIORITY, "versionPriority": VERSION_PRIORITY,
            },
        });
        (name, service)
    };
    custom.filter(is_own).map(service).collect()
}

/// How to come from the APIServices that are there to those that are wanted. Those without the label are left alone.
fn plan(there: &[Arc<Value>], mut wanted: BTreeMap<String, Value>) -> Vec<Step> {
    let mut steps = Vec::new();
    for found in there {
        let want = wanted.remove(meta::name(found));
        let managed = meta::labels(found).and_then(|labels| labels.get(LABEL)) == Some(&json!("true"));
        match want {
            _ if !managed => {}
            Some(want) if found["spec"] == want["spec"] => {}
            Some(want) => {
                let mut new = (**found).clone();
                new["spec"] = want["spec"].clone();
                steps.push(Step::Replace(new));
            }
            None => steps.push(Step::Remove((**found).clone())),
        }
    }
    steps.extend(wanted.into_values().map(Step::Create));
    steps
}

/// Keeps them right until the server ends.
pub(crate) async fn keep_registered(server: Weak<Inner>, end: CancellationToken) {
    let Some(mut kinds) = server.upgrade().map(|server| server.kinds.changes()) else { return };
    let mut services = None;
    loop {
        let Some(inner) = server.upgrade() else { return };
        if services.is_none() {
            // What is missed until then is in the state that is read next.
            services = changes(&inner);
        }
        let looked = look(&ApiServer { inner }).await;
        let again = services.is_none() || looked.is_err();
        if let Err(error) = looked {
            tracing::warn!(%error, "cannot look after the APIServices of custom resources");
        }
        tokio::select! {
            () = end.cancelled() => return,
            changed = kinds.changed() => if changed.is_err() { return },
            changed = next(&mut services) => if !changed { services = None },
            () = tokio::time::sleep(AGAIN_AFTER), if again => {}
        }
        tokio::time::sleep(SETTLE).await;
    }
}

/// The changes of APIServices.
fn changes(server: &Inner) -> Option<Watcher> {
    let prefix = row(GROUP, PLURAL)?.storage_prefix;
    let watch = Watch { prev_kv: false, ..Watch::prefix(prefix) };
    server
        .config
        .store
        .watch(watch)
        .inspect_err(|error| tracing::warn!(%error, "cannot watch APIServices"))
        .ok()
}

/// Waits for a change; false when the watch has ended. Without a watch there is nothing to wait for.
async fn next(services: &mut Option<Watcher>) -> bool {
    match services {
        Some(watcher) => matches!(watcher.next().await, Some(Ok(_))),
        None => std::future::pending().await,
    }
}

async fn look(server: &ApiServer) -> Result<(), ApiError> {
    let there = StoreObjects::new(server.store().clone()).list(GROUP, PLURAL, "").await?;
    let kinds = server.inner.kinds.now();
    for step in plan(&there, wanted(kinds.custom().iter().map(|row| &**row))) {
        let path = |service: &Value| format!("{COLLECTION}/{}", text(service, "/metadata/name"));
        let done: Result<(), StartError> = match &step {
            Step::Create(service) => server.ensure(COLLECTION, service.clone(), |_| None).await,
            Step::Replace(service) => server.replace(&path(service), service).await,
            Step::Remove(service) => server.remove(&path(service), service).await,
        };
        done.map_err(ApiError::internal)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(name: &str, label: Option<&str>, priority: i64) -> Arc<Value> {
        let (version, group) = name.split_once('.').unwrap();
        let mut service = json!({
            "metadata": {"name": name, "resourceVersion": "7"},
            "spec": {"group": group, "version": version, "groupPriorityMinimum": priority, "versionPriority": 100},
        });
        if let Some(label) = label {
            service["metadata"]["labels"] = json!({LABEL: label});
        }
        Arc::new(service)
    }

    fn custom(group: &str, version: &str) -> Arc<Resource> {
        let definition = json!({"spec": {
            "group": group, "scope": "Cluster", "names": {"plural": "tabs", "kind": "Tab"},
            "versions": [{"name": version, "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}],
        }});
        Arc::new(carrack_api::custom::rows(&definition).unwrap().pop().unwrap())
    }

    fn names(steps: &[Step]) -> Vec<String> {
        let name = |service: &Value| meta::name(service).to_owned();
        let said = steps.iter().map(|step| match step {
            Step::Create(service) => format!("create {}", name(service)),
            Step::Replace(service) => format!("replace {}", name(service)),
            Step::Remove(service) => format!("remove {}", name(service)),
        });
        said.collect()
    }

    #[test]
    fn what_is_served_and_nothing_else_is_registered() {
        let rows = [custom("a.io", "v1"), custom("a.io", "v1"), custom("b.io", "v1"), custom("apps", "v1")];
        let wanted = || wanted(rows.iter().map(|row| &**row));
        assert_eq!(names(&plan(&[], wanted())), ["create v1.a.io", "create v1.b.io"]);
        let Step::Create(first) = &plan(&[], wanted())[0] else { panic!() };
        assert_eq!(first["spec"]["groupPriorityMinimum"], 1000);
        assert_eq!(first["metadata"]["labels"][LABEL], "true");
        let found = [
            there("v1.a.io", Some("true"), 1000),
            there("v1.b.io", Some("true"), 5),
            there("v1.gone.io", Some("true"), 1000),
            there("v1.apps", Some("onstart"), 17800),
            there("v1.own.io", None, 9),
        ];
        assert_eq!(names(&plan(&found, wanted())), ["replace v1.b.io", "remove v1.gone.io"]);
        // Who took the label away looks after it himself.
        assert_eq!(names(&plan(&[there("v1.a.io", None, 5)], wanted())), ["create v1.b.io"]);
    }
}
