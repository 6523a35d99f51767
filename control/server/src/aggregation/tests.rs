//! When an APIService counts as available, and what discovery tells of it.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Known;
use super::available::{Condition, obstacle, with_condition};
use super::discovery::{merge_groups, merge_items, put_in_order};
use super::proxy::name_user;
use super::remote::Remote;
use crate::UserInfo;

fn remote(available: &str) -> Remote {
    let object = json!({
        "spec": {"group": "g.example", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10,
            "insecureSkipTLSVerify": true, "service": {"namespace": "n", "name": "s", "port": 443}},
        "status": {"conditions": [{"type": "Available", "status": available}]},
    });
    Remote::read("v1.g.example", &object).unwrap()
}

#[test]
fn own_groups_are_no_remote_ones() {
    assert!(Remote::read("v1.apps", &json!({"spec": {"group": "apps", "version": "v1"}})).is_none());
    assert!(remote("True").available && !remote("False").available);
    assert_eq!(
        (remote("True").path().as_str(), remote("True").service()),
        ("/apis/g.example/v1", ("n", "s", 443))
    );
}

#[test]
fn what_stands_against_asking_is_told_with_upstreams_reasons() {
    let service = |spec: Value| json!({"metadata": {"name": "s"}, "spec": spec});
    let good = service(json!({"type": "ClusterIP", "ports": [{"name": "web", "port": 443}]}));
    let other = service(json!({"type": "ClusterIP", "ports": [{"port": 80}]}));
    let external = service(json!({"type": "ExternalName", "externalName": "x"}));
    let slice = |ready: bool| {
        json!({"ports": [{"name": "web", "port": 1}],
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}]})
    };
    let (ready, unready) = (slice(true), slice(false));
    let cases: [(Option<&Value>, &[&Value], &str); 6] = [
        (None, &[], "ServiceNotFound: service/s in \"n\" is not present"),
        (Some(&other), &[], "ServicePortError: service/s in \"n\" is not listening on port 443"),
        (Some(&good), &[], "EndpointsNotFound: cannot find endpointslices for service/s in \"n\""),
        (
            Some(&good),
            &[&unready],
            "MissingEndpoints: endpointslices for service/s in \"n\" have no addresses with port name \"web\"",
        ),
        (Some(&good), &[&ready], ""),
        (Some(&external), &[], ""),
    ];
    for (service, slices, expected) in cases {
        let found = obstacle(&remote("True"), service, slices, None);
        let found = found.map_or(String::new(), |c| format!("{}: {}", c.reason, c.message));
        assert_eq!(found, expected);
    }
}

#[test]
fn a_condition_changes_its_time_with_its_status_alone() {
    let condition = |status, reason| Condition { status, reason, message: String::new() };
    let at = |seconds| Timestamp::from_second(seconds).unwrap();
    let first = with_condition(&json!({}), &condition("False", "ServiceNotFound"), at(0)).unwrap();
    assert_eq!(first["status"]["conditions"][0]["lastTransitionTime"], "1970-01-01T00:00:00Z");
    assert_eq!(with_condition(&first, &condition("False", "ServiceNotFound"), at(5)), None);
    let second = with_condition(&first, &condition("False", "MissingEndpoints"), at(5)).unwrap();
    assert_eq!(second["status"]["conditions"][0]["lastTransitionTime"], "1970-01-01T00:00:00Z");
    let third = with_condition(&second, &condition("True", "Passed"), at(5)).unwrap();
    assert_eq!(third["status"]["conditions"][0]["lastTransitionTime"], "1970-01-01T00:00:05Z");
    assert_eq!(third["status"]["conditions"].as_array().unwrap().len(), 1);
}

#[test]
fn remote_groups_are_merged_into_discovery() {
    let list = json!({"resources": [
        {"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing", "verbs": ["get"]},
        {"name": "things/scale", "group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": ["get"]},
    ]});
    let known = Known { resources: Arc::new(list), openapi: None, openapi_v2: None };
    let described = [(Arc::new(remote("True")), Some(known)), (Arc::new(remote("False")), None)];
    let mut groups = vec![json!({"name": "apps", "versions": []})];
    merge_groups(&mut groups, &described);
    assert_eq!(groups.len(), 2);
    assert_eq!(groups[1]["preferredVersion"]["groupVersion"], "g.example/v1");
    groups.insert(0, json!({"name": "custom.example"}));
    groups.insert(0, json!({"name": "batch"}));
    put_in_order(&mut groups, "/name", &described);
    let names: Vec<&str> = groups.iter().filter_map(|group| group["name"].as_str()).collect();
    assert_eq!(names, ["apps", "batch", "custom.example", "g.example"]);
    let mut items = Vec::new();
    merge_items(&mut items, &described[..1]);
    let version = &items[0]["versions"][0];
    assert_eq!(version["freshness"], "Current");
    let thing = &version["resources"][0];
    assert_eq!(
        (&thing["scope"], &thing["responseKind"]["group"]),
        (&json!("Namespaced"), &json!("g.example"))
    );
    assert_eq!(thing["subresources"][0]["responseKind"]["kind"], "Scale");
    merge_items(&mut items, &described[1..]);
    assert_eq!(items[0]["versions"].as_array().unwrap().len(), 1);
    assert_eq!(items[0]["versions"][0]["freshness"], "Stale");
}

#[test]
fn users_are_named_in_headers() {
    let mut user = UserInfo::new("jane", ["dev"]);
    user.extra.insert("authentication.kubernetes.io/node-name".into(), vec!["n1".into(), "n2".into()]);
    let mut headers = http::HeaderMap::new();
    name_user(&mut headers, &user).unwrap();
    let all = |name: &str| headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(all("x-remote-user"), ["jane"]);
    assert_eq!(all("x-remote-group"), ["dev", "system:authenticated"]);
    assert_eq!(all("x-remote-extra-authentication.kubernetes.io%2fnode-name"), ["n1", "n2"]);
    user.name = "a\nb".into();
    assert!(name_user(&mut headers, &user).is_err());
}
