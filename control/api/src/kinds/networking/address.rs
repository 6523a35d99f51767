//! IPAddresses and ServiceCIDRs: the addresses of Services, and the ranges they come from.

use ipnet::IpNet;
use k8s_openapi::api::networking::v1 as net;

use crate::addresses;
use crate::kinds::prelude::*;

/// The row of ipaddresses.
pub(in crate::kinds) const IP: Resource = Resource {
    short_names: &["ip"],
    printer: Printer {
        columns: &[
            Column::NAME,
            // Upstream sends ages without a column for them, so that nobody sees them.
            Column::text("ParentRef", "networking.v1.IPAddressSpec#parentRef"),
        ],
        cells: ip_cells,
    },
    ..row!(
        "networking.k8s.io" / "v1",
        "IPAddress",
        "ipaddress",
        "ipaddresses",
        "networking",
        net::IPAddress,
        IpAddressRules
    )
};

/// The row of servicecidrs.
pub(in crate::kinds) const CIDR: Resource = Resource {
    subresources: &[status(gvk("networking.k8s.io", "v1", "ServiceCIDR"))],
    printer: Printer {
        columns: &[Column::NAME, Column::text("CIDRs", "networking.v1.ServiceCIDRSpec#cidrs"), Column::AGE],
        cells: cidr_cells,
    },
    ..row!(
        "networking.k8s.io" / "v1",
        "ServiceCIDR",
        "servicecidr",
        "servicecidrs",
        "networking",
        net::ServiceCIDR,
        ServiceCidrRules
    )
};

fn ip_cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let parent = object.pointer("/spec/parentRef").map_or_else(
        || "<none>".to_owned(),
        |of| {
            let mut resource = read::text(of, "/resource").to_owned();
            match read::text(of, "/group") {
                "" => {}
                group => resource = format!("{resource}.{group}"),
            }
            let resource = resource.to_lowercase();
            match read::text(of, "/namespace") {
                "" => format!("{resource}/{}", read::text(of, "/name")),
                namespace => format!("{resource}/{namespace}/{}", read::text(of, "/name")),
            }
        },
    );
    vec![meta::name(object).into(), parent.into(), age(object, now)]
}

fn cidr_cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let cidrs: Vec<&str> = read::list(object, "/spec/cidrs").iter().filter_map(Value::as_str).collect();
    vec![meta::name(object).into(), cidrs.join(",").into(), age(object, now)]
}

/// What is true of ipaddresses.
pub(in crate::kinds) struct IpAddressRules;

impl Rules for IpAddressRules {
    type Object = net::IPAddress;

    const SCOPE: Scope = Scope::Cluster;
    const NAME: NameRule = NameRule::IpAddress;
    const CREATE_ON_UPDATE: bool = true;
    const HAS_GENERATION: bool = true;
    const SELECTABLE: &'static [&'static str] = &["metadata.name", "spec.parentRef"];

    fn validate(address: &Self::Object, errors: &mut Errors) {
        let at = spec_path().child("parentRef");
        let Some(parent) = address.spec.as_ref().map(|s| &s.parent_ref) else {
            errors.push(FieldError::required(&at, ""));
            return;
        };
        let group = validate::text(&parent.group);
        if !group.is_empty() {
            refuse(&at.child("group"), group, names::dns1123_subdomain(group), errors);
        }
        let segment = |text: &str| names::path_segment(text, false);
        require_by(&at.child("resource"), &parent.resource, segment, errors);
        require_by(&at.child("name"), &parent.name, segment, errors);
        let namespace = validate::text(&parent.namespace);
        refuse(&at.child("namespace"), namespace, segment(namespace), errors);
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        let parent = |address: &Self::Object| address.spec.as_ref().map(|s| s.parent_ref.clone());
        validate::unchanged(&spec_path().child("parentRef"), &parent(new), &parent(old), errors);
    }

    fn selectable<'a>(address: &'a Value, field: &str) -> std::borrow::Cow<'a, str> {
        match field {
            "spec.parentRef" => {
                let of = address.pointer("/spec/parentRef").unwrap_or(&Value::Null);
                ["/group", "/resource", "/namespace", "/name"]
                    .map(|part| read::text(of, part))
                    .join("/")
                    .into()
            }
            _ => meta::text_at(address, field),
        }
    }
}

/// What is true of servicecidrs.
pub(in crate::kinds) struct ServiceCidrRules;

impl Rules for ServiceCidrRules {
    type Object = net::ServiceCIDR;

    const SCOPE: Scope = Scope::Cluster;
    const CREATE_ON_UPDATE: bool = true;
    const HAS_STATUS: bool = true;
    const HAS_GENERATION: bool = true;

    fn validate(object: &Self::Object, errors: &mut Errors) {
        cidrs(ranges(object), errors);
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        let (new, old, path) = (ranges(new), ranges(old), spec_path().child("cidrs"));
        match (old.len(), new.len()) {
            (before, after) if before == after => {
                for (index, (now, was)) in new.iter().zip(old).enumerate() {
                    validate::unchanged(&path.index(index), now, was, errors);
                }
            }
            // A second family may join.
            (1, 2) => {
                validate::unchanged(&path.index(0), &new[0], &old[0], errors);
                cidrs(new, errors);
            }
            _ => errors.push(FieldError::invalid(&path, validate::shown(&new), names::IMMUTABLE)),
        }
    }
}

fn ranges(object: &net::ServiceCIDR) -> &[String] {
    object.spec.as_ref().map_or(&[], |spec| validate::list(&spec.cidrs))
}

fn cidrs(cidrs: &[String], errors: &mut Errors) {
    let path = spec_path().child("cidrs");
    match cidrs.len() {
        0 => return errors.push(FieldError::required(&path, "at least one CIDR required")),
        1 | 2 => {}
        _ => {
            let why = "may only hold up to 2 values";
            return errors.push(FieldError::invalid(&path, validate::shown(&cidrs), why));
        }
    }
    for (index, text) in cidrs.iter().enumerate() {
        let at = path.index(index);
        refuse(&at, text, addresses::strict_range(text), errors);
    }
    let families: Vec<bool> =
        cidrs.iter().filter_map(|c| c.parse::<IpNet>().ok()).map(|c| matches!(c, IpNet::V4(_))).collect();
    if families.len() == 2 && families[0] == families[1] {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.push(FieldError::invalid(&path, validate::shown(&cidrs), why));
    }
}
