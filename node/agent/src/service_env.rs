//! The variables by which a container finds services without DNS, as Docker's links had them.

use carrack_network::{Protocol, Service};
use k8s_openapi::api::core::v1::Pod;

/// The variables for a pod: all services of its namespace, unless it does not want them, and the API server's.
pub(crate) fn variables(pod: &Pod, services: &[Service]) -> Vec<(String, String)> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let links = pod.spec.as_ref().and_then(|s| s.enable_service_links).unwrap_or(true);
    let master = |s: &Service| s.namespace == "default" && s.name == "kubernetes";
    let shadowed = links && services.iter().any(|s| s.namespace == namespace && s.name == "kubernetes");
    let wanted = services.iter().filter(|s| {
        if master(s) { namespace == "default" || !shadowed } else { links && s.namespace == namespace }
    });
    wanted.flat_map(of_service).collect()
}

fn of_service(service: &Service) -> Vec<(String, String)> {
    let (Some(ip), Some(first)) = (service.cluster_ips.first(), service.ports.first()) else {
        return Vec::new();
    };
    let prefix = upper(&service.name);
    let mut list = vec![
        (format!("{prefix}_SERVICE_HOST"), ip.to_string()),
        (format!("{prefix}_SERVICE_PORT"), first.port.to_string()),
    ];
    for port in &service.ports {
        if let Some(name) = &port.name {
            list.push((format!("{prefix}_SERVICE_PORT_{}", upper(name)), port.port.to_string()));
        }
    }
    for (index, port) in service.ports.iter().enumerate() {
        let (protocol, lower) = match port.protocol {
            Protocol::Tcp => ("TCP", "tcp"),
            Protocol::Udp => ("UDP", "udp"),
            Protocol::Sctp => ("SCTP", "sctp"),
        };
        let url = format!("{lower}://{}", std::net::SocketAddr::new(*ip, port.port));
        if index == 0 {
            list.push((format!("{prefix}_PORT"), url.clone()));
        }
        let base = format!("{prefix}_PORT_{}_{protocol}", port.port);
        list.push((base.clone(), url));
        list.push((format!("{base}_PROTO"), lower.to_owned()));
        list.push((format!("{base}_PORT"), port.port.to_string()));
        list.push((format!("{base}_ADDR"), ip.to_string()));
    }
    list
}

fn upper(name: &str) -> String {
    name.to_uppercase().replace(['-', '.'], "_")
}
