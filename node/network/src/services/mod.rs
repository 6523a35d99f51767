//! Services: from what the agent says to what the maps hold.

mod table;
#[cfg(test)]
mod table_tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use aya::maps::MapError;
use carrack_ebpf_abi::{Address, ServiceKey};

use table::{Port, Retired, Table, Target, Write};

use crate::bpf::{Maps, bpf_error};
use crate::error::NetworkError;
use crate::types::{Endpoint, Protocol, Service, ServicePort};

/// How long a slot or back end is kept after the last service that named it has changed. A program that has read the old
/// service is done within microseconds; a second covers one that was preempted on a busy host.
const KEEP_RETIRED: Duration = Duration::from_secs(1);

/// The range that node ports are looked for in; it grows if a service has one outside of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodePorts {
    pub(crate) min: u16,
    pub(crate) max: u16,
}

impl Default for NodePorts {
    fn default() -> Self {
        NodePorts { min: 30_000, max: 32_767 }
    }
}

impl NodePorts {
    /// The range that takes in the node ports among `frontends`, too.
    fn with<'a>(self, frontends: impl Iterator<Item = &'a ServiceKey>) -> Self {
        let node_ports = frontends.filter(|key| key.address == key.address.wildcard());
        node_ports
            .map(|key| u16::from_be(key.port))
            .fold(self, |range, port| NodePorts { min: range.min.min(port), max: range.max.max(port) })
    }
}

/// The service maps, fed.
pub(crate) struct Services {
    maps: Maps,
    node_ports: NodePorts,
    /// `None` after a failed write: the maps are read again before the next one.
    table: Option<Table>,
    /// What the first plan makes superfluous; see [`Table::adopt`].
    orphans: Vec<Retired>,
    /// What to delete, and when; the earliest first.
    retired: VecDeque<(Instant, Vec<Retired>)>,
}

impl Services {
    /// Takes over what the maps hold.
    pub(crate) fn adopt(maps: Maps) -> Result<Self, NetworkError> {
        let mut services = Services {
            maps,
            node_ports: NodePorts::default(),
            table: None,
            orphans: Vec::new(),
            retired: VecDeque::new(),
        };
        let table = services.read()?;
        services.widen_node_ports(services.node_ports.with(table.frontends()))?;
        services.table = Some(table);
        Ok(services)
    }

    fn read(&mut self) -> Result<Table, NetworkError> {
        let failed = |what: &str| bpf_error::<MapError>(format!("read the {what}"));
        let services =
            self.maps.services.iter().collect::<Result<Vec<_>, _>>().map_err(failed("services"))?;
        let slots = self.maps.slots.iter().collect::<Result<Vec<_>, _>>().map_err(failed("slots"))?;
        let backends =
            self.maps.backends.iter().collect::<Result<Vec<_>, _>>().map_err(failed("back ends"))?;
        let (table, orphans) = Table::adopt(&services, &slots, &backends);
        // Whatever waited for its deletion is an orphan now.
        self.retired.clear();
        self.orphans = orphans;
        Ok(table)
    }

    /// Makes the maps hold `wanted`. Returns when something that is now superfluous is due for [`Services::collect`].
    pub(crate) fn set(&mut self, wanted: &[Port]) -> Result<Option<Instant>, NetworkError> {
        let frontends = wanted.iter().flat_map(|port| &port.frontends);
        self.widen_node_ports(self.node_ports.with(frontends))?;
        let mut table = match self.table.take() {
            Some(table) => table,
            None => self.read()?,
        };
        let plan = table.plan(wanted);
        for write in &plan.writes {
            self.write(write)?;
        }
        self.table = Some(table);
        let mut retired = std::mem::take(&mut self.orphans);
        retired.extend(plan.retired);
        if !retired.is_empty() {
            self.retired.push_back((Instant::now() + KEEP_RETIRED, retired));
        }
        Ok(self.next_due())
    }

    fn widen_node_ports(&mut self, range: NodePorts) -> Result<(), NetworkError> {
        if range != self.node_ports {
            self.maps.set_node_ports(range.min, range.max).map_err(bpf_error("write the settings"))?;
            self.node_ports = range;
        }
        Ok(())
    }

    fn write(&mut self, write: &Write) -> Result<(), NetworkError> {
        let result = match write {
            Write::Backend(id, backend) => self.maps.backends.insert(id, backend, 0),
            Write::Slot(key, id) => self.maps.slots.insert(key, id, 0),
            Write::Service(key, service) => self.maps.services.insert(key, service, 0),
            Write::RemoveService(key) => gone_is_fine(self.maps.services.remove(key)),
        };
        result.map_err(bpf_error(format!("write {write:?}")))
    }

    /// When [`Services::collect`] has something to do.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.retired.front().map(|(due, _)| *due)
    }

    /// Deletes what has been superfluous for long enough.
    pub(crate) fn collect(&mut self, now: Instant) -> Result<(), NetworkError> {
        while let Some((_, items)) = self.retired.pop_front_if(|(due, _)| *due <= now) {
            for item in items {
                let result = match item {
                    Retired::Slot(key) => self.maps.slots.remove(&key),
                    Retired::Backend(id) => self.maps.backends.remove(&id),
                };
                gone_is_fine(result).map_err(bpf_error(format!("delete {item:?}")))?;
            }
        }
        Ok(())
    }

    /// How many virtual addresses with ports and how many back ends there are.
    pub(crate) fn size(&self) -> (usize, usize) {
        self.table.as_ref().map(Table::size).unwrap_or_default()
    }

    /// The kernel side's counters.
    pub(crate) fn counters(&self) -> Vec<(&'static str, u64)> {
        self.maps.counters()
    }
}

fn gone_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}

/// What the maps should hold for `services`: each port once for each address family that it has addresses of.
///
/// The cluster's DNS address leads to `dns_server`, whatever a Service of that address says. If two services claim the
/// same address, port and protocol, the first by namespace and name has it.
pub(crate) fn ports(services: &[Service], dns_address: Ipv4Addr, dns_server: (Ipv4Addr, u16)) -> Vec<Port> {
    let mut ports = Vec::new();
    let mut claimed = BTreeSet::new();
    let dns_target: Target = (IpAddr::V4(dns_server.0).into(), dns_server.1.to_be());
    for protocol in [libc::IPPROTO_TCP, libc::IPPROTO_UDP] {
        let frontend = key(IpAddr::V4(dns_address).into(), 53, protocol);
        claimed.insert(frontend);
        ports.push(Port { frontends: [frontend].into(), backends: [dns_target].into(), affinity_seconds: 0 });
    }
    let mut sorted: Vec<_> = services.iter().collect();
    sorted.sort_by_key(|service| (&service.namespace, &service.name));
    for service in sorted {
        for port in &service.ports {
            for mut port in service_ports(service, port) {
                port.frontends.retain(|frontend| {
                    let free = claimed.insert(*frontend);
                    if !free {
                        let (namespace, name) = (&service.namespace, &service.name);
                        let address = IpAddr::from(frontend.address);
                        tracing::debug!(namespace, name, %address, "another service has this address and port");
                    }
                    free
                });
                if !port.frontends.is_empty() {
                    ports.push(port);
                }
            }
        }
    }
    ports
}

/// One port of a service, for each address family.
fn service_ports(service: &Service, port: &ServicePort) -> Vec<Port> {
    let protocol = match port.protocol {
        Protocol::Tcp => libc::IPPROTO_TCP,
        Protocol::Udp => libc::IPPROTO_UDP,
        Protocol::Sctp => {
            let (namespace, name) = (&service.namespace, &service.name);
            tracing::debug!(
                namespace,
                name,
                port = port.port,
                "connections to SCTP ports are not translated"
            );
            return Vec::new();
        }
    };
    let mut frontends: BTreeMap<bool, BTreeSet<ServiceKey>> = BTreeMap::new();
    for ip in &service.cluster_ips {
        let address = Address::from(*ip);
        let family = frontends.entry(address.is_v4()).or_default();
        family.insert(key(address, port.port, protocol));
        family.extend(port.node_port.map(|node_port| key(address.wildcard(), node_port, protocol)));
    }
    let backends: Vec<Target> = usable(&port.endpoints, service.publish_not_ready)
        .map(|e| (e.address.into(), e.port.to_be()))
        .collect();
    let affinity_seconds = service.session_affinity_seconds.unwrap_or(0);
    let of_family = |(v4, frontends)| Port {
        frontends,
        backends: backends.iter().copied().filter(|(address, _)| address.is_v4() == v4).collect(),
        affinity_seconds,
    };
    frontends.into_iter().map(of_family).collect()
}

/// The endpoints that take new connections: those that are ready, or if there is none, those that still serve while they
/// terminate, so that the last pods of a rollout finish their work.
pub(crate) fn usable(endpoints: &[Endpoint], publish_not_ready: bool) -> impl Iterator<Item = &Endpoint> {
    let ready = move |e: &&Endpoint| publish_not_ready || (e.ready && !e.terminating);
    let any_ready = endpoints.iter().any(|e| ready(&e));
    endpoints.iter().filter(move |e| if any_ready { ready(e) } else { e.serving && e.terminating })
}

fn key(address: Address, port: u16, protocol: i32) -> ServiceKey {
    ServiceKey { address, port: port.to_be(), protocol: u8::try_from(protocol).unwrap_or(0), scope: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
    const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(169, 254, 20, 10), 53);

    fn endpoint(ip: &str, ready: bool, serving: bool, terminating: bool) -> Endpoint {
        let address = ip.parse().unwrap();
        Endpoint { address, port: 8080, ready, serving, terminating, hostname: None, node: None, local: true }
    }

    fn service(name: &str, ips: &[&str], ports: Vec<ServicePort>) -> Service {
        Service {
            namespace: "default".into(),
            name: name.into(),
            cluster_ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
            headless: false,
            external_name: None,
            session_affinity_seconds: None,
            publish_not_ready: false,
            ports,
        }
    }

    fn port(protocol: Protocol, port: u16, node_port: Option<u16>, endpoints: Vec<Endpoint>) -> ServicePort {
        ServicePort { name: None, protocol, port, node_port, endpoints }
    }

    /// As text: `address:port/protocol,… -> address:port …`.
    fn lines(services: &[Service]) -> Vec<String> {
        let text = |address: Address, port: u16| format!("{}:{}", IpAddr::from(address), u16::from_be(port));
        let line = |port: &Port| {
            let front = |key: &ServiceKey| format!("{}/{}", text(key.address, key.port), key.protocol);
            let front: Vec<_> = port.frontends.iter().map(front).collect();
            let back: Vec<_> = port.backends.iter().map(|(address, port)| text(*address, *port)).collect();
            format!("{} -> {}", front.join(","), back.join(" "))
        };
        ports(services, DNS, SERVER).iter().skip(2).map(line).collect()
    }

    #[test]
    fn dns_leads_to_this_node_whatever_a_service_says() {
        let endpoints = vec![endpoint("10.244.0.9", true, true, false)];
        let dns = service("kube-dns", &["10.96.0.10"], vec![port(Protocol::Udp, 53, None, endpoints)]);
        let all = ports(&[dns], DNS, SERVER);
        assert_eq!(all.len(), 2);
        assert!(
            all.iter().all(|p| p.backends == BTreeSet::from([(IpAddr::V4(SERVER.0).into(), 53_u16.to_be())]))
        );
    }

    #[test]
    fn node_ports_share_the_back_ends_of_the_service() {
        let endpoints =
            vec![endpoint("10.244.0.2", true, true, false), endpoint("10.244.0.3", false, false, false)];
        let web = service("web", &["10.96.1.1"], vec![port(Protocol::Tcp, 80, Some(30080), endpoints)]);
        assert_eq!(lines(&[web]), ["0.0.0.0:30080/6,10.96.1.1:80/6 -> 10.244.0.2:8080"]);
    }

    #[test]
    fn the_range_of_node_ports_grows() {
        let web = service("web", &["10.96.1.1"], vec![port(Protocol::Tcp, 80, Some(8080), vec![])]);
        let range =
            NodePorts::default().with(ports(&[web], DNS, SERVER).iter().flat_map(|port| &port.frontends));
        assert_eq!(range, NodePorts { min: 8080, max: 32_767 });
    }

    #[test]
    fn families_keep_to_themselves() {
        let endpoints =
            vec![endpoint("10.244.0.2", true, true, false), endpoint("fd00::2", true, true, false)];
        let web =
            service("web", &["10.96.1.1", "fd00:96::1"], vec![port(Protocol::Tcp, 80, None, endpoints)]);
        let expected = ["fd00:96::1:80/6 -> fd00::2:8080", "10.96.1.1:80/6 -> 10.244.0.2:8080"];
        assert_eq!(lines(&[web]), expected);
    }

    #[test]
    fn terminating_endpoints_serve_only_when_nothing_else_does() {
        let old = endpoint("10.244.0.2", false, true, true);
        let done = endpoint("10.244.0.3", false, false, true);
        let new = endpoint("10.244.0.4", true, true, false);
        let line = |endpoints: &[&Endpoint]| {
            let endpoints = endpoints.iter().map(|e| (*e).clone()).collect();
            lines(&[service("web", &["10.96.1.1"], vec![port(Protocol::Tcp, 80, None, endpoints)])]).remove(0)
        };
        assert_eq!(line(&[&old, &done, &new]), "10.96.1.1:80/6 -> 10.244.0.4:8080");
        assert_eq!(line(&[&old, &done]), "10.96.1.1:80/6 -> 10.244.0.2:8080");
        assert_eq!(line(&[&done]), "10.96.1.1:80/6 -> ");
    }

    #[test]
    fn the_first_of_two_claims_wins_and_sctp_is_left_out() {
        let a = service("a", &["10.96.1.1"], vec![port(Protocol::Tcp, 80, Some(30080), vec![])]);
        let b = service("b", &["10.96.1.2"], vec![port(Protocol::Tcp, 80, Some(30080), vec![])]);
        let c = service("c", &["10.96.1.3"], vec![port(Protocol::Sctp, 80, None, vec![])]);
        assert_eq!(lines(&[c, b, a]), ["0.0.0.0:30080/6,10.96.1.1:80/6 -> ", "10.96.1.2:80/6 -> "]);
    }
}
