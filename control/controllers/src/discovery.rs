//! Which kinds the API serves, for the controllers that treat all kinds alike.
//!
//! Discovery is asked for as a whole (aggregated discovery), which says of each group version whether what it tells is
//! current: behind some there is another server, and that may be away.

use std::collections::HashSet;

use http::Request;
use kube::Client;
use serde::Deserialize;

use crate::driver::LookError;
use crate::resource::Resource;

/// What is asked for.
const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// A kind, and what may be done with all its objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The kind.
    pub resource: Resource,
    /// Whether its objects can be deleted in one request.
    pub delete_collection: bool,
    /// Whether its objects can be watched.
    pub watch: bool,
}

/// What is known of the kinds that the API serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Those whose objects can be listed and deleted, each once, in the version that the server prefers.
    pub kinds: Vec<Kind>,
    /// Group versions, such as `metrics.k8s.io/v1beta1`, of which it is not known what they serve.
    pub failed: Vec<String>,
}

impl Found {
    /// Why not all is known, in upstream's words; `None` when all is.
    pub(crate) fn failure(&self) -> Option<String> {
        if self.failed.is_empty() {
            return None;
        }
        let each = self.failed.iter().map(|gv| format!("{gv}: stale GroupVersion discovery: {gv}"));
        let all = each.collect::<Vec<_>>().join(", ");
        Some(format!("unable to retrieve the complete list of server APIs: {all}"))
    }
}

/// Every kind whose objects can be listed and deleted.
///
/// # Errors
/// When nothing can be found out at all. Group versions whose server is away are in [`Found::failed`].
pub(crate) async fn deletable(client: &Client) -> Result<Found, LookError> {
    let mut groups = Vec::new();
    for path in ["/api", "/apis"] {
        let read = async {
            let request = Request::get(path).header("accept", ACCEPT).body(Vec::new());
            client.request::<List>(request.map_err(kube::Error::HttpError)?).await
        };
        let list = read.await.map_err(|source| LookError::Read {
            what: "the kinds that the API serves".into(),
            source: Box::new(source),
        })?;
        groups.extend(list.items);
    }
    Ok(found(&groups))
}

#[derive(Deserialize)]
struct List {
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    metadata: Named,
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Default, Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    resources: Vec<Entry>,
    #[serde(default)]
    freshness: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    resource: String,
    response_kind: Option<Response>,
    scope: String,
    #[serde(default)]
    verbs: Vec<String>,
}

#[derive(Deserialize)]
struct Response {
    kind: String,
}

fn found(groups: &[Group]) -> Found {
    let mut found = Found::default();
    for group in groups {
        let name = &group.metadata.name;
        // The version that the server prefers is first.
        let mut seen = HashSet::new();
        for version in &group.versions {
            if version.freshness == "Stale" {
                found.failed.push(format!("{name}/{}", version.version));
                continue;
            }
            let new = version.resources.iter().filter(|entry| seen.insert(&entry.resource));
            found.kinds.extend(new.filter_map(|entry| entry.kind(name, &version.version)));
        }
    }
    found.kinds.sort_by_key(|kind| kind.resource.full_name());
    found
}

impl Entry {
    fn kind(&self, group: &str, version: &str) -> Option<Kind> {
        let can = |verb: &str| self.verbs.iter().any(|one| one == verb);
        let kind = self.response_kind.as_ref()?.kind.clone();
        (can("list") && can("delete")).then(|| Kind {
            resource: Resource {
                group: group.to_owned().into(),
                version: version.to_owned().into(),
                kind: kind.into(),
                plural: self.resource.clone().into(),
                namespaced: self.scope == "Namespaced",
            },
            delete_collection: can("deletecollection"),
            watch: can("watch"),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_is_found_once_and_what_is_away_is_named() {
        let entry = |name: &str, kind: &str, verbs: &[&str]| json!({"resource": name, "scope": "Namespaced", "responseKind": {"kind": kind}, "verbs": verbs});
        let all = ["list", "delete", "watch", "deletecollection"];
        let list: List = serde_json::from_value(json!({"items": [
            {"metadata": {"creationTimestamp": null}, "versions": [{"version": "v1", "freshness": "Current",
                "resources": [entry("pods", "Pod", &all), entry("bindings", "Binding", &["create"])]}]},
            {"metadata": {"name": "autoscaling"}, "versions": [
                {"version": "v2", "resources": [entry("scalers", "Scaler", &all[..2])]},
                {"version": "v1", "resources": [entry("scalers", "Scaler", &all), entry("old", "Old", &all)]}]},
            {"metadata": {"name": "metrics.k8s.io"}, "versions": [
                {"version": "v1beta1", "freshness": "Stale", "resources": [entry("nodes", "N", &all)]}]},
        ]}))
        .unwrap();
        let found = found(&list.items);
        let lines: Vec<String> = found
            .kinds
            .iter()
            .map(|k| {
                format!(
                    "{} {} {} {}",
                    k.resource.full_name(),
                    k.resource.version,
                    k.watch,
                    k.delete_collection
                )
            })
            .collect();
        assert_eq!(
            lines,
            ["old.autoscaling v1 true true", "pods v1 true true", "scalers.autoscaling v2 false false"]
        );
        assert_eq!(found.failed, ["metrics.k8s.io/v1beta1"]);
        assert_eq!(
            found.failure().unwrap(),
            "unable to retrieve the complete list of server APIs: metrics.k8s.io/v1beta1: stale GroupVersion \
             discovery: metrics.k8s.io/v1beta1"
        );
        assert_eq!(Found::default().failure(), None);
    }
}
