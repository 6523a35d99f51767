//! Services.

mod advice;
mod balancer;
mod carry;
mod families;
mod print;
mod rules;

use k8s_openapi::api::core as core_api;
use serde_json::{Value, json};

use super::{BASE, PROXY, core, status};
use crate::defaults::{make_object, objects, set, set_nonzero, text};
use crate::meta::NameRule;
use crate::resource::{Resource, Subresource};
use crate::schema::TypeRef;
use crate::strategy::{Rules, Typed};
use crate::validate::Errors;

/// The row of services.
pub(super) const RESOURCE: Resource = Resource {
    kind: "Service",
    list_kind: "ServiceList",
    plural: "services",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    subresources: &[
        Subresource { name: "proxy", kind: core("v1", "ServiceProxyOptions"), verbs: PROXY },
        status(core("v1", "Service")),
    ],
    storage_prefix: "/registry/services/",
    storage: core("v1", "Service"),
    strategy: &Typed::<ServiceRules>::new(),
    schema: TypeRef::of::<core_api::v1::Service>("io.k8s.api.core.v1.Service"),
    printer: print::PRINTER,
    ..BASE
};

/// Seconds for which a client stays with its endpoint.
const AFFINITY_SECONDS: i64 = 3 * 60 * 60;

/// What is true of services.
pub(super) struct ServiceRules;

impl Rules for ServiceRules {
    type Object = core_api::v1::Service;

    const NAME: NameRule = NameRule::Label1035;
    const CREATE_ON_UPDATE: bool = true;
    const HAS_STATUS: bool = true;
    const SELECTABLE: &'static [&'static str] =
        &["metadata.name", "metadata.namespace", "spec.clusterIP", "spec.type"];

    fn default(service: &mut Value) {
        let Some(spec) = service.as_object_mut().and_then(|s| make_object(s, "spec")) else { return };
        set(spec, "sessionAffinity", "None");
        set(spec, "type", "ClusterIP");
        match text(spec, "sessionAffinity") {
            "None" => {
                spec.remove("sessionAffinityConfig");
            }
            "ClientIP" => {
                let config =
                    make_object(spec, "sessionAffinityConfig").and_then(|c| make_object(c, "clientIP"));
                if let Some(client) = config {
                    set(client, "timeoutSeconds", AFFINITY_SECONDS);
                }
            }
            _ => {}
        }
        for port in objects(spec, "ports") {
            set(port, "protocol", "TCP");
            if let Some(number) = port.get("port").cloned() {
                set_nonzero(port, "targetPort", number);
            }
        }
        let kind = text(spec, "type").to_owned();
        let has_external =
            spec.get("externalIPs").and_then(Value::as_array).is_some_and(|ips| !ips.is_empty());
        let reachable_outside =
            matches!(kind.as_str(), "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && has_external);
        if reachable_outside {
            set(spec, "externalTrafficPolicy", "Cluster");
        }
        if matches!(kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
            set(spec, "internalTrafficPolicy", "Cluster");
        }
        if kind == "LoadBalancer" {
            set(spec, "allocateLoadBalancerNodePorts", true);
            balancer::default_modes(service);
        }
    }

    fn prepare_create(service: &mut Value) {
        if let Some(fields) = service.as_object_mut() {
            fields.insert("status".into(), json!({"loadBalancer": {}}));
        }
        carry::first_address(service);
    }

    fn prepare_update(new: &mut Value, old: &Value) {
        carry::carry_over(new, old);
        carry::changed_address(new, old);
        carry::first_address(new);
        carry::drop_by_type(new, old);
    }

    fn warnings(new: &Self::Object, _old: Option<&Self::Object>, warnings: &mut Vec<String>) {
        advice::about(new, warnings);
    }

    fn validate(service: &Self::Object, errors: &mut Errors) {
        rules::service(service, errors);
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        rules::change(new, old, errors);
        rules::service(new, errors);
    }

    fn validate_status_update(new: &Self::Object, _old: &Self::Object, errors: &mut Errors) {
        balancer::told(new, errors);
    }
}
