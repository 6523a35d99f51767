//! Follows Services and EndpointSlices and hands the whole table to the network, which finds out what has changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use carrack_network::{Endpoint, Network, Protocol, Service, ServicePort};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client};
use tokio::sync::{Notify, watch};

/// How long changes are gathered before the table is handed over: long enough to take a burst as one, too short to see.
const GATHER: Duration = Duration::from_millis(5);

/// Follows services until the future is dropped.
///
/// Each table is also shown to `table_seen`, for the pods' service variables.
pub(crate) async fn run(
    client: Client,
    network: Arc<Network>,
    node: String,
    table_seen: watch::Sender<Option<Arc<Vec<Service>>>>,
) {
    let changed = Arc::new(Notify::new());
    let (services, service_feed) = follow::<core::Service>(client.clone(), changed.clone());
    let (slices, slice_feed) = follow::<EndpointSlice>(client, changed.clone());
    let push = async {
        services.wait_until_ready().await.ok();
        slices.wait_until_ready().await.ok();
        loop {
            let table = table(&services.state(), &slices.state(), &node);
            table_seen.send_replace(Some(Arc::new(table.clone())));
            if let Err(error) = network.set_services(table).await {
                tracing::error!(
                    error = crate::errors::chain(&error),
                    "services were not programmed; trying again"
                );
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
            changed.notified().await;
            tokio::time::sleep(GATHER).await;
        }
    };
    tokio::join!(push, service_feed, slice_feed);
}

fn follow<K>(client: Client, changed: Arc<Notify>) -> (reflector::Store<K>, impl Future<Output = ()>)
where
    K: kube::Resource<DynamicType = ()> + Clone + Send + Sync + std::fmt::Debug + 'static,
    K: serde::de::DeserializeOwned,
{
    let (store, writer) = reflector::store();
    let stream = watcher(Api::<K>::all(client), watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .inspect_err(|error| tracing::debug!(%error, "a watch broke; taking it up again"));
    let feed = stream.for_each(move |_| {
        changed.notify_one();
        futures::future::ready(())
    });
    (store, feed)
}

/// The table of all services with their endpoints, from the objects of the API.
pub(crate) fn table(
    services: &[Arc<core::Service>],
    slices: &[Arc<EndpointSlice>],
    node: &str,
) -> Vec<Service> {
    let mut by_service: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in slices {
        let labels = slice.metadata.labels.as_ref();
        let Some(name) = labels.and_then(|l| l.get("kubernetes.io/service-name")) else { continue };
        let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
        by_service.entry((namespace, name)).or_default().push(slice);
    }
    services.iter().filter_map(|service| entry(service, &by_service, node)).collect()
}

fn entry(
    service: &core::Service,
    slices: &BTreeMap<(&str, &str), Vec<&EndpointSlice>>,
    node: &str,
) -> Option<Service> {
    let (namespace, name) = (service.metadata.namespace.as_deref()?, service.metadata.name.as_deref()?);
    let spec = service.spec.as_ref()?;
    let ips =
        spec.cluster_ips.clone().or_else(|| spec.cluster_ip.clone().map(|ip| vec![ip])).unwrap_or_default();
    let slices = slices.get(&(namespace, name)).map(Vec::as_slice).unwrap_or_default();
    let mut ports: Vec<ServicePort> =
        spec.ports.iter().flatten().filter_map(|port| service_port(port, slices, node)).collect();
    let headless = ips.iter().any(|ip| ip == "None");
    if ports.is_empty() && headless {
        // A headless service may have no ports; its endpoints still have names.
        let endpoints = slices.iter().flat_map(|slice| endpoints(slice, 0, node)).collect();
        ports.push(ServicePort { name: None, protocol: Protocol::Tcp, port: 0, node_port: None, endpoints });
    }
    let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let config = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
        u32::try_from(config.and_then(|c| c.timeout_seconds).unwrap_or(10_800)).unwrap_or(10_800)
    });
    Some(Service {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        cluster_ips: ips.iter().filter_map(|ip| address(ip)).collect(),
        headless,
        external_name: spec.external_name.clone().filter(|_| spec.type_.as_deref() == Some("ExternalName")),
        session_affinity_seconds: affinity,
        publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
        ports,
    })
}

/// An address as the API takes it: zeros before the numbers of an IPv4 address count for nothing.
fn address<T: std::str::FromStr>(text: &str) -> Option<T> {
    let shorter = |number: &str| match number.trim_start_matches('0') {
        "" if !number.is_empty() => "0".to_owned(),
        rest => rest.to_owned(),
    };
    let plain = || text.split('.').map(shorter).collect::<Vec<_>>().join(".");
    let dotted = text.contains('.') && !text.contains(':');
    text.parse().ok().or_else(|| if dotted { plain().parse().ok() } else { None })
}

fn service_port(port: &core::ServicePort, slices: &[&EndpointSlice], node: &str) -> Option<ServicePort> {
    let name = port.name.clone().filter(|n| !n.is_empty());
    let protocol = protocol(port.protocol.as_deref())?;
    let mut list = Vec::new();
    for slice in slices {
        let target = slice.ports.iter().flatten().find(|p| {
            p.name.as_deref().unwrap_or_default() == name.as_deref().unwrap_or_default()
                && self::protocol(p.protocol.as_deref()) == Some(protocol)
        });
        let Some(target) = target.and_then(|p| p.port).and_then(|p| u16::try_from(p).ok()) else { continue };
        list.extend(endpoints(slice, target, node));
    }
    list.sort_by_key(|e| (e.address, e.port));
    list.dedup_by_key(|e| (e.address, e.port));
    Some(ServicePort {
        name,
        protocol,
        port: u16::try_from(port.port).ok()?,
        node_port: port.node_port.and_then(|p| u16::try_from(p).ok()),
        endpoints: list,
    })
}

fn endpoints<'a>(slice: &'a EndpointSlice, port: u16, node: &'a str) -> impl Iterator<Item = Endpoint> + 'a {
    slice.endpoints.iter().flat_map(move |endpoint| {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        let ready = conditions.ready.unwrap_or(true);
        endpoint.addresses.iter().filter_map(move |address| {
            Some(Endpoint {
                address: self::address(address)?,
                port,
                ready,
                serving: conditions.serving.unwrap_or(ready),
                terminating: conditions.terminating.unwrap_or(false),
                hostname: endpoint.hostname.clone(),
                node: endpoint.node_name.clone(),
                local: endpoint.node_name.as_deref() == Some(node),
            })
        })
    })
}

fn protocol(name: Option<&str>) -> Option<Protocol> {
    match name.unwrap_or("TCP") {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    #[test]
    fn addresses_are_read_as_the_api_takes_them() {
        assert_eq!(super::address("010.000.0.1"), Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(super::address::<IpAddr>("fd00::1"), "fd00::1".parse().ok());
        assert_eq!(super::address::<IpAddr>("010.0.0"), None);
    }
}
