//! Label and field selectors.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at what it does not understand")]

use std::collections::BTreeMap;

use carrack_api::find;
use carrack_api::select::{FieldSelector, LabelSelector, Selection, View};
use proptest::prelude::*;
use serde_json::json;

fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
    let labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
    LabelSelector::parse(selector).unwrap().matches(|key| labels.get(key).copied())
}

#[test]
fn label_selectors_match() {
    let labels = [("app", "web"), ("tier", "2"), ("empty", "")];
    for selector in [
        "",
        "app",
        "app=web",
        "app==web",
        " app = web , tier ",
        "app!=db",
        "missing!=x",
        "!missing",
        "app in (db,web)",
        "app notin (db)",
        "missing notin (x)",
        "empty=",
        "empty in (,x)",
        "tier>1,tier<3",
    ] {
        assert!(matches(selector, &labels), "{selector:?}");
    }
    for selector in
        ["missing", "app=db", "!app", "app in (db)", "app notin (web)", "tier>2", "app>1", "missing=", "app="]
    {
        assert!(!matches(selector, &labels), "{selector:?}");
    }
}

#[test]
fn label_selectors_that_are_refused() {
    for selector in [
        "=", "a b", "a=b c", "a in b", "a in (b", "a=b,", ",a", "a b (c)", "a=!", "a=b=c", "-a", "a>b",
        "a=-b",
    ] {
        assert!(LabelSelector::parse(selector).is_err(), "{selector:?}");
    }
}

#[test]
fn selectors_of_objects() {
    let of = |value| LabelSelector::from_value(Some(&value));
    let selector = of(json!({
        "matchLabels": {"b": "c"},
        "matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["y", "x"]}, {"key": "d", "operator": "Exists"}],
    }));
    assert_eq!(selector.unwrap().to_string(), "a notin (x,y),b=c,d");
    assert!(of(json!({})).unwrap().is_everything());
    assert!(!LabelSelector::from_value(None).unwrap().matches(|_| Some("x")));
    assert!(of(json!({"matchExpressions": [{"key": "a", "operator": "In"}]})).is_err());
    assert!(of(json!({"matchExpressions": [{"key": "a", "operator": "Like", "values": ["x"]}]})).is_err());
}

#[test]
fn field_selectors() {
    let selector = FieldSelector::parse(r"metadata.name=a\,b\=c,status.phase!=Running,spec.x==y").unwrap();
    assert_eq!(selector.terms().len(), 3);
    assert_eq!(selector.required_value("metadata.name"), Some("a,b=c"));
    assert_eq!(selector.required_value("status.phase"), None);
    assert_eq!(FieldSelector::parse(&selector.to_string()).unwrap(), selector);
    for broken in ["a", "a=b=c", r"a=\b", r"a=b\"] {
        assert!(FieldSelector::parse(broken).is_err(), "{broken:?}");
    }
}

#[test]
fn selections_look_at_views() {
    let pods = find("", "v1", "pods").unwrap();
    let pod = json!({
        "metadata": {"name": "a", "namespace": "n", "labels": {"app": "web"}},
        "spec": {"nodeName": "n1"}, "status": {"phase": "Running"},
    });
    let view = View::of(pods, &pod);
    let chosen = |labels, fields| Selection::parse(pods, labels, fields).unwrap().matches(&view);
    assert!(chosen("app=web", "spec.nodeName=n1,status.phase!=Failed"));
    assert!(chosen("", "spec.hostNetwork=false"));
    assert!(!chosen("app=web", "spec.nodeName="));
    assert!(!chosen("app=db", ""));
    let why = Selection::parse(pods, "", "spec.containers=x").unwrap_err().to_string();
    assert_eq!(why, "field label not supported: spec.containers");
}

proptest! {
    #[test]
    fn what_is_written_is_read_the_same(text in "[a-c]{1,2}(=|!=| in | notin |>|)\\(?[a-c0-9]{0,2}\\)?(,!?[a-c])?") {
        if let Ok(selector) = LabelSelector::parse(&text) {
            let written = selector.to_string();
            prop_assert_eq!(LabelSelector::parse(&written).unwrap().to_string(), written);
        }
    }

    #[test]
    fn nothing_panics(text in ".*") {
        let _ = LabelSelector::parse(&text);
        let _ = FieldSelector::parse(&text);
    }
}
