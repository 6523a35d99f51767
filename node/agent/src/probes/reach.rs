//! How probes get to what they probe: the pod's address, ports by number or name, commands.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Container;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;

/// Runs a command in the container within a time: its exit code and output.
pub(crate) type ExecFn =
    Arc<dyn Fn(Vec<String>, Duration) -> BoxFuture<'static, Result<(i32, String), String>> + Send + Sync>;

/// Where and how probes reach the container.
#[derive(Clone)]
pub(crate) struct Target {
    /// The pod's address.
    pub address: IpAddr,
    /// For exec probes.
    pub exec: ExecFn,
}

/// The host that a probe names, an address or a name that this node looks up; the pod's address if it names none.
pub(super) fn host(named: Option<&str>, target: &Target) -> String {
    named.filter(|name| !name.is_empty()).map_or_else(|| target.address.to_string(), str::to_owned)
}

/// A port by number, by the name of one of the container's ports, or by a number that is written as a name.
pub(super) fn port(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name));
            named.map(|p| p.container_port).or_else(|| name.parse().ok())
        }
    };
    number
        .and_then(|n| u16::try_from(n).ok())
        .filter(|n| *n > 0)
        .ok_or_else(|| format!("the container {} has no port {port:?}", container.name))
}

/// `host:port` as it stands in a URL.
pub(super) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Opens a connection, or says why not in the words of the kubelet.
pub(super) async fn dial(host: &str, port: u16) -> Result<TcpStream, String> {
    TcpStream::connect((host, port)).await.map_err(|error| {
        let cause = match error.kind() {
            ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
            _ => error.to_string(),
        };
        format!("dial tcp {}: {cause}", authority(host, port))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ContainerPort;

    #[test]
    fn ports_are_found_by_name_and_by_number() {
        let web =
            ContainerPort { name: Some("web".into()), container_port: 8080, ..ContainerPort::default() };
        let container = Container { name: "c".into(), ports: Some(vec![web]), ..Container::default() };
        let find = |text: &str| port(&container, &IntOrString::String(text.into()));
        assert_eq!((find("web"), find("81")), (Ok(8080), Ok(81)));
        assert_eq!(port(&container, &IntOrString::Int(82)), Ok(82));
        for bad in ["db", "0", "70000"] {
            assert!(find(bad).unwrap_err().contains("has no port"), "{bad}");
        }
    }

    #[test]
    fn addresses_of_version_six_are_put_in_brackets() {
        assert_eq!(authority("::1", 80), "[::1]:80");
        assert_eq!(authority("web", 80), "web:80");
    }
}
