//! NetworkPolicies.

use k8s_openapi::api::networking::v1 as net;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::addresses;
use crate::kinds::prelude::*;
use crate::select::LabelSelector;

/// The row of networkpolicies.
pub(in crate::kinds) const RESOURCE: Resource = Resource {
    short_names: &["netpol"],
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("Pod-Selector", "networking.v1.NetworkPolicySpec#podSelector"),
            Column::AGE,
        ],
        cells,
    },
    ..row!(
        "networking.k8s.io" / "v1",
        "NetworkPolicy",
        "networkpolicy",
        "networkpolicies",
        "networking",
        net::NetworkPolicy,
        NetworkPolicyRules
    )
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let selector = LabelSelector::from_value(object.pointer("/spec/podSelector"));
    let selector = selector.map_or_else(|_| "<error>".to_owned(), |s| s.to_string());
    vec![meta::name(object).into(), read::or_none(&selector).into(), age(object, now)]
}

/// What is true of networkpolicies.
pub(in crate::kinds) struct NetworkPolicyRules;

impl Rules for NetworkPolicyRules {
    type Object = net::NetworkPolicy;

    const CREATE_ON_UPDATE: bool = true;
    const HAS_GENERATION: bool = true;

    fn default(policy: &mut Value) {
        let Some(spec) = spec_of(policy) else { return };
        for direction in ["ingress", "egress"] {
            for rule in objects(spec, direction) {
                for port in objects(rule, "ports") {
                    set(port, "protocol", "TCP");
                }
            }
        }
        if spec.get("policyTypes").and_then(Value::as_array).is_none_or(Vec::is_empty) {
            let outward = spec.get("egress").and_then(Value::as_array).is_some_and(|rules| !rules.is_empty());
            let types = if outward { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
            spec.insert("policyTypes".into(), types);
        }
        make_object(spec, "podSelector");
    }

    fn warnings(policy: &Self::Object, _old: Option<&Self::Object>, warnings: &mut Vec<String>) {
        has_no_effect(warnings);
        let Some(spec) = &policy.spec else { return };
        let path = spec_path();
        for (index, rule) in validate::list(&spec.ingress).iter().enumerate() {
            let at = path.child("ingress").index(index).child("from");
            block_advice(validate::list(&rule.from), &at, warnings);
        }
        for (index, rule) in validate::list(&spec.egress).iter().enumerate() {
            let at = path.child("egress").index(index).child("to");
            block_advice(validate::list(&rule.to), &at, warnings);
        }
    }

    fn validate(policy: &Self::Object, errors: &mut Errors) {
        let empty = net::NetworkPolicySpec::default();
        let (spec, path) = (policy.spec.as_ref().unwrap_or(&empty), spec_path());
        if let Some(selector) = &spec.pod_selector {
            validate::label_selector(selector, &path.child("podSelector"), errors);
        }
        for (index, rule) in validate::list(&spec.ingress).iter().enumerate() {
            let at = path.child("ingress").index(index);
            ports(validate::list(&rule.ports), &at.child("ports"), errors);
            peers(validate::list(&rule.from), &at.child("from"), errors);
        }
        for (index, rule) in validate::list(&spec.egress).iter().enumerate() {
            let at = path.child("egress").index(index);
            ports(validate::list(&rule.ports), &at.child("ports"), errors);
            peers(validate::list(&rule.to), &at.child("to"), errors);
        }
        let (at, types) = (path.child("policyTypes"), validate::list(&spec.policy_types));
        if types.len() > 2 {
            let why = "may not specify more than two policyTypes";
            errors.push(FieldError::invalid(&at, validate::shown(&types), why));
            return;
        }
        for (index, kind) in types.iter().enumerate() {
            one_in_order(&at.index(index), kind, &["Ingress", "Egress"], errors);
        }
    }
}

fn ports(ports: &[net::NetworkPolicyPort], path: &FieldPath, errors: &mut Errors) {
    for (index, entry) in ports.iter().enumerate() {
        let at = path.index(index);
        if let Some(protocol) = &entry.protocol {
            one_in_order(&at.child("protocol"), protocol, &["TCP", "UDP", "SCTP"], errors);
        }
        let (port_at, end_at) = (at.child("port"), at.child("endPort"));
        match (&entry.port, entry.end_port) {
            (None, Some(end)) => {
                let why = "may not be specified when `port` is not specified";
                errors.push(FieldError::invalid(&end_at, end, why));
            }
            (None, None) => {}
            (Some(IntOrString::Int(port)), end) => {
                validate::port(&port_at, *port, errors);
                if let Some(end) = end {
                    if end < *port {
                        let why = "must be greater than or equal to `port`";
                        errors.push(FieldError::invalid(&end_at, end, why));
                    }
                    validate::port(&end_at, end, errors);
                }
            }
            (Some(IntOrString::String(name)), end) => {
                if let Some(end) = end {
                    let why = "may not be specified when `port` is non-numeric";
                    errors.push(FieldError::invalid(&end_at, end, why));
                }
                refuse(&port_at, name, names::port_name(name), errors);
            }
        }
    }
}

fn peers(peers: &[net::NetworkPolicyPeer], path: &FieldPath, errors: &mut Errors) {
    for (index, peer) in peers.iter().enumerate() {
        let at = path.index(index);
        let selectors =
            [("podSelector", &peer.pod_selector), ("namespaceSelector", &peer.namespace_selector)];
        let mut selects = false;
        for (field, selector) in selectors {
            if let Some(selector) = selector {
                selects = true;
                validate::label_selector(selector, &at.child(field), errors);
            }
        }
        match &peer.ip_block {
            None if !selects => errors.push(FieldError::required(&at, "must specify a peer")),
            None => {}
            Some(block) => {
                ip_block(block, &at.child("ipBlock"), errors);
                if selects {
                    let why = "may not specify both ipBlock and another peer";
                    errors.push(FieldError::forbidden(&at, why));
                }
            }
        }
    }
}

fn block_advice(peers: &[net::NetworkPolicyPeer], path: &FieldPath, warnings: &mut Vec<String>) {
    for (index, block) in peers.iter().enumerate() {
        let Some(block) = &block.ip_block else { continue };
        let at = path.index(index).child("ipBlock");
        validate::range_warnings(&block.cidr, &at.child("cidr"), warnings);
        for (index, except) in validate::list(&block.except).iter().enumerate() {
            validate::range_warnings(except, &at.child("except").index(index), warnings);
        }
    }
}

fn ip_block(block: &net::IPBlock, path: &FieldPath, errors: &mut Errors) {
    let at = path.child("cidr");
    require_by(&at, &block.cidr, names::cidr, errors);
    let Some(whole) = addresses::parse_range(&block.cidr) else { return };
    for (index, text) in validate::list(&block.except).iter().enumerate() {
        let at = path.child("except").index(index);
        refuse(&at, text, names::cidr(text), errors);
        let Some(part) = addresses::parse_range(text) else { continue };
        if !whole.contains(&part.network()) || whole.prefix_len() >= part.prefix_len() {
            errors.push(FieldError::invalid(&at, text.as_str(), "must be a strict subset of `cidr`"));
        }
    }
}
