//! The FlowSchemas and PriorityLevelConfigurations that every cluster has, with upstream's values, and the rules by
//! which they are kept.

use serde_json::{Value, json};

const GROUP: &str = "flowcontrol.apiserver.k8s.io/v1";
/// Says whether the server (`true`) or people (`false`) decide what an object of this table says.
const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// Name, shares, lendable percent, and queues with hand size; none: who finds no seat is turned away.
type Level = (&'static str, i32, i32, Option<(i32, i32)>);

const LEVELS: &[Level] = &[
    ("catch-all", 5, 0, None),
    ("system", 30, 33, Some((64, 6))),
    ("node-high", 40, 25, Some((64, 6))),
    ("leader-election", 10, 0, Some((16, 4))),
    ("workload-high", 40, 50, Some((128, 6))),
    ("workload-low", 100, 90, Some((128, 6))),
    ("global-default", 20, 50, Some((128, 6))),
];

/// Whom a schema is about.
enum Who {
    Groups(&'static [&'static str]),
    /// Users, and accounts in kube-system.
    System(&'static [&'static str], &'static [&'static str]),
}
use Who::{Groups, System};

/// What a schema is about.
enum What {
    Everything,
    /// Verbs, group, resources, whether also in no namespace.
    On(&'static [(&'static [&'static str], &'static str, &'static [&'static str], bool)]),
    /// GET of these paths.
    Paths(&'static [&'static str]),
}
use What::{Everything, On, Paths};

struct Row(&'static str, &'static str, i32, &'static str, Who, What);

const ALL: &[&str] = &["*"];
const ELECT: &[&str] = &["get", "create", "update"];
const EVERYBODY: &[&str] = &["system:unauthenticated", "system:authenticated"];
const LEASES: What = On(&[(ELECT, "coordination.k8s.io", &["leases"], false)]);
const MANAGER: &str = "system:kube-controller-manager";
const SCHEDULER: &str = "system:kube-scheduler";

/// Name, level, precedence, distinguisher, who, what.
const SCHEMAS: &[Row] = &[
    Row("exempt", "exempt", 1, "", Groups(&["system:masters"]), Everything),
    Row("probes", "exempt", 2, "", Groups(EVERYBODY), Paths(&["/healthz", "/readyz", "/livez"])),
    Row(
        "system-leader-election",
        "leader-election",
        100,
        "ByUser",
        System(&[MANAGER, SCHEDULER], ALL),
        LEASES,
    ),
    Row(
        "endpoint-controller",
        "workload-high",
        150,
        "ByUser",
        System(&[MANAGER], &["endpoint-controller", "endpointslicemirroring-controller"]),
        On(&[(ELECT, "", &["endpoints"], false)]),
    ),
    Row("workload-leader-election", "leader-election", 200, "ByUser", System(&[], ALL), LEASES),
    Row(
        "system-node-high",
        "node-high",
        400,
        "ByUser",
        Groups(&["system:nodes"]),
        On(&[(ALL, "", &["nodes", "nodes/status"], true), (ALL, "coordination.k8s.io", &["leases"], false)]),
    ),
    Row("system-nodes", "system", 500, "ByUser", Groups(&["system:nodes"]), Everything),
    Row("kube-controller-manager", "workload-high", 800, "ByNamespace", System(&[MANAGER], &[]), Everything),
    Row("kube-scheduler", "workload-high", 800, "ByNamespace", System(&[SCHEDULER], &[]), Everything),
    Row("kube-system-service-accounts", "workload-high", 900, "ByNamespace", System(&[], ALL), Everything),
    Row("service-accounts", "workload-low", 9000, "ByUser", Groups(&["system:serviceaccounts"]), Everything),
    Row("global-default", "global-default", 9900, "ByUser", Groups(EVERYBODY), Everything),
    Row("catch-all", "catch-all", 10_000, "ByUser", Groups(EVERYBODY), Everything),
];

/// Objects that nobody but the server decides on.
fn is_mandatory(name: &str) -> bool {
    matches!(name, "exempt" | "catch-all")
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": GROUP, "kind": kind,
        "metadata": {"name": name, "annotations": {AUTO_UPDATE: "true"}},
        "spec": spec,
    })
}

/// The priority levels.
pub(super) fn levels() -> Vec<Value> {
    let exempt = json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}});
    let limited = LEVELS.iter().map(|(name, shares, lendable, queues)| {
        let response = match queues {
            None => json!({"type": "Reject"}),
            Some((queues, hand)) => json!({
                "type": "Queue",
                "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 50},
            }),
        };
        let limited = json!({
            "nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response,
        });
        object("PriorityLevelConfiguration", name, json!({"type": "Limited", "limited": limited}))
    });
    std::iter::once(object("PriorityLevelConfiguration", "exempt", exempt)).chain(limited).collect()
}

/// The flow schemas.
pub(super) fn schemas() -> Vec<Value> {
    SCHEMAS.iter().map(|Row(name, level, precedence, by, who, what)| {
        let mut rules = json!({"subjects": subjects(who)});
        let on = |verbs: &[&str], group: &str, resources: &[&str], cluster: bool| {
            let mut rule = json!({
                "verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"],
            });
            if cluster {
                rule["clusterScope"] = json!(true);
            }
            rule
        };
        let paths = |verbs: &[&str], paths: &[&str]| json!([{"verbs": verbs, "nonResourceURLs": paths}]);
        match what {
            Everything => {
                rules["resourceRules"] = json!([on(ALL, "*", ALL, true)]);
                rules["nonResourceRules"] = paths(ALL, ALL);
            }
            On(rows) => {
                let rows = rows.iter().map(|(verbs, group, resources, cluster)| on(verbs, group, resources, *cluster));
                rules["resourceRules"] = rows.collect();
            }
            Paths(list) => rules["nonResourceRules"] = paths(&["get"], list),
        }
        let mut spec = json!({
            "priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": [rules],
        });
        if !by.is_empty() {
            spec["distinguisherMethod"] = json!({"type": by});
        }
        object("FlowSchema", name, spec)
    }).collect()
}

fn subjects(who: &Who) -> Value {
    match who {
        Groups(names) => names.iter().map(|name| json!({"kind": "Group", "group": {"name": name}})).collect(),
        System(users, accounts) => {
            let users = users.iter().map(|name| json!({"kind": "User", "user": {"name": name}}));
            let accounts = accounts.iter().map(|name| {
                json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": name}})
            });
            users.chain(accounts).collect()
        }
    }
}

/// What an object that is there becomes; `None` when it is fine, or not the server's to decide on: mandatory objects
/// are always the server's, others as their annotation says, or while nobody has changed them.
pub(super) fn amend(found: &Value, wanted: &Value) -> Option<Value> {
    let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
    let annotation = found["metadata"]["annotations"][AUTO_UPDATE].as_str();
    let ours = match annotation {
        _ if is_mandatory(name) => true,
        Some("true") => true,
        Some("false") => false,
        _ => found["metadata"]["generation"] == 1,
    };
    let mut spec = wanted["spec"].clone();
    if name == "exempt" && found["spec"]["exempt"].is_object() {
        // How much of what it does not use is lent, people may say.
        spec["exempt"] = found["spec"]["exempt"].clone();
    }
    if !ours || (found["spec"] == spec && annotation.is_some()) {
        return None;
    }
    let mut new = found.clone();
    new["spec"] = spec;
    if annotation.is_none() || is_mandatory(name) {
        new["metadata"]["annotations"][AUTO_UPDATE] = json!("true");
    }
    (new != *found).then_some(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_decide_where_they_may() {
        let levels = levels();
        let find = |name: &str| levels.iter().find(|l| l["metadata"]["name"] == name).unwrap();
        for (name, annotation, changed) in
            [("system", "true", true), ("system", "false", false), ("exempt", "false", true)]
        {
            let mut found = find(name).clone();
            assert_eq!(amend(&found, find(name)), None, "{name}");
            found["spec"]["type"] = json!("Other");
            found["metadata"]["annotations"][AUTO_UPDATE] = json!(annotation);
            let amended = amend(&found, find(name));
            assert_eq!(amended.is_some(), changed, "{name} {annotation}");
            if let Some(amended) = amended {
                assert_eq!(amended["spec"], find(name)["spec"]);
            }
        }
    }

    #[test]
    fn what_the_exempt_level_lends_is_left_to_people() {
        let wanted = &levels()[0];
        let mut found = wanted.clone();
        found["spec"]["exempt"]["lendablePercent"] = json!(50);
        assert_eq!(amend(&found, wanted), None);
        found["spec"]["type"] = json!("Limited");
        let amended = amend(&found, wanted).unwrap();
        assert_eq!(
            (&amended["spec"]["type"], &amended["spec"]["exempt"]["lendablePercent"]),
            (&json!("Exempt"), &json!(50))
        );
    }

    #[test]
    fn the_kinds_rules_take_all_of_them() {
        for (plural, objects) in [("flowschemas", schemas()), ("prioritylevelconfigurations", levels())] {
            let row = carrack_api::find("flowcontrol.apiserver.k8s.io", "v1", plural).unwrap();
            for mut object in objects {
                let before = object.clone();
                row.strategy().default(&mut object);
                assert_eq!(
                    object, before,
                    "nothing is left to defaults, or it would be written again and again"
                );
                assert!(row.strategy().validate_create(&object).is_empty(), "{object}");
            }
        }
    }
}
