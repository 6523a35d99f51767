//! The roles and bindings that every cluster begins with, as a table, and how they are kept.
//!
//! Names and meaning are upstream's. One thing differs: the controllers run as one identity, so that their roles are
//! one. `system:node` is bound to nobody: the Node authorizer judges by its rules.

use serde_json::{Map, Value, json};

use super::policy::{GROUP, PolicyKind};

const ALL: &[&str] = &["*"];
const CORE: &[&str] = &[""];
const APPS: &[&str] = &["apps"];
const BATCH: &[&str] = &["batch"];
const EVENTS: &[&str] = &["", "events.k8s.io"];
const DISCOVERY: &[&str] = &["discovery.k8s.io"];
const NETWORKING: &[&str] = &["networking.k8s.io"];
const STORAGE: &[&str] = &["storage.k8s.io"];
const COORDINATION: &[&str] = &["coordination.k8s.io"];
const AUTHENTICATION: &[&str] = &["authentication.k8s.io"];
const AUTHORIZATION: &[&str] = &["authorization.k8s.io"];
const AUTOSCALING: &[&str] = &["autoscaling"];
const POLICY: &[&str] = &["policy"];
const RBAC: &[&str] = &[GROUP];
const CERTIFICATES: &[&str] = &["certificates.k8s.io"];
const DEVICES: &[&str] = &["resource.k8s.io"];

const GET: &[&str] = &["get"];
const CREATE: &[&str] = &["create"];
const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
const READ_WRITE: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const CHANGE: &[&str] = &["patch", "update"];
const RECORD: &[&str] = &["create", "patch", "update"];

/// What one row of a role allows.
enum Row {
    /// Verbs on resources of groups.
    On(&'static [&'static str], &'static [&'static str], &'static [&'static str]),
    /// Verbs on resources of a group, of these names alone.
    Named(&'static [&'static str], &'static [&'static str], &'static [&'static str], &'static [&'static str]),
    /// Verbs on paths.
    At(&'static [&'static str], &'static [&'static str]),
}
use Row::{At, Named, On};

const HEALTH: &[&str] = &["/healthz", "/livez", "/readyz", "/version", "/version/"];

const SIGNERS: &[&str] = &["signers"];
const APPROVE: &[&str] = &["approve"];
const APPROVE_CLIENT: &[Row] =
    &[Named(APPROVE, CERTIFICATES, SIGNERS, &["kubernetes.io/kube-apiserver-client"])];
const APPROVE_KUBELET_CLIENT: &[Row] =
    &[Named(APPROVE, CERTIFICATES, SIGNERS, &["kubernetes.io/kube-apiserver-client-kubelet"])];
const APPROVE_KUBELET_SERVING: &[Row] =
    &[Named(APPROVE, CERTIFICATES, SIGNERS, &["kubernetes.io/kubelet-serving"])];

/// Every ClusterRole but the three for people, with its rows.
const SYSTEM_ROLES: &[(&str, &[Row])] = &[
    ("cluster-admin", &[On(ALL, ALL, ALL), At(ALL, ALL)]),
    (
        "system:discovery",
        &[At(
            GET,
            &[
                "/api",
                "/api/*",
                "/apis",
                "/apis/*",
                "/healthz",
                "/livez",
                "/openapi",
                "/openapi/*",
                "/readyz",
                "/version",
                "/version/",
            ],
        )],
    ),
    ("system:public-info-viewer", &[At(GET, HEALTH)]),
    (
        "system:basic-user",
        &[
            On(CREATE, AUTHORIZATION, &["selfsubjectaccessreviews", "selfsubjectrulesreviews"]),
            On(CREATE, AUTHENTICATION, &["selfsubjectreviews"]),
        ],
    ),
    (
        "system:service-account-issuer-discovery",
        &[At(
            GET,
            &[
                "/.well-known/openid-configuration",
                "/.well-known/openid-configuration/",
                "/openid/v1/jwks",
                "/openid/v1/jwks/",
            ],
        )],
    ),
    (
        "system:auth-delegator",
        &[
            On(CREATE, AUTHENTICATION, &["tokenreviews"]),
            On(CREATE, AUTHORIZATION, &["subjectaccessreviews"]),
        ],
    ),
    (
        "system:monitoring",
        &[At(
            GET,
            &[
                "/healthz",
                "/healthz/*",
                "/livez",
                "/livez/*",
                "/metrics",
                "/metrics/slis",
                "/readyz",
                "/readyz/*",
            ],
        )],
    ),
    (
        "system:node",
        &[
            On(CREATE, AUTHENTICATION, &["tokenreviews"]),
            On(CREATE, AUTHORIZATION, &["localsubjectaccessreviews", "subjectaccessreviews"]),
            On(&["create", "get", "list", "watch", "patch", "update"], CORE, &["nodes"]),
            On(CHANGE, CORE, &["nodes/status", "pods/status"]),
            On(&["create", "delete", "get", "list", "watch"], CORE, &["pods"]),
            On(CREATE, CORE, &["pods/eviction", "serviceaccounts/token"]),
            On(READ, CORE, &["endpoints", "services"]),
            On(READ, DISCOVERY, &["endpointslices"]),
            On(READ, CORE, &["configmaps", "secrets"]),
            On(GET, CORE, &["persistentvolumeclaims", "persistentvolumes", "serviceaccounts"]),
            On(RECORD, EVENTS, &["events"]),
            On(&["create", "delete", "get", "patch", "update"], COORDINATION, &["leases"]),
            On(READ, &["node.k8s.io"], &["runtimeclasses"]),
            On(READ, STORAGE, &["csidrivers"]),
            On(&["create", "delete", "get", "patch", "update"], STORAGE, &["csinodes"]),
            On(GET, STORAGE, &["volumeattachments"]),
            On(&["create", "get", "list", "watch"], CERTIFICATES, &["certificatesigningrequests"]),
            On(&["get", "patch", "update"], CORE, &["persistentvolumeclaims/status"]),
            On(GET, DEVICES, &["resourceclaims"]),
        ],
    ),
    (
        "system:node-bootstrapper",
        &[On(&["create", "get", "list", "watch"], CERTIFICATES, &["certificatesigningrequests"])],
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        &[On(CREATE, CERTIFICATES, &["certificatesigningrequests/nodeclient"])],
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &[On(CREATE, CERTIFICATES, &["certificatesigningrequests/selfnodeclient"])],
    ),
    ("system:certificates.k8s.io:kube-apiserver-client-approver", APPROVE_CLIENT),
    ("system:certificates.k8s.io:kube-apiserver-client-kubelet-approver", APPROVE_KUBELET_CLIENT),
    ("system:certificates.k8s.io:kubelet-serving-approver", APPROVE_KUBELET_SERVING),
    (
        "system:persistent-volume-provisioner",
        &[
            On(&["create", "delete", "get", "list", "watch"], CORE, &["persistentvolumes"]),
            On(&["get", "list", "update", "watch"], CORE, &["persistentvolumeclaims"]),
            On(READ, STORAGE, &["storageclasses"]),
            On(&["watch"], CORE, &["events"]),
            On(RECORD, EVENTS, &["events"]),
        ],
    ),
    (
        "system:volume-scheduler",
        &[
            On(&["get", "list", "patch", "update", "watch"], CORE, &["persistentvolumes"]),
            On(READ, STORAGE, &["storageclasses"]),
            On(&["get", "list", "patch", "update", "watch"], CORE, &["persistentvolumeclaims"]),
        ],
    ),
    (
        "system:kube-scheduler",
        &[
            On(RECORD, EVENTS, &["events"]),
            On(&["create", "get", "list", "update", "watch"], COORDINATION, &["leases"]),
            On(READ, CORE, &["namespaces", "nodes", "persistentvolumeclaims", "persistentvolumes"]),
            On(READ, CORE, &["replicationcontrollers", "services"]),
            On(&["delete", "get", "list", "watch"], CORE, &["pods"]),
            On(CREATE, CORE, &["bindings", "pods/binding"]),
            On(CHANGE, CORE, &["pods/status"]),
            On(READ, APPS, &["replicasets", "statefulsets"]),
            On(READ, POLICY, &["poddisruptionbudgets"]),
            On(READ, &["scheduling.k8s.io"], &["priorityclasses"]),
            On(
                READ,
                STORAGE,
                &["csidrivers", "csinodes", "csistoragecapacities", "storageclasses", "volumeattachments"],
            ),
            On(CHANGE, CORE, &["persistentvolumeclaims", "persistentvolumes"]),
            On(READ, DEVICES, &["deviceclasses", "resourceclaims", "resourceslices"]),
            On(CHANGE, DEVICES, &["resourceclaims", "resourceclaims/status"]),
            On(CREATE, AUTHENTICATION, &["tokenreviews"]),
            On(CREATE, AUTHORIZATION, &["subjectaccessreviews"]),
        ],
    ),
    (
        "system:kube-controller-manager",
        &[
            // The garbage collector and the namespace controller reach every kind, whatever it is called.
            On(&["delete", "deletecollection", "get", "list", "patch", "update", "watch"], ALL, ALL),
            // An aggregated role grants what no controller has itself.
            On(&["escalate"], RBAC, &["clusterroles"]),
            On(CREATE, CORE, &["configmaps", "endpoints", "pods", "serviceaccounts"]),
            On(CREATE, CORE, &["endpoints/restricted", "pods/eviction"]),
            On(CREATE, DISCOVERY, &["endpointslices", "endpointslices/restricted"]),
            On(CREATE, APPS, &["controllerrevisions", "replicasets"]),
            On(CREATE, BATCH, &["jobs"]),
            On(CREATE, CORE, &["persistentvolumeclaims", "persistentvolumes"]),
            On(CREATE, DEVICES, &["resourceclaims"]),
            On(RECORD, EVENTS, &["events"]),
            On(CREATE, COORDINATION, &["leases"]),
            On(CREATE, AUTHENTICATION, &["tokenreviews"]),
            On(CREATE, AUTHORIZATION, &["subjectaccessreviews"]),
            On(&["get"], &["metrics.k8s.io"], &["pods"]),
        ],
    ),
];

const CORE_WORK: &[&str] = &[
    "configmaps",
    "endpoints",
    "events",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "replicationcontrollers/scale",
    "serviceaccounts",
    "services",
];
const CORE_VIEW: &[&str] = &[
    "bindings",
    "limitranges",
    "namespaces",
    "namespaces/status",
    "persistentvolumeclaims/status",
    "pods/log",
    "pods/status",
    "replicationcontrollers/status",
    "resourcequotas",
    "resourcequotas/status",
    "services/status",
];
const APPS_WORK: &[&str] = &[
    "daemonsets",
    "deployments",
    "deployments/scale",
    "replicasets",
    "replicasets/scale",
    "statefulsets",
    "statefulsets/scale",
];
const APPS_VIEW: &[&str] = &[
    "controllerrevisions",
    "daemonsets/status",
    "deployments/status",
    "replicasets/status",
    "statefulsets/status",
];
const BATCH_WORK: &[&str] = &["cronjobs", "jobs"];
const NETWORK_WORK: &[&str] = &["ingresses", "networkpolicies"];

/// What `view` allows: reading, but no secrets, and no roles, through which one could find secrets' readers.
const VIEW: &[Row] = &[
    On(READ, CORE, CORE_WORK),
    On(READ, CORE, CORE_VIEW),
    On(READ, APPS, APPS_WORK),
    On(READ, APPS, APPS_VIEW),
    On(READ, BATCH, BATCH_WORK),
    On(READ, BATCH, &["cronjobs/status", "jobs/status"]),
    On(READ, NETWORKING, NETWORK_WORK),
    On(READ, NETWORKING, &["ingresses/status"]),
    On(READ, AUTOSCALING, &["horizontalpodautoscalers", "horizontalpodautoscalers/status"]),
    On(READ, POLICY, &["poddisruptionbudgets", "poddisruptionbudgets/status"]),
    On(READ, DISCOVERY, &["endpointslices"]),
    On(READ, &["events.k8s.io"], &["events"]),
];

/// What `edit` allows beyond `view`. Whoever can run pods as a ServiceAccount can be it: hence impersonation.
const EDIT: &[Row] = &[
    On(
        WRITE,
        CORE,
        &["configmaps", "events", "persistentvolumeclaims", "pods", "serviceaccounts", "services"],
    ),
    On(WRITE, CORE, &["replicationcontrollers", "replicationcontrollers/scale"]),
    On(READ_WRITE, CORE, &["secrets"]),
    On(READ, CORE, &["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "services/proxy"]),
    On(WRITE, CORE, &["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "services/proxy"]),
    On(CREATE, CORE, &["pods/eviction", "serviceaccounts/token"]),
    On(&["patch", "update"], CORE, &["pods/ephemeralcontainers", "pods/resize"]),
    On(&["impersonate"], CORE, &["serviceaccounts"]),
    On(WRITE, APPS, APPS_WORK),
    On(WRITE, APPS, &["deployments/rollback"]),
    On(WRITE, BATCH, BATCH_WORK),
    On(WRITE, NETWORKING, NETWORK_WORK),
    On(WRITE, AUTOSCALING, &["horizontalpodautoscalers"]),
    On(WRITE, POLICY, &["poddisruptionbudgets"]),
    On(READ_WRITE, COORDINATION, &["leases"]),
];

/// What `admin` allows beyond `edit`.
const ADMIN: &[Row] = &[
    On(CREATE, AUTHORIZATION, &["localsubjectaccessreviews"]),
    On(READ_WRITE, RBAC, &["rolebindings", "roles"]),
];

/// The roles for people: each is the sum of the roles that carry its label, kept by the aggregation controller, so that
/// new kinds bring their own rows. With the role that it is a part of itself, and the rows it begins with, which are
/// what the sum of [`AGGREGATED`] comes to.
const USER_ROLES: [(&str, &str, &[&[Row]]); 3] =
    [("view", "edit", &[VIEW]), ("edit", "admin", &[VIEW, EDIT]), ("admin", "", &[VIEW, EDIT, ADMIN])];
/// The rows that the roles for people begin with, each in a role of its own: the role, and whose part it is.
const AGGREGATED: [(&str, &str, &[Row]); 3] = [
    ("system:aggregate-to-view", "view", VIEW),
    ("system:aggregate-to-edit", "edit", EDIT),
    ("system:aggregate-to-admin", "admin", ADMIN),
];

/// The label of roles that are a part of that one.
fn part_of(role: &str) -> String {
    format!("{GROUP}/aggregate-to-{role}")
}

/// ClusterRoleBindings: the role (and the binding's name), then its subjects as (kind, name).
const BINDINGS: &[(&str, &[(&str, &str)])] = &[
    ("cluster-admin", &[("Group", "system:masters")]),
    ("system:discovery", &[("Group", "system:authenticated")]),
    ("system:basic-user", &[("Group", "system:authenticated")]),
    ("system:public-info-viewer", &[("Group", "system:authenticated"), ("Group", "system:unauthenticated")]),
    ("system:service-account-issuer-discovery", &[("Group", "system:serviceaccounts")]),
    ("system:monitoring", &[("Group", "system:monitoring")]),
    ("system:node", &[]),
    ("system:kube-scheduler", &[("User", "system:kube-scheduler")]),
    ("system:kube-controller-manager", &[("User", "system:kube-controller-manager")]),
];

const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// What nodes may do at most; see [`super::NodeAuthorizer`].
pub(super) fn node_rules() -> Vec<super::rule::Rule> {
    let rows = SYSTEM_ROLES.iter().filter(|(name, _)| *name == "system:node").flat_map(|(_, rows)| *rows);
    rows.flat_map(|row| super::policy::rules(&json!({ "rules": [rule(row)] }))).collect()
}

/// Every object of the bootstrap policy: roles first, so that no binding refers to nothing.
pub fn objects() -> Vec<(PolicyKind, Value)> {
    let role = |name: &str, rows: &mut dyn Iterator<Item = &Row>, part_of_role: &str| {
        let mut role = object(PolicyKind::ClusterRole, name);
        role["rules"] = rows.map(rule).collect();
        if !part_of_role.is_empty() {
            role["metadata"]["labels"][part_of(part_of_role)] = json!("true");
        }
        role
    };
    let system = SYSTEM_ROLES.iter().map(|(name, rows)| role(name, &mut rows.iter(), ""));
    let parts = AGGREGATED.iter().map(|(name, whole, rows)| role(name, &mut rows.iter(), whole));
    let user = USER_ROLES.iter().map(|(name, whole, rows)| {
        let mut role = role(name, &mut rows.iter().copied().flatten(), whole);
        role["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {part_of(name): "true"}}]});
        role
    });
    let roles = system.chain(parts).chain(user).map(|role| (PolicyKind::ClusterRole, role));
    let bindings = BINDINGS.iter().map(|(name, subjects)| {
        let mut binding = object(PolicyKind::ClusterRoleBinding, name);
        binding["roleRef"] = json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": name});
        let subjects =
            subjects.iter().map(|(kind, name)| json!({"apiGroup": GROUP, "kind": kind, "name": name}));
        binding["subjects"] = subjects.collect();
        (PolicyKind::ClusterRoleBinding, binding)
    });
    roles.chain(bindings).collect()
}

/// What has to be done so that a stored object holds at least what `wanted` (one of [`objects`]) says.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Nothing: it does, or an administrator has turned updates off.
    Keep,
    /// Store this; it has the old object's metadata, for the comparison of versions.
    Update(Value),
    /// It refers to another role, which cannot be changed: delete it and create it again.
    Replace,
}

/// Compares a stored object with the wanted one. What administrators added stays; what is missing is added, since
/// the parts of the system rely on it. The annotation `rbac.authorization.kubernetes.io/autoupdate: "false"` turns
/// this off.
pub fn reconcile(stored: &Value, wanted: &Value) -> Step {
    let annotations = stored.pointer("/metadata/annotations").and_then(Value::as_object);
    if annotations.and_then(|all| all.get(AUTOUPDATE)).and_then(Value::as_str) == Some("false") {
        return Step::Keep;
    }
    if wanted.get("roleRef") != stored.get("roleRef") {
        return Step::Replace;
    }
    let mut updated = stored.clone();
    let mut changed = false;
    let aggregated = wanted.get("aggregationRule");
    if aggregated.is_some() && aggregated != stored.get("aggregationRule") {
        updated["aggregationRule"] = json!(aggregated);
        changed = true;
    }
    let labels = wanted.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
    for (name, value) in labels {
        if stored.pointer("/metadata/labels").and_then(|labels| labels.get(name)) != Some(value) {
            updated["metadata"]["labels"][name] = value.clone();
            changed = true;
        }
    }
    // The rules of an aggregated role are the aggregation controller's to keep.
    let lists: &[&str] = if aggregated.is_some() { &[] } else { &["rules", "subjects"] };
    for list in lists {
        let Some(wanted) = wanted.get(*list).and_then(Value::as_array) else { continue };
        let mut held = stored.get(*list).and_then(Value::as_array).cloned().unwrap_or_default();
        let missing: Vec<Value> = wanted.iter().filter(|entry| !held.contains(entry)).cloned().collect();
        if !missing.is_empty() {
            held.extend(missing);
            updated[*list] = json!(held);
            changed = true;
        }
    }
    if changed { Step::Update(updated) } else { Step::Keep }
}

fn object(kind: PolicyKind, name: &str) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": kind.kind(),
        "metadata": {
            "name": name,
            "annotations": {AUTOUPDATE: "true"},
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        },
    })
}

fn rule(row: &Row) -> Value {
    let mut rule = Map::new();
    match row {
        On(verbs, groups, resources) => {
            rule.insert("apiGroups".into(), json!(groups));
            rule.insert("resources".into(), json!(resources));
            rule.insert("verbs".into(), json!(verbs));
        }
        Named(verbs, groups, resources, names) => {
            rule.insert("apiGroups".into(), json!(groups));
            rule.insert("resourceNames".into(), json!(names));
            rule.insert("resources".into(), json!(resources));
            rule.insert("verbs".into(), json!(verbs));
        }
        At(verbs, urls) => {
            rule.insert("nonResourceURLs".into(), json!(urls));
            rule.insert("verbs".into(), json!(verbs));
        }
    }
    Value::Object(rule)
}
