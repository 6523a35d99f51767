//! Attempts to get more than one has.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

#[test]
fn covering_takes_rules_together() {
    let rules = |value: Value| serde_json::from_value::<Vec<Rule>>(value).unwrap();
    let held = rules(json!([
        {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "*/log"]},
        {"verbs": ["watch"], "apiGroups": [""], "resources": ["pods"]},
        {"verbs": ["get"], "apiGroups": ["apps"], "resources": ["*"], "resourceNames": ["a", "b"]},
        {"verbs": ["get"], "nonResourceURLs": ["/logs/*"]},
    ]));
    let cases = [
        (json!({"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["pods"]}), 0),
        (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "pods/log", "services/log"]}), 0),
        (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "secrets"]}), 1),
        (json!({"verbs": ["get", "delete"], "apiGroups": ["", "apps"], "resources": ["pods"]}), 3),
        (
            json!({"verbs": ["get"], "apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["a"]}),
            0,
        ),
        (
            json!({"verbs": ["get"], "apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["a", "c"]}),
            1,
        ),
        (json!({"verbs": ["get"], "apiGroups": ["apps"], "resources": ["deployments"]}), 1),
        (json!({"verbs": ["*"], "apiGroups": [""], "resources": ["pods"]}), 1),
        (json!({"verbs": ["get"], "apiGroups": ["*"], "resources": ["pods"]}), 1),
        (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["*"]}), 1),
        (json!({"verbs": ["get"], "nonResourceURLs": ["/logs/a", "/logs/*"]}), 0),
        (json!({"verbs": ["get"], "nonResourceURLs": ["/log*", "*"]}), 2),
    ];
    for (wanted, missing) in cases {
        let wanted_rules = rules(json!([wanted]));
        assert_eq!(uncovered(&held, &wanted_rules).len(), missing, "{wanted}");
        assert_eq!(uncovered(&wanted_rules, &wanted_rules), [], "{wanted} covers itself");
    }
}

/// A few kilobytes of rules are not taken apart into billions.
#[test]
fn rules_of_very_many_parts_are_covered_as_a_whole_or_not_at_all() {
    let many = |letter: char, count: usize| (0..count).map(|n| format!("{letter}{n}")).collect::<Vec<_>>();
    let wanted = Rule {
        verbs: many('v', 2_000),
        api_groups: vec![String::new()],
        resources: many('r', 2_000),
        resource_names: many('n', 2_000),
        ..Rule::default()
    };
    let everything = Rule { verbs: vec!["*".into()], resources: vec!["*".into()], ..wanted.clone() };
    let all_but_names = Rule { resource_names: Vec::new(), ..everything };
    let verb = Rule { verbs: vec!["v1".into()], ..all_but_names.clone() };
    let wanted = std::slice::from_ref(&wanted);
    assert_eq!(uncovered(&[all_but_names], wanted), []);
    assert_eq!(uncovered(wanted, wanted), []);
    assert_eq!(uncovered(&[verb], wanted), wanted);
}

/// Has `who` write `object`, over `old` if there is one.
async fn write(
    rbac: &Arc<Rbac>,
    who: &UserInfo,
    (kind, object): &(PolicyKind, Value),
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let authorizers: Vec<Arc<dyn Authorizer>> = vec![Arc::clone(rbac) as Arc<dyn Authorizer>];
    let plugin = Escalation::new(Arc::clone(rbac), authorizers);
    let text = |pointer| crate::authn::text(object, pointer);
    let operation = if old.is_some() { Operation::Update } else { Operation::Create };
    let attributes = Attributes {
        user: who.clone(),
        verb: if old.is_some() { "update" } else { "create" }.into(),
        api_group: GROUP.into(),
        resource: kind.resource().into(),
        name: text("/metadata/name").into(),
        namespace: text("/metadata/namespace").into(),
        ..Attributes::default()
    };
    let request =
        AdmissionRequest { attributes: &attributes, operation, kind: kind.kind(), old, dry_run: false };
    plugin.validate(&request, Some(object)).await.map(drop)
}

#[tokio::test]
async fn nobody_grants_what_he_does_not_have() {
    let any = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]);
    let read = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
    let own = json!([{"verbs": ["escalate"], "apiGroups": [GROUP], "resources": ["roles"], "resourceNames": ["blessed"]}]);
    let bind = json!([{"verbs": ["bind"], "apiGroups": [GROUP], "resources": ["clusterroles"], "resourceNames": ["edit"]}]);
    let rbac = rbac(&[
        binding("web", "ClusterRole/admin", user("ada")),
        role("web", "escalator", own),
        binding("web", "Role/escalator", user("eve")),
        role("web", "binder", bind),
        binding("web", "Role/binder", user("bob")),
    ]);
    let ada = UserInfo::new("ada", []);
    let root = UserInfo::new("root", ["system:masters"]);
    let eve = UserInfo::new("eve", []);
    let bob = UserInfo::new("bob", []);
    let mut aggregated = role("web", "r", read.clone());
    aggregated.1["aggregationRule"] = json!({"clusterRoleSelectors": [{}]});
    let cases: [(&str, &UserInfo, (PolicyKind, Value), u16); 17] = [
        ("an admin grants reading", &ada, role("web", "r", read.clone()), 0),
        ("but not everything", &ada, role("web", "r", any.clone()), 403),
        ("nor elsewhere", &ada, role("other", "r", read.clone()), 403),
        ("nor in the whole cluster", &ada, role("", "r", read.clone()), 403),
        ("nor through an aggregated role", &ada, aggregated, 403),
        ("root grants everything", &root, role("", "r", any.clone()), 0),
        ("escalate counts for the named role", &eve, role("web", "blessed", any.clone()), 0),
        ("and for no other", &eve, role("web", "cursed", any), 403),
        ("an admin binds edit", &ada, binding("web", "ClusterRole/edit", user("x")), 0),
        ("and his own role", &ada, binding("web", "ClusterRole/admin", user("x")), 0),
        ("but not cluster-admin", &ada, binding("web", "ClusterRole/cluster-admin", user("ada")), 403),
        ("nor a role in another namespace", &ada, binding("other", "ClusterRole/view", user("ada")), 403),
        ("nor in the whole cluster", &ada, binding("", "ClusterRole/view", user("ada")), 403),
        ("nor a role that is not there", &ada, binding("web", "Role/ghost", user("ada")), 404),
        ("bind counts for the named role", &bob, binding("web", "ClusterRole/edit", user("x")), 0),
        ("and for no other", &bob, binding("web", "ClusterRole/view", user("x")), 403),
        ("root binds anything", &root, binding("", "ClusterRole/cluster-admin", user("x")), 0),
    ];
    for (what, who, object, code) in cases {
        let result = write(&rbac, who, &object, None).await;
        assert_eq!(result.as_ref().err().map_or(0, |error| error.code), code, "{what}: {result:?}");
    }
    let error = write(&rbac, &ada, &role("", "r", read), None).await.unwrap_err();
    assert_eq!(
        error.message,
        "clusterroles.rbac.authorization.k8s.io \"r\" is forbidden: user \"ada\" (groups=[\"system:authenticated\"]) is \
         attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\"]}"
    );
}

#[tokio::test]
async fn changes_that_grant_nothing_new_are_free() {
    let any = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]);
    let rbac = rbac(&[]);
    let nobody = UserInfo::new("nobody", []);
    let (kind, old) = role("web", "strong", any.clone());
    let mut labelled = old.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    write(&rbac, &nobody, &(kind, labelled), Some(&old)).await.unwrap();
    let (kind, weak) = role("web", "strong", json!([]));
    write(&rbac, &nobody, &(kind, old), Some(&weak)).await.unwrap_err();

    let (kind, old) = binding("web", "ClusterRole/cluster-admin", user("x"));
    let mut labelled = old.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    write(&rbac, &nobody, &(kind, labelled), Some(&old)).await.unwrap();
    let mut grown = old.clone();
    grown["subjects"] = user("nobody");
    write(&rbac, &nobody, &(kind, grown), Some(&old)).await.unwrap_err();
}
