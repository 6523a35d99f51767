//! What the tables of a few kinds have beyond columns: an order of their rows, and conditions of a row.

use serde_json::{Value, json};

use super::read::{integer, text};
use crate::meta;
use crate::resource::Resource;

/// The order in which upstream prints the rows of a list: the first key counts most.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(i64, String);

/// How rows of a resource's lists are ordered, unless by name: FlowSchemas are shown in the order in which requests
/// are matched against them.
pub fn places(resource: &Resource) -> Option<fn(&Value) -> Place> {
    match (resource.group, resource.kind) {
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => {
            Some(|schema| Place(integer(schema, "/spec/matchingPrecedence"), meta::name(schema).to_owned()))
        }
        _ => None,
    }
}

/// The conditions of an object's row: of a pod that has ended, that it has. Clients may leave out such rows.
pub(super) fn conditions(resource: &Resource, object: &Value) -> Option<Value> {
    if !(resource.group.is_empty() && resource.kind == "Pod") {
        return None;
    }
    let (reason, message) = match text(object, "/status/phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::{Include, Version, row};
    use super::*;

    #[test]
    fn flow_schemas_are_in_the_order_of_matching_and_then_of_names() {
        let schemas = crate::find("flowcontrol.apiserver.k8s.io", "v1", "flowschemas").unwrap();
        let place = places(schemas).unwrap();
        let of = |name: &str, precedence: i64| {
            place(&json!({"metadata": {"name": name}, "spec": {"matchingPrecedence": precedence}}))
        };
        let mut all = [of("b", 9000), of("z", 1), of("a", 9000), of("c", 200)];
        all.sort();
        assert_eq!(all, [of("z", 1), of("c", 200), of("a", 9000), of("b", 9000)]);
        assert!(places(crate::find("", "v1", "pods").unwrap()).is_none());
    }

    #[test]
    fn rows_of_pods_say_that_they_have_ended() {
        let pods = crate::find("", "v1", "pods").unwrap();
        let conditions = |resource, phase: &str| {
            let object = json!({"metadata": {"name": "a"}, "status": {"phase": phase}});
            row(resource, &object, Include::None, Version::V1, Timestamp::UNIX_EPOCH)
                .get("conditions")
                .cloned()
        };
        assert_eq!(
            conditions(pods, "Succeeded").unwrap(),
            json!([{
                "type": "Completed", "status": "True", "reason": "Succeeded",
                "message": "The pod has completed successfully.",
            }])
        );
        assert_eq!(conditions(pods, "Failed").unwrap()[0]["message"], "The pod failed.");
        assert_eq!(conditions(pods, "Running"), None);
        assert_eq!(conditions(crate::find("", "v1", "namespaces").unwrap(), "Failed"), None);
    }
}
