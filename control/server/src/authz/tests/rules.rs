//! Verdicts: what rules match, and what each role allows.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

#[test]
fn rules_match_as_upstream_matches_them() {
    let rule = |value: Value| serde_json::from_value::<Rule>(value).unwrap();
    let who = UserInfo::new("jane", []);
    let pods = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]});
    let cases = [
        (pods.clone(), "get pods:a @x", true),
        (pods.clone(), "list pods @x", false),
        (pods.clone(), "get pods/log:a @x", false),
        (pods.clone(), "get apps/pods:a @x", false),
        (pods, "get /pods", false),
        (
            json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}),
            "delete apps/deployments/scale:a @x",
            true,
        ),
        (json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}), "get /metrics", false),
        (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["*/log"]}), "get pods/log:a @x", true),
        (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["*/log"]}), "get pods:a @x", false),
        (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods/*"]}), "get pods/log:a @x", false),
        (
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}),
            "get pods:a @x",
            true,
        ),
        (
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}),
            "get pods:b @x",
            false,
        ),
        (
            json!({"verbs": ["list"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}),
            "list pods @x",
            false,
        ),
        (json!({"verbs": ["get"], "nonResourceURLs": ["/logs/*"]}), "get /logs/a/b", true),
        (json!({"verbs": ["get"], "nonResourceURLs": ["/logs/*"]}), "get /logs", false),
        (json!({"verbs": ["get"], "nonResourceURLs": ["/metrics"]}), "get /metrics/slis", false),
        (json!({"verbs": ["get"], "nonResourceURLs": ["*"]}), "get /anything", true),
        (json!({"verbs": [], "apiGroups": ["*"], "resources": ["*"]}), "get pods:a @x", false),
        (json!({}), "get pods:a @x", false),
    ];
    for (value, text, expected) in cases {
        assert_eq!(rule(value.clone()).allows(&request(&who, text)), expected, "{value}: {text}");
    }
}

#[test]
fn the_parts_of_the_system_may_do_their_work_and_no_more() {
    let rbac = rbac(&[]);
    verdicts(
        &rbac,
        &UserInfo::new("system:kube-scheduler", []),
        &[
            ("watch pods", true),
            ("list nodes", true),
            ("create pods/binding:a @x", true),
            ("patch pods/status:a @x", true),
            ("delete pods:a @x", true),
            ("create events.k8s.io/events @x", true),
            ("update coordination.k8s.io/leases:kube-scheduler @kube-system", true),
            ("watch storage.k8s.io/storageclasses", true),
            ("create pods @x", false),
            ("update pods:a @x", false),
            ("get secrets:a @x", false),
            ("patch nodes:n", false),
            ("create pods/exec:a @x", false),
        ],
    );
    verdicts(
        &rbac,
        &UserInfo::new("system:kube-controller-manager", []),
        &[
            ("update apps/deployments/status:a @x", true),
            ("create apps/replicasets @x", true),
            ("create pods @x", true),
            ("create discovery.k8s.io/endpointslices @x", true),
            ("update endpoints:a @x", true),
            ("update namespaces/finalize:x", true),
            ("deletecollection example.org/widgets @x", true),
            ("create serviceaccounts @x", true),
            ("create configmaps @x", true),
            ("patch nodes:n", true),
            ("patch nodes/status:n", true),
            ("create serviceaccounts/token:a @x", true),
            ("create secrets @x", true),
            ("create rbac.authorization.k8s.io/clusterrolebindings", false),
            ("impersonate users:root", false),
            ("escalate rbac.authorization.k8s.io/clusterroles:a", false),
            ("escalate rbac.authorization.k8s.io/roles:a @x", false),
            ("bind rbac.authorization.k8s.io/clusterroles:a", false),
            ("bind rbac.authorization.k8s.io/clusterroles:cluster-admin", false),
        ],
    );
}

#[test]
fn people_have_what_their_role_says() {
    let rbac = rbac(&[
        binding("web", "ClusterRole/view", user("vera")),
        binding("web", "ClusterRole/edit", user("ed")),
        binding("web", "ClusterRole/admin", user("ada")),
    ]);
    let table = |expected: [bool; 3], text: &'static str| (text, expected);
    let table = [
        table([true, true, true], "get pods:a @web"),
        table([true, true, true], "get pods/log:a @web"),
        table([true, true, true], "watch apps/deployments @web"),
        table([false, true, true], "get secrets:a @web"),
        table([false, true, true], "patch apps/deployments/scale:a @web"),
        table([false, true, true], "create pods/exec:a @web"),
        table([false, true, true], "impersonate serviceaccounts:sa @web"),
        table([false, false, true], "create rbac.authorization.k8s.io/rolebindings @web"),
        table([false, false, false], "get pods:a @other"),
        table([false, false, false], "list pods"),
        table([false, false, false], "update resourcequotas:a @web"),
        table([false, false, false], "delete namespaces:web @web"),
        table([false, false, false], "get nodes:n"),
        table([true, true, true], "create authorization.k8s.io/selfsubjectaccessreviews"),
        table([true, true, true], "get /apis/apps/v1"),
        table([false, false, false], "get /metrics"),
    ];
    for (index, name) in ["vera", "ed", "ada"].into_iter().enumerate() {
        let rows: Vec<_> = table.iter().map(|(text, expected)| (*text, expected[index])).collect();
        verdicts(&rbac, &UserInfo::new(name, []), &rows);
    }
    verdicts(
        &rbac,
        &crate::authn::anonymous(),
        &[("get /healthz", true), ("get /version", true), ("get /api", false)],
    );
    verdicts(
        &rbac,
        &UserInfo::new("root", ["system:masters"]),
        &[("drop apps/tables", true), ("get /x", true)],
    );
}

#[test]
fn bindings_follow_changes_of_roles_subjects_and_themselves() {
    let accounts = json!([{"kind": "ServiceAccount", "name": "builder"}, {"kind": "Group", "name": "dev"}]);
    let rbac = rbac(&[
        role("web", "reader", json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"]}])),
        binding("web", "Role/reader", accounts),
    ]);
    let account = UserInfo::new("system:serviceaccount:web:builder", []);
    let other = UserInfo::new("system:serviceaccount:other:builder", []);
    let dev = UserInfo::new("jane", ["dev"]);
    for (who, expected) in [(&account, true), (&other, false), (&dev, true)] {
        verdicts(&rbac, who, &[("get configmaps:a @web", expected), ("get configmaps:a @other", false)]);
    }
    // The role changes: the binding follows.
    let (kind, changed) =
        role("web", "reader", json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]));
    rbac.put(kind, &changed);
    verdicts(&rbac, &dev, &[("get configmaps:a @web", false), ("get pods:a @web", true)]);
    // The subjects change.
    let (kind, changed) = binding("web", "Role/reader", user("joe"));
    rbac.put(kind, &changed);
    verdicts(&rbac, &dev, &[("get pods:a @web", false)]);
    verdicts(&rbac, &UserInfo::new("joe", []), &[("get pods:a @web", true)]);
    // The role goes; a role made anew counts again; then the binding goes.
    rbac.remove(PolicyKind::Role, "web", "reader");
    verdicts(&rbac, &UserInfo::new("joe", []), &[("get pods:a @web", false)]);
    let (kind, again) =
        role("web", "reader", json!([{"verbs": ["*"], "apiGroups": [""], "resources": ["pods"]}]));
    rbac.put(kind, &again);
    verdicts(&rbac, &UserInfo::new("joe", []), &[("delete pods:a @web", true)]);
    rbac.remove(PolicyKind::RoleBinding, "web", "reader-binding");
    verdicts(&rbac, &UserInfo::new("joe", []), &[("get pods:a @web", false)]);
}

#[test]
fn malformed_policy_grants_nothing() {
    let rbac = rbac(&[
        (
            PolicyKind::ClusterRole,
            json!({"metadata": {"name": "odd"}, "rules": [{"verbs": "get"}, null, 7, {"verbs": null}]}),
        ),
        binding(
            "",
            "ClusterRole/odd",
            json!([{"kind": "User", "name": ""}, null, {"kind": "Robot", "name": "x"}, {"kind": "User", "name": "x"}]),
        ),
        (PolicyKind::ClusterRoleBinding, json!({"metadata": {"name": "none"}})),
    ]);
    verdicts(&rbac, &UserInfo::new("x", []), &[("get pods:a @web", false), ("get /odd", false)]);
}

#[tokio::test]
async fn a_refusal_waits_for_what_was_granted_a_moment_ago() {
    let (rbac, mut asks) = Rbac::new();
    let feeder = Arc::clone(&rbac);
    tokio::spawn(async move {
        let ask = asks.recv().await.unwrap();
        for (kind, object) in [
            role("", "reader", json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}])),
            binding("", "ClusterRole/reader", user("jane")),
        ] {
            feeder.put(kind, &object);
        }
        ask.send(()).unwrap();
    });
    let authorizers: [Arc<dyn Authorizer>; 1] = [rbac];
    decide(&authorizers, &request(&UserInfo::new("jane", []), "get pods:a @web")).await.unwrap();
}

#[tokio::test]
async fn refusals_use_upstreams_words() {
    let authorizers: [Arc<dyn Authorizer>; 1] = [rbac(&[])];
    let jane = UserInfo::new("jane", []);
    let cases = [
        (
            "list pods @web",
            r#"pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "web""#,
        ),
        (
            "get apps/deployments/scale:a @web",
            r#"deployments.apps "a" is forbidden: User "jane" cannot get resource "deployments/scale" in API group "apps" in the namespace "web""#,
        ),
        (
            "get nodes:n",
            r#"nodes "n" is forbidden: User "jane" cannot get resource "nodes" in API group "" at the cluster scope"#,
        ),
        ("get /metrics", r#"forbidden: User "jane" cannot get path "/metrics""#),
    ];
    for (text, expected) in cases {
        let error = decide(&authorizers, &request(&jane, text)).await.unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (403, expected));
    }
}
