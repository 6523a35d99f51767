//! The objects that every server relies on: who is let through whatever happens, and what is left for everybody else.
//! Their specs are fixed.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The spec of the FlowSchema of this name, if it is fixed.
pub(super) fn flow_schema(name: &str) -> Option<Value> {
    let (level, precedence, groups) = match name {
        "exempt" => ("exempt", 1, &["system:masters"][..]),
        "catch-all" => ("catch-all", 10_000, &["system:unauthenticated", "system:authenticated"][..]),
        _ => return None,
    };
    let subjects = groups.iter().map(|group| json!({"kind": "Group", "group": {"name": group}}));
    let mut spec = json!({
        "priorityLevelConfiguration": {"name": level},
        "matchingPrecedence": precedence,
        "rules": [{
            "subjects": subjects.collect::<Value>(),
            "resourceRules": [{
                "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"],
            }],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }],
    });
    if name == "catch-all" {
        spec["distinguisherMethod"] = json!({"type": "ByUser"});
    }
    Some(spec)
}

/// The spec of the PriorityLevelConfiguration of this name, if it is fixed; of `exempt` the part of that name is not.
pub(super) fn priority_level(name: &str) -> Option<Value> {
    match name {
        "exempt" => Some(json!({
            "type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0},
        })),
        "catch-all" => Some(json!({"type": "Limited", "limited": {
            "nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"},
        }})),
        _ => None,
    }
}

/// The same as what objects are decoded to.
pub(super) fn typed<T: DeserializeOwned>(spec: Option<Value>) -> Option<T> {
    spec.and_then(|spec| serde_json::from_value(spec).ok())
}
