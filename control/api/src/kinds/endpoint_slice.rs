//! EndpointSlices: addresses of a service's pods, in slices.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::discovery;
use serde_json::Value;

use super::endpoints::{SHOWN, endpoint_address, shorten};
use super::{BASE, gvk};
use crate::addresses;
use crate::defaults::{objects, set};
use crate::meta;
use crate::names;
use crate::resource::Resource;
use crate::schema::TypeRef;
use crate::status::{FieldError, FieldPath};
use crate::strategy::{Rules, Typed};
use crate::table::read::{age, list, text};
use crate::table::{Column, Printer};
use crate::validate::{self, Errors, refuse, require, require_one_of};

/// The row of endpointslices.
pub(super) const RESOURCE: Resource = Resource {
    group: "discovery.k8s.io",
    api_version: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    list_kind: "EndpointSliceList",
    plural: "endpointslices",
    singular: "endpointslice",
    storage_prefix: "/registry/endpointslices/",
    storage: gvk("discovery.k8s.io", "v1", "EndpointSlice"),
    strategy: &Typed::<EndpointSliceRules>::new(),
    schema: TypeRef::of::<discovery::v1::EndpointSlice>("io.k8s.api.discovery.v1.EndpointSlice"),
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("AddressType", "discovery.v1.EndpointSlice#addressType"),
            Column::text("Ports", "discovery.v1.EndpointSlice#ports"),
            Column::text("Endpoints", "discovery.v1.EndpointSlice#endpoints"),
            Column::AGE,
        ],
        cells,
    },
    ..BASE
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = list(object, "/ports")
        .iter()
        .map(|port| match (port.get("port"), text(port, "/name")) {
            (Some(number), _) => number.to_string(),
            (None, "") => "<unset>".to_owned(),
            (None, name) => name.to_owned(),
        })
        .collect();
    let ports = match ports.len() {
        0 => "<unset>".to_owned(),
        n if n <= SHOWN => ports.join(","),
        n => format!("{} + {} more...", ports[..SHOWN].join(","), n - SHOWN),
    };
    let addresses: Vec<String> = list(object, "/endpoints")
        .iter()
        .flat_map(|endpoint| list(endpoint, "/addresses"))
        .filter_map(|address| address.as_str().map(str::to_owned))
        .collect();
    let addresses =
        if addresses.is_empty() { "<unset>".to_owned() } else { shorten(&addresses, addresses.len()) };
    vec![
        meta::name(object).into(),
        text(object, "/addressType").into(),
        ports.into(),
        addresses.into(),
        age(object, now),
    ]
}

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20_000;
const MAX_TOPOLOGY: usize = 16;
const MAX_HINTS: usize = 8;

/// What is true of endpointslices.
pub(super) struct EndpointSliceRules;

impl Rules for EndpointSliceRules {
    type Object = discovery::v1::EndpointSlice;

    const HAS_GENERATION: bool = true;

    fn default(slice: &mut Value) {
        let Some(fields) = slice.as_object_mut() else { return };
        for port in objects(fields, "ports") {
            set(port, "name", "");
            set(port, "protocol", "TCP");
        }
    }

    fn validate(slice: &Self::Object, errors: &mut Errors) {
        let kind = slice.address_type.as_str();
        require_one_of(&FieldPath::root("addressType"), kind, &["FQDN", "IPv4", "IPv6"], errors);
        endpoints(&slice.endpoints, kind, &FieldPath::root("endpoints"), errors);
        let ports = validate::list(&slice.ports);
        let path = FieldPath::root("ports");
        if ports.len() > MAX_PORTS {
            errors.push(FieldError::too_many(&path, ports.len(), MAX_PORTS));
            return;
        }
        let mut seen = BTreeSet::new();
        for (index, exposed) in ports.iter().enumerate() {
            let at = path.index(index);
            let name = validate::text(&exposed.name);
            if !name.is_empty() {
                refuse(&at.child("name"), name, names::dns1123_label(name), errors);
            }
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(&at.child("name"), name));
            }
            let protocol = validate::text(&exposed.protocol);
            require_one_of(&at.child("protocol"), protocol, &["SCTP", "TCP", "UDP"], errors);
            if let Some(protocol) = exposed.app_protocol.as_deref() {
                refuse(&at.child("appProtocol"), protocol, names::qualified_name(protocol), errors);
            }
        }
    }

    fn warnings(slice: &Self::Object, _old: Option<&Self::Object>, warnings: &mut Vec<String>) {
        let path = FieldPath::root("endpoints");
        for (index, endpoint) in slice.endpoints.iter().enumerate().filter(|_| slice.address_type != "FQDN") {
            let at = path.index(index).child("addresses");
            for (index, address) in endpoint.addresses.iter().enumerate() {
                validate::address_warnings(address, &at.index(index), warnings);
            }
        }
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        Self::validate(new, errors);
        if new.address_type != old.address_type {
            let at = FieldPath::root("addressType");
            errors.push(FieldError::invalid(&at, new.address_type.as_str(), names::IMMUTABLE));
        }
    }
}

fn endpoints(endpoints: &[discovery::v1::Endpoint], kind: &str, path: &FieldPath, errors: &mut Errors) {
    if endpoints.len() > MAX_ENDPOINTS {
        errors.push(FieldError::too_many(path, endpoints.len(), MAX_ENDPOINTS));
        return;
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let at = path.index(index);
        let addresses = at.child("addresses");
        match endpoint.addresses.len() {
            0 => errors.push(FieldError::required(&addresses, "must contain at least 1 address")),
            n if n > MAX_ADDRESSES => errors.push(FieldError::too_many(&addresses, n, MAX_ADDRESSES)),
            _ => {}
        }
        for (index, address) in endpoint.addresses.iter().enumerate() {
            if kind == "FQDN" {
                domain_name(address, &addresses.index(index), errors);
                continue;
            }
            let wrong = match kind {
                "IPv4" if !addresses::parse(address).is_some_and(|ip| ip.is_ipv4()) => {
                    vec!["must be a valid IPv4 address".to_owned()]
                }
                "IPv6" if !addresses::parse(address).is_some_and(|ip| ip.is_ipv6()) => {
                    vec!["must be a valid IPv6 address".to_owned()]
                }
                "IPv4" | "IPv6" => endpoint_address(address),
                // That the type is none is said already.
                _ => Vec::new(),
            };
            refuse(&addresses.index(index), address, wrong, errors);
        }
        if let Some(node) = endpoint.node_name.as_deref() {
            refuse(&at.child("nodeName"), node, names::dns1123_subdomain(node), errors);
        }
        let (labels, topology) = (&endpoint.deprecated_topology, at.child("deprecatedTopology"));
        let count = labels.as_ref().map_or(0, BTreeMap::len);
        if count > MAX_TOPOLOGY {
            errors.push(FieldError::too_many(&topology, count, MAX_TOPOLOGY));
        }
        validate::label_map(labels.as_ref(), &topology, errors);
        if let Some(host) = endpoint.hostname.as_deref() {
            refuse(&at.child("hostname"), host, names::dns1123_label(host), errors);
        }
        let Some(hinted) = &endpoint.hints else { continue };
        let zones = validate::list(&hinted.for_zones).iter().map(|zone| zone.name.as_str());
        hints(zones, names::label_value, &at.child("hints").child("forZones"), errors);
        let nodes = validate::list(&hinted.for_nodes).iter().map(|node| node.name.as_str());
        hints(nodes, names::dns1123_subdomain, &at.child("hints").child("forNodes"), errors);
    }
}

/// Whom an endpoint is for, by name.
fn hints<'a>(
    named: impl ExactSizeIterator<Item = &'a str>,
    rule: fn(&str) -> Vec<String>,
    path: &FieldPath,
    errors: &mut Errors,
) {
    if named.len() > MAX_HINTS {
        errors.push(FieldError::too_many(path, named.len(), MAX_HINTS));
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, name) in named.enumerate() {
        let at = path.index(index).child("name");
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&at, name));
        }
        refuse(&at, name, rule(name), errors);
    }
}

/// A name with a domain. Upstream shows of what is wrong that part alone, without the dot that may end a name.
fn domain_name(text: &str, path: &FieldPath, errors: &mut Errors) {
    if !require(path, text, errors) {
        return;
    }
    let text = text.strip_suffix('.').unwrap_or(text);
    let wrong = names::dns1123_subdomain(text);
    if !wrong.is_empty() {
        errors.push(FieldError::invalid(path, text, wrong.join(",")));
    } else if !text.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, text, why));
    } else if let Some(label) = text.split('.').find(|label| label.len() > names::MAX_LABEL) {
        errors.push(FieldError::invalid(path, label, names::dns1123_label(label).join(",")));
    }
}
