//! Tables of quotas, objects, and what comes of them.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;

fn now() -> Timestamp {
    "2026-01-01T00:10:00Z".parse().unwrap()
}

fn pods() -> Kind<'static> {
    Kind::new("", "pods")
}

fn quota(hard: Value, used: Value) -> Quota {
    Quota::read(&json!({
        "metadata": {"name": "q"}, "spec": {"hard": hard}, "status": {"used": used},
    }))
}

fn scoped(spec: Value) -> Quota {
    let mut spec = spec;
    spec["hard"] = json!({"pods": "9", "persistentvolumeclaims": "9"});
    Quota::read(&json!({"metadata": {"name": "q"}, "spec": spec}))
}

fn pod(resources: Value) -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "resources": resources}]}})
}

fn shown(amounts: &Amounts) -> String {
    amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(",")
}

#[test]
fn every_name_leads_to_a_kind() {
    for (name, kind) in [
        ("pods", Some(("", "pods"))),
        ("count/pods", Some(("", "pods"))),
        ("limits.ephemeral-storage", Some(("", "pods"))),
        ("hugepages-2Mi", Some(("", "pods"))),
        ("requests.hugepages-1Gi", Some(("", "pods"))),
        ("requests.nvidia.com/gpu", Some(("", "pods"))),
        ("nvidia.com/gpu", None),
        ("requests.kubernetes.io/x", None),
        ("requests.storage", Some(("", "persistentvolumeclaims"))),
        ("gold.storageclass.storage.k8s.io/requests.storage", Some(("", "persistentvolumeclaims"))),
        ("services.nodeports", Some(("", "services"))),
        ("secrets", Some(("", "secrets"))),
        ("count/deployments.apps", Some(("apps", "deployments"))),
        ("count/widgets.example.com", Some(("example.com", "widgets"))),
    ] {
        assert_eq!(kind_of(name), kind, "{name}");
    }
}

#[test]
fn what_objects_take() {
    let claim = json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "10Gi"}}}});
    let balancer = |extra: Value| {
        let mut spec =
            json!({"type": "LoadBalancer", "ports": [{"port": 1}, {"port": 2, "nodePort": 30000}]});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json!({ "spec": spec })
    };
    let gpu = pod(json!({
        "requests": {"cpu": "100m", "memory": "1Mi", "nvidia.com/gpu": "2", "hugepages-2Mi": "4Mi"},
        "limits": {"cpu": "1", "nvidia.com/gpu": "2"},
    }));
    for (plural, object, expected) in [
        (
            "pods",
            gpu,
            "count/pods=1,cpu=100m,hugepages-2Mi=4Mi,limits.cpu=1,memory=1Mi,pods=1,requests.cpu=100m,\
             requests.hugepages-2Mi=4Mi,requests.memory=1Mi,requests.nvidia.com/gpu=2",
        ),
        (
            "persistentvolumeclaims",
            claim,
            "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
             gold.storageclass.storage.k8s.io/requests.storage=10Gi,persistentvolumeclaims=1,requests.storage=10Gi",
        ),
        (
            "services",
            balancer(json!({})),
            "count/services=1,services=1,services.loadbalancers=1,services.nodeports=2",
        ),
        (
            "services",
            balancer(json!({"allocateLoadBalancerNodePorts": false})),
            "count/services=1,services=1,services.loadbalancers=1,services.nodeports=1",
        ),
        ("secrets", json!({}), "count/secrets=1,secrets=1"),
    ] {
        assert_eq!(shown(&usage(Kind::new("", plural), &object, now())), expected, "{plural}");
    }
    let devices = json!({"spec": {"devices": {"requests": [
        {"exactly": {"deviceClassName": "gpu", "count": 2}},
        {"firstAvailable": [{"deviceClassName": "gpu", "count": 3}, {"deviceClassName": "nic", "allocationMode": "All"}]},
    ]}}});
    let claims = Kind::new("resource.k8s.io", "resourceclaims");
    let expected = "count/resourceclaims.resource.k8s.io=1,gpu.deviceclass.resource.k8s.io/devices=5,\
                    nic.deviceclass.resource.k8s.io/devices=32";
    assert_eq!(shown(&usage(claims, &devices, now())), expected);
    assert!(claims.takes("gpu.deviceclass.resource.k8s.io/devices"));
    assert_eq!(
        shown(&usage(Kind::new("apps", "deployments"), &json!({}), now())),
        "count/deployments.apps=1"
    );
}

#[test]
fn pods_that_ended_or_should_have_ended_take_their_number_alone() {
    let deleted = |at: &str| json!({"deletionTimestamp": at, "deletionGracePeriodSeconds": 30});
    for (pod, counts) in [
        (json!({"status": {"phase": "Running"}}), true),
        (json!({"status": {"phase": "Succeeded"}}), false),
        (json!({"status": {"phase": "Failed"}}), false),
        (json!({"metadata": deleted("2026-01-01T00:09:50Z")}), true),
        (json!({"metadata": deleted("2026-01-01T00:09:00Z")}), false),
    ] {
        let taken = usage(pods(), &pod, now());
        assert_eq!(taken.contains_key("pods"), counts, "{pod}");
        assert_eq!(taken.get("count/pods"), Some(&Quantity::from_units(1)));
    }
}

#[test]
fn scopes_choose_among_pods_and_claims() {
    let claims = Kind::new("", "persistentvolumeclaims");
    let plain = |scope: &str| json!({"scopes": [scope]});
    let selector = |scope: &str, operator: &str, values: &[&str]| {
        json!({"scopeSelector": {"matchExpressions":
            [{"scopeName": scope, "operator": operator, "values": values}]}})
    };
    let deadline = json!({"spec": {"activeDeadlineSeconds": 5}});
    let sized = pod(json!({"requests": {"cpu": "1"}}));
    let high = json!({"spec": {"priorityClassName": "high"}});
    let term = json!({"topologyKey": "z", "namespaceSelector": {}});
    let far = json!({"spec": {"affinity": {"podAntiAffinity":
        {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": term}]}}}});
    let fast = json!({"spec": {"volumeAttributesClassName": "fast"}});
    for (spec, kind, object, expected) in [
        (plain("Terminating"), pods(), &deadline, true),
        (plain("NotTerminating"), pods(), &deadline, false),
        (plain("BestEffort"), pods(), &sized, false),
        (plain("BestEffort"), pods(), &deadline, true),
        (plain("NotBestEffort"), pods(), &sized, true),
        (plain("CrossNamespacePodAffinity"), pods(), &far, true),
        (plain("CrossNamespacePodAffinity"), pods(), &sized, false),
        (selector("PriorityClass", "In", &["high"]), pods(), &high, true),
        (selector("PriorityClass", "NotIn", &["high"]), pods(), &high, false),
        (selector("PriorityClass", "NotIn", &["high"]), pods(), &sized, true),
        (selector("PriorityClass", "Exists", &[]), pods(), &sized, false),
        (selector("PriorityClass", "DoesNotExist", &[]), pods(), &sized, true),
        (selector("VolumeAttributesClass", "In", &["fast"]), claims, &fast, true),
        (selector("VolumeAttributesClass", "In", &["slow"]), claims, &fast, false),
        (plain("Terminating"), claims, &fast, false),
        (plain("VolumeAttributesClass"), pods(), &sized, false),
    ] {
        assert_eq!(scoped(spec.clone()).matches(kind, object), expected, "{spec} {object}");
    }
}

fn charge(quota: &Quota, old: Option<&Value>, new: Option<&Value>, fact: bool) -> Result<String, String> {
    let change = Change { kind: pods(), old, new, fact, now: now() };
    match quota.charge(&change) {
        Ok(used) => Ok(used.as_ref().map_or_else(|| "same".to_owned(), shown)),
        Err(refusal) => Err(refusal.to_string()),
    }
}

/// What happens, the quota, the object before and after, whether it is a fact, and what comes of it.
type Case<'a> = (&'a str, Quota, Option<&'a Value>, Option<&'a Value>, bool, Result<String, String>);

#[test]
fn charges_releases_and_refusals() {
    let small = pod(json!({"requests": {"cpu": "500m"}, "limits": {"cpu": "1"}}));
    let large = pod(json!({"requests": {"cpu": "2"}, "limits": {"cpu": "2"}}));
    let cpu = || quota(json!({"pods": "2", "requests.cpu": "2"}), json!({"pods": "1", "requests.cpu": "1"}));
    let both = || quota(json!({"limits.cpu": "2", "requests.memory": "1Gi"}), json!({}));
    let mut ended = small.clone();
    ended["status"] = json!({"phase": "Succeeded"});
    let ok = |used: &str| Ok(used.to_owned());
    let no = |why: &str| Err(why.to_owned());
    let over =
        no("exceeded quota: q, requested: requests.cpu=2, used: requests.cpu=1, limited: requests.cpu=2");
    let grown =
        no("exceeded quota: q, requested: requests.cpu=1500m, used: requests.cpu=1, limited: requests.cpu=2");
    let cases: Vec<Case<'_>> = vec![
        ("create", cpu(), None, Some(&small), false, ok("pods=2,requests.cpu=1500m")),
        ("too much", cpu(), None, Some(&large), false, over),
        ("grows", cpu(), Some(&small), Some(&large), false, grown),
        ("a fact grows", cpu(), Some(&small), Some(&large), true, ok("pods=1,requests.cpu=2500m")),
        ("shrinks", cpu(), Some(&large), Some(&small), false, ok("pods=1,requests.cpu=0")),
        ("ends", cpu(), Some(&small), Some(&ended), true, ok("pods=0,requests.cpu=500m")),
        ("goes", cpu(), Some(&small), None, false, ok("pods=0,requests.cpu=500m")),
        ("an ended one goes", cpu(), Some(&ended), None, false, ok("same")),
        ("stays", cpu(), Some(&small), Some(&small), false, ok("same")),
        (
            "says too little",
            both(),
            None,
            Some(&small),
            false,
            no("failed quota: q: must specify requests.memory for: c"),
        ),
        (
            "not counted yet",
            quota(json!({"limits.cpu": "2"}), json!({})),
            None,
            Some(&small),
            false,
            no("status unknown for quota: q, resources: limits.cpu"),
        ),
        ("a release before the count", both(), Some(&small), None, false, ok("same")),
        ("another kind", quota(json!({"secrets": "0"}), json!({})), None, Some(&small), false, ok("same")),
    ];
    for (what, quota, old, new, fact, expected) in cases {
        assert_eq!(charge(&quota, old, new, fact), expected, "{what}");
    }
    let negative = pod(json!({"requests": {"cpu": "-1"}}));
    let why = charge(&cpu(), None, Some(&negative), false);
    assert_eq!(why, no("quota usage is negative for resource(s): requests.cpu"));
}

#[test]
fn a_recount_is_the_sum_and_names_everything() {
    let quota = quota(
        json!({"pods": "5", "requests.cpu": "5", "secrets": "1", "count/widgets.example.com": "1"}),
        json!({"pods": "77"}),
    );
    let small = pod(json!({"requests": {"cpu": "500m"}}));
    let secret = json!({});
    let objects = [(pods(), &small), (pods(), &small), (Kind::new("", "secrets"), &secret)];
    let used = quota.recount(objects, now());
    assert_eq!(shown(&used), "count/widgets.example.com=0,pods=2,requests.cpu=1,secrets=1");
    let kinds: Vec<String> = quota.kinds().into_iter().map(|(g, p)| format!("{p}.{g}")).collect();
    assert_eq!(kinds, ["pods.", "secrets.", "widgets.example.com"]);
}
