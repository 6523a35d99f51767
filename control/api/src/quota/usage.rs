//! What one object takes, by kind; and which names a quota has for it.

use jiff::Timestamp;
use serde_json::Value;

use super::pod;
use crate::footprint::{self, Amounts};
use crate::quantity::Quantity;

/// Kinds that a quota can count by their bare plural, beside `count/…`.
const COUNTED: &[&str] = &["configmaps", "replicationcontrollers", "resourcequotas", "secrets"];
const SERVICES: &[&str] = &["services", "services.loadbalancers", "services.nodeports"];
const CLAIMS: &[&str] = &["persistentvolumeclaims", "requests.storage"];
/// Between the name of a storage class and what is limited of it.
const BY_CLASS: &str = ".storageclass.storage.k8s.io/";
/// Between the name of a device class and `devices`.
const BY_DEVICE_CLASS: &str = ".deviceclass.resource.k8s.io/";
/// The kind that asks for devices.
const RESOURCE_CLAIMS: (&str, &str) = ("resource.k8s.io", "resourceclaims");
/// What a request for all devices of a node counts as: as many as one claim can be given.
const ALL_DEVICES: i64 = 32;
/// The older place of a claim's storage class.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// A kind of object, by its group and plural.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind<'a> {
    /// API group, empty for core.
    pub group: &'a str,
    /// `pods` and so on.
    pub plural: &'a str,
}

impl<'a> Kind<'a> {
    /// A kind.
    pub fn new(group: &'a str, plural: &'a str) -> Self {
        Kind { group, plural }
    }

    /// The name under which quotas count objects, whatever they are: `count/deployments.apps`.
    pub fn count(self) -> String {
        if self.group.is_empty() {
            format!("count/{}", self.plural)
        } else {
            format!("count/{}.{}", self.plural, self.group)
        }
    }

    /// Whether a quota of that name is about objects of this kind.
    pub fn takes(self, name: &str) -> bool {
        kind_of(name) == Some((self.group, self.plural))
    }

    /// Whether it is a kind of the core group, with that plural.
    pub(super) fn is_core(self, plural: &str) -> bool {
        self.group.is_empty() && self.plural == plural
    }
}

/// Group and plural of the objects that a quota of that name is about; `None` for names that mean nothing.
pub fn kind_of(name: &str) -> Option<(&str, &str)> {
    if let Some(counted) = name.strip_prefix("count/") {
        let (plural, group) = counted.split_once('.').unwrap_or((counted, ""));
        return Some((group, plural));
    }
    let claims = CLAIMS.contains(&name)
        || name.split_once(BY_CLASS).is_some_and(|(_, resource)| CLAIMS.contains(&resource));
    if claims {
        return Some(("", "persistentvolumeclaims"));
    }
    if name.split_once(BY_DEVICE_CLASS).is_some_and(|(_, resource)| resource == "devices") {
        return Some(RESOURCE_CLAIMS);
    }
    if SERVICES.contains(&name) {
        return Some(("", "services"));
    }
    if let Some(plural) = COUNTED.iter().find(|plural| **plural == name) {
        return Some(("", plural));
    }
    pod::is_resource(name).then_some(("", "pods"))
}

/// What `object` takes as of `now`, under every name there is for it.
pub fn usage(kind: Kind<'_>, object: &Value, now: Timestamp) -> Amounts {
    let mut taken = match kind.plural {
        _ if (kind.group, kind.plural) == RESOURCE_CLAIMS => devices(object),
        _ if !kind.group.is_empty() => Amounts::new(),
        "pods" => pod::usage(object, now),
        "services" => service(object),
        "persistentvolumeclaims" => claim(object),
        plural if COUNTED.contains(&plural) => [(plural.to_owned(), one())].into(),
        _ => Amounts::new(),
    };
    taken.insert(kind.count(), one());
    taken
}

pub(super) fn one() -> Quantity {
    Quantity::from_units(1)
}

/// A service, its load balancer, and the node ports that it has or will get.
fn service(service: &Value) -> Amounts {
    let ports = service.pointer("/spec/ports").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let named = ports.iter().filter(|port| port.get("nodePort").and_then(Value::as_i64).unwrap_or(0) != 0);
    let suppressed = service.pointer("/spec/allocateLoadBalancerNodePorts") == Some(&Value::Bool(false));
    let (balancers, node_ports) = match service.pointer("/spec/type").and_then(Value::as_str) {
        Some("NodePort") => (0, ports.len()),
        Some("LoadBalancer") if suppressed => (1, named.count()),
        Some("LoadBalancer") => (1, ports.len()),
        _ => (0, 0),
    };
    let units = |count: usize| Quantity::from_units(i64::try_from(count).unwrap_or(i64::MAX));
    [
        ("services".to_owned(), one()),
        ("services.loadbalancers".to_owned(), units(balancers)),
        ("services.nodeports".to_owned(), units(node_ports)),
    ]
    .into()
}

/// A claim and its storage, once for all and once for its class.
fn claim(claim: &Value) -> Amounts {
    let mut taken: Amounts = [("persistentvolumeclaims".to_owned(), one())].into();
    if let Some(storage) = storage(claim) {
        taken.insert("requests.storage".to_owned(), storage);
    }
    let class = crate::meta::annotation(claim, CLASS_ANNOTATION)
        .or_else(|| claim.pointer("/spec/storageClassName").and_then(Value::as_str));
    if let Some(class) = class.filter(|class| !class.is_empty()) {
        let of_class: Vec<_> =
            taken.iter().map(|(name, amount)| (format!("{class}{BY_CLASS}{name}"), *amount)).collect();
        taken.extend(of_class);
    }
    taken
}

/// What the claim asks for, or what it was given when that is more; in whole bytes.
fn storage(claim: &Value) -> Option<Quantity> {
    let at = |pointer| footprint::amounts(claim.pointer(pointer)).get("storage").copied();
    let wanted = at("/spec/resources/requests")?;
    let most = at("/status/allocatedResources").map_or(wanted, |given| given.max(wanted));
    Some(if most.is_whole() { most } else { Quantity::from_units(most.units()) })
}

/// The devices of each class that a claim for devices asks for. Of alternatives the most of each class counts.
fn devices(claim: &Value) -> Amounts {
    let mut sum = Amounts::new();
    let requests = claim.pointer("/spec/devices/requests").and_then(Value::as_array).into_iter().flatten();
    for request in requests {
        let alternatives = request.get("firstAvailable").and_then(Value::as_array).into_iter().flatten();
        let mut most = Amounts::new();
        for wanted in request.get("exactly").into_iter().chain(alternatives) {
            let class = wanted.get("deviceClassName").and_then(Value::as_str).unwrap_or_default();
            let all = wanted.get("allocationMode").and_then(Value::as_str) == Some("All");
            let count = wanted.get("count").and_then(Value::as_i64).unwrap_or(1);
            let count = Quantity::from_units(if all { ALL_DEVICES } else { count });
            let entry = most.entry(format!("{class}{BY_DEVICE_CLASS}devices")).or_insert(count);
            *entry = (*entry).max(count);
        }
        footprint::add(&mut sum, &most);
    }
    sum
}
