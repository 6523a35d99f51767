//! The policy that every cluster begins with.

use serde_json::json;

use super::bootstrap::Step;
use super::*;

#[test]
fn the_bootstrap_policy_is_whole() {
    let objects = bootstrap::objects();
    let names = |wanted: PolicyKind| {
        let of_kind = objects.iter().filter(move |(kind, _)| *kind == wanted);
        of_kind.map(|(_, object)| object["metadata"]["name"].as_str().unwrap()).collect::<Vec<_>>()
    };
    let roles = names(PolicyKind::ClusterRole);
    for name in [
        "cluster-admin",
        "admin",
        "edit",
        "view",
        "system:basic-user",
        "system:discovery",
        "system:public-info-viewer",
        "system:node",
        "system:kube-scheduler",
        "system:kube-controller-manager",
    ] {
        assert!(roles.contains(&name), "{name}");
    }
    for (kind, object) in &objects {
        if let Some(role) = object.pointer("/roleRef/name") {
            assert!(roles.contains(&role.as_str().unwrap()), "{object}");
        } else {
            let rules = object["rules"].as_array().unwrap();
            assert_eq!(
                super::policy::rules(object).len(),
                rules.len(),
                "every rule of {kind:?} {object} can be read"
            );
        }
    }
}

#[test]
fn bootstrap_adds_what_is_missing_and_leaves_the_rest() {
    let wanted = &bootstrap::objects()[1].1;
    assert_eq!(bootstrap::reconcile(wanted, wanted), Step::Keep);

    let own = json!({"apiGroups": ["x"], "resources": ["y"], "verbs": ["get"]});
    let mut stored = wanted.clone();
    stored["metadata"]["resourceVersion"] = json!("7");
    stored["rules"] = json!([own]);
    let Step::Update(updated) = bootstrap::reconcile(&stored, wanted) else { panic!("no update") };
    assert_eq!(updated["metadata"]["resourceVersion"], "7");
    assert_eq!(updated["rules"][0], own);
    assert_eq!(updated["rules"][1], wanted["rules"][0]);

    stored["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] = json!("false");
    assert_eq!(bootstrap::reconcile(&stored, wanted), Step::Keep);

    let binding =
        bootstrap::objects().into_iter().find(|(kind, _)| *kind == PolicyKind::ClusterRoleBinding).unwrap().1;
    let mut other = binding.clone();
    other["roleRef"]["name"] = json!("view");
    assert_eq!(bootstrap::reconcile(&other, &binding), Step::Replace);
    let mut removed = binding.clone();
    removed.as_object_mut().unwrap().remove("subjects");
    assert!(matches!(bootstrap::reconcile(&removed, &binding), Step::Update(object) if object == binding));
}

#[test]
fn the_roles_for_people_are_sums_and_begin_as_what_they_come_to() {
    let objects = bootstrap::objects();
    let roles: Vec<&serde_json::Value> =
        objects.iter().filter(|(kind, _)| *kind == PolicyKind::ClusterRole).map(|(_, role)| role).collect();
    for name in ["view", "edit", "admin"] {
        let whole = roles.iter().find(|role| role["metadata"]["name"] == name).unwrap();
        let label = format!("rbac.authorization.k8s.io/aggregate-to-{name}");
        let selector = json!({"clusterRoleSelectors": [{"matchLabels": {&label: "true"}}]});
        assert_eq!(whole["aggregationRule"], selector);
        let parts = roles.iter().filter(|role| role["metadata"]["labels"][&label] == "true");
        let summed: Vec<_> = parts.flat_map(|role| role["rules"].as_array().unwrap()).collect();
        let begins = whole["rules"].as_array().unwrap();
        assert_eq!(summed.len(), begins.len(), "{name}");
        assert!(begins.iter().all(|rule| summed.contains(&rule)), "{name}");
    }
}

#[test]
fn what_aggregation_made_of_a_role_stays_and_older_clusters_get_aggregation() {
    let objects = bootstrap::objects();
    let wanted = &objects.iter().find(|(_, object)| object["metadata"]["name"] == "view").unwrap().1;
    let mut grown = wanted.clone();
    grown["rules"] = json!([{"apiGroups": ["x"], "resources": ["y"], "verbs": ["get"]}]);
    assert_eq!(bootstrap::reconcile(&grown, wanted), Step::Keep);
    let mut older = wanted.clone();
    older.as_object_mut().unwrap().remove("aggregationRule");
    older["metadata"]["labels"] = json!({"mine": "stays"});
    let Step::Update(updated) = bootstrap::reconcile(&older, wanted) else { panic!("no update") };
    assert_eq!(updated["aggregationRule"], wanted["aggregationRule"]);
    assert_eq!(updated["metadata"]["labels"]["mine"], "stays");
    assert_eq!(updated["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"], "true");
}
