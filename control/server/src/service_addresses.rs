//! Service addresses as objects: the ranges they come from (ServiceCIDRs), and those that are held (IPAddresses).
//!
//! An IPAddress is written and removed in the transaction that writes the Service. What the transaction assumes of a
//! range, it checks: no address comes from one whose deletion has begun.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use bytes::Bytes;
use carrack_api::{Resource, meta};
use carrack_store::{Compare, Range, Revision};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::ApiError;
use crate::object::{self, Stored};
use crate::registry::Registry;
use crate::service_range::ServiceRange;
use crate::start::row;

/// The group of both kinds.
pub(crate) const GROUP: &str = "networking.k8s.io";
/// The ServiceCIDR of the range that the cluster was made with.
pub(crate) const DEFAULT: &str = "kubernetes";
/// Says who makes an IPAddress; upstream's label and value.
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const ALLOCATOR: &str = "ipallocator.k8s.io";

/// A range that addresses can be taken from now.
pub(crate) struct Source {
    pub(crate) range: ServiceRange,
    key: String,
    known: Revision,
}

impl Source {
    /// That the range's ServiceCIDR is as it was read.
    pub(crate) fn unchanged(&self) -> Compare {
        Compare::mod_revision(self.key.clone(), self.known)
    }
}

fn cidrs() -> Result<&'static Resource, ApiError> {
    row(GROUP, "servicecidrs").ok_or_else(|| ApiError::internal("the table has no ServiceCIDR"))
}

fn addresses() -> Result<&'static Resource, ApiError> {
    row(GROUP, "ipaddresses").ok_or_else(|| ApiError::internal("the table has no IPAddress"))
}

/// The ranges of all ServiceCIDRs that are ready; `default`, which the first Services of a cluster come from, comes first,
/// and counts before its ServiceCIDR is there.
pub(crate) async fn sources(registry: &Registry, default: &ServiceRange) -> Result<Vec<Source>, ApiError> {
    let row = cidrs()?;
    let found = registry.range(Range::prefix(row.list_prefix(""))).await?;
    let mut sources = vec![Source { range: *default, key: row.key("", DEFAULT), known: 0 }];
    for kv in found.kvs {
        let object = Stored::from(&*kv).object()?;
        let key = row.key("", meta::name(&object));
        let (known, usable) = (kv.mod_revision, !meta::is_deleting(&object));
        if meta::name(&object) == DEFAULT {
            sources[0].known = known;
            sources.retain(|source| usable || source.key != key);
        } else if usable && is_ready(&object) {
            sources.extend(ranges(&object).map(|range| Source { range, key: key.clone(), known }));
        }
    }
    Ok(sources)
}

/// The ranges of a ServiceCIDR that this server can take addresses from.
pub(crate) fn ranges(cidr: &Value) -> impl Iterator<Item = ServiceRange> {
    let cidrs = cidr.pointer("/spec/cidrs").and_then(Value::as_array);
    cidrs.into_iter().flatten().filter_map(Value::as_str).filter_map(ServiceRange::parse)
}

fn is_ready(cidr: &Value) -> bool {
    let conditions = cidr.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// The key of the address's IPAddress.
pub(crate) fn key(address: Ipv4Addr) -> Result<String, ApiError> {
    Ok(addresses()?.key("", &address.to_string()))
}

/// The addresses that have an IPAddress.
pub(crate) async fn taken(registry: &Registry) -> Result<BTreeSet<Ipv4Addr>, ApiError> {
    let prefix = addresses()?.list_prefix("");
    let found = registry.range(Range { keys_only: true, ..Range::prefix(prefix.clone()) }).await?;
    let name = |key: &[u8]| std::str::from_utf8(key.get(prefix.len()..)?).ok()?.parse().ok();
    Ok(found.kvs.iter().filter_map(|kv| name(&kv.key)).collect())
}

/// A new IPAddress for a Service, in its stored form.
pub(crate) fn encode(address: Ipv4Addr, namespace: &str, service: &str) -> Result<Bytes, ApiError> {
    object::encode(&json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {
            "name": address.to_string(), "uid": uuid::Uuid::new_v4().to_string(), "generation": 1,
            "creationTimestamp": meta::format_time(Timestamp::now()),
            "labels": {"ipaddress.kubernetes.io/ip-family": "IPv4", MANAGED_BY: ALLOCATOR},
        },
        "spec": {"parentRef": {"resource": "services", "namespace": namespace, "name": service}},
    }))
}

/// The Service (namespace and name) that an IPAddress was made for by [`encode`]; `None` for those that somebody else made.
pub(crate) fn service_of(address: &Value) -> Option<(&str, &str)> {
    let parent = address.pointer("/spec/parentRef")?;
    let ours = address["metadata"]["labels"][MANAGED_BY] == ALLOCATOR && parent["resource"] == "services";
    ours.then(|| (parent["namespace"].as_str(), parent["name"].as_str())).and_then(|(a, b)| a.zip(b))
}
