//! Nodes.

use std::borrow::Cow;
use std::collections::HashSet;

use jiff::Timestamp;
use k8s_openapi::api::core as core_api;
use serde_json::Value;

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
use crate::validate::{self, Errors, refuse, require_by, require_one_of};

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
            Column::text("Version", "Kubelet Version reported by the node."),
            Column::text("Internal-IP", "The node's address inside of the cluster.").wide(),
            Column::text("External-IP", "The node's address outside of the cluster.").wide(),
            Column::text("OS-Image", "OS Image reported by the node.").wide(),
            Column::text("Kernel-Version", "Kernel Version reported by the node.").wide(),
            Column::text("Container-Runtime", "Container runtime and version reported by the node.").wide(),
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
        let path = FieldPath::root("spec");
        let Some(spec) = &node.spec else { return };
        let taints = validate::list(&spec.taints);
        let taints_at = path.child("taints");
        let mut seen = HashSet::new();
        for (index, taint) in taints.iter().enumerate() {
            let at = taints_at.index(index);
            require_by(&at.child("key"), &taint.key, names::qualified_name, errors);
            let value = validate::text(&taint.value);
            refuse(&at.child("value"), value, names::label_value(value), errors);
            let effects = ["NoExecute", "NoSchedule", "PreferNoSchedule"];
            require_one_of(&at.child("effect"), &taint.effect, &effects, errors);
            if !seen.insert((&taint.key, &taint.effect)) {
                let shown = format!("{}:{}", taint.key, taint.effect);
                let mut error = FieldError::duplicate(&at, shown);
                "taints must be unique by key and effect pair".clone_into(&mut error.detail);
                errors.push(error);
            }
        }
        let ranges = path.child("podCIDRs");
        for (index, range) in validate::list(&spec.pod_cidrs).iter().enumerate() {
            refuse(&ranges.index(index), range, names::cidr(range), errors);
        }
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        Self::validate(new, errors);
        let path = FieldPath::root("spec");
        let (new, old) = (new.spec.clone().unwrap_or_default(), old.spec.clone().unwrap_or_default());
        let set = |list: &Option<Vec<String>>| !validate::list(list).is_empty();
        if set(&old.pod_cidrs) && old.pod_cidrs != new.pod_cidrs {
            let why = "node updates may not change podCIDR except from \"\" to valid";
            errors.push(FieldError::forbidden(&path.child("podCIDRs"), why));
        }
        if !validate::text(&old.provider_id).is_empty() && old.provider_id != new.provider_id {
            let why = "node updates may not change providerID except from \"\" to valid";
            errors.push(FieldError::forbidden(&path.child("providerID"), why));
        }
    }

    fn selectable<'a>(node: &'a Value, field: &str) -> Cow<'a, str> {
        match (field, meta::text_at(node, field)) {
            ("spec.unschedulable", Cow::Borrowed("")) => Cow::Borrowed("false"),
            (_, text) => text,
        }
    }
}
