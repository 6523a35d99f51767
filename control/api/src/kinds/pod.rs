//! Pods, and the Binding that puts one on a node.

mod parts;
mod print;
mod quality;

use std::borrow::Cow;

use k8s_openapi::api::core as core_api;
use serde_json::{Value, json};

use super::{BASE, PART, POST, PROXY, STREAM, core, gvk, status};
use crate::resource::{Resource, Subresource, Verb};
use crate::schema::TypeRef;
use crate::status::{FieldError, FieldPath};
use crate::strategy::{Rules, Typed};
use crate::{defaults, meta, validate};

/// The row of pods.
pub(super) const RESOURCE: Resource = Resource {
    kind: "Pod",
    list_kind: "PodList",
    plural: "pods",
    singular: "pod",
    short_names: &["po"],
    categories: &["all"],
    subresources: &[
        Subresource { name: "attach", kind: core("v1", "PodAttachOptions"), verbs: STREAM },
        Subresource { name: "binding", kind: core("v1", "Binding"), verbs: POST },
        Subresource { name: "ephemeralcontainers", kind: core("v1", "Pod"), verbs: PART },
        Subresource { name: "eviction", kind: gvk("policy", "v1", "Eviction"), verbs: POST },
        Subresource { name: "exec", kind: core("v1", "PodExecOptions"), verbs: STREAM },
        Subresource { name: "log", kind: core("v1", "Pod"), verbs: &[Verb::Get] },
        Subresource { name: "portforward", kind: core("v1", "PodPortForwardOptions"), verbs: STREAM },
        Subresource { name: "proxy", kind: core("v1", "PodProxyOptions"), verbs: PROXY },
        Subresource { name: "resize", kind: core("v1", "Pod"), verbs: PART },
        status(core("v1", "Pod")),
    ],
    storage_prefix: "/registry/pods/",
    storage: core("v1", "Pod"),
    strategy: &Typed::<PodRules>::new(),
    schema: TypeRef::of::<core_api::v1::Pod>("io.k8s.api.core.v1.Pod"),
    printer: print::PRINTER,
    ..BASE
};

/// The quality-of-service class of a pod with defaults.
pub(super) fn quality_class(pod: &Value) -> &'static str {
    quality::class(pod)
}

/// The row of bindings, which are posted and never stored.
pub(super) const BINDING: Resource = Resource {
    kind: "Binding",
    plural: "bindings",
    singular: "binding",
    verbs: POST,
    storage: core("v1", "Binding"),
    schema: TypeRef::of::<core_api::v1::Binding>("io.k8s.api.core.v1.Binding"),
    ..BASE
};

/// What is true of pods.
pub(super) struct PodRules;

impl Rules for PodRules {
    type Object = core_api::v1::Pod;

    const HAS_STATUS: bool = true;
    const HAS_GENERATION: bool = true;
    const COMPARES_ONE_PART: bool = true;
    const STATUS_KEEPS: &'static [&'static str] = &["ownerReferences"];
    const SELECTABLE: &'static [&'static str] = &[
        "metadata.name",
        "metadata.namespace",
        "spec.hostNetwork",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.nominatedNodeName",
        "status.phase",
        "status.podIP",
        "status.podIPs",
    ];

    fn default(pod: &mut Value) {
        defaults::pod(pod);
    }

    fn prepare_create(pod: &mut Value) {
        validate::merge_label_keys(pod);
        let mut status = json!({"phase": "Pending", "qosClass": quality::class(pod)});
        let gates = pod.pointer("/spec/schedulingGates").and_then(Value::as_array);
        if gates.is_some_and(|gates| !gates.is_empty()) {
            status["conditions"] = json!([{
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastProbeTime": null, "lastTransitionTime": null,
            }]);
        }
        if let Some(fields) = pod.as_object_mut() {
            fields.insert("status".into(), status);
        }
    }

    fn prepare_status_update(new: &mut Value, old: &Value) {
        let Some(status) = new.as_object_mut().and_then(|pod| defaults::make_object(pod, "status")) else {
            return;
        };
        if let Some(class) = old.pointer("/status/qosClass") {
            defaults::set(status, "qosClass", class.clone());
        }
        // Of two that differ, the one address counts.
        if let Some(ip) = status.get("podIP").filter(|ip| ip.as_str().is_some_and(|ip| !ip.is_empty()))
            && status.get("podIPs").and_then(|all| all.get(0)?.get("ip")).is_some_and(|first| first != ip)
        {
            let all = json!([{"ip": ip}]);
            status.insert("podIPs".to_owned(), all);
        }
        // The one address is the first of the many; either may be written alone.
        for (one, many) in [("podIP", "podIPs"), ("hostIP", "hostIPs")] {
            if let Some(ip) = status.get(one).filter(|_| !status.contains_key(many)) {
                let all = json!([{"ip": ip}]);
                status.insert(many.to_owned(), all);
            } else if let Some(ip) = status.get(many).and_then(|all| all.get(0)?.get("ip")).cloned() {
                defaults::set(status, one, ip);
            }
        }
    }

    fn prepare_part_update(part: &str, new: &mut Value, old: &Value) -> bool {
        parts::prepare(part, new, old)
    }

    fn validate_part_update(part: &str, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        parts::validate(part, new, old, errors);
    }

    // Pods are changed by programs, whom nobody reads to.
    fn warnings(new: &Self::Object, old: Option<&Self::Object>, warnings: &mut Vec<String>) {
        let (Some(spec), None) = (&new.spec, old) else { return };
        validate::host_name(validate::text(&new.metadata.name), "the Pod's hostname", warnings);
        let (annotations, base) = (new.metadata.annotations.as_ref(), &FieldPath::default());
        validate::pod_warnings(validate::Subject { annotations, spec, base }, warnings);
    }

    fn validate_change(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        validate::pod_annotations_update(new, old, errors);
    }

    fn validate(pod: &Self::Object, errors: &mut Vec<FieldError>) {
        validate::pod(pod, errors);
        validate::pod_create(pod, errors);
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Vec<FieldError>) {
        validate::pod(new, errors);
        validate::pod_update(new, old, errors);
    }

    fn validate_status_update(new: &Self::Object, old: &Self::Object, errors: &mut Vec<FieldError>) {
        validate::pod_status(new, old, errors);
    }

    fn selectable<'a>(pod: &'a Value, field: &str) -> Cow<'a, str> {
        match field {
            "spec.hostNetwork" => match meta::text_at(pod, field) {
                Cow::Borrowed("") => Cow::Borrowed("false"),
                text => text,
            },
            // Several addresses cannot be told apart by one value; upstream lists them.
            "status.podIPs" => {
                let addresses = pod.pointer("/status/podIPs").and_then(Value::as_array);
                let all: Vec<&str> = addresses
                    .into_iter()
                    .flatten()
                    .filter_map(|a| a.get("ip").and_then(Value::as_str))
                    .collect();
                Cow::Owned(all.join(","))
            }
            _ => meta::text_at(pod, field),
        }
    }

    fn grace_period(pod: &Value, asked: Option<i64>) -> Option<i64> {
        let wanted = pod.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64);
        let seconds = asked.or(wanted).unwrap_or_default();
        let bound = !meta::text_at(pod, "spec.nodeName").is_empty();
        let ended = matches!(&*meta::text_at(pod, "status.phase"), "Succeeded" | "Failed");
        // Nobody has to end what runs nowhere.
        if !bound || ended {
            return Some(0);
        }
        Some(if seconds < 0 { 1 } else { seconds })
    }
}
