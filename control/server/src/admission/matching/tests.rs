//! Which requests rules, scopes and selectors are about.

use serde_json::json;

use super::*;

/// `CREATE group/version resource[/sub] namespace name`, `-` for what is empty.
fn attributes(line: &str) -> (Attributes, Operation) {
    let parts: Vec<&str> = line.split(' ').collect();
    let dash = |text: &str| if text == "-" { String::new() } else { text.to_owned() };
    let (group, version) = parts[1].split_once('/').unwrap();
    let (resource, subresource) = parts[2].split_once('/').unwrap_or((parts[2], ""));
    let operation = match parts[0] {
        "CREATE" => Operation::Create,
        "UPDATE" => Operation::Update,
        "DELETE" => Operation::Delete,
        _ => Operation::Connect,
    };
    let attributes = Attributes {
        api_group: dash(group),
        version: version.into(),
        resource: resource.into(),
        subresource: subresource.into(),
        namespace: dash(parts[3]),
        name: dash(parts[4]),
        ..Attributes::default()
    };
    (attributes, operation)
}

fn rule(operations: &str, groups: &str, versions: &str, resources: &str, scope: &str) -> Value {
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    json!({
        "operations": list(operations), "apiGroups": list(groups), "apiVersions": list(versions),
        "resources": list(resources), "scope": scope,
    })
}

/// The form that is matched, as `group/version/resource`; `-` for none.
fn matched(webhook: &Value, line: &str) -> String {
    let (attributes, operation) = attributes(line);
    let target = Target::of(&attributes, operation);
    let matching = Matching::of_webhook(webhook).unwrap();
    let form = matching.form(&target, &forms(Catalogue::builtin(), &target));
    form.map_or("-".into(), |form| format!("{}/{}/{}", form.group, form.version, form.resource))
}

#[test]
fn rules_match_by_operation_group_version_resource_and_scope() {
    let pods = "/v1/pods";
    let all = ("*", "*", "*", "*/*", "*");
    #[rustfmt::skip]
    let cases = [
        (("CREATE", "", "v1", "pods", "*"), "CREATE -/v1 pods default a", pods),
        (("CREATE", "", "v1", "pods", "*"), "UPDATE -/v1 pods default a", "-"),
        (("CREATE,DELETE", "", "v1", "pods", "*"), "DELETE -/v1 pods default a", pods),
        (("*", "", "*", "pods", "*"), "DELETE -/v1 pods default a", pods),
        (("*", "apps", "*", "pods", "*"), "CREATE -/v1 pods default a", "-"),
        (("*", "*", "v2", "pods", "*"), "CREATE -/v1 pods default a", "-"),
        (("*", "*", "*", "*", "*"), "CREATE -/v1 pods default a", pods),
        (("*", "*", "*", "*", "*"), "UPDATE -/v1 pods/status default a", "-"),
        (("*", "*", "*", "pods", "*"), "UPDATE -/v1 pods/status default a", "-"),
        (("*", "*", "*", "pods/status", "*"), "UPDATE -/v1 pods default a", "-"),
        (("*", "*", "*", "pods/*", "*"), "UPDATE -/v1 pods/status default a", pods),
        (("*", "*", "*", "pods/*", "*"), "CREATE -/v1 pods default a", pods),
        (("*", "*", "*", "*/status", "*"), "UPDATE -/v1 pods/status default a", pods),
        (("*", "*", "*", "*/scale", "*"), "UPDATE -/v1 pods/status default a", "-"),
        (("CONNECT", "", "v1", "pods/exec", "*"), "CONNECT -/v1 pods/exec default a", pods),
        (("CONNECT", "", "v1", "pods/attach", "*"), "CONNECT -/v1 pods/exec default a", "-"),
        (all, "CREATE -/v1 nodes - n", "/v1/nodes"),
        (("*", "*", "*", "*", "Cluster"), "CREATE -/v1 nodes - n", "/v1/nodes"),
        (("*", "*", "*", "*", "Namespaced"), "CREATE -/v1 nodes - n", "-"),
        (("*", "*", "*", "*", "Cluster"), "CREATE -/v1 pods default a", "-"),
        (("*", "*", "*", "*", "Namespaced"), "CREATE -/v1 pods default a", pods),
        (("*", "*", "*", "*", "Cluster"), "UPDATE -/v1 namespaces x x", "/v1/namespaces"),
        (("*", "*", "*", "*", "Namespaced"), "UPDATE -/v1 namespaces x x", "-"),
    ];
    for ((operations, groups, versions, resources, scope), line, expected) in cases {
        let webhook = json!({"rules": [rule(operations, groups, versions, resources, scope)]});
        assert_eq!(matched(&webhook, line), expected, "{webhook} {line}");
    }
    assert_eq!(matched(&json!({}), "CREATE -/v1 pods default a"), "-", "no rules, no requests");
}

#[test]
fn equivalents_count_unless_the_policy_is_exact() {
    let old = rule("*", "autoscaling", "v1", "horizontalpodautoscalers", "*");
    let line = "CREATE autoscaling/v2 horizontalpodautoscalers default a";
    let other = "autoscaling/v1/horizontalpodautoscalers";
    assert_eq!(matched(&json!({"rules": [old]}), line), other);
    assert_eq!(matched(&json!({"rules": [old], "matchPolicy": "Equivalent"}), line), other);
    assert_eq!(matched(&json!({"rules": [old], "matchPolicy": "Exact"}), line), "-");
    let events = rule("*", "events.k8s.io", "v1", "events", "*");
    assert_eq!(
        matched(&json!({"rules": [events]}), "CREATE -/v1 events default e"),
        "events.k8s.io/v1/events"
    );
    // The request's own form goes before an equivalent that an earlier rule names.
    let own = rule("*", "autoscaling", "v2", "horizontalpodautoscalers", "*");
    assert_eq!(matched(&json!({"rules": [old, own]}), line), "autoscaling/v2/horizontalpodautoscalers");
}

#[test]
fn policies_exclude_and_name() {
    let line = "UPDATE -/v1 configmaps default a";
    let (attributes, operation) = attributes(line);
    let target = Target::of(&attributes, operation);
    let forms = forms(Catalogue::builtin(), &target);
    let matches =
        |constraints: Value| Matching::of_policy(&constraints).unwrap().form(&target, &forms).is_some();
    let mut named = rule("*", "", "v1", "configmaps", "*");
    assert!(matches(json!({})), "a policy without rules is about everything");
    assert!(matches(json!({"resourceRules": [named]})));
    assert!(!matches(json!({"excludeResourceRules": [named]})));
    assert!(!matches(json!({"resourceRules": [named], "excludeResourceRules": [named]})));
    named["resourceNames"] = json!(["a", "b"]);
    assert!(matches(json!({"resourceRules": [named]})));
    named["resourceNames"] = json!(["b"]);
    assert!(!matches(json!({"resourceRules": [named]})));
    assert!(matches(json!({"excludeResourceRules": [named]})));
}

#[test]
fn namespaces_are_selected_by_the_labels_that_count() {
    let some = json!({"namespaceSelector": {"matchLabels": {"a": "b"}}});
    let cases = [
        (&some, "CREATE -/v1 pods default a", NamespaceLabels::Stored("default")),
        (&some, "CREATE -/v1 nodes - a", NamespaceLabels::None),
        (&some, "CREATE -/v1 namespaces - x", NamespaceLabels::Object),
        (&some, "UPDATE -/v1 namespaces x x", NamespaceLabels::Object),
        (&some, "UPDATE -/v1 namespaces/status x x", NamespaceLabels::Stored("x")),
        (&some, "DELETE -/v1 namespaces x x", NamespaceLabels::Stored("x")),
        (&json!({"namespaceSelector": {}}), "CREATE -/v1 pods default a", NamespaceLabels::None),
        (&json!({}), "CREATE -/v1 pods default a", NamespaceLabels::None),
    ];
    for (webhook, line, expected) in cases {
        let (attributes, operation) = attributes(line);
        let matching = Matching::of_webhook(webhook).unwrap();
        assert_eq!(matching.namespace(&Target::of(&attributes, operation)), expected, "{line}");
    }
    let matching = Matching::of_webhook(&some).unwrap();
    assert!(matching.in_namespace(&json!({"metadata": {"labels": {"a": "b"}}})));
    assert!(!matching.in_namespace(&json!({"metadata": {}})));
}

#[test]
fn objects_are_selected_as_they_are_or_were() {
    let labels = |value: &str| json!({"metadata": {"labels": {"a": value}}});
    let (yes, no) = (labels("b"), labels("c"));
    let options = json!({"kind": "PodExecOptions"});
    let absent = json!({"objectSelector": {"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}});
    let matching = Matching::of_webhook(&json!({"objectSelector": {"matchLabels": {"a": "b"}}})).unwrap();
    for (new, old, expected) in [
        (Some(&yes), None, true),
        (Some(&no), None, false),
        (Some(&no), Some(&yes), true),
        (Some(&yes), Some(&no), true),
        (None, Some(&yes), true),
        (None, None, false),
        (Some(&options), None, false),
    ] {
        assert_eq!(matching.selects(new, old), expected, "{new:?} {old:?}");
    }
    let absent = Matching::of_webhook(&absent).unwrap();
    assert!(absent.selects(Some(&yes), None));
    assert!(!absent.selects(Some(&options), None), "what has no metadata is never selected");
    assert!(Matching::of_webhook(&json!({})).unwrap().selects(Some(&options), None));
}

#[test]
fn configurations_are_exempt() {
    assert!(exempt(GROUP, "mutatingwebhookconfigurations"));
    assert!(exempt(GROUP, "validatingadmissionpolicybindings"));
    assert!(!exempt("", "mutatingwebhookconfigurations"));
    assert!(!exempt("", "pods"));
}
