//! The addresses and node ports that Services hold.
//!
//! Each is a key of its own (`/carrack/serviceips/<address>`, `/carrack/nodeports/<port>`), written and deleted in
//! the transaction that writes the Service: two Services cannot get the same one, and none is lost or leaked,
//! whatever crashes when. The IPAddress that shows an address goes with it; who deletes that one frees nothing.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use carrack_api::status::{self, FieldError, FieldPath};
use carrack_api::{addresses, meta};
use carrack_store::{Compare, Op, Range};
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

use crate::ApiError;
use crate::call::Call;
use crate::registry::{Beside, Registry};
use crate::service_addresses::{self, Source};
use crate::service_range::ServiceRange;

const ADDRESSES: &str = "/carrack/serviceips/";
const NODE_PORTS: &str = "/carrack/nodeports/";
/// Ports that are given out as node ports; upstream's default.
const NODE_PORT_FIRST: u16 = 30_000;
const NODE_PORT_LAST: u16 = 32_767;

/// What a Service holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Held {
    addresses: BTreeSet<Ipv4Addr>,
    ports: BTreeSet<u16>,
}

impl Held {
    /// What this Service holds.
    fn of(service: &Value) -> Self {
        let addresses = cluster_ips(service).filter_map(four).collect();
        let mut ports: BTreeSet<u16> = BTreeSet::new();
        for port in service_ports(service) {
            ports.extend(port.get("nodePort").and_then(as_port));
        }
        ports.extend(service.pointer("/spec/healthCheckNodePort").and_then(as_port));
        Held { addresses, ports }
    }

    /// The keys that are here and not in `other`.
    fn keys_beyond(&self, other: &Held) -> Vec<String> {
        let addresses = self.addresses.difference(&other.addresses).map(|a| format!("{ADDRESSES}{a}"));
        let ports = self.ports.difference(&other.ports).map(|p| format!("{NODE_PORTS}{p}"));
        addresses.chain(ports).collect()
    }
}

/// The addresses that this Service holds.
pub(crate) fn addresses(service: &Value) -> BTreeSet<Ipv4Addr> {
    Held::of(service).addresses
}

/// A number as a port; 0 means none.
fn as_port(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|p| u16::try_from(p).ok()).filter(|p| *p != 0)
}

/// An IPv4 address as services may have it: with zeros before its numbers.
fn four(text: &str) -> Option<Ipv4Addr> {
    match addresses::parse(text)? {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// `spec.clusterIPs`, or `spec.clusterIP` where only that is set.
fn cluster_ips(service: &Value) -> impl Iterator<Item = &str> {
    let list = service.pointer("/spec/clusterIPs").and_then(Value::as_array).filter(|l| !l.is_empty());
    let single = service.pointer("/spec/clusterIP").and_then(Value::as_str).filter(|_| list.is_none());
    list.into_iter().flatten().filter_map(Value::as_str).chain(single).filter(|ip| !ip.is_empty())
}

/// `spec.ports`.
fn service_ports(service: &Value) -> impl Iterator<Item = &Value> {
    service.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten()
}

/// What goes with changing the Service `old` to `new`; `new` gets the addresses and ports that it wants and does
/// not name.
pub(crate) async fn beside(
    call: &Call,
    old: Option<&Value>,
    new: Option<&mut Value>,
) -> Result<Beside, ApiError> {
    let held = old.map(Held::of).unwrap_or_default();
    let mut beside = Beside::default();
    let (wanted, owner) = match new {
        None => (Held::default(), Bytes::new()),
        Some(service) => {
            let sources = service_addresses::sources(call.registry(), &call.server.service_range).await?;
            let chosen = choose(call, &held, &sources, service).await?;
            let (namespace, name) = (meta::namespace(service), meta::name(service));
            for address in chosen.addresses.difference(&held.addresses) {
                let source = sources.iter().find(|source| source.range.contains(*address));
                beside.compare.extend(source.map(Source::unchanged));
                let key = service_addresses::key(*address)?;
                beside.compare.push(Compare::absent(key.clone()));
                beside.then.push(Op::put(key, service_addresses::encode(*address, namespace, name)?));
            }
            (chosen, json!({"namespace": namespace, "name": name}).to_string().into())
        }
    };
    for address in held.addresses.difference(&wanted.addresses) {
        beside.then.push(Op::delete(service_addresses::key(*address)?));
    }
    for key in wanted.keys_beyond(&held) {
        beside.compare.push(Compare::absent(key.clone()));
        beside.then.push(Op::put(key, owner.clone()));
    }
    beside.then.extend(held.keys_beyond(&wanted).into_iter().map(Op::delete));
    Ok(beside)
}

/// Completes the Service and gives what it will hold.
async fn choose(call: &Call, held: &Held, sources: &[Source], service: &mut Value) -> Result<Held, ApiError> {
    let registry = call.registry();
    let kind = service.pointer("/spec/type").and_then(Value::as_str).unwrap_or("ClusterIP").to_owned();
    if kind == "ExternalName" {
        return Ok(Held { ports: BTreeSet::new(), ..Held::of(service) });
    }
    // Not for me to complete: validation says what is wrong with it.
    if !service.get("spec").is_some_and(Value::is_object) {
        return Ok(Held::default());
    }
    let range = &call.server.service_range;
    // What is chosen here may be taken meanwhile: then the transaction fails, and it is chosen again.
    let named = Held::of(service);
    if cluster_ips(service).next().is_none() {
        let address = free_address(registry, range, sources).await?;
        service["spec"]["clusterIP"] = json!(address.to_string());
    }
    complete_families(service);
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        choose_ports(registry, &kind, service).await?;
    }
    check_named(registry, range, sources, held, &named, meta::name(service)).await?;
    Ok(Held::of(service))
}

/// Keeps `clusterIPs` in step with `clusterIP`, and says which family it is.
fn complete_families(service: &mut Value) {
    let first = cluster_ips(service).next().map(str::to_owned);
    let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) else { return };
    if let Some(first) = first {
        spec.entry("clusterIP").or_insert_with(|| json!(first));
        if spec.get("clusterIPs").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            spec.insert("clusterIPs".into(), json!([first]));
        }
    }
    spec.entry("ipFamilies").or_insert_with(|| json!(["IPv4"]));
    spec.entry("ipFamilyPolicy").or_insert_with(|| json!("SingleStack"));
}

/// Gives each port that wants a node port and names none a free one.
async fn choose_ports(registry: &Registry, kind: &str, service: &mut Value) -> Result<(), ApiError> {
    let local = service.pointer("/spec/externalTrafficPolicy").and_then(Value::as_str) == Some("Local");
    let by_default = service.pointer("/spec/allocateLoadBalancerNodePorts") != Some(&json!(false));
    let mut taken: Option<BTreeSet<u16>> = None;
    let own = Held::of(service).ports;
    let mut chosen: Vec<u16> = Vec::new();
    if kind == "NodePort" || by_default {
        let count = service_ports(service).filter(|p| p.get("nodePort").and_then(as_port).is_none()).count();
        for _ in 0..count {
            chosen.push(free_port(registry, &mut taken, &own, &chosen).await?);
        }
    }
    let mut fresh = chosen.clone().into_iter();
    if let Some(ports) = service.pointer_mut("/spec/ports").and_then(Value::as_array_mut) {
        for port in
            ports.iter_mut().filter(|p| p.is_object() && p.get("nodePort").and_then(as_port).is_none())
        {
            if let Some(number) = fresh.next() {
                port["nodePort"] = json!(number);
            }
        }
    }
    let health = service.pointer("/spec/healthCheckNodePort").and_then(as_port);
    if kind == "LoadBalancer" && local && health.is_none() {
        service["spec"]["healthCheckNodePort"] = json!(free_port(registry, &mut taken, &own, &chosen).await?);
    }
    Ok(())
}

/// The last parts of all keys with a prefix.
async fn taken<T: std::str::FromStr + Ord>(
    registry: &Registry,
    prefix: &str,
) -> Result<BTreeSet<T>, ApiError> {
    let range = Range { keys_only: true, ..Range::prefix(prefix.to_owned()) };
    let found = registry.range(range).await?;
    let text = |key: &[u8]| std::str::from_utf8(key.get(prefix.len()..)?).ok()?.parse().ok();
    Ok(found.kvs.iter().filter_map(|kv| text(&kv.key)).collect())
}

/// An address that nobody holds at the moment, of the first range that has one; the transaction finds out if it is taken
/// meanwhile.
async fn free_address(
    registry: &Registry,
    range: &ServiceRange,
    sources: &[Source],
) -> Result<Ipv4Addr, ApiError> {
    let mut taken = taken(registry, ADDRESSES).await?;
    taken.extend(service_addresses::taken(registry).await?);
    sources
        .iter()
        .find_map(|source| source.range.free(&taken, &mut rand::rng()))
        .ok_or_else(|| ApiError::internal(format!("failed to allocate a serviceIP: range {range} is full")))
}

/// A node port that nobody holds at the moment.
async fn free_port(
    registry: &Registry,
    known: &mut Option<BTreeSet<u16>>,
    own: &BTreeSet<u16>,
    chosen: &[u16],
) -> Result<u16, ApiError> {
    let taken = match known {
        Some(taken) => taken,
        None => known.insert(self::taken(registry, NODE_PORTS).await?),
    };
    let free: Vec<u16> = (NODE_PORT_FIRST..=NODE_PORT_LAST)
        .filter(|p| !taken.contains(p) && !own.contains(p) && !chosen.contains(p))
        .collect();
    let port = free.choose(&mut rand::rng()).copied();
    port.ok_or_else(|| ApiError::internal("failed to allocate a nodePort: range is full"))
}

/// Refuses addresses and ports that are out of range or held by another Service.
async fn check_named(
    registry: &Registry,
    range: &ServiceRange,
    sources: &[Source],
    held: &Held,
    named: &Held,
    name: &str,
) -> Result<(), ApiError> {
    let spec = FieldPath::root("spec");
    let mut errors = Vec::new();
    for address in named.addresses.difference(&held.addresses) {
        let why = if !sources.iter().any(|source| source.range.contains(*address)) {
            format!(
                "the provided IP ({address}) is not in the valid range. The range of valid IPs is {range}"
            )
        } else if registry.get_key(format!("{ADDRESSES}{address}")).await?.is_some()
            || registry.get_key(service_addresses::key(*address)?).await?.is_some()
        {
            "provided IP is already allocated".to_owned()
        } else {
            continue;
        };
        let why = format!("failed to allocate IP {address}: {why}");
        errors.push(FieldError::invalid(&spec.child("clusterIPs"), json!([address.to_string()]), why));
    }
    for port in named.ports.difference(&held.ports) {
        let why = if !(NODE_PORT_FIRST..=NODE_PORT_LAST).contains(port) {
            format!(
                "provided port is not in the valid range. The range of valid ports is {NODE_PORT_FIRST}-{NODE_PORT_LAST}"
            )
        } else if registry.get_key(format!("{NODE_PORTS}{port}")).await?.is_some() {
            "provided port is already allocated".to_owned()
        } else {
            continue;
        };
        errors.push(FieldError::invalid(&spec.child("ports").index(0).child("nodePort"), *port, why));
    }
    if errors.is_empty() { Ok(()) } else { Err(status::invalid("", "Service", name, &errors).into()) }
}
