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
    let mut roles = names(PolicyKind::ClusterRole);
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
    roles.extend(names(PolicyKind::Role));
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
fn roles_that_are_made_of_others_get_their_selectors_and_labels_and_keep_their_rules() {
    let objects = bootstrap::objects();
    let find = |name: &str| {
        let found = objects
            .iter()
            .find(|(_, object)| object["metadata"]["name"] == name && object["kind"] == "ClusterRole");
        found.unwrap().1.clone()
    };
    let [view, edit, admin] = ["view", "edit", "admin"].map(find);
    let count = |role: &Value| role["rules"].as_array().unwrap().len();
    assert!(count(&view) < count(&edit) && count(&edit) < count(&admin));
    // As it was before these roles were made of others, with a rule that somebody added.
    let mut stored = edit.clone();
    stored.as_object_mut().unwrap().remove("aggregationRule");
    stored["metadata"]["labels"] = json!({"own": "label"});
    stored["rules"] = json!([]);
    let Step::Update(updated) = bootstrap::reconcile(&stored, &edit) else { panic!("no update") };
    assert_eq!(updated["aggregationRule"], edit["aggregationRule"]);
    assert_eq!(updated["metadata"]["labels"]["own"], "label");
    assert_eq!(updated["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-admin"], "true");
    assert_eq!(updated["rules"], json!([]), "rules are the aggregation's");
    let all: Vec<Value> = objects.iter().map(|(_, object)| object.clone()).collect();
    assert_eq!(bootstrap::aggregate(&edit, all.iter()), Some(edit["rules"].clone()));
    assert_eq!(bootstrap::aggregate(&find("system:node"), all.iter()), None);
}
