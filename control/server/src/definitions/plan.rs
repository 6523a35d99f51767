//! Decides which names a definition gets, and what its status says of it. Upstream: the naming condition controller and
//! the establishing controller.

use std::collections::BTreeSet;

use carrack_api::custom::{APPROVED, condition, is_approval, is_protected, set_condition};
use carrack_api::meta;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Names that accepted definitions hold, each with its group.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Plural, singular and short names.
    resources: BTreeSet<(String, String)>,
    /// Kinds, and kinds of lists.
    kinds: BTreeSet<(String, String)>,
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

fn short_names(names: &Value) -> impl Iterator<Item = &str> {
    names["shortNames"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// What these definitions hold.
pub(super) fn taken<'v>(definitions: impl Iterator<Item = &'v Value>) -> Taken {
    let mut taken = Taken::default();
    for definition in definitions {
        let group = text(&definition["spec"], "group");
        let names = &definition["status"]["acceptedNames"];
        let add = |set: &mut BTreeSet<(String, String)>, name: &str| {
            if !name.is_empty() {
                set.insert((group.to_owned(), name.to_owned()));
            }
        };
        add(&mut taken.resources, text(names, "plural"));
        add(&mut taken.resources, text(names, "singular"));
        short_names(names).for_each(|name| add(&mut taken.resources, name));
        add(&mut taken.kinds, text(names, "kind"));
        add(&mut taken.kinds, text(names, "listKind"));
    }
    taken
}

/// A name that is not to be had: the condition's reason and message.
type Refusal = (&'static str, String);

/// Whether there is nothing to decide: the definition has the names that it wants, and says so. Most are like that, and
/// looking at all others for each of them would take long.
pub(super) fn is_settled(definition: &Value) -> bool {
    definition["spec"]["names"] == definition["status"]["acceptedNames"]
        && condition(definition, "NamesAccepted") == "True"
        && condition(definition, "Established") == "True"
        && !is_protected(text(&definition["spec"], "group"))
}

/// The definition with its status as it should be; `None` when it is like that. `taken` are the names of all others.
pub(super) fn decide(definition: &Value, taken: &Taken, now: Timestamp) -> Option<Value> {
    let (names, refusal) = accept(definition, taken);
    let mut new = definition.clone();
    new["status"]["acceptedNames"] = names;
    match &refusal {
        Some((reason, message)) => set_condition(&mut new, "NamesAccepted", "False", reason, message, now),
        None => {
            set_condition(&mut new, "NamesAccepted", "True", "NoConflicts", "no conflicts found", now);
        }
    }
    // Once established, it stays so: objects may be there.
    if condition(&new, "Established") != "True" {
        let (status, reason, message) = match refusal {
            Some(_) => ("False", "NotAccepted", "not all names are accepted"),
            None => ("True", "InitialNamesAccepted", "the initial names have been accepted"),
        };
        set_condition(&mut new, "Established", status, reason, message, now);
    }
    approve(&mut new, now);
    (new != *definition).then_some(new)
}

/// Says of a definition in a group of the Kubernetes project whether it is approved.
fn approve(definition: &mut Value, now: Timestamp) {
    if !is_protected(text(&definition["spec"], "group")) {
        return;
    }
    let value = meta::annotation(definition, APPROVED).unwrap_or_default().to_owned();
    let (status, reason, message) = if value.is_empty() {
        let message = format!(
            "protected groups must have approval annotation {APPROVED:?}, see \
             https://github.com/kubernetes/enhancements/pull/1111"
        );
        ("False", "MissingAnnotation", message)
    } else if value.starts_with("unapproved") {
        ("False", "UnapprovedAnnotation", format!("not approved: {value:?}"))
    } else if is_approval(&value) {
        ("True", "ApprovedAnnotation", format!("approved in {value}"))
    } else {
        let message = format!(
            "protected groups must have approval annotation {APPROVED:?} with either a URL or a reason starting with \
             \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111"
        );
        ("False", "InvalidAnnotation", message)
    };
    set_condition(definition, "KubernetesAPIApprovalPolicyConformant", status, reason, &message, now);
}

/// The names that a definition gets of those that it wants.
fn accept(definition: &Value, taken: &Taken) -> (Value, Option<Refusal>) {
    let group = text(&definition["spec"], "group");
    let wanted = &definition["spec"]["names"];
    let had = &definition["status"]["acceptedNames"];
    let is_free =
        |set: &BTreeSet<(String, String)>, name: &str| !set.contains(&(group.to_owned(), name.to_owned()));
    let in_use = |name: &str| format!("{name:?} is already in use");
    let mut names = if had.is_object() { had.clone() } else { json!({}) };
    let mut refusal = None;
    for (field, set, reason) in [
        ("plural", &taken.resources, "PluralConflict"),
        ("singular", &taken.resources, "SingularConflict"),
        ("kind", &taken.kinds, "KindConflict"),
        ("listKind", &taken.kinds, "ListKindConflict"),
    ] {
        let name = text(wanted, field);
        if name == text(had, field) || is_free(set, name) {
            names[field] = name.into();
        } else {
            refusal = Some((reason, in_use(name)));
        }
    }
    let mine: BTreeSet<&str> = short_names(had).collect();
    let lost = short_names(wanted).filter(|n| !mine.contains(n) && !is_free(&taken.resources, n));
    let lost: Vec<String> = lost.map(in_use).collect();
    match lost.as_slice() {
        [] => copy(&mut names, wanted, "shortNames"),
        [one] => refusal = Some(("ShortNamesConflict", one.clone())),
        many => refusal = Some(("ShortNamesConflict", format!("[{}]", many.join(", ")))),
    }
    copy(&mut names, wanted, "categories");
    (names, refusal)
}

/// Makes a list of `names` what it is in `wanted`, absent included.
fn copy(names: &mut Value, wanted: &Value, field: &str) {
    let Some(names) = names.as_object_mut() else { return };
    match wanted.get(field) {
        Some(list) => names.insert(field.to_owned(), list.clone()),
        None => names.remove(field),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(plural: &str, kind: &str, short: &[&str]) -> Value {
        json!({
            "metadata": {"name": format!("{plural}.example.com")},
            "spec": {"group": "example.com", "names": {
                "plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List"),
                "shortNames": short,
            }},
        })
    }

    fn decided(definition: &Value, others: &[&Value]) -> Value {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        decide(definition, &taken(others.iter().copied()), now).unwrap_or_else(|| definition.clone())
    }

    #[test]
    fn the_first_gets_its_names_and_is_established() {
        let one = decided(&definition("crontabs", "CronTab", &["ct"]), &[]);
        assert_eq!(one["status"]["acceptedNames"], one["spec"]["names"]);
        assert_eq!(condition(&one, "NamesAccepted"), "True");
        assert_eq!(condition(&one, "Established"), "True");
        assert_eq!(decided(&one, &[]), one);
        assert!(is_settled(&one) && !is_settled(&definition("crontabs", "CronTab", &[])));
    }

    #[test]
    fn groups_of_the_project_say_whether_they_are_approved() {
        let kind = "KubernetesAPIApprovalPolicyConformant";
        let reason = |value: &str| {
            let mut wanted = definition("crontabs", "CronTab", &[]);
            wanted["spec"]["group"] = json!("x.k8s.io");
            wanted["metadata"]["annotations"] = json!({APPROVED: value});
            let decided = decided(&wanted, &[]);
            let conditions = decided["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let found = conditions.iter().find(|c| c["type"] == kind).cloned().unwrap_or_default();
            (condition(&decided, kind).to_owned(), found["reason"].as_str().unwrap_or_default().to_owned())
        };
        let cases = [
            ("", "False", "MissingAnnotation"),
            ("unapproved, experimental", "False", "UnapprovedAnnotation"),
            ("https://github.com/kubernetes/pull/1", "True", "ApprovedAnnotation"),
            ("yes", "False", "InvalidAnnotation"),
        ];
        for (value, status, why) in cases {
            assert_eq!(reason(value), (status.to_owned(), why.to_owned()), "{value}");
        }
        assert_eq!(condition(&decided(&definition("crontabs", "CronTab", &[]), &[]), kind), "");
    }

    #[test]
    fn a_conflict_is_named_and_ends_when_the_other_goes() {
        let one = decided(&definition("crontabs", "CronTab", &["ct"]), &[]);
        let cases = [
            (definition("others", "CronTab", &[]), "ListKindConflict"),
            (definition("others", "Other", &["ct"]), "ShortNamesConflict"),
            (definition("others", "Other", &["crontabs", "crontab"]), "ShortNamesConflict"),
        ];
        for (wanted, reason) in cases {
            let refused = decided(&wanted, &[&one]);
            assert_eq!(condition(&refused, "NamesAccepted"), "False");
            assert_eq!(refused["status"]["conditions"][0]["reason"], reason);
            assert_eq!(condition(&refused, "Established"), "False");
            let freed = decided(&refused, &[]);
            assert_eq!(condition(&freed, "Established"), "True");
        }
        // Another group is another matter.
        let mut elsewhere = definition("crontabs", "CronTab", &["ct"]);
        elsewhere["spec"]["group"] = json!("other.example.com");
        assert_eq!(condition(&decided(&elsewhere, &[&one]), "Established"), "True");
    }

    #[test]
    fn what_is_established_stays_so() {
        let one = decided(&definition("crontabs", "CronTab", &[]), &[]);
        let other = decided(&definition("others", "Other", &["ct"]), &[]);
        let mut wants_more = one;
        wants_more["spec"]["names"]["shortNames"] = json!(["ct"]);
        let decided = decided(&wants_more, &[&other]);
        assert_eq!(condition(&decided, "NamesAccepted"), "False");
        assert_eq!(condition(&decided, "Established"), "True");
        assert_eq!(decided["status"]["acceptedNames"]["shortNames"], json!([]));
    }
}
