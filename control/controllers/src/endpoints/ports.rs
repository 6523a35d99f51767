//! The port that a pod answers on for a service's port: by number, or by the name of a container's port.

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::cache::Pod;

/// A port of a pod behind a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Port {
    /// The name of the service's port, empty when it has none.
    pub(super) name: String,
    /// TCP, UDP or SCTP.
    pub(super) protocol: String,
    /// The number on the pod.
    pub(super) number: i32,
    /// What is spoken there, if the service says.
    pub(super) app: Option<String>,
}

/// The ports of `pod` for `service`, sorted. A named port that no container has is left out.
pub(super) fn of(service: &Service, pod: &Pod) -> Vec<Port> {
    let listed = service.spec.as_ref().and_then(|s| s.ports.as_ref());
    let mut ports: Vec<Port> = listed.into_iter().flatten().filter_map(|p| resolve(p, pod)).collect();
    ports.sort();
    ports
}

fn resolve(port: &ServicePort, pod: &Pod) -> Option<Port> {
    let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
    let number = match &port.target_port {
        None | Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) if name.is_empty() => port.port,
        Some(IntOrString::String(name)) => named(pod, name, &protocol)?,
    };
    let name = port.name.clone().unwrap_or_default();
    Some(Port { name, protocol, number, app: port.app_protocol.clone() })
}

fn named(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let sidecars = pod.spec.init_containers.iter().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    pod.spec.containers.iter().chain(sidecars).flat_map(|c| &c.ports).find_map(|port| {
        let same =
            port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol;
        same.then_some(port.container_port)
    })
}
