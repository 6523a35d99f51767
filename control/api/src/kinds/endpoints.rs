//! Endpoints: the old list of a service's addresses.

use jiff::Timestamp;
use k8s_openapi::api::core as core_api;
use serde_json::Value;

use super::{BASE, core};
use crate::addresses;
use crate::defaults::{objects, set};
use crate::meta;
use crate::names;
use crate::resource::Resource;
use crate::schema::TypeRef;
use crate::status::{FieldError, FieldPath};
use crate::strategy::{Rules, Typed};
use crate::table::read::{age, integer, list, text};
use crate::table::{Column, Printer};
use crate::validate::{self, Errors, port, refuse, require_one_of};

/// The row of endpoints.
pub(super) const RESOURCE: Resource = Resource {
    kind: "Endpoints",
    list_kind: "EndpointsList",
    plural: "endpoints",
    singular: "endpoints",
    short_names: &["ep"],
    storage_prefix: "/registry/endpoints/",
    storage: core("v1", "Endpoints"),
    strategy: &Typed::<EndpointsRules>::new(),
    schema: TypeRef::of::<core_api::v1::Endpoints>("io.k8s.api.core.v1.Endpoints"),
    printer: Printer {
        columns: &[Column::NAME, Column::text("Endpoints", "core.v1.Endpoints#subsets"), Column::AGE],
        cells,
    },
    ..BASE
};

/// Addresses that a cell shows before it says how many more there are.
pub(super) const SHOWN: usize = 3;

/// The first of some items, of which there are `count`, and how many more there are.
pub(super) fn shorten(items: &[String], count: usize) -> String {
    match count {
        0 => "<none>".to_owned(),
        n if n <= SHOWN => items.join(","),
        n => format!("{} + {} more...", items[..SHOWN].join(","), n - SHOWN),
    }
}

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    // Each address with each port may be more than memory holds.
    let (mut shown, mut count) = (Vec::new(), 0_usize);
    for subset in list(object, "/subsets") {
        let addresses = list(subset, "/addresses").iter().map(|a| text(a, "/ip"));
        let ports = list(subset, "/ports");
        if ports.is_empty() {
            count = count.saturating_add(addresses.len());
            shown.extend(addresses.take(SHOWN).map(str::to_owned));
            continue;
        }
        let addresses: Vec<&str> = addresses.collect();
        count = count.saturating_add(addresses.len().saturating_mul(ports.len()));
        for port in ports.iter().take(SHOWN) {
            let number = integer(port, "/port");
            shown.extend(addresses.iter().take(SHOWN).map(|ip| {
                if ip.contains(':') { format!("[{ip}]:{number}") } else { format!("{ip}:{number}") }
            }));
        }
    }
    vec![meta::name(object).into(), shorten(&shown, count).into(), age(object, now)]
}

/// What is true of endpoints.
pub(super) struct EndpointsRules;

impl Rules for EndpointsRules {
    type Object = core_api::v1::Endpoints;

    const CREATE_ON_UPDATE: bool = true;

    fn default(endpoints: &mut Value) {
        let Some(fields) = endpoints.as_object_mut() else { return };
        for subset in objects(fields, "subsets") {
            for port in objects(subset, "ports") {
                set(port, "protocol", "TCP");
            }
        }
    }

    fn warnings(endpoints: &Self::Object, _old: Option<&Self::Object>, warnings: &mut Vec<String>) {
        warnings
            .push("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".to_owned());
        let path = FieldPath::root("subsets");
        for (index, subset) in validate::list(&endpoints.subsets).iter().enumerate() {
            let at = path.index(index);
            let both = [("addresses", &subset.addresses), ("notReadyAddresses", &subset.not_ready_addresses)];
            for (field, found) in both {
                let at = at.child(field);
                for (index, found) in validate::list(found).iter().enumerate() {
                    validate::address_warnings(&found.ip, &at.index(index).child("ip"), warnings);
                }
            }
        }
    }

    fn validate(endpoints: &Self::Object, errors: &mut Errors) {
        let path = FieldPath::root("subsets");
        for (index, subset) in validate::list(&endpoints.subsets).iter().enumerate() {
            let at = path.index(index);
            let (ready, not_ready) =
                (validate::list(&subset.addresses), validate::list(&subset.not_ready_addresses));
            if ready.is_empty() && not_ready.is_empty() {
                errors.push(FieldError::required(&at, "must specify `addresses` or `notReadyAddresses`"));
            }
            for (field, addresses) in [("addresses", ready), ("notReadyAddresses", not_ready)] {
                let at = at.child(field);
                for (index, found) in addresses.iter().enumerate() {
                    address(found, &at.index(index), errors);
                }
            }
            let ports = validate::list(&subset.ports);
            let ports_at = at.child("ports");
            for (index, exposed) in ports.iter().enumerate() {
                let at = ports_at.index(index);
                let name = validate::text(&exposed.name);
                if name.is_empty() && ports.len() > 1 {
                    errors.push(FieldError::required(&at.child("name"), ""));
                } else if !name.is_empty() {
                    refuse(&at.child("name"), name, names::dns1123_label(name), errors);
                }
                port(&at.child("port"), exposed.port, errors);
                let protocol = validate::text(&exposed.protocol);
                require_one_of(&at.child("protocol"), protocol, &["SCTP", "TCP", "UDP"], errors);
                if let Some(protocol) = exposed.app_protocol.as_deref() {
                    refuse(&at.child("appProtocol"), protocol, names::qualified_name(protocol), errors);
                }
            }
        }
    }
}

fn address(address: &core_api::v1::EndpointAddress, path: &FieldPath, errors: &mut Errors) {
    let (at, ip) = (path.child("ip"), address.ip.as_str());
    refuse(&at, ip, names::ip_address(ip), errors);
    let host = validate::text(&address.hostname);
    if !host.is_empty() {
        refuse(&path.child("hostname"), host, names::dns1123_label(host), errors);
    }
    if let Some(node) = address.node_name.as_deref() {
        refuse(&path.child("nodeName"), node, names::dns1123_subdomain(node), errors);
    }
    if names::ip_address(ip).is_empty() {
        refuse(&at, ip, endpoint_address(ip), errors);
    } else {
        errors.push(FieldError::invalid(&at, ip, "must be a valid IP address"));
    }
}

/// An address at which something else than this host can answer.
pub(super) fn endpoint_address(text: &str) -> Vec<String> {
    let Some(address) = addresses::parse(text) else { return names::ip_address(text) };
    let mut wrong = Vec::new();
    if address.is_unspecified() {
        wrong.push(format!("may not be unspecified ({text})"));
    }
    if address.is_loopback() {
        wrong.push("may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned());
    }
    let link_local = match address {
        std::net::IpAddr::V4(v4) => v4.is_link_local(),
        std::net::IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0) == 0xfe80,
    };
    if link_local {
        wrong.push("may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned());
    }
    let multicast = match address {
        std::net::IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        std::net::IpAddr::V6(v6) => (v6.segments()[0] & 0xff0f) == 0xff02,
    };
    if multicast {
        wrong.push("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned());
    }
    wrong
}
