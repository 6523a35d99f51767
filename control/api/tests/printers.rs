//! Cells that only rarely set fields fill.
// Helpers outside the test functions: one that fails ends its test.
#![allow(clippy::unwrap_used)]

use carrack_api::table::{Include, Version, row};
use jiff::Timestamp;
use serde_json::{Value, json};

fn cells(group: &str, plural: &str, object: &Value) -> Value {
    let resource = carrack_api::find(group, "v1", plural).unwrap();
    row(resource, object, Include::None, Version::V1, Timestamp::UNIX_EPOCH)["cells"].clone()
}

#[test]
fn what_is_rarely_set_is_shown_as_upstream_shows_it() {
    let class = json!({
        "metadata": {"name": "c", "annotations": {"volumeattributesclass.alpha.kubernetes.io/is-default-class": "true"}},
        "driverName": "d",
    });
    assert_eq!(cells("storage.k8s.io", "volumeattributesclasses", &class)[0], "c (default)");
    let mut capacity = json!({"metadata": {"name": "c"}, "storageClassName": "s"});
    assert_eq!(cells("storage.k8s.io", "csistoragecapacities", &capacity)[2], "<unset>");
    capacity["capacity"] = "1Gi".into();
    assert_eq!(cells("storage.k8s.io", "csistoragecapacities", &capacity)[2], "1Gi");
    let address = json!({"spec": {"parentRef": {"group": "Example.com", "resource": "Things", "namespace": "N", "name": "T"}}});
    assert_eq!(cells("networking.k8s.io", "ipaddresses", &address)[1], "things.example.com/N/T");
}

#[test]
fn addresses_have_ages_that_no_column_shows() {
    let addresses = carrack_api::find("networking.k8s.io", "v1", "ipaddresses").unwrap();
    let columns = carrack_api::table::column_definitions(addresses);
    let names: Vec<&Value> = columns.as_array().unwrap().iter().map(|column| &column["name"]).collect();
    assert_eq!(names, ["Name", "ParentRef"]);
    let address = json!({"metadata": {"name": "10.0.0.1", "creationTimestamp": "1969-12-31T23:59:00Z"}});
    assert_eq!(cells("networking.k8s.io", "ipaddresses", &address), json!(["10.0.0.1", "<none>", "60s"]));
}

#[test]
fn selectors_of_parameters_are_shown() {
    let shown = |param_ref: Value| {
        let binding = json!({"metadata": {"name": "b"}, "spec": {"paramRef": param_ref}});
        cells("admissionregistration.k8s.io", "validatingadmissionpolicybindings", &binding)[2].clone()
    };
    assert_eq!(shown(json!({"name": "p"})), "*/p");
    assert_eq!(shown(json!({"name": "p", "namespace": "n"})), "n/p");
    assert_eq!(shown(json!({})), "<unset>");
    let selector = json!({
        "matchLabels": {"b": "2", "a": "1"},
        "matchExpressions": [{"key": "k", "operator": "In", "values": ["x", "z"]}, {"key": "l", "operator": "Exists"}],
    });
    assert_eq!(
        shown(json!({"selector": selector})),
        "&LabelSelector{MatchLabels:map[string]string{a: 1,b: 2,},MatchExpressions:[]LabelSelectorRequirement{\
         LabelSelectorRequirement{Key:k,Operator:In,Values:[x z],},\
         LabelSelectorRequirement{Key:l,Operator:Exists,Values:[],},},}"
    );
}
