//! What holds for every row of the table of kinds.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at what it does not understand")]

use std::collections::BTreeSet;

use carrack_api::codec::{self, DecodeError, Media};
use carrack_api::table::{self, Include, Version};
use carrack_api::{Catalogue, Verb, discovery, find, find_kind, meta, openapi, resources, schema};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

#[test]
fn rows_agree_with_themselves() {
    let mut seen = BTreeSet::new();
    for row in resources() {
        assert!(seen.insert((row.group, row.version, row.plural)), "{row:?} is there twice");
        let expected = if row.group.is_empty() {
            row.version.to_owned()
        } else {
            format!("{}/{}", row.group, row.version)
        };
        assert_eq!(row.api_version, expected, "{row:?}");
        let listed = row.allows(Verb::List);
        assert_eq!(
            row.list_kind,
            if listed { format!("{}List", row.kind) } else { String::new() },
            "{row:?}"
        );
        assert!(row.verbs.windows(2).all(|v| v[0].as_str() < v[1].as_str()), "verbs of {row:?} are sorted");
        assert!(
            row.subresources().windows(2).all(|s| s[0].name < s[1].name),
            "subresources of {row:?} are sorted"
        );
        assert_eq!(
            row.allows(Verb::Update),
            !row.storage_prefix.is_empty(),
            "{row:?} is stored if it can be changed"
        );
        assert!(matches!(row.schema.shape(), schema::Shape::Object(_)), "{row:?} has a shape");
        assert!(std::ptr::eq(find(row.group, row.version, row.plural).unwrap(), row));
        assert!(std::ptr::eq(find_kind(row.group, row.version, row.kind).unwrap(), row));
        assert_eq!(row.is_storage_version(), row.gvk() == row.storage, "{row:?}");
        assert!(find_kind(row.storage.group, row.storage.version, row.storage.kind).is_some(), "{row:?}");
        assert_eq!(row.strategy().selectable_fields()[0], "metadata.name", "{row:?}");
    }
}

#[test]
fn events_of_both_groups_are_one() {
    let row = find("events.k8s.io", "v1", "events").unwrap();
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"},
        "note": "n", "regarding": {"kind": "Pod"}, "reportingController": "c", "deprecatedCount": 2,
        "deprecatedSource": {"component": "x"}, "deprecatedFirstTimestamp": "t", "deprecatedLastTimestamp": "u", "action": "a",
    });
    let conversion = row.conversion.unwrap();
    let mut stored = event.clone();
    (conversion.to_storage)(&mut stored);
    assert_eq!(stored["apiVersion"], "v1");
    assert_eq!(stored["involvedObject"]["kind"], "Pod");
    assert_eq!(stored["count"], 2);
    (conversion.from_storage)(&mut stored);
    assert_eq!(stored, event);
}

/// What v1 of autoscaling cannot say rides in annotations, and comes back.
#[test]
fn autoscalers_of_both_versions_are_one() {
    let row = find("autoscaling", "v1", "horizontalpodautoscalers").unwrap();
    let conversion = row.conversion.unwrap();
    let number = |n: i64| json!(n.to_string());
    let reference = json!({"kind": "Ingress", "name": "i"});
    let stored = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h", "annotations": {"mine": "stays"}},
        "spec": {
            "maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "web"},
            "behavior": {"scaleDown": {"selectPolicy": "Disabled"}},
            "metrics": [
                {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": number(5)}}},
                {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c", "target": {"type": "Utilization", "averageUtilization": 9}}},
                {"type": "Pods", "pods": {"metric": {"name": "q"}, "target": {"type": "AverageValue", "averageValue": number(5)}}},
                {"type": "Object", "object": {"describedObject": reference, "metric": {"name": "q", "selector": {}}, "target": {"type": "Value", "value": number(5)}}},
                {"type": "Object", "object": {"describedObject": reference, "metric": {"name": "q"}, "target": {"type": "AverageValue", "averageValue": number(5)}}},
                {"type": "External", "external": {"metric": {"name": "q", "selector": {}}, "target": {"type": "Value", "value": number(5)}}},
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}},
            ],
        },
        "status": {
            "currentReplicas": 1, "desiredReplicas": 2, "conditions": [{"type": "AbleToScale", "status": "True"}],
            "currentMetrics": [
                {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 10, "averageValue": number(5)}}},
                {"type": "External", "external": {"metric": {"name": "q"}, "current": {"value": number(5)}}},
            ],
        },
    });
    let mut served = stored.clone();
    (conversion.from_storage)(&mut served);
    assert_eq!(served["apiVersion"], "autoscaling/v1");
    assert_eq!(served["spec"]["targetCPUUtilizationPercentage"], 80);
    assert_eq!(served["status"]["currentCPUUtilizationPercentage"], 10);
    assert!(served["spec"].get("metrics").is_none() && served["status"].get("conditions").is_none());
    let metrics =
        served["metadata"]["annotations"]["autoscaling.alpha.kubernetes.io/metrics"].as_str().unwrap();
    let metrics: Value = serde_json::from_str(metrics).unwrap();
    assert_eq!(
        metrics[0],
        json!({"type": "Resource", "resource": {"name": "memory", "targetAverageValue": "5"}})
    );
    assert_eq!(metrics[2]["pods"], json!({"metricName": "q", "targetAverageValue": "5"}));
    assert!(codec::check(served.clone(), row).is_ok_and(|decoded| decoded.strict_error().is_none()));
    (conversion.to_storage)(&mut served);
    assert_eq!(served, stored);
    let strategy = find("autoscaling", "v2", "horizontalpodautoscalers").unwrap().strategy();
    let mut plain = json!({
        "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
        "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50, "scaleTargetRef": {"kind": "D", "name": "w"}},
    });
    (conversion.to_storage)(&mut plain);
    strategy.default(&mut plain);
    assert_eq!(
        plain["spec"]["metrics"][0]["resource"]["target"],
        json!({"type": "Utilization", "averageUtilization": 50})
    );
}

#[test]
fn stored_objects_are_read_without_encoding_again() {
    let pods = find("", "v1", "pods").unwrap();
    let pod = json!({
        "spec": {"containers": []}, "kind": "Pod", "apiVersion": "v1",
        "metadata": {"uid": "u", "name": "a", "resourceVersion": "7", "labels": {"x": "é\""}},
    });
    let stored = codec::encode_storage(&pod).unwrap();
    assert_eq!(
        stored,
        r#"{"apiVersion":"v1","kind":"Pod","metadata":{"labels":{"x":"é\""},"name":"a","uid":"u"},"spec":{"containers":[]}}"#
    );
    let (head, tail) = codec::splice(pods, &stored, 42).unwrap();
    let sent: Value = serde_json::from_slice(&[head, tail].concat()).unwrap();
    assert_eq!(meta::resource_version(&sent), "42");
    assert_eq!(sent["spec"], pod["spec"]);
    assert_eq!(
        codec::splice_head(pods, 42).len(),
        codec::head_length(pods) + r#""resourceVersion":"42","#.len()
    );
    assert!(codec::splice(find("", "v1", "nodes").unwrap(), &stored, 42).is_none());
    for broken in
        [json!([]), json!({"kind": "Pod"}), json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}})]
    {
        assert!(codec::encode_storage(&broken).is_err());
    }
}

#[test]
fn bodies_are_bounded() {
    let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(codec::decode(deep(codec::MAX_DEPTH).as_bytes(), Media::Json).is_ok());
    assert_eq!(codec::decode(deep(codec::MAX_DEPTH + 1).as_bytes(), Media::Json), Err(DecodeError::TooDeep));
    assert_eq!(codec::decode(deep(100_000).as_bytes(), Media::Json), Err(DecodeError::TooDeep));
    assert!(codec::decode(deep(100_000).as_bytes(), Media::Yaml).is_err());
    let large = vec![b' '; codec::MAX_BODY + 1];
    assert_eq!(codec::decode(&large, Media::Json), Err(DecodeError::TooLarge));
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned()
        + &(b'b'..=b'j').map(|c| {
            let (this, before) = (c as char, (c - 1) as char);
            format!("{this}: &{this} [*{before},*{before},*{before},*{before},*{before},*{before},*{before},*{before}]\n")
        }).collect::<String>();
    assert!(codec::decode(bomb.as_bytes(), Media::Yaml).is_err(), "aliases cannot fill memory");
}

#[test]
fn generated_names_are_short_enough() {
    assert_eq!(meta::generate_name("web-", [0, 1, 26, 27, 255]), "web-bc9bq");
    assert_eq!(meta::generate_name(&"x".repeat(80), [0; 5]).len(), 63);
}

#[test]
fn deletion_is_marked_once_with_its_grace() {
    let mut pod = json!({"metadata": {"name": "a", "generation": 3}});
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    meta::mark_deleted(&mut pod, now, 30);
    assert_eq!(
        pod["metadata"],
        json!({"name": "a", "generation": 4, "deletionGracePeriodSeconds": 30, "deletionTimestamp": "2026-01-01T00:00:30Z"})
    );
    assert!(meta::is_deleting(&pod));
}

#[test]
fn pods_that_run_nowhere_go_at_once() {
    let strategy = find("", "v1", "pods").unwrap().strategy();
    let pod = |node: &str, phase: &str| json!({"spec": {"nodeName": node, "terminationGracePeriodSeconds": 30}, "status": {"phase": phase}});
    assert_eq!(strategy.grace_period(&pod("", "Pending"), None), Some(0));
    assert_eq!(strategy.grace_period(&pod("n", "Succeeded"), Some(9)), Some(0));
    assert_eq!(strategy.grace_period(&pod("n", "Running"), None), Some(30));
    assert_eq!(strategy.grace_period(&pod("n", "Running"), Some(5)), Some(5));
    assert_eq!(strategy.grace_period(&pod("n", "Running"), Some(-5)), Some(1));
    assert_eq!(find("", "v1", "secrets").unwrap().strategy().grace_period(&json!({}), None), None);
}

#[test]
fn discovery_says_what_the_table_says() {
    let plain = discovery::api_resource_list(Catalogue::builtin(), "", "v1").unwrap();
    let pods = plain["resources"].as_array().unwrap().iter().find(|r| r["name"] == "pods").unwrap();
    assert_eq!(pods["shortNames"], json!(["po"]));
    assert_eq!(pods["categories"], json!(["all"]));
    assert_eq!(
        pods["verbs"],
        json!(["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"])
    );
    let eviction =
        plain["resources"].as_array().unwrap().iter().find(|r| r["name"] == "pods/eviction").unwrap();
    assert_eq!(
        (&eviction["group"], &eviction["version"], &eviction["kind"]),
        (&json!("policy"), &json!("v1"), &json!("Eviction"))
    );
    assert!(discovery::api_resource_list(Catalogue::builtin(), "", "v2").is_none());
    assert!(
        discovery::api_group(Catalogue::builtin(), "apps").is_some()
            && discovery::api_group(Catalogue::builtin(), "none").is_none()
    );
    let mut count = 0;
    for list in [
        discovery::aggregated_core(Catalogue::builtin(), discovery::AggregatedVersion::V2),
        discovery::aggregated_groups(Catalogue::builtin(), discovery::AggregatedVersion::V2Beta1),
    ] {
        for group in list["items"].as_array().unwrap() {
            for version in group["versions"].as_array().unwrap() {
                count += version["resources"].as_array().unwrap().len();
            }
        }
    }
    assert_eq!(count, resources().len());
}

/// Every reference in a document, as JSON pointers.
fn references(value: &Value, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(target)) = fields.get("$ref") {
                out.insert(target.trim_start_matches('#').to_owned());
            }
            fields.values().for_each(|v| references(v, out));
        }
        Value::Array(items) => items.iter().for_each(|v| references(v, out)),
        _ => {}
    }
}

#[test]
fn openapi_documents_are_whole() {
    let index = openapi::v3_index(Catalogue::builtin());
    let mut documents: Vec<Value> =
        vec![serde_json::from_slice(&openapi::v2(Catalogue::builtin()).bytes).unwrap()];
    for (path, entry) in index["paths"].as_object().unwrap() {
        let document = openapi::v3(Catalogue::builtin(), path).unwrap();
        assert_eq!(entry["serverRelativeURL"], format!("/openapi/v3/{path}?hash={}", document.hash));
        documents.push(serde_json::from_slice(&document.bytes).unwrap());
    }
    for document in &documents {
        let mut found = BTreeSet::new();
        references(document, &mut found);
        assert!(found.len() > 10);
        for target in found {
            assert!(document.pointer(&target).is_some(), "{target} is not in the document");
        }
    }
    assert!(openapi::v3(Catalogue::builtin(), "apis/none/v1").is_none());
}

#[test]
fn openapi_says_what_kubectl_asks() {
    let apps: Value =
        serde_json::from_slice(&openapi::v3(Catalogue::builtin(), "apis/apps/v1").unwrap().bytes).unwrap();
    let patch = &apps["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "apps", "version": "v1", "kind": "Deployment"})
    );
    let names: Vec<&str> =
        patch["parameters"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
    let spec = &apps["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"];
    assert_eq!(spec["containers"]["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(spec["volumes"]["x-kubernetes-patch-strategy"], "merge,retainKeys");
    let deployment = &apps["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(deployment["x-kubernetes-group-version-kind"][0]["kind"], "Deployment");
    assert!(
        deployment["description"].as_str().unwrap().starts_with("Deployment enables declarative updates")
    );
}

#[test]
fn openapi_tells_the_values_that_a_field_may_have() {
    let v2: Value = serde_json::from_slice(&openapi::v2(Catalogue::builtin()).bytes).unwrap();
    let core: Value =
        serde_json::from_slice(&openapi::v3(Catalogue::builtin(), "api/v1").unwrap().bytes).unwrap();
    for schemas in [&v2["definitions"], &core["components"]["schemas"]] {
        let field =
            |of: &str, field: &str| schemas[format!("io.k8s.api.core.v1.{of}")]["properties"][field].clone();
        assert_eq!(field("Container", "imagePullPolicy")["enum"], json!(["Always", "IfNotPresent", "Never"]));
        let modes = field("PersistentVolumeClaimSpec", "accessModes");
        assert_eq!(modes["enum"], Value::Null);
        assert_eq!(modes["items"]["enum"][3], "ReadWriteOncePod");
        let statuses = field("PersistentVolumeClaimStatus", "allocatedResourceStatuses");
        assert_eq!(statuses["additionalProperties"]["enum"][0], "ControllerResizeInProgress");
        assert_eq!(field("PodCondition", "type")["enum"], Value::Null, "others may add conditions");
    }
}

/// Objects of the right shape for nothing at all, to throw at everything.
fn anything() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "metadata",
        "spec",
        "status",
        "containers",
        "template",
        "selector",
        "ports",
        "name",
        "labels",
        "data",
        "type",
        "resources",
        "limits",
        "volumes",
        "subsets",
        "addresses",
        "rules",
        "subjects",
        "roleRef",
        "clusterIP",
        "taints",
        "conditions",
        "containerStatuses",
        "state",
        "env",
        "strategy",
        "rollingUpdate",
        "finalizers",
        "matchLabels",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(names.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_kind_panics_on_anything(object in anything(), other in anything()) {
        let now = Timestamp::UNIX_EPOCH;
        for row in resources() {
            let strategy = row.strategy();
            let mut new = object.clone();
            strategy.default(&mut new);
            let mut again = new.clone();
            strategy.default(&mut again);
            prop_assert_eq!(&again, &new, "defaults of {:?} change nothing the second time", row);
            strategy.prepare_create(&mut new);
            let _ = strategy.validate_create(&new);
            strategy.prepare_update(&mut new, &other);
            let _ = strategy.validate_update(&new, &other);
            strategy.prepare_status_update(&mut new, &other);
            let _ = strategy.validate_status_update(&new, &other);
            for part in row.subresources() {
                let mut new = object.clone();
                if strategy.prepare_part_update(part.name, &mut new, &other) {
                    let _ = strategy.validate_part_update(part.name, &new, &other);
                }
            }
            let _ = strategy.warnings(&new);
            for field in strategy.selectable_fields() {
                let _ = strategy.selectable(&object, field);
            }
            let cells = table::row(row, &object, Include::Metadata, Version::V1Beta1, now);
            let columns = table::column_definitions(row);
            // Upstream sends ages of addresses, and no column for them.
            let shown = columns.as_array().unwrap().len() + usize::from(row.plural == "ipaddresses");
            prop_assert_eq!(cells["cells"].as_array().unwrap().len(), shown);
            let _ = codec::check(object.clone(), row);
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,40}", yaml in any::<bool>()) {
        let media = if yaml { Media::Yaml } else { Media::Json };
        let _ = codec::decode_object(text.as_bytes(), media, find("", "v1", "pods").unwrap());
    }

    /// What strict decoding lets pass, the types of k8s-openapi take.
    #[test]
    fn what_passes_is_of_the_type(object in anything()) {
        let pods = find("", "v1", "pods").unwrap();
        if let Ok(decoded) = codec::check(object, pods) {
            let typed = serde_json::from_value::<k8s_openapi::api::core::v1::Pod>(decoded.value);
            prop_assert!(typed.is_ok(), "{:?}", typed.err());
        }
    }
}
