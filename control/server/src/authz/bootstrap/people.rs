//! The roles for people, `view`, `edit` and `admin`: each is made of the roles that carry its label, so that kinds that
//! are added to a cluster can be added to these roles too.

use serde_json::{Value, json};

use super::{ALL_VERBS, On, PolicyKind, READ, Row, WRITE, cluster_role, object};

const LABEL_PREFIX: &str = "rbac.authorization.k8s.io/aggregate-to-";

const APPS_OF_OLD: &str = "daemonsets deployments deployments/scale ingresses networkpolicies replicasets \
     replicasets/scale replicationcontrollers/scale";

/// Reading, but no secrets, and no roles, through which one could find secrets' readers.
const TO_VIEW: &[Row] = &[
    On(
        READ,
        "core",
        "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers \
         replicationcontrollers/scale serviceaccounts services services/status",
    ),
    On(
        READ,
        "core",
        "bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status \
         resourcequotas resourcequotas/status",
    ),
    On(READ, "core", "namespaces"),
    On(READ, "discovery.k8s.io", "endpointslices"),
    On(
        READ,
        "apps",
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status \
         replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
    ),
    On(READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
    On(READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
    On(READ, "extensions", APPS_OF_OLD),
    On(READ, "extensions", "daemonsets/status deployments/status ingresses/status replicasets/status"),
    On(READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    On(READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
    On(READ, "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
];

/// Whoever can run pods as a ServiceAccount can be it: hence impersonation.
const TO_EDIT: &[Row] = &[
    On(READ, "core", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
    On("impersonate", "core", "serviceaccounts"),
    On(WRITE, "core", "pods pods/attach pods/exec pods/portforward pods/proxy"),
    On("create", "core", "pods/eviction"),
    On(
        WRITE,
        "core",
        "configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets \
         serviceaccounts services services/proxy",
    ),
    On("create", "core", "serviceaccounts/token"),
    On(
        WRITE,
        "apps",
        "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets \
         statefulsets/scale",
    ),
    On(WRITE, "autoscaling", "horizontalpodautoscalers"),
    On(WRITE, "batch", "cronjobs jobs"),
    On(WRITE, "extensions", APPS_OF_OLD),
    On(WRITE, "extensions", "deployments/rollback"),
    On(WRITE, "policy", "poddisruptionbudgets"),
    On(WRITE, "networking.k8s.io", "ingresses networkpolicies"),
    On(ALL_VERBS, "coordination.k8s.io", "leases"),
    On(WRITE, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
];

const TO_ADMIN: &[Row] = &[
    On("create", "authorization.k8s.io", "localsubjectaccessreviews"),
    On(ALL_VERBS, "rbac.authorization.k8s.io", "rolebindings roles"),
];

/// The role, what only it has, and the role that it is a part of.
const LEVELS: [(&str, &[Row], Option<&str>); 3] =
    [("view", TO_VIEW, Some("edit")), ("edit", TO_EDIT, Some("admin")), ("admin", TO_ADMIN, None)];

/// The roles, those that are made of others with their rules, so that nobody waits for the first aggregation.
pub(super) fn roles() -> Vec<Value> {
    let mut roles: Vec<Value> = Vec::new();
    for (level, rows, _) in LEVELS {
        let mut part = cluster_role(&("", rows));
        part["metadata"]["name"] = json!(format!("system:aggregate-to-{level}"));
        part["metadata"]["labels"][format!("{LABEL_PREFIX}{level}")] = json!("true");
        roles.push(part);
    }
    roles.push(metrics_reader());
    for (level, _, part_of) in LEVELS {
        let mut role = object(PolicyKind::ClusterRole, "", level);
        if let Some(larger) = part_of {
            role["metadata"]["labels"][format!("{LABEL_PREFIX}{larger}")] = json!("true");
        }
        let label = format!("{LABEL_PREFIX}{level}");
        role["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
        role["rules"] = aggregate(&role, roles.iter()).unwrap_or_default();
        roles.push(role);
    }
    roles
}

/// Who may read anything may read what it uses; metrics-server's manifests have this role.
fn metrics_reader() -> Value {
    let mut role =
        cluster_role(&("system:aggregated-metrics-reader", &[On(READ, "metrics.k8s.io", "nodes pods")]));
    for (level, _, _) in LEVELS {
        role["metadata"]["labels"][format!("{LABEL_PREFIX}{level}")] = json!("true");
    }
    role
}

/// The rules that a ClusterRole is to have: those of all that its aggregation rule selects, by name, each once. `None`
/// when it has no such rule.
pub(crate) fn aggregate<'a>(role: &Value, all: impl Iterator<Item = &'a Value>) -> Option<Value> {
    let selectors = role.pointer("/aggregationRule/clusterRoleSelectors")?.as_array()?;
    let selectors: Vec<_> = selectors
        .iter()
        .filter_map(|selector| carrack_api::select::LabelSelector::from_value(Some(selector)).ok())
        .collect();
    let labels = |role: &'a Value| role.pointer("/metadata/labels");
    let mut parts: Vec<&Value> = all
        .filter(|part| part.pointer("/metadata/name") != role.pointer("/metadata/name"))
        .filter(|part| {
            let label = |key: &str| labels(part).and_then(|labels| labels.get(key)).and_then(Value::as_str);
            selectors.iter().any(|selector| selector.matches(label))
        })
        .collect();
    parts.sort_by_key(|part| part.pointer("/metadata/name").and_then(Value::as_str).map(str::to_owned));
    let mut rules: Vec<Value> = Vec::new();
    for rule in parts.iter().filter_map(|part| part.get("rules")?.as_array()).flatten() {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    Some(Value::Array(rules))
}
