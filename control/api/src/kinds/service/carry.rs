//! What an update of a service keeps of the old one: addresses and ports that were allocated and that the update leaves
//! out, and what goes with a change of type.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

type Fields = Map<String, Value>;

fn spec(service: &Value) -> Option<&Fields> {
    service.get("spec")?.as_object()
}

fn kind(spec: &Fields) -> &str {
    crate::defaults::text(spec, "type")
}

fn needs_cluster_ip(spec: &Fields) -> bool {
    kind(spec) != "ExternalName"
}

fn needs_node_ports(spec: &Fields) -> bool {
    match kind(spec) {
        "NodePort" => true,
        "LoadBalancer" => spec.get("allocateLoadBalancerNodePorts") != Some(&Value::Bool(false)),
        _ => false,
    }
}

fn needs_health_check(spec: &Fields) -> bool {
    kind(spec) == "LoadBalancer" && crate::defaults::text(spec, "externalTrafficPolicy") == "Local"
}

fn is_unset(spec: &Fields, field: &str) -> bool {
    spec.get(field).is_none_or(|v| match v {
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        other => other.is_null(),
    })
}

fn keep(new: &mut Fields, old: &Fields, field: &str) {
    if is_unset(new, field)
        && let Some(value) = old.get(field)
    {
        new.insert(field.to_owned(), value.clone());
    }
}

/// Takes from the old service what was allocated for it and the new one does not name.
pub(super) fn carry_over(new: &mut Value, old: &Value) {
    let Some(old) = spec(old) else { return };
    let Some(new) = new.get_mut("spec").and_then(Value::as_object_mut) else { return };
    if needs_cluster_ip(old) && needs_cluster_ip(new) {
        keep(new, old, "clusterIP");
        if new.get("clusterIP") == old.get("clusterIP") {
            keep(new, old, "clusterIPs");
        }
        keep(new, old, "ipFamilyPolicy");
        keep(new, old, "ipFamilies");
    }
    if needs_node_ports(old) && needs_node_ports(new) {
        keep_node_ports(new, old);
    }
    if needs_health_check(old) && needs_health_check(new) {
        keep(new, old, "healthCheckNodePort");
    }
}

fn keep_node_ports(new: &mut Fields, old: &Fields) {
    let old_ports = old.get("ports").and_then(Value::as_array).into_iter().flatten();
    // Of two that are the same the first counts.
    let old_ports: HashMap<_, _> =
        old_ports.rev().map(|old| ((old.get("port"), old.get("protocol")), old)).collect();
    let Some(ports) = new.get_mut("ports").and_then(Value::as_array_mut) else { return };
    let mut taken: HashSet<Value> =
        ports.iter().filter_map(|p| p.get("nodePort")).filter(|n| n.as_i64() != Some(0)).cloned().collect();
    for port in ports.iter_mut().filter_map(Value::as_object_mut) {
        if !is_unset(port, "nodePort") {
            continue;
        }
        let same = (port.get("port"), port.get("protocol"));
        let found = old_ports.get(&same).and_then(|old| old.get("nodePort")).cloned();
        if let Some(number) = found.filter(|n| n.as_i64() != Some(0) && !taken.contains(n)) {
            taken.insert(number.clone());
            port.insert("nodePort".into(), number);
        }
    }
}

/// `clusterIP` is the first of `clusterIPs`; either may be given alone.
pub(super) fn first_address(service: &mut Value) {
    let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) else { return };
    if !is_unset(spec, "clusterIP") && is_unset(spec, "clusterIPs") {
        let address = spec.get("clusterIP").cloned().unwrap_or_default();
        spec.insert("clusterIPs".into(), vec![address].into());
    }
}

/// A client that knows `clusterIP` alone changes that one: `clusterIPs` follows.
pub(super) fn changed_address(new: &mut Value, old: &Value) {
    let Some(old) = spec(old) else { return };
    let Some(new) = new.get_mut("spec").and_then(Value::as_object_mut) else { return };
    if is_unset(new, "clusterIP") || new.get("clusterIP") == old.get("clusterIP") {
        return;
    }
    if new.get("clusterIPs") == old.get("clusterIPs")
        && let Some(address) = new.get("clusterIP").cloned()
        && let Some(first) = new.get_mut("clusterIPs").and_then(|all| all.get_mut(0))
    {
        *first = address;
    }
}

/// Drops what the old type needed, the new one does not, and the user did not set anew.
pub(super) fn drop_by_type(new: &mut Value, old: &Value) {
    let Some(old) = spec(old) else { return };
    let Some(new) = new.get_mut("spec").and_then(Value::as_object_mut) else { return };
    if needs_cluster_ip(old) && !needs_cluster_ip(new) && new.get("clusterIPs") == old.get("clusterIPs") {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            new.remove(field);
        }
    }
    if needs_node_ports(old) && !needs_node_ports(new) && same_node_ports(new, old) {
        for port in crate::defaults::objects(new, "ports") {
            port.remove("nodePort");
        }
    }
    let external = |spec: &Fields| matches!(kind(spec), "NodePort" | "LoadBalancer");
    if external(old) && !external(new) && new.get("externalTrafficPolicy") == old.get("externalTrafficPolicy")
    {
        let has_external = !is_unset(new, "externalIPs");
        if !has_external {
            new.remove("externalTrafficPolicy");
        }
    }
    if needs_health_check(old) && !needs_health_check(new) {
        keep_if_changed(new, old, "healthCheckNodePort");
    }
    if kind(old) == "LoadBalancer" && kind(new) != "LoadBalancer" {
        keep_if_changed(new, old, "allocateLoadBalancerNodePorts");
        keep_if_changed(new, old, "loadBalancerClass");
    }
    if kind(old) == "ExternalName" && kind(new) != "ExternalName" {
        keep_if_changed(new, old, "externalName");
    }
}

fn keep_if_changed(new: &mut Fields, old: &Fields, field: &str) {
    if new.get(field) == old.get(field) {
        new.remove(field);
    }
}

fn same_node_ports(new: &Fields, old: &Fields) -> bool {
    let numbers = |spec: &Fields| -> Vec<i64> {
        let ports = spec.get("ports").and_then(Value::as_array);
        let mut numbers: Vec<i64> = ports
            .into_iter()
            .flatten()
            .filter_map(|p| p.get("nodePort")?.as_i64())
            .filter(|n| *n != 0)
            .collect();
        numbers.sort_unstable();
        numbers
    };
    let old = numbers(old);
    numbers(new).iter().all(|number| old.contains(number))
}
