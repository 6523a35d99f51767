//! Revisions: which replica set is which, and the annotations by which `kubectl rollout` reads the history.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;

use super::hash;

/// The revision of a deployment or of a replica set.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
/// Earlier revisions of a replica set that was rolled back to, separated by commas.
pub(super) const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// The deployment's replicas when the set was last scaled.
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// The deployment's replicas with surge when the set was last scaled.
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";

/// The history annotation is cut to this many characters, the oldest first.
const HISTORY_LIMIT: usize = 2000;

/// Annotations of a deployment that its replica sets do not get.
const OWN: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];

/// Annotations of an object.
pub(super) type Annotations = BTreeMap<String, String>;

/// The revision in `annotations`; 0 when there is none.
pub(super) fn of(annotations: Option<&Annotations>) -> i64 {
    annotations.and_then(|a| a.get(REVISION)).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// A number in an annotation of a replica set.
pub(super) fn number(annotations: Option<&Annotations>, name: &str) -> Option<i32> {
    annotations?.get(name)?.parse().ok()
}

/// Whether two templates are the same but for the hash label.
pub(super) fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    a.spec == b.spec && {
        let bare = |template: &PodTemplateSpec| {
            let mut meta = template.metadata.clone().unwrap_or_default();
            if let Some(labels) = &mut meta.labels {
                labels.remove(hash::LABEL);
            }
            meta.labels = meta.labels.filter(|l| !l.is_empty());
            meta.annotations = meta.annotations.filter(|a| !a.is_empty());
            // `null` as Go clients write it; a template has no creation time.
            meta.creation_timestamp = None;
            meta
        };
        bare(a) == bare(b)
    }
}

/// The annotations that the set of `deployment`'s template has to have as revision `revision`, given those that it
/// has.
pub(super) fn annotations(deployment: &Deployment, have: Option<&Annotations>, revision: i64) -> Annotations {
    let mut annotations = have.cloned().unwrap_or_default();
    for (name, value) in deployment.metadata.annotations.iter().flatten() {
        if !OWN.contains(&name.as_str()) {
            annotations.insert(name.clone(), value.clone());
        }
    }
    let current = of(have);
    if current < revision {
        if current > 0 {
            let history = annotations.get(HISTORY).map(String::as_str);
            let longer = longer_history(history, current);
            annotations.insert(HISTORY.into(), longer);
        }
        annotations.insert(REVISION.into(), revision.to_string());
    }
    annotations
}

fn longer_history(history: Option<&str>, revision: i64) -> String {
    let mut all: Vec<&str> = history.unwrap_or_default().split(',').filter(|r| !r.is_empty()).collect();
    let newest = revision.to_string();
    all.push(&newest);
    while all.len() > 1 && all.iter().map(|r| r.len() + 1).sum::<usize>() > HISTORY_LIMIT {
        all.remove(0);
    }
    all.join(",")
}

/// The set whose template is the deployment's: the oldest, if several are.
pub(super) fn current<'a>(
    deployment: &Deployment,
    sets: impl Iterator<Item = &'a ReplicaSet>,
) -> Option<&'a ReplicaSet> {
    let wanted = &deployment.spec.as_ref()?.template;
    let same = sets.filter(|set| {
        let template = set.spec.as_ref().and_then(|s| s.template.as_ref());
        template.is_some_and(|template| same_template(template, wanted))
    });
    same.min_by(|a, b| older_first(a, b))
}

/// Orders by age, then by name.
pub(super) fn older_first(a: &ReplicaSet, b: &ReplicaSet) -> std::cmp::Ordering {
    let age = |set: &ReplicaSet| set.metadata.creation_timestamp.clone();
    age(a).cmp(&age(b)).then_with(|| a.metadata.name.cmp(&b.metadata.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_keeps_the_newest_revisions() {
        assert_eq!(longer_history(None, 1), "1");
        assert_eq!(longer_history(Some("1,3"), 5), "1,3,5");
        let long = (1..600).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let cut = longer_history(Some(&long), 600);
        assert!(cut.len() <= HISTORY_LIMIT, "{}", cut.len());
        assert!(cut.ends_with(",599,600") && !cut.starts_with("1,"), "{cut}");
    }
}
