//! ServiceCIDRs say whether addresses come from them, and stay until none of theirs is left; every address that a Service
//! holds has its IPAddress, and no other has one of ours. Upstream: the ServiceCIDR controller, and the repair loop of
//! Service addresses.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use carrack_api::custom::set_condition;
use carrack_api::meta;
use carrack_store::{Compare, Event, EventKind};
use jiff::Timestamp;
use serde_json::Value;

use super::{CareError, Job, list};
use crate::registry::Beside;
use crate::server::ApiServer;
use crate::service_addresses::{self as addresses, GROUP, ranges};
use crate::start::row;
use crate::{ApiError, services};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const PATH: &str = "/apis/networking.k8s.io/v1/servicecidrs";
const USED: &str =
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
const NOT_OURS: &str =
    "this server gives out IPv4 addresses, from ranges of 4 to 1048576 of them (prefixes /12 to /30)";

pub(super) struct ServiceAddresses;

#[async_trait::async_trait]
impl Job for ServiceAddresses {
    fn name(&self) -> &'static str {
        "service addresses"
    }

    fn watched(&self) -> &'static [(&'static str, &'static str)] {
        &[(GROUP, "servicecidrs"), (GROUP, "ipaddresses")]
    }

    fn concerns(&self, event: &Event) -> bool {
        let cidr =
            row(GROUP, "servicecidrs").is_some_and(|r| event.kv.key.starts_with(r.storage_prefix.as_bytes()));
        cidr || event.kind == EventKind::Delete
    }

    async fn sweep(&self, api: &ApiServer) -> Result<Option<Duration>, CareError> {
        // In this order: an address that is given out after its range was read was not taken from a range that was
        // being deleted by then, and an address read has its Service read, or the write that removes it fails.
        let cidrs = list(api, GROUP, "servicecidrs", "").await?;
        let services = list(api, "", "services", "").await?;
        let known = list(api, GROUP, "ipaddresses", "").await?;
        put_right(api, &services, &known).await?;
        let used: Vec<Ipv4Addr> =
            known.iter().filter_map(|address| meta::name(address).parse().ok()).collect();
        for cidr in &cidrs {
            let name = meta::name(cidr);
            match decide(cidr, &cidrs, &used, Timestamp::now()) {
                Some(Step::Object(new)) => api.replace(&format!("{PATH}/{name}"), &new).await?,
                Some(Step::Status(new)) => api.replace(&format!("{PATH}/{name}/status"), &new).await?,
                None => {}
            }
        }
        Ok(None)
    }
}

/// What a ServiceCIDR becomes.
#[derive(Debug, PartialEq)]
enum Step {
    Object(Value),
    Status(Value),
}

/// The next step with a ServiceCIDR of `all`, while these addresses are in use; `None` when there is none.
fn decide(cidr: &Value, all: &[Arc<Value>], used: &[Ipv4Addr], now: Timestamp) -> Option<Step> {
    let held = meta::finalizers(cidr).any(|f| f == FINALIZER);
    let mut finalizers: Vec<&str> = meta::finalizers(cidr).filter(|f| *f != FINALIZER).collect();
    let mut new = cidr.clone();
    let (status, reason, message) = match (meta::is_deleting(cidr), held) {
        (true, false) => return None,
        (true, true) if !is_needed(cidr, all, used) => {
            meta::set(&mut new, "finalizers", finalizers);
            return Some(Step::Object(new));
        }
        (true, true) => ("False", "Terminating", USED),
        (false, false) => {
            finalizers.push(FINALIZER);
            meta::set(&mut new, "finalizers", finalizers);
            return Some(Step::Object(new));
        }
        (false, true) if ranges(cidr).next().is_none() => ("False", "Unsupported", NOT_OURS),
        (false, true) => ("True", "", "Kubernetes Service CIDR is ready"),
    };
    set_condition(&mut new, "Ready", status, reason, message, now);
    (new != *cidr).then_some(Step::Status(new))
}

/// Whether an address that is in use lies in this range, and in no other that stays.
fn is_needed(cidr: &Value, all: &[Arc<Value>], used: &[Ipv4Addr]) -> bool {
    let has = |cidr: &Value, address: &Ipv4Addr| ranges(cidr).any(|range| range.contains(*address));
    let stays = |other: &&Arc<Value>| !meta::is_deleting(other) && meta::name(other) != meta::name(cidr);
    let in_other = |address: &Ipv4Addr| all.iter().filter(stays).any(|other| has(other, address));
    used.iter().any(|address| has(cidr, address) && !in_other(address))
}

/// Makes the IPAddresses that are missing, and removes those of ours whose Service does not hold the address. A Service
/// that changes meanwhile has done so by itself.
async fn put_right(api: &ApiServer, services: &[Arc<Value>], known: &[Arc<Value>]) -> Result<(), ApiError> {
    let service_row = row("", "services").ok_or_else(|| ApiError::internal("the table has no Service"))?;
    let registry = &api.inner.registry;
    let unchanged = |namespace: &str, name: &str, revision: i64| Beside {
        compare: vec![Compare::mod_revision(service_row.key(namespace, name), revision)],
        ..Beside::default()
    };
    let mut wanted: BTreeMap<Ipv4Addr, &Value> = BTreeMap::new();
    for service in services {
        wanted.extend(services::addresses(service).into_iter().map(|address| (address, &**service)));
    }
    for address in known {
        let Some(ip) = meta::name(address).parse::<Ipv4Addr>().ok() else { continue };
        let owner = wanted.remove(&ip);
        let Some((namespace, name)) = addresses::service_of(address) else { continue };
        if owner.is_some_and(|service| meta::namespace(service) == namespace && meta::name(service) == name) {
            continue;
        }
        let is_it = |s: &&Arc<Value>| meta::namespace(s) == namespace && meta::name(s) == name;
        let revision = services.iter().find(is_it).map_or(0, |service| revision(service));
        let beside = unchanged(namespace, name, revision);
        registry.remove(&addresses::key(ip)?, self::revision(address), beside).await?;
    }
    for (ip, service) in wanted {
        let (namespace, name) = (meta::namespace(service), meta::name(service));
        let beside = unchanged(namespace, name, revision(service));
        registry.put(&addresses::key(ip)?, 0, addresses::encode(ip, namespace, name)?, beside).await?;
    }
    Ok(())
}

/// The revision of the last change.
fn revision(object: &Value) -> i64 {
    meta::resource_version(object).parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cidr(name: &str, range: &str, finalizers: &[&str], deleting: bool) -> Value {
        let mut cidr =
            json!({"metadata": {"name": name, "finalizers": finalizers}, "spec": {"cidrs": [range]}});
        if deleting {
            cidr["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        cidr
    }

    fn step(cidr: &Value, others: &[&Value], used: &[&str]) -> Option<Step> {
        let all: Vec<Arc<Value>> = others.iter().copied().chain([cidr]).cloned().map(Arc::new).collect();
        let used: Vec<Ipv4Addr> = used.iter().map(|ip| ip.parse().unwrap()).collect();
        decide(cidr, &all, &used, "2026-01-01T00:00:00Z".parse().unwrap())
    }

    fn ready(step: Option<Step>) -> (Value, Value) {
        let Some(Step::Status(new)) = step else { panic!("no status: {step:?}") };
        let condition = &new["status"]["conditions"][0];
        (condition["status"].clone(), condition["reason"].clone())
    }

    #[test]
    fn a_range_is_held_before_it_is_ready() {
        let Some(Step::Object(held)) = step(&cidr("a", "10.0.0.0/24", &["x/y"], false), &[], &[]) else {
            panic!()
        };
        assert_eq!(held["metadata"]["finalizers"], json!(["x/y", FINALIZER]));
        let Some(Step::Status(is_ready)) = step(&held, &[], &[]) else { panic!() };
        assert_eq!(ready(Some(Step::Status(is_ready.clone()))), (json!("True"), json!("")));
        assert_eq!(step(&is_ready, &[], &[]), None);
        let six = cidr("b", "fd00::/108", &[FINALIZER], false);
        assert_eq!(ready(step(&six, &[], &[])), (json!("False"), json!("Unsupported")));
    }

    #[test]
    fn a_range_goes_once_nothing_needs_it() {
        let going = cidr("a", "10.0.0.0/24", &[FINALIZER, "x/y"], true);
        assert_eq!(ready(step(&going, &[], &["10.0.0.7"])), (json!("False"), json!("Terminating")));
        let around = |deleting| cidr("b", "10.0.0.0/16", &[FINALIZER], deleting);
        assert!(matches!(step(&going, &[&around(true)], &["10.0.0.7"]), Some(Step::Status(_))));
        for (others, used) in [(vec![around(false)], vec!["10.0.0.7"]), (vec![], vec!["10.0.1.7"])] {
            let others: Vec<&Value> = others.iter().collect();
            let Some(Step::Object(free)) = step(&going, &others, &used) else { panic!() };
            assert_eq!(free["metadata"]["finalizers"], json!(["x/y"]));
            assert_eq!(step(&free, &others, &used), None);
        }
    }
}
