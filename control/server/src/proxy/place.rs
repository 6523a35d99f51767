//! Where a `proxy` request goes, decided by the objects that it names. Pure.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use crate::ApiError;
use crate::authn::text;
use crate::outbound::{items, number};

/// What follows `pods/`, `services/` or `nodes/`: `name`, `name:port` or `scheme:name:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Id {
    pub(super) name: String,
    /// A number or a name; empty for the one that there is.
    pub(super) port: String,
    pub(super) is_tls: bool,
}

impl Id {
    /// Reads it; `None` when it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts[..] {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme, name, port] => (scheme, name, port),
            _ => return None,
        };
        let is_known = matches!(scheme, "" | "http" | "https") && !name.is_empty();
        is_known.then(|| Id { name: name.to_owned(), port: port.to_owned(), is_tls: scheme == "https" })
    }
}

/// A path up to `proxy`, and what follows it, both as the client wrote them.
pub(super) fn split_path(path: &str, is_namespaced: bool) -> (&str, &str) {
    // `api/v1`, perhaps `namespaces/<namespace>`, the resource, the name, `proxy`.
    let mut left = if is_namespaced { 7 } else { 5 };
    let mut in_segment = false;
    for (at, byte) in path.bytes().enumerate() {
        match (byte, in_segment) {
            (b'/', true) => {
                in_segment = false;
                left -= 1;
                if left == 0 {
                    return path.split_at(at);
                }
            }
            (b'/', false) => {}
            _ => in_segment = true,
        }
    }
    (path, "")
}

/// The address of a pod, and the port that is asked for, or the first that the pod tells of.
pub(super) fn of_pod(pod: &Value, id: &Id) -> Result<SocketAddr, ApiError> {
    let declared = items(pod, "/spec/containers").iter().find_map(|container| {
        items(container, "/ports").first()?.get("containerPort")?.as_u64().map(|port| port.to_string())
    });
    let usual = || if id.is_tls { "443" } else { "80" }.to_owned();
    let port = match id.port.as_str() {
        "" => declared.unwrap_or_else(usual),
        asked => asked.to_owned(),
    };
    let port: u16 = port.parse().map_err(|_| {
        ApiError::bad_request(format!("invalid pod request: {port:?} is no number of a port"))
    })?;
    let address = text(pod, "/status/podIP").parse::<IpAddr>().ok().filter(is_allowed);
    let address = address.ok_or_else(|| ApiError::bad_request("address not allowed"))?;
    Ok(SocketAddr::new(address, port))
}

/// Whether an address may be asked for somebody else: not those by which this process reaches itself or its link.
fn is_allowed(address: &IpAddr) -> bool {
    let link_local = match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let address = address.to_canonical();
    !(link_local || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

/// The name of the port that is asked for.
pub(super) fn port_of_service(service: &Value, id: &Id) -> Result<String, ApiError> {
    let Ok(number) = id.port.parse::<u64>() else { return Ok(id.port.clone()) };
    let ports = items(service, "/spec/ports");
    let found = ports.iter().find(|port| port.get("port").and_then(Value::as_u64) == Some(number));
    found.map(|port| text(port, "/name").to_owned()).ok_or_else(|| {
        ApiError::unavailable(format!("no service port {number} found for service {:?}", id.name))
    })
}

/// A ready endpoint that is said to be a pod.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) address: SocketAddr,
    pub(super) pod: String,
}

/// The ready endpoints of a port that are said to be pods of the namespace. `legacy` is the Endpoints object, which
/// counts where there are no slices.
pub(super) fn candidates(
    port: &str,
    namespace: &str,
    slices: &[&Value],
    legacy: Option<&Value>,
) -> Vec<Candidate> {
    let pod = |endpoint: &Value| {
        let of = |field: &str| text(endpoint, &format!("/targetRef/{field}")).to_owned();
        (of("kind") == "Pod" && of("namespace") == namespace).then(|| of("name"))
    };
    let at = |address: &str, number: u16, pod: String| {
        let address = SocketAddr::new(address.parse().ok()?, number);
        is_allowed(&address.ip()).then_some(Candidate { address, pod })
    };
    let mut found = Vec::new();
    for slice in slices {
        let Some(number) = number(items(slice, "/ports"), port) else { continue };
        for endpoint in items(slice, "/endpoints") {
            // Not to know is to be ready.
            if endpoint.pointer("/conditions/ready") == Some(&Value::Bool(false)) {
                continue;
            }
            let Some(pod) = pod(endpoint) else { continue };
            let addresses = items(endpoint, "/addresses").iter().filter_map(Value::as_str);
            found.extend(addresses.filter_map(|address| at(address, number, pod.clone())));
        }
    }
    for subset in legacy.into_iter().flat_map(|legacy| items(legacy, "/subsets")) {
        let Some(number) = number(items(subset, "/ports"), port) else { continue };
        for address in items(subset, "/addresses") {
            found.extend(pod(address).and_then(|pod| at(text(address, "/ip"), number, pod)));
        }
    }
    found
}

/// Whether a pod has the address.
pub(super) fn has_address(pod: &Value, address: IpAddr) -> bool {
    let all = items(pod, "/status/podIPs").iter().map(|ip| text(ip, "/ip"));
    all.chain([text(pod, "/status/podIP")]).any(|ip| ip.parse() == Ok(address))
}
