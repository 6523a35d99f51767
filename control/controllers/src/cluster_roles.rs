//! Aggregated ClusterRoles: their rules are those of all roles that their selectors select.

use std::sync::Arc;

use carrack_client::Key;
use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use serde_json::json;

use crate::cache::{Caches, Feeds};
use crate::diff;
use crate::driver::{Controller, LookError};
use crate::plan::{Action, Plan};
use crate::queue::Queue;
use crate::resource::CLUSTER_ROLE;
use crate::select;

/// What the plan for one role is made from.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The aggregated role.
    pub role: Arc<ClusterRole>,
    /// Every role there is.
    pub all: Vec<Arc<ClusterRole>>,
}

/// The controller; its keys are roles.
pub struct ClusterRoles {
    caches: Arc<Caches>,
}

impl ClusterRoles {
    /// A controller that reads `caches`.
    #[must_use]
    pub fn new(caches: Arc<Caches>) -> Self {
        Self { caches }
    }

    /// Feeds `queue` with every aggregated role when any role changes: there are few, and aggregation may go over
    /// several.
    pub fn hook(caches: &Arc<Caches>, feeds: &mut Feeds, queue: &Arc<Queue>) {
        let (own, known) = (Arc::clone(queue), Arc::clone(caches));
        feeds.cluster_roles.push(Box::new(move |_| {
            for role in known.cluster_roles.all() {
                if role.aggregation_rule.is_some() {
                    own.add(Key::of(&role.metadata));
                }
            }
        }));
    }
}

/// Writes the rules that the selectors come to, if those are not what the role has.
#[must_use]
pub fn plan(snapshot: &Snapshot) -> Plan {
    let mut plan = Plan::none();
    let role = &snapshot.role;
    let Some(rule) = &role.aggregation_rule else { return plan };
    let mut all: Vec<&Arc<ClusterRole>> = snapshot.all.iter().collect();
    all.sort_by_key(|other| other.metadata.name.clone());
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in rule.cluster_role_selectors.iter().flatten() {
        let selected = all.iter().filter(|other| {
            other.metadata.name != role.metadata.name
                && select::matches(selector, other.metadata.labels.as_ref())
        });
        for own in selected.flat_map(|other| other.rules.iter().flatten()) {
            if !rules.contains(own) {
                rules.push(own.clone());
            }
        }
    }
    if rules == role.rules.clone().unwrap_or_default() {
        return plan;
    }
    plan.note(format!("{} rules", rules.len()));
    let body = json!({ "metadata": diff::guard(&role.metadata), "rules": rules });
    plan.push(Action::merge(CLUSTER_ROLE, Key::of(&role.metadata), "", body).missing_ok());
    plan
}

impl Controller for ClusterRoles {
    type Snapshot = Snapshot;
    const NAME: &'static str = "clusterrole-aggregation";
    // Roles aggregate each other: one after the other, each from what the last one left.
    const WORKERS: usize = 1;

    async fn snapshot(&self, key: &Key) -> Result<Option<Snapshot>, LookError> {
        let Some(role) = self.caches.cluster_roles.get(key) else { return Ok(None) };
        Ok(Some(Snapshot { role, all: self.caches.cluster_roles.all() }))
    }

    fn plan(&self, snapshot: &Snapshot, _now: Timestamp) -> Plan {
        plan(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::plan::Verb;

    fn role(name: &str, label: Option<&str>, verbs: &[&str], selects: Option<&str>) -> Arc<ClusterRole> {
        let labels: Value = label.map_or_else(|| json!({}), |label| json!({ label: "true" }));
        let rules: Vec<Value> = verbs
            .iter()
            .map(|verb| json!({"verbs": [verb], "apiGroups": [""], "resources": ["pods"]}))
            .collect();
        let rule = selects.map(|label| json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]}));
        let role = json!({
            "metadata": {"name": name, "labels": labels, "uid": "u", "resourceVersion": "1"},
            "rules": rules, "aggregationRule": rule,
        });
        Arc::new(serde_json::from_value(role).unwrap())
    }

    fn verbs(plan: &Plan) -> Option<Vec<String>> {
        let Verb::Patch { body, .. } = &plan.actions().next()?.verb else { panic!("{plan:?}") };
        let rules: Vec<PolicyRule> = serde_json::from_value(body["rules"].clone()).unwrap();
        Some(rules.into_iter().map(|rule| rule.verbs.join("+")).collect())
    }

    #[test]
    fn the_rules_are_those_of_the_selected_roles_each_once() {
        let others =
            || vec![role("b", Some("x"), &["get", "list"], None), role("a", Some("x"), &["list"], None)];
        for (before, more, expected) in [
            (&[][..], None, Some(vec!["list", "get"])),
            (&["list", "get"][..], None, None),
            (&["list", "get", "own"][..], None, Some(vec!["list", "get"])),
            (&["list", "get"][..], Some(role("c", Some("y"), &["watch"], None)), None),
            (
                &["list", "get"][..],
                Some(role("c", Some("x"), &["watch"], None)),
                Some(vec!["list", "get", "watch"]),
            ),
        ] {
            let own = role("sum", Some("x"), before, Some("x"));
            let mut all = others();
            all.extend(more);
            all.push(Arc::clone(&own));
            let plan = plan(&Snapshot { role: own, all });
            let expected = expected.map(|all| all.into_iter().map(str::to_owned).collect());
            assert_eq!(verbs(&plan), expected, "{before:?}");
        }
        let plain = role("plain", None, &["get"], None);
        assert_eq!(plan(&Snapshot { role: plain, all: others() }), Plan::none());
    }
}
