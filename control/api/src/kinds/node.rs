//! Nodes.

use std::borrow::Cow;
use std::collections::HashSet;

use jiff::Timestamp;
use k8s_openapi::api::core as core_api;
use serde_json::{Value, json};

use super::{BASE, PROXY, core, status};
use crate::defaults::object;
use crate::meta;
use crate::names;
use crate::resource::{Resource, Scope, Subresource};
use crate::schema::TypeRef;
use crate::status::{FieldError, FieldPath};
use crate::strategy::{Rules, Typed};
use crate::table::read::{age, list, or_none, text};
use crate::table::{Column, Printer};
use crate::validate::{self, Errors, TAINT_EFFECTS, one_in_order, refuse, require};

/// The row of nodes.
pub(super) const RESOURCE: Resource = Resource {
    kind: "Node",
    list_kind: "NodeList",
    plural: "nodes",
    singular: "node",
    short_names: &["no"],
    scope: Scope::Cluster,
    subresources: &[
        Subresource { name: "proxy", kind: core("v1", "NodeProxyOptions"), verbs: PROXY },
        status(core("v1", "Node")),
    ],
    storage_prefix: "/registry/nodes/",
    storage: core("v1", "Node"),
    strategy: &Typed::<NodeRules>::new(),
    schema: TypeRef::of::<core_api::v1::Node>("io.k8s.api.core.v1.Node"),
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("Status", "The status of the node"),
            Column::text("Roles", "The roles of the node"),
            Column::AGE,
            Column::text("Version", "core.v1.NodeSystemInfo#kubeletVersion"),
            Column::text("Internal-IP", "core.v1.NodeStatus#addresses").wide(),
            Column::text("External-IP", "core.v1.NodeStatus#addresses").wide(),
            Column::text("OS-Image", "core.v1.NodeSystemInfo#osImage").wide(),
            Column::text("Kernel-Version", "core.v1.NodeSystemInfo#kernelVersion").wide(),
            Column::text("Container-Runtime", "core.v1.NodeSystemInfo#containerRuntimeVersion").wide(),
        ],
        cells,
    },
    ..BASE
};

fn cells(node: &Value, now: Timestamp) -> Vec<Value> {
    let address = |kind: &str| {
        let found = list(node, "/status/addresses").iter().find(|a| text(a, "/type") == kind);
        or_none(found.map_or("", |a| text(a, "/address")))
    };
    let info = |field: &str| match text(node, field) {
        "" => "<unknown>",
        known => known,
    };
    vec![
        meta::name(node).into(),
        state(node).into(),
        or_none(&roles(node)).into(),
        age(node, now),
        text(node, "/status/nodeInfo/kubeletVersion").into(),
        address("InternalIP").into(),
        address("ExternalIP").into(),
        info("/status/nodeInfo/osImage").into(),
        info("/status/nodeInfo/kernelVersion").into(),
        info("/status/nodeInfo/containerRuntimeVersion").into(),
    ]
}

fn state(node: &Value) -> String {
    let ready = list(node, "/status/conditions").iter().find(|c| text(c, "/type") == "Ready");
    let mut word = match ready.map(|c| text(c, "/status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if node.pointer("/spec/unschedulable") == Some(&Value::Bool(true)) {
        word += ",SchedulingDisabled";
    }
    word
}

fn roles(node: &Value) -> String {
    let mut roles: Vec<&str> = meta::labels(node)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) if !role.is_empty() => Some(role),
            _ if key == "kubernetes.io/role" => value.as_str().filter(|role| !role.is_empty()),
            _ => None,
        })
        .collect();
    roles.sort_unstable();
    roles.dedup();
    roles.join(",")
}

/// What is true of nodes.
pub(super) struct NodeRules;

impl Rules for NodeRules {
    type Object = core_api::v1::Node;

    const SCOPE: Scope = Scope::Cluster;
    const SELECTABLE: &'static [&'static str] = &["metadata.name", "spec.unschedulable"];

    fn default(node: &mut Value) {
        let Some(status) = node.as_object_mut().and_then(|n| object(n, "status")) else { return };
        if let (false, Some(capacity)) = (status.contains_key("allocatable"), status.get("capacity").cloned())
        {
            status.insert("allocatable".into(), capacity);
        }
    }

    // A kubelet registers with its status, so that a create keeps it; an update through the object does not change it.
    fn prepare_update(new: &mut Value, old: &Value) {
        meta::copy_field(new, old, "status");
    }

    fn validate(node: &Self::Object, errors: &mut Errors) {
        taints(node, errors);
        amounts(node, errors);
        ranges(node, errors);
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        amounts(new, errors);
        addresses(new, errors);
        let path = FieldPath::root("spec");
        let (spec, before) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
        if !validate::list(&before.pod_cidrs).is_empty() && before.pod_cidrs != spec.pod_cidrs {
            let why = "node updates may not change podCIDR except from \"\" to valid";
            errors.push(FieldError::forbidden(&path.child("podCIDRs"), why));
        }
        if !validate::text(&before.provider_id).is_empty() && before.provider_id != spec.provider_id {
            let why = "node updates may not change providerID except from \"\" to valid";
            errors.push(FieldError::forbidden(&path.child("providerID"), why));
        }
        taints(new, errors);
    }

    fn validate_status_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        Self::validate_update(new, old, errors);
    }

    fn selectable<'a>(node: &'a Value, field: &str) -> Cow<'a, str> {
        match (field, meta::text_at(node, field)) {
            ("spec.unschedulable", Cow::Borrowed("")) => Cow::Borrowed("false"),
            (_, text) => text,
        }
    }
}

fn taints(node: &core_api::v1::Node, errors: &mut Errors) {
    let taints = node.spec.as_ref().map(|spec| validate::list(&spec.taints)).unwrap_or_default();
    // The path is upstream's.
    let all = FieldPath::root("metadata").child("taints");
    let mut seen = HashSet::new();
    for (index, taint) in taints.iter().enumerate() {
        let at = all.index(index);
        refuse(&at.child("key"), &taint.key, names::qualified_name(&taint.key), errors);
        let value = validate::text(&taint.value);
        let wrong = names::label_value(value);
        if !wrong.is_empty() {
            errors.push(FieldError::invalid(&at.child("value"), value, wrong.join(";")));
        }
        if require(&at.child("effect"), &taint.effect, errors) {
            one_in_order(&at.child("effect"), &taint.effect, TAINT_EFFECTS, errors);
        }
        if !seen.insert((&taint.key, &taint.effect)) {
            // Upstream shows the taint as it has it.
            let shown = json!({
                "Key": taint.key, "Value": value, "Effect": taint.effect, "TimeAdded": taint.time_added,
            });
            let mut error = FieldError::duplicate(&at, shown);
            "taints must be unique by key and effect pair".clone_into(&mut error.detail);
            errors.push(error);
        }
    }
}

fn amounts(node: &core_api::v1::Node, errors: &mut Errors) {
    let Some(status) = &node.status else { return };
    for (field, amounts) in [("capacity", &status.capacity), ("allocatable", &status.allocatable)] {
        for (name, amount) in amounts.iter().flatten() {
            let at = FieldPath::root("status").child(field).child(name);
            validate::resource_amount(name, amount, &at, errors);
        }
    }
}

fn addresses(node: &core_api::v1::Node, errors: &mut Errors) {
    let addresses = node.status.as_ref().map(|status| validate::list(&status.addresses)).unwrap_or_default();
    let mut seen = HashSet::new();
    for (index, address) in addresses.iter().enumerate() {
        if !seen.insert((&address.type_, &address.address)) {
            let at = FieldPath::root("status").child("addresses").index(index);
            // Upstream shows the address as it has it.
            let shown = json!({"Type": address.type_, "Address": address.address});
            errors.push(FieldError::duplicate(&at, shown));
        }
    }
}

/// The ranges that pods have their addresses of: one for each family.
fn ranges(node: &core_api::v1::Node, errors: &mut Errors) {
    let ranges = node.spec.as_ref().map(|spec| validate::list(&spec.pod_cidrs)).unwrap_or_default();
    let path = FieldPath::root("spec").child("podCIDRs");
    for (index, range) in ranges.iter().enumerate() {
        refuse(&path.index(index), range, names::cidr(range), errors);
    }
    if ranges.len() < 2 {
        return;
    }
    let of_six = |range: &String| range.contains(':');
    let both = ranges.iter().any(of_six) && !ranges.iter().all(of_six);
    if !both || ranges.len() > 2 {
        let why = "may specify no more than one CIDR for each IP family";
        errors.push(FieldError::invalid(&path, validate::shown(&ranges), why));
    }
    let mut seen = HashSet::new();
    for (index, range) in ranges.iter().enumerate() {
        if !seen.insert(range) {
            errors.push(FieldError::duplicate(&path.index(index), range.as_str()));
        }
    }
}
