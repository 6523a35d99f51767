//! The downward API: fields of the pod and resources of its containers, as text.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::environment::Facts;
use crate::needs::containers;
use crate::quantity::{Amount, divide_up};

/// A field that volumes and environments can both refer to; `None` if the path names none of those.
pub(crate) fn metadata_field(pod: &Pod, path: &str) -> Option<String> {
    let metadata = &pod.metadata;
    let value = match path {
        "metadata.name" => metadata.name.clone(),
        "metadata.namespace" => metadata.namespace.clone(),
        "metadata.uid" => metadata.uid.clone(),
        "metadata.labels" => metadata.labels.as_ref().map(format_map),
        "metadata.annotations" => metadata.annotations.as_ref().map(format_map),
        _ => {
            let (map, key) = path.strip_suffix("']")?.split_once("['")?;
            let map = match map {
                "metadata.labels" => &metadata.labels,
                "metadata.annotations" => &metadata.annotations,
                _ => return None,
            };
            map.as_ref().and_then(|map| map.get(key)).cloned()
        }
    };
    Some(value.unwrap_or_default())
}

/// A field that an environment can refer to; `None` if the path names none.
pub(crate) fn environment_field(pod: &Pod, facts: &Facts, path: &str) -> Option<String> {
    let spec = pod.spec.as_ref();
    match path {
        "spec.nodeName" => Some(facts.node_name.clone()),
        "spec.serviceAccountName" => {
            Some(spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default())
        }
        "status.hostIP" => Some(facts.host_ips.first().cloned().unwrap_or_default()),
        "status.hostIPs" => Some(facts.host_ips.join(",")),
        "status.podIP" => Some(facts.pod_ips.first().cloned().unwrap_or_default()),
        "status.podIPs" => Some(facts.pod_ips.join(",")),
        path => metadata_field(pod, path),
    }
}

/// A resource of a container, in units of the divisor, rounded up. `own` is the container that asks.
pub(crate) fn resource(
    pod: &Pod,
    own: Option<&Container>,
    allocatable: &BTreeMap<String, Quantity>,
    selector: &ResourceFieldSelector,
) -> Result<String, String> {
    let named = selector.container_name.as_deref().filter(|name| !name.is_empty());
    let container = match named {
        None => own.ok_or_else(|| "a resource of no container".to_owned())?,
        Some(name) => {
            let mut all = pod.spec.iter().flat_map(containers);
            all.find(|container| container.name == name)
                .ok_or_else(|| format!("container {name} not found"))?
        }
    };
    let unsupported = || format!("unsupported container resource : {}", selector.resource);
    let (kind, name) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let known = matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if !known {
        return Err(unsupported());
    }
    let resources = container.resources.as_ref();
    let own = match kind {
        "limits" => resources.and_then(|resources| resources.limits.as_ref()?.get(name)),
        "requests" => resources.and_then(|resources| resources.requests.as_ref()?.get(name)),
        _ => return Err(unsupported()),
    };
    // A container without a limit may use what the node can give.
    let own = own.filter(|quantity| Amount::parse(&quantity.0).is_some_and(|amount| !amount.is_zero()));
    let quantity = match kind {
        "limits" if !name.starts_with("hugepages-") => own.or_else(|| allocatable.get(name)),
        _ => own,
    };
    let amount = quantity.map_or(Some(Amount::default()), |quantity| Amount::parse(&quantity.0));
    let amount = amount.ok_or_else(|| format!("{} is not a quantity", selector.resource))?;
    let divisor = selector.divisor.as_ref().map_or(Some(Amount::ONE), |divisor| Amount::parse(&divisor.0));
    let divisor = divisor.ok_or_else(|| "the divisor is not a quantity".to_owned())?;
    let divisor = if divisor.is_zero() { Amount::ONE } else { divisor };
    let (amount, divisor) = match name {
        "cpu" => (amount.thousandths(), divisor.thousandths()),
        _ => (amount.units(), divisor.units()),
    };
    Ok(divide_up(amount, divisor).to_string())
}

/// `key="value"` lines in the order of the keys, quoted as Go quotes strings.
fn format_map(map: &BTreeMap<String, String>) -> String {
    let lines: Vec<String> = map.iter().map(|(key, value)| format!("{key}={}", quote(value))).collect();
    lines.join("\n")
}

/// Go's `strconv.Quote`.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0b' => quoted.push_str("\\v"),
            '\x0c' => quoted.push_str("\\f"),
            char if char.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", char as u32)),
            char if char.is_control() || (char.is_whitespace() && char != ' ') || char == '\u{feff}' => {
                quoted.push_str(&format!("\\u{:04x}", char as u32));
            }
            char => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(json: &str) -> Pod {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn fields_of_the_pod() {
        let pod = pod(r#"{"metadata":{"name":"p","namespace":"n","uid":"u","labels":{"b":"2","a":"x\"y\n"},
            "annotations":{"example.com/it's":"z"}},"spec":{"serviceAccountName":"sa","containers":[]}}"#);
        let facts = Facts {
            node_name: "node".to_owned(),
            pod_ips: vec!["10.0.0.1".to_owned(), "fd00::1".to_owned()],
            host_ips: vec!["192.0.2.1".to_owned()],
        };
        for (path, value) in [
            ("metadata.name", "p"),
            ("metadata.labels", "a=\"x\\\"y\\n\"\nb=\"2\""),
            ("metadata.labels['b']", "2"),
            ("metadata.labels['absent']", ""),
            ("metadata.annotations['example.com/it's']", "z"),
            ("spec.nodeName", "node"),
            ("spec.serviceAccountName", "sa"),
            ("status.hostIP", "192.0.2.1"),
            ("status.podIP", "10.0.0.1"),
            ("status.podIPs", "10.0.0.1,fd00::1"),
        ] {
            assert_eq!(environment_field(&pod, &facts, path).as_deref(), Some(value), "{path}");
        }
        for path in ["", "spec.x", "metadata.labels[b]", "status.phase", "metadata.finalizers['x']"] {
            assert_eq!(environment_field(&pod, &facts, path), None, "{path}");
        }
    }

    #[test]
    fn resources_of_containers() {
        let pod = pod(
            r#"{"spec":{"containers":[{"name":"c","resources":{"limits":{"cpu":"1200m"},"requests":{"memory":"1500Ki"}}}]}}"#,
        );
        let allocatable = BTreeMap::from([("memory".to_owned(), Quantity("2Gi".to_owned()))]);
        let ask = |resource_name: &str, divisor: Option<&str>| {
            let selector = ResourceFieldSelector {
                container_name: Some("c".to_owned()),
                divisor: divisor.map(|divisor| Quantity(divisor.to_owned())),
                resource: resource_name.to_owned(),
            };
            resource(&pod, None, &allocatable, &selector)
        };
        assert_eq!(ask("limits.cpu", None).as_deref(), Ok("2"));
        assert_eq!(ask("limits.cpu", Some("1m")).as_deref(), Ok("1200"));
        assert_eq!(ask("limits.cpu", Some("0")).as_deref(), Ok("2"));
        assert_eq!(ask("limits.memory", Some("1Mi")).as_deref(), Ok("2048"));
        assert_eq!(ask("requests.memory", Some("1Mi")).as_deref(), Ok("2"));
        assert_eq!(ask("requests.cpu", None).as_deref(), Ok("0"));
        assert!(ask("limits.gpu", None).is_err());
        assert!(ask("cpu", None).is_err());
    }
}
