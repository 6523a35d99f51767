//! The cluster's names, as the Kubernetes DNS specification (1.1.0) wants them. Pure: a question goes in, records come out.
//!
//! | name | records |
//! |---|---|
//! | `<service>.<ns>.svc.<domain>` | A/AAAA of the cluster IPs; of the usable endpoints if headless; CNAME if ExternalName |
//! | `_<port>._<protocol>.<service>.<ns>.svc.<domain>` | SRV |
//! | `<host>.<service>.<ns>.svc.<domain>` | A/AAAA of an endpoint, by its hostname or its address with dashes |
//! | `a-b-c-d.<ns>.pod.<domain>` | A of that address |
//! | reverse names of cluster IPs and endpoints | PTR |
//! | `dns-version.<domain>` | TXT |

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::Ipv4Net;

use crate::services::usable;
use crate::types::{Protocol, Service};

/// How long answers about addresses that belong to a service may be kept, in seconds.
const SERVICE_TTL: u32 = 30;
/// How long answers about endpoints, and answers that there is nothing, may be kept, in seconds.
pub(super) const SHORT_TTL: u32 = 5;

/// The kinds of records that the zone has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    A,
    Aaaa,
    Cname,
    Ns,
    Ptr,
    Soa,
    Srv,
    Txt,
    /// Whatever there is.
    Any,
    /// A kind that the zone has no records of.
    Other,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Cname(String),
    Ns(String),
    Ptr(String),
    Soa,
    Srv { port: u16, target: String },
    Txt(String),
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The name is not one of the cluster's.
    Outside,
    /// The name does not exist.
    NoName,
    /// What there is of the kind asked for; nothing, if the name has only others.
    Records { ttl: u32, data: Vec<Data> },
}

/// All names of the cluster at one time.
#[derive(Debug)]
pub(crate) struct Zone {
    /// In lower case, without the last dot.
    pub(super) domain: String,
    dns_address: Ipv4Addr,
    pod_cidr: Ipv4Net,
    services: HashMap<(String, String), Entry>,
    namespaces: HashSet<String>,
    pointers: HashMap<IpAddr, BTreeSet<String>>,
}

/// What there is below a service's name.
#[derive(Debug)]
struct Entry {
    /// The addresses of the service's own name.
    addresses: Vec<IpAddr>,
    headless: bool,
    external: Option<String>,
    hosts: BTreeMap<String, BTreeSet<IpAddr>>,
    ports: Vec<Port>,
}

#[derive(Debug)]
struct Port {
    name: String,
    protocol: &'static str,
    /// Host names below the service, or none for the service itself, with ports.
    targets: BTreeSet<(Option<String>, u16)>,
}

impl Zone {
    /// The zone of `domain` for these services.
    pub(crate) fn new(domain: &str, dns_address: Ipv4Addr, pod_cidr: Ipv4Net, services: &[Service]) -> Self {
        let domain = domain.trim_matches('.').to_ascii_lowercase();
        let mut zone = Zone {
            domain,
            dns_address,
            pod_cidr,
            services: HashMap::new(),
            namespaces: HashSet::new(),
            pointers: HashMap::new(),
        };
        for service in services {
            zone.add(service);
        }
        zone
    }

    fn add(&mut self, service: &Service) {
        let entry = Entry::new(service);
        let own = format!("{}.{}.svc.{}", service.name, service.namespace, self.domain);
        for ip in &service.cluster_ips {
            self.pointers.entry(*ip).or_default().insert(own.clone());
        }
        for (host, addresses) in &entry.hosts {
            for ip in addresses {
                self.pointers.entry(*ip).or_default().insert(format!("{host}.{own}"));
            }
        }
        self.namespaces.insert(service.namespace.clone());
        self.services.insert((service.namespace.clone(), service.name.clone()), entry);
    }

    /// Answers a question. `name` is in lower case, without the last dot.
    pub(super) fn answer(&self, name: &str, kind: Kind) -> Answer {
        if let Some(reverse) = parse_reverse(name) {
            return self.answer_pointer(reverse, kind);
        }
        let Some(relative) = relative_to(name, &self.domain) else { return Answer::Outside };
        let mut labels: Vec<&str> = relative.split('.').filter(|label| !label.is_empty()).collect();
        labels.reverse();
        match labels.as_slice() {
            [] => self.answer_apex(kind),
            ["dns-version"] => of_kind(kind, SERVICE_TTL, vec![Data::Txt("1.1.0".to_owned())]),
            ["dns"] | ["svc"] | ["pod"] => nothing(),
            ["dns", "ns"] => of_kind(kind, SERVICE_TTL, vec![Data::A(self.dns_address)]),
            ["svc", namespace] if self.namespaces.contains(*namespace) => nothing(),
            ["svc", namespace, service, below @ ..] => {
                match self.services.get(&((*namespace).to_owned(), (*service).to_owned())) {
                    Some(entry) => {
                        entry.answer(below, kind, &format!("{service}.{namespace}.svc.{}", self.domain))
                    }
                    None => Answer::NoName,
                }
            }
            ["pod", _namespace] => nothing(),
            ["pod", _namespace, address] => match parse_dashed(address) {
                Some(ip) => of_kind(kind, SHORT_TTL, vec![address_data(ip)]),
                None => Answer::NoName,
            },
            _ => Answer::NoName,
        }
    }

    fn answer_apex(&self, kind: Kind) -> Answer {
        of_kind(kind, SHORT_TTL, vec![Data::Soa, Data::Ns(format!("ns.dns.{}", self.domain))])
    }

    /// Addresses that are nobody's here are asked for elsewhere, except those of this node's pods.
    fn answer_pointer(&self, ip: IpAddr, kind: Kind) -> Answer {
        match self.pointers.get(&ip) {
            Some(names) => of_kind(kind, SERVICE_TTL, names.iter().cloned().map(Data::Ptr).collect()),
            None if matches!(ip, IpAddr::V4(ip) if self.pod_cidr.contains(&ip)) => Answer::NoName,
            None => Answer::Outside,
        }
    }
}

impl Entry {
    fn new(service: &Service) -> Self {
        let mut hosts: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
        let mut ports = Vec::new();
        let mut endpoints = BTreeSet::new();
        for port in &service.ports {
            let mut targets = BTreeSet::new();
            for endpoint in usable(&port.endpoints, service.publish_not_ready) {
                let host = match &endpoint.hostname {
                    Some(host) if !host.is_empty() => host.to_ascii_lowercase(),
                    _ => dashed(endpoint.address),
                };
                endpoints.insert(endpoint.address);
                targets.insert((Some(host.clone()), endpoint.port));
                hosts.entry(host).or_default().insert(endpoint.address);
            }
            if !service.headless {
                targets = BTreeSet::from([(None, port.port)]);
            }
            if port.port != 0 {
                let protocol = match port.protocol {
                    Protocol::Tcp => "_tcp",
                    Protocol::Udp => "_udp",
                    Protocol::Sctp => "_sctp",
                };
                let name = format!("_{}", port.name.as_deref().unwrap_or_default().to_ascii_lowercase());
                ports.push(Port { name, protocol, targets });
            }
        }
        let addresses =
            if service.headless { endpoints.into_iter().collect() } else { service.cluster_ips.clone() };
        let external = service.external_name.as_ref().map(|name| name.trim_end_matches('.').to_owned());
        Entry { addresses, headless: service.headless, external, hosts, ports }
    }

    /// Answers for the labels below the service's name, the nearest first.
    fn answer(&self, below: &[&str], kind: Kind, own: &str) -> Answer {
        if let Some(external) = &self.external {
            let cname = vec![Data::Cname(external.clone())];
            return if below.is_empty() {
                Answer::Records { ttl: SERVICE_TTL, data: cname }
            } else {
                Answer::NoName
            };
        }
        let ttl = if self.headless { SHORT_TTL } else { SERVICE_TTL };
        match below {
            [] => {
                let addresses = self.addresses.iter().copied().map(address_data);
                let ports =
                    self.ports.iter().filter(|_| kind == Kind::Srv).flat_map(|port| port.records(own));
                of_kind(kind, ttl, addresses.chain(ports).collect())
            }
            [host] if self.hosts.contains_key(*host) => {
                let addresses = self.hosts.get(*host).into_iter().flatten().copied().map(address_data);
                of_kind(kind, SHORT_TTL, addresses.collect())
            }
            [protocol] if self.ports.iter().any(|port| port.protocol == *protocol) => nothing(),
            [protocol, name] => {
                let found = |port: &&Port| port.protocol == *protocol && port.name == *name && name.len() > 1;
                match self.ports.iter().find(found) {
                    Some(port) => of_kind(kind, ttl, port.records(own).collect()),
                    None => Answer::NoName,
                }
            }
            _ => Answer::NoName,
        }
    }
}

impl Port {
    fn records(&self, own: &str) -> impl Iterator<Item = Data> {
        self.targets.iter().map(move |(host, port)| {
            let target = host.as_ref().map_or_else(|| own.to_owned(), |host| format!("{host}.{own}"));
            Data::Srv { port: *port, target }
        })
    }
}

/// The name exists, and has nothing of the kind.
fn nothing() -> Answer {
    Answer::Records { ttl: SHORT_TTL, data: Vec::new() }
}

/// Those of `data` that were asked for.
fn of_kind(kind: Kind, ttl: u32, data: Vec<Data>) -> Answer {
    let asked = |data: &Data| kind == Kind::Any || kind == data.kind();
    Answer::Records { ttl, data: data.into_iter().filter(asked).collect() }
}

impl Data {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Data::A(_) => Kind::A,
            Data::Aaaa(_) => Kind::Aaaa,
            Data::Cname(_) => Kind::Cname,
            Data::Ns(_) => Kind::Ns,
            Data::Ptr(_) => Kind::Ptr,
            Data::Soa => Kind::Soa,
            Data::Srv { .. } => Kind::Srv,
            Data::Txt(_) => Kind::Txt,
        }
    }
}

fn address_data(ip: IpAddr) -> Data {
    match ip {
        IpAddr::V4(ip) => Data::A(ip),
        IpAddr::V6(ip) => Data::Aaaa(ip),
    }
}

/// The part of `name` before `domain`; `None` if it does not end so.
fn relative_to<'a>(name: &'a str, domain: &str) -> Option<&'a str> {
    let rest = name.strip_suffix(domain)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_suffix('.') }
}

/// An address as a label: dots and colons become dashes.
fn dashed(ip: IpAddr) -> String {
    ip.to_string().replace(['.', ':'], "-")
}

/// The address that a label of dashes stands for.
fn parse_dashed(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::V4);
    v4.or_else(|_| label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6)).ok()
}

/// The address that a name of the reverse zones stands for.
fn parse_reverse(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let mut labels: Vec<_> = digits.split('.').collect();
        labels.reverse();
        return labels.join(".").parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    }
    let digits = name.strip_suffix(".ip6.arpa")?;
    let nibble = |label: &str| if label.len() == 1 { u128::from_str_radix(label, 16).ok() } else { None };
    let nibbles: Option<Vec<u128>> = digits.split('.').map(nibble).collect();
    let nibbles = nibbles.filter(|nibbles| nibbles.len() == 32)?;
    let bits = nibbles.iter().rev().fold(0, |bits, nibble| bits << 4 | nibble);
    Some(IpAddr::V6(Ipv6Addr::from_bits(bits)))
}
