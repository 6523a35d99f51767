//! What a configuration limits, what covers it, and what is said of the rest.

use serde_json::json;

use super::*;

const PODS: Kind<'static> = Kind { group: "", plural: "pods" };

fn config(limited: &Value) -> Value {
    json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "ResourceQuotaConfiguration",
        "limitedResources": limited})
}

/// What comes of a write: `ok`, or the refusal.
fn verdict(limited: &Value, quotas: &[Value], kind: Kind<'_>, old: Option<&Value>, new: &Value) -> String {
    let now = "2026-01-01T00:10:00Z".parse().unwrap();
    let limited = Limited::read(&config(limited)).unwrap();
    let quotas: Vec<Quota> = quotas.iter().map(Quota::read).collect();
    let change = Change { kind, old, new: Some(new), fact: false, now };
    let demand = Demand::of(&limited, &change);
    let fact = Demand::of(&limited, &Change { fact: true, ..change });
    assert!(fact.is_empty() && fact.check(&quotas, &change).is_ok(), "what has happened is not refused");
    let gone = Demand::of(&limited, &Change { new: None, ..change });
    assert!(gone.is_empty(), "what goes is not refused");
    let found = demand.check(&quotas, &change);
    assert!(found.is_ok() || !demand.is_empty());
    found.map_or_else(|refusal| refusal.to_string(), |()| "ok".to_owned())
}

fn pod(requests: Value, spec: Value) -> Value {
    let mut pod = json!({"metadata": {"name": "p"}, "spec": spec});
    pod["spec"]["containers"] = json!([{"name": "c", "resources": {"requests": requests}}]);
    pod
}

fn quota(hard: Value, spec: Value) -> Value {
    let mut quota = json!({"metadata": {"name": "q"}, "spec": spec});
    quota["spec"]["hard"] = hard;
    quota
}

fn selector(scope: &str, operator: &str, values: &[&str]) -> Value {
    json!({"scopeSelector": {"matchExpressions":
        [{"scopeName": scope, "operator": operator, "values": values}]}})
}

#[test]
fn mistakes_in_the_configuration_are_named() {
    let form = |version: &str, kind: &str| json!({"apiVersion": version, "kind": kind});
    for (version, kind) in FORMS {
        assert_eq!(Limited::read(&form(version, kind)), Ok(Vec::new()), "{version}");
    }
    assert_eq!(Limited::read(&config(&json!(null))), Ok(Vec::new()));
    let scope = |name: &str, operator: &str| json!([{"resource": "pods"}, {"resource": "pods", "matchScopes": [{"scopeName": name, "operator": operator}]}]);
    for (config, why) in [
        (
            form("v1", "ResourceQuota"),
            "expected ResourceQuotaConfiguration of apiserver.config.k8s.io/v1, found \"ResourceQuota\" of \"v1\"",
        ),
        (config(&json!([{"apiGroup": "apps"}])), "limitedResources[0].resource: Required value"),
        (
            config(&scope("Odd", "In")),
            "limitedResources[1].matchScopes[0].scopeName: Invalid value: \"Odd\": unsupported scope",
        ),
        (
            config(&scope("PriorityClass", "Is")),
            "limitedResources[1].matchScopes[0].operator: Invalid value: \"Is\": not a valid selector operator",
        ),
    ] {
        assert_eq!(Limited::read(&config), Err(why.to_owned()));
    }
    for odd in [config(&json!([{"resource": "pods", "limit": 1}])), json!({"kind": "x"}), json!("text")] {
        assert!(Limited::read(&odd).is_err(), "{odd}");
    }
}

#[test]
fn names_need_a_quota_that_limits_them() {
    let both = json!([
        {"resource": "pods", "matchContains": ["requests.cpu"]},
        {"resource": "pods", "matchContains": ["memory", "nvidia.com/gpu"]},
        {"resource": "secrets", "matchContains": [""]},
        {"apiGroup": "apps", "resource": "deployments", "matchContains": ["count/"]},
    ]);
    let plain = |hard: Value| quota(hard, json!({}));
    let sized = pod(json!({"cpu": "1", "memory": "1Mi"}), json!({}));
    let device = pod(json!({"nvidia.com/gpu": "1"}), json!({}));
    let secrets = Kind::new("", "secrets");
    let deployments = Kind::new("apps", "deployments");
    let no = |names: &str| format!("insufficient quota to consume: {names}");
    for (what, quotas, kind, object, expected) in [
        ("all that entries name", vec![], PODS, &sized, no("memory,requests.cpu,requests.memory")),
        ("part of a name", vec![], PODS, &device, no("requests.nvidia.com/gpu")),
        ("nothing is asked for", vec![], PODS, &pod(json!({"cpu": "0"}), json!({})), "ok".to_owned()),
        ("every name", vec![], secrets, &json!({}), no("count/secrets,secrets")),
        ("of a group", vec![], deployments, &json!({}), no("count/deployments.apps")),
        ("of another group", vec![], Kind::new("extensions", "deployments"), &json!({}), "ok".to_owned()),
        ("another kind", vec![], Kind::new("", "configmaps"), &json!({}), "ok".to_owned()),
        (
            "one of them is covered",
            vec![plain(json!({"requests.cpu": "9"}))],
            PODS,
            &sized,
            no("memory,requests.memory"),
        ),
        (
            "several quotas cover them together",
            vec![
                plain(json!({"requests.cpu": "0"})),
                plain(json!({"memory": "1Gi", "requests.memory": "1Gi", "secrets": "1"})),
            ],
            PODS,
            &sized,
            "ok".to_owned(),
        ),
        (
            "a quota of other pods",
            vec![quota(
                json!({"requests.nvidia.com/gpu": "9", "pods": "9"}),
                json!({"scopes": ["Terminating"]}),
            )],
            PODS,
            &device,
            no("requests.nvidia.com/gpu"),
        ),
    ] {
        assert_eq!(verdict(&both, &quotas, kind, None, object), expected, "{what}");
    }
    assert_eq!(verdict(&json!([]), &[], PODS, None, &sized), "ok", "nothing is limited");
}

#[test]
fn a_change_needs_a_quota_when_it_takes_more() {
    let limited = json!([{"resource": "pods", "matchContains": ["cpu"]}]);
    let of = |cpu: &str| pod(json!({ "cpu": cpu }), json!({}));
    let no = "insufficient quota to consume: cpu,requests.cpu";
    for (old, new, expected) in [("1", "1", "ok"), ("2", "1", "ok"), ("1", "2", no), ("1", "1100m", no)] {
        assert_eq!(verdict(&limited, &[], PODS, Some(&of(old)), &of(new)), expected, "{old} to {new}");
    }
}

#[test]
fn scopes_need_a_quota_about_them() {
    let priority = |operator: &str, values: &[&str]| {
        json!([{"resource": "pods", "matchScopes":
            [{"scopeName": "PriorityClass", "operator": operator, "values": values}]}])
    };
    let (high, other) = (json!({"priorityClassName": "high"}), json!({"priorityClassName": "other"}));
    let of = |spec: &Value| pod(json!({}), spec.clone());
    let about = |operator: &str, values: &[&str]| {
        quota(json!({"pods": "0"}), selector("PriorityClass", operator, values))
    };
    let no = |scopes: &str| format!("insufficient quota to match these scopes: [{scopes}]");
    let two = no("{PriorityClass In [high higher]}");
    let limited = priority("In", &["high", "higher"]);
    for (limited, quotas, spec, expected) in [
        (&limited, vec![], &high, two.clone()),
        (&limited, vec![], &other, "ok".to_owned()),
        (&limited, vec![], &json!({}), "ok".to_owned()),
        (&limited, vec![about("In", &["high"])], &high, "ok".to_owned()),
        (&limited, vec![about("Exists", &[])], &high, "ok".to_owned()),
        (&limited, vec![about("In", &["higher"])], &high, two.clone()),
        (&limited, vec![quota(json!({"pods": "9"}), json!({}))], &high, two.clone()),
        (&limited, vec![quota(json!({"pods": "9"}), json!({"scopes": ["BestEffort"]}))], &high, two.clone()),
        (&priority("Exists", &[]), vec![], &other, no("{PriorityClass Exists []}")),
        (&priority("DoesNotExist", &[]), vec![], &json!({}), no("{PriorityClass DoesNotExist []}")),
        (&priority("NotIn", &["high"]), vec![], &other, no("{PriorityClass NotIn [high]}")),
        (&priority("NotIn", &["high"]), vec![], &high, "ok".to_owned()),
    ] {
        assert_eq!(verdict(limited, &quotas, PODS, None, &of(spec)), expected, "{limited} {spec}");
    }
}

#[test]
fn all_scopes_that_are_bare_are_told_and_names_come_first() {
    let limited = json!([
        {"resource": "pods", "matchContains": ["requests.cpu"], "matchScopes": [
            {"scopeName": "Terminating", "operator": "Exists"},
            {"scopeName": "BestEffort", "operator": "Exists"},
        ]},
        {"resource": "pods", "matchScopes": [{"scopeName": "CrossNamespacePodAffinity", "operator": "Exists"}]},
        {"resource": "persistentvolumeclaims", "matchScopes":
            [{"scopeName": "VolumeAttributesClass", "operator": "In", "values": ["fast"]}]},
    ]);
    let term = json!({"topologyKey": "z", "namespaces": ["far"]});
    let spec = json!({"activeDeadlineSeconds": 5, "affinity": {"podAffinity":
        {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}});
    let light = pod(json!({}), spec.clone());
    let scopes = "insufficient quota to match these scopes: ";
    let expected = format!(
        "{scopes}[{{Terminating Exists []}} {{BestEffort Exists []}} {{CrossNamespacePodAffinity Exists []}}]"
    );
    assert_eq!(verdict(&limited, &[], PODS, None, &light), expected);
    let ending = quota(json!({"pods": "9"}), json!({"scopes": ["Terminating", "BestEffort"]}));
    let expected = format!("{scopes}[{{CrossNamespacePodAffinity Exists []}}]");
    assert_eq!(verdict(&limited, std::slice::from_ref(&ending), PODS, None, &light), expected);
    let heavy = pod(json!({"cpu": "1"}), spec);
    assert_eq!(
        verdict(&limited, &[ending], PODS, None, &heavy),
        "insufficient quota to consume: requests.cpu"
    );
    let claim = json!({"spec": {"volumeAttributesClassName": "fast"}});
    let claims = Kind::new("", "persistentvolumeclaims");
    let expected = format!("{scopes}[{{VolumeAttributesClass In [fast]}}]");
    assert_eq!(verdict(&limited, &[], claims, None, &claim), expected);
    let slow = json!({"spec": {"volumeAttributesClassName": "slow"}});
    assert_eq!(verdict(&limited, &[], claims, None, &slow), "ok");
}
