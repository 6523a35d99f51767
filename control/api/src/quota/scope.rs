//! Scopes: which objects a quota is about.

use serde_json::Value;

use super::usage::Kind;
use crate::select::{Operator, Requirement as Selector};

/// All scopes there are.
pub(super) const NAMES: &[&str] = &[
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

/// One scope that an object has to be in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Requirement {
    pub(super) scope: String,
    operator: Operator,
    pub(super) values: Vec<String>,
}

/// The scopes of a ResourceQuota: the plain ones, and those with selectors.
pub(super) fn read(quota: &Value) -> Vec<Requirement> {
    let list = |pointer| quota.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    let plain = list("/spec/scopes").filter_map(Value::as_str).map(|scope| Requirement {
        scope: scope.to_owned(),
        operator: Operator::Exists,
        values: Vec::new(),
    });
    plain.chain(list("/spec/scopeSelector/matchExpressions").map(expression)).collect()
}

pub(super) fn expression(of: &Value) -> Requirement {
    let text = |field| of.get(field).and_then(Value::as_str).unwrap_or_default();
    let values = of.get("values").and_then(Value::as_array).into_iter().flatten();
    Requirement {
        scope: text("scopeName").to_owned(),
        operator: match text("operator") {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => Operator::Exists,
        },
        values: values.filter_map(Value::as_str).map(str::to_owned).collect(),
    }
}

impl Requirement {
    /// The operator in the API's words.
    pub(super) fn operator_word(&self) -> &'static str {
        match self.operator {
            Operator::In => "In",
            Operator::NotIn => "NotIn",
            Operator::DoesNotExist => "DoesNotExist",
            _ => "Exists",
        }
    }

    /// Whether the object is in the scope. Objects of kinds that the scope is not about never are.
    pub(super) fn matches(&self, kind: Kind<'_>, object: &Value) -> bool {
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str).filter(|t| !t.is_empty());
        if kind.is_core("persistentvolumeclaims") {
            return self.scope == "VolumeAttributesClass" && self.selects(&attributes_classes(object));
        }
        if !kind.is_core("pods") {
            return false;
        }
        match self.scope.as_str() {
            "Terminating" => is_terminating(object),
            "NotTerminating" => !is_terminating(object),
            "BestEffort" => is_best_effort(object),
            "NotBestEffort" => !is_best_effort(object),
            "PriorityClass" => self.selects(&Vec::from_iter(text("/spec/priorityClassName"))),
            "CrossNamespacePodAffinity" => crosses_namespaces(object),
            _ => false,
        }
    }

    /// Whether the selector selects one of the names, or none when there are none.
    fn selects(&self, names: &[&str]) -> bool {
        let Ok(selector) = Selector::new(&self.scope, self.operator, self.values.clone()) else {
            return false;
        };
        if names.is_empty() {
            selector.matches(None)
        } else {
            names.iter().any(|n| selector.matches(Some(n)))
        }
    }
}

/// Whether the pod ends by itself: it has a deadline.
fn is_terminating(pod: &Value) -> bool {
    pod.pointer("/spec/activeDeadlineSeconds").and_then(Value::as_i64).is_some_and(|seconds| seconds >= 0)
}

fn is_best_effort(pod: &Value) -> bool {
    match pod.pointer("/status/qosClass").and_then(Value::as_str) {
        Some(class) if !class.is_empty() => class == "BestEffort",
        _ => crate::kinds::quality(pod) == "BestEffort",
    }
}

/// Whether an affinity term of the pod looks into other namespaces.
fn crosses_namespaces(pod: &Value) -> bool {
    const TERMS: &[(&str, &str)] = &[
        ("requiredDuringSchedulingIgnoredDuringExecution", ""),
        ("preferredDuringSchedulingIgnoredDuringExecution", "podAffinityTerm"),
    ];
    let affinity = |sort: &str| pod.pointer("/spec/affinity").and_then(|all| all.get(sort));
    ["podAffinity", "podAntiAffinity"].into_iter().filter_map(affinity).any(|affinity| {
        TERMS.iter().any(|(field, inner)| {
            let terms = affinity.get(field).and_then(Value::as_array).into_iter().flatten();
            terms.map(|term| term.get(inner).unwrap_or(term)).any(|term| {
                let named = term.get("namespaces").and_then(Value::as_array).is_some_and(|n| !n.is_empty());
                named || term.get("namespaceSelector").is_some_and(|selector| !selector.is_null())
            })
        })
    })
}

/// The attributes classes that a claim asks for, has, or is on the way to.
fn attributes_classes(claim: &Value) -> Vec<&str> {
    const PLACES: &[&str] = &[
        "/spec/volumeAttributesClassName",
        "/status/currentVolumeAttributesClassName",
        "/status/modifyVolumeStatus/targetVolumeAttributesClassName",
    ];
    let places = PLACES.iter().filter_map(|place| claim.pointer(place)?.as_str());
    places.filter(|name| !name.is_empty()).collect()
}
