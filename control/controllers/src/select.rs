//! Label selectors.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// Labels of an object.
pub(crate) type Labels = BTreeMap<String, String>;

/// Whether `labels` have every pair of `wanted`; an empty `wanted` matches nothing, as in a Service.
#[must_use]
pub(crate) fn has_all(wanted: &Labels, labels: Option<&Labels>) -> bool {
    !wanted.is_empty()
        && labels.is_some_and(|labels| wanted.iter().all(|(name, value)| labels.get(name) == Some(value)))
}

/// Whether `selector` matches `labels`; an empty selector matches everything. A requirement with an unknown
/// operator matches nothing, so that no object is claimed by mistake.
#[must_use]
pub(crate) fn matches(selector: &LabelSelector, labels: Option<&Labels>) -> bool {
    let get = |name: &str| labels.and_then(|labels| labels.get(name));
    selector.match_labels.iter().flatten().all(|(name, value)| get(name) == Some(value))
        && selector.match_expressions.iter().flatten().all(|r| requirement(r, get(&r.key)))
}

/// Whether the selector has no requirement at all.
#[must_use]
pub(crate) fn matches_everything(selector: &LabelSelector) -> bool {
    selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
        && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
}

fn requirement(requirement: &LabelSelectorRequirement, value: Option<&String>) -> bool {
    let listed = value.is_some_and(|v| requirement.values.iter().flatten().any(|one| one == v));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn operators() {
        let pod = labels(&[("app", "web"), ("tier", "front")]);
        let cases = [
            ("app", "In", &["web", "api"][..], true),
            ("app", "In", &["api"][..], false),
            ("app", "NotIn", &["api"][..], true),
            ("none", "NotIn", &["api"][..], true),
            ("tier", "Exists", &[][..], true),
            ("none", "Exists", &[][..], false),
            ("none", "DoesNotExist", &[][..], true),
            ("tier", "DoesNotExist", &[][..], false),
            ("app", "Gt", &["1"][..], false),
        ];
        for (key, operator, values, expected) in cases {
            let selector = LabelSelector {
                match_expressions: Some(vec![LabelSelectorRequirement {
                    key: key.into(),
                    operator: operator.into(),
                    values: Some(values.iter().map(|v| (*v).to_owned()).collect()),
                }]),
                ..LabelSelector::default()
            };
            assert_eq!(matches(&selector, Some(&pod)), expected, "{key} {operator} {values:?}");
        }
    }

    #[test]
    fn an_empty_service_selector_selects_nothing_and_an_empty_label_selector_everything() {
        assert!(!has_all(&labels(&[]), Some(&labels(&[("a", "b")]))));
        assert!(matches(&LabelSelector::default(), None));
        assert!(matches_everything(&LabelSelector::default()));
    }
}
