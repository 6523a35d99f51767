//! EndpointSlices: addresses of a service's pods, in slices.

use std::collections::HashSet;

use jiff::Timestamp;
use k8s_openapi::api::discovery;
use serde_json::Value;

use super::endpoints::{SHOWN, endpoint_address, shorten};
use super::{BASE, gvk};
use crate::defaults::{objects, set};
use crate::meta;
use crate::names;
use crate::resource::Resource;
use crate::schema::TypeRef;
use crate::status::{FieldError, FieldPath};
use crate::strategy::{Rules, Typed};
use crate::table::read::{age, list, text};
use crate::table::{Column, Printer};
use crate::validate::{self, Errors, refuse, require_one_of};

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
            Column::text("AddressType", "The type of the addresses in the slice."),
            Column::text("Ports", "The ports at which the endpoints answer."),
            Column::text("Endpoints", "The addresses in the slice."),
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
        }
        let mut seen = HashSet::new();
        for (index, exposed) in ports.iter().enumerate() {
            let at = path.index(index);
            let name = validate::text(&exposed.name);
            if !name.is_empty() {
                refuse(&at.child("name"), name, names::dns1123_label(name), errors);
            }
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(&at.child("name"), name));
            }
            if let Some(number) = exposed.port {
                validate::port(&at.child("port"), number, errors);
            }
            let protocol = validate::text(&exposed.protocol);
            require_one_of(&at.child("protocol"), protocol, &["SCTP", "TCP", "UDP"], errors);
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
            let wrong = match kind {
                "IPv4" if address.parse::<std::net::Ipv4Addr>().is_err() => {
                    vec!["must be a valid IPv4 address".to_owned()]
                }
                "IPv6" if address.parse::<std::net::Ipv6Addr>().is_err() => {
                    vec!["must be a valid IPv6 address".to_owned()]
                }
                "IPv4" | "IPv6" => endpoint_address(address),
                _ => names::dns1123_subdomain(address),
            };
            refuse(&addresses.index(index), address, wrong, errors);
        }
        for (field, name, rule) in [
            ("nodeName", &endpoint.node_name, names::dns1123_subdomain as fn(&str) -> Vec<String>),
            ("hostname", &endpoint.hostname, names::dns1123_label),
        ] {
            if let Some(name) = name.as_deref() {
                refuse(&at.child(field), name, rule(name), errors);
            }
        }
        if let Some(reference) = &endpoint.target_ref {
            let kind = validate::text(&reference.kind);
            if !kind.is_empty() && validate::text(&reference.name).is_empty() {
                errors.push(FieldError::required(&at.child("targetRef").child("name"), ""));
            }
        }
    }
}
