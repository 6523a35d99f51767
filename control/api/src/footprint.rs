//! What a pod asks for as a whole: the sum of its containers, the most of its init containers, sidecars with both.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::quantity::Quantity;

/// Amounts by the name of the resource.
pub type Amounts = BTreeMap<String, Quantity>;

/// Resources that can be asked for by the pod as a whole, `hugepages-…` beside them.
const POD_LEVEL: &[&str] = &["cpu", "memory"];

/// Which of the two columns of `resources`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// What is set aside.
    Requests,
    /// What may be used at most.
    Limits,
}

impl Column {
    /// The field's name.
    pub fn field(self) -> &'static str {
        match self {
            Column::Requests => "requests",
            Column::Limits => "limits",
        }
    }
}

/// What else counts beside the containers' own words.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    /// What the node says that containers have: a resize that is not done yet holds the larger of both.
    pub status: bool,
    /// `spec.overhead`.
    pub overhead: bool,
}

/// The amounts of an object such as `resources.requests`; what is no quantity is left out.
pub fn amounts(list: Option<&Value>) -> Amounts {
    let entries = list.and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(name, amount)| Some((name.clone(), quantity(amount)?))).collect()
}

/// A quantity, which clients may also write as a number.
fn quantity(amount: &Value) -> Option<Quantity> {
    match amount {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// Adds `more` to `sum`, name by name.
pub fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let entry = sum.entry(name.clone()).or_insert(Quantity::ZERO);
        *entry = entry.plus(*amount);
    }
}

/// Raises `most` to `other` where that is more.
fn raise(most: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let entry = most.entry(name.clone()).or_insert(*amount);
        *entry = (*entry).max(*amount);
    }
}

/// The containers of a list of the pod's spec, such as `initContainers`.
pub fn containers<'a>(pod: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    pod.get("spec").and_then(|spec| spec.get(list)?.as_array()).into_iter().flatten()
}

/// What `pod` asks for.
pub fn of(pod: &Value, column: Column, counted: Counted) -> Amounts {
    let mut sum = Amounts::new();
    for container in containers(pod, "containers") {
        add(&mut sum, &own(pod, container, "containerStatuses", column, counted));
    }
    let (mut sidecars, mut first) = (Amounts::new(), Amounts::new());
    for container in containers(pod, "initContainers") {
        let mut own = own(pod, container, "initContainerStatuses", column, counted);
        if container.get("restartPolicy").and_then(Value::as_str) == Some("Always") {
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            own.clone_from(&sidecars);
        } else {
            add(&mut own, &sidecars);
        }
        raise(&mut first, &own);
    }
    raise(&mut sum, &first);
    let whole = amounts(pod.pointer("/spec/resources").and_then(|all| all.get(column.field())));
    sum.extend(
        whole
            .into_iter()
            .filter(|(name, _)| POD_LEVEL.contains(&name.as_str()) || name.starts_with("hugepages-")),
    );
    if counted.overhead {
        let mut overhead = amounts(pod.pointer("/spec/overhead"));
        if column == Column::Limits {
            // No limit plus something is still no limit.
            overhead.retain(|name, _| sum.get(name).is_some_and(|limit| !limit.is_zero()));
        }
        add(&mut sum, &overhead);
    }
    sum
}

/// What one container asks for, and holds on its node.
fn own(pod: &Value, container: &Value, statuses: &str, column: Column, counted: Counted) -> Amounts {
    let field = column.field();
    let wanted = amounts(container.pointer("/resources").and_then(|all| all.get(field)));
    if !counted.status {
        return wanted;
    }
    let all = pod.pointer("/status").and_then(|status| status.get(statuses)?.as_array());
    let name = container.get("name");
    let Some(status) = all.and_then(|all| all.iter().find(|status| status.get("name") == name)) else {
        return wanted;
    };
    let mut held = amounts(status.pointer("/resources").and_then(|all| all.get(field)));
    if column == Column::Requests {
        raise(&mut held, &amounts(status.get("allocatedResources")));
    }
    if held.is_empty() {
        return wanted;
    }
    if !infeasible(pod) {
        raise(&mut held, &wanted);
    }
    held
}

/// Whether the node said that it will never do the resize that is asked for.
fn infeasible(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|condition| {
        condition.get("type").and_then(Value::as_str) == Some("PodResizePending")
            && condition.get("reason").and_then(Value::as_str) == Some("Infeasible")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(pod: &Value, column: Column, counted: Counted) -> String {
        let all = of(pod, column, counted);
        all.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn init_containers_are_the_least_and_sidecars_are_added() {
        let sized = |cpu: &str| json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu}});
        let pod = json!({"spec": {
            "initContainers": [
                {"name": "a", "resources": sized("3")},
                {"name": "side", "restartPolicy": "Always", "resources": sized("500m")},
                {"name": "b", "resources": sized("3")},
            ],
            "containers": [{"name": "c", "resources": sized("1")}, {"name": "d", "resources": sized("1")}],
            "overhead": {"cpu": "100m", "memory": "1Mi"},
        }});
        let plain = Counted::default();
        let all = Counted { overhead: true, ..plain };
        assert_eq!(shown(&pod, Column::Requests, plain), "cpu=3500m");
        assert_eq!(shown(&pod, Column::Requests, all), "cpu=3600m,memory=1Mi");
        assert_eq!(shown(&pod, Column::Limits, all), "cpu=3600m");
    }

    #[test]
    fn the_pods_own_word_counts_instead_of_the_sum() {
        let pod = json!({"spec": {
            "resources": {"requests": {"cpu": "4", "example.com/x": "9"}},
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}],
        }});
        assert_eq!(shown(&pod, Column::Requests, Counted::default()), "cpu=4,memory=1Gi");
    }

    #[test]
    fn a_resize_under_way_holds_the_larger_of_both() {
        let mut pod = json!({
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
            "status": {"containerStatuses": [{"name": "c", "allocatedResources": {"cpu": "3"}}]},
        });
        let counted = Counted { status: true, ..Counted::default() };
        assert_eq!(shown(&pod, Column::Requests, counted), "cpu=3");
        pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("5");
        assert_eq!(shown(&pod, Column::Requests, counted), "cpu=5");
        pod["status"]["conditions"] = json!([{"type": "PodResizePending", "reason": "Infeasible"}]);
        assert_eq!(shown(&pod, Column::Requests, counted), "cpu=3");
    }
}
