//! How lists (and a few objects) of built-in types merge: what Kubernetes' Go sources say in struct tags.
//!
//! `patch_key` is the single key of strategic merge; `list` says the same for server-side apply and OpenAPI, where a
//! list may have several keys. Fields that are not here are replaced as a whole.

/// What a list is, in the words of `x-kubernetes-list-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// Entries are told apart by these fields.
    Map(&'static [&'static str]),
    /// Entries are scalars and appear once.
    Set,
    /// Replaced as a whole.
    Atomic,
    /// Not a list: an object whose union members replace each other.
    Object,
}

/// The rule for one field of one type.
#[derive(Debug, PartialEq, Eq)]
pub struct ListRule {
    /// OpenAPI name of the type.
    pub of: &'static str,
    /// Field of that type.
    pub field: &'static str,
    /// `x-kubernetes-list-type`.
    pub list: ListKind,
    /// Whether strategic merge merges rather than replaces.
    pub merge: bool,
    /// `x-kubernetes-patch-merge-key`; none for lists of scalars.
    pub patch_key: Option<&'static str>,
    /// Whether `$retainKeys` is honoured (and sent by clients).
    pub retain_keys: bool,
}

pub(super) const fn keyed(of: &'static str, field: &'static str, keys: &'static [&'static str]) -> ListRule {
    ListRule {
        of,
        field,
        list: ListKind::Map(keys),
        merge: true,
        patch_key: Some(keys[0]),
        retain_keys: false,
    }
}

const fn keyed_retaining(of: &'static str, field: &'static str, keys: &'static [&'static str]) -> ListRule {
    ListRule {
        of,
        field,
        list: ListKind::Map(keys),
        merge: true,
        patch_key: Some(keys[0]),
        retain_keys: true,
    }
}

const fn set(of: &'static str, field: &'static str) -> ListRule {
    ListRule { of, field, list: ListKind::Set, merge: true, patch_key: None, retain_keys: false }
}

pub(super) const fn atomic(of: &'static str, field: &'static str) -> ListRule {
    ListRule { of, field, list: ListKind::Atomic, merge: false, patch_key: None, retain_keys: false }
}

/// A map of scalars' worth of keys for apply which strategic merge nevertheless replaces.
pub(super) const fn apply_keyed(
    of: &'static str,
    field: &'static str,
    keys: &'static [&'static str],
) -> ListRule {
    ListRule { of, field, list: ListKind::Map(keys), merge: false, patch_key: None, retain_keys: false }
}

/// Scalars that appear once for apply, and that strategic merge replaces.
pub(super) const fn apply_set(of: &'static str, field: &'static str) -> ListRule {
    ListRule { of, field, list: ListKind::Set, merge: false, patch_key: None, retain_keys: false }
}

/// Entries that strategic merge tells apart, and that apply replaces.
pub(super) const fn merged(of: &'static str, field: &'static str, key: &'static str) -> ListRule {
    ListRule { of, field, list: ListKind::Atomic, merge: true, patch_key: Some(key), retain_keys: false }
}

const CONTAINER: &str = "io.k8s.api.core.v1.Container";
const EPHEMERAL: &str = "io.k8s.api.core.v1.EphemeralContainer";
const POD_SPEC: &str = "io.k8s.api.core.v1.PodSpec";
const POD_STATUS: &str = "io.k8s.api.core.v1.PodStatus";
const NODE_STATUS: &str = "io.k8s.api.core.v1.NodeStatus";
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Rules for pods, services, nodes and what they are made of; the others are in `more_lists.rs`.
pub static RULES: &[ListRule] = &[
    set(OBJECT_META, "finalizers"),
    keyed(OBJECT_META, "ownerReferences", &["uid"]),
    keyed(CONTAINER, "env", &["name"]),
    keyed(CONTAINER, "ports", &["containerPort", "protocol"]),
    keyed(CONTAINER, "volumeDevices", &["devicePath"]),
    keyed(CONTAINER, "volumeMounts", &["mountPath"]),
    atomic(CONTAINER, "args"),
    atomic(CONTAINER, "command"),
    atomic(CONTAINER, "envFrom"),
    atomic(CONTAINER, "resizePolicy"),
    keyed(EPHEMERAL, "env", &["name"]),
    keyed(EPHEMERAL, "ports", &["containerPort", "protocol"]),
    keyed(EPHEMERAL, "volumeDevices", &["devicePath"]),
    keyed(EPHEMERAL, "volumeMounts", &["mountPath"]),
    atomic(EPHEMERAL, "args"),
    atomic(EPHEMERAL, "command"),
    atomic(EPHEMERAL, "envFrom"),
    keyed(POD_SPEC, "containers", &["name"]),
    keyed(POD_SPEC, "initContainers", &["name"]),
    keyed(POD_SPEC, "ephemeralContainers", &["name"]),
    keyed(POD_SPEC, "hostAliases", &["ip"]),
    keyed(POD_SPEC, "imagePullSecrets", &["name"]),
    keyed(POD_SPEC, "topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    keyed_retaining(POD_SPEC, "volumes", &["name"]),
    keyed_retaining(POD_SPEC, "resourceClaims", &["name"]),
    keyed(POD_SPEC, "schedulingGates", &["name"]),
    atomic(POD_SPEC, "tolerations"),
    atomic(POD_SPEC, "readinessGates"),
    keyed(POD_STATUS, "conditions", &["type"]),
    keyed(POD_STATUS, "hostIPs", &["ip"]),
    keyed(POD_STATUS, "podIPs", &["ip"]),
    keyed_retaining(POD_STATUS, "resourceClaimStatuses", &["name"]),
    atomic(POD_STATUS, "containerStatuses"),
    atomic(POD_STATUS, "initContainerStatuses"),
    atomic(POD_STATUS, "ephemeralContainerStatuses"),
    keyed("io.k8s.api.core.v1.ContainerStatus", "volumeMounts", &["mountPath"]),
    apply_keyed("io.k8s.api.core.v1.ResourceRequirements", "claims", &["name"]),
    keyed(NODE_STATUS, "addresses", &["type"]),
    keyed(NODE_STATUS, "conditions", &["type"]),
    atomic(NODE_STATUS, "images"),
    atomic(NODE_STATUS, "volumesAttached"),
    atomic(NODE_STATUS, "volumesInUse"),
    set("io.k8s.api.core.v1.NodeSpec", "podCIDRs"),
    atomic("io.k8s.api.core.v1.NodeSpec", "taints"),
    keyed("io.k8s.api.core.v1.NamespaceStatus", "conditions", &["type"]),
    atomic("io.k8s.api.core.v1.NamespaceSpec", "finalizers"),
    keyed("io.k8s.api.core.v1.ServiceSpec", "ports", &["port", "protocol"]),
    atomic("io.k8s.api.core.v1.ServiceSpec", "clusterIPs"),
    atomic("io.k8s.api.core.v1.ServiceSpec", "externalIPs"),
    atomic("io.k8s.api.core.v1.ServiceSpec", "ipFamilies"),
    atomic("io.k8s.api.core.v1.ServiceSpec", "loadBalancerSourceRanges"),
    keyed("io.k8s.api.core.v1.ServiceStatus", "conditions", &["type"]),
    atomic("io.k8s.api.core.v1.LoadBalancerStatus", "ingress"),
    keyed("io.k8s.api.core.v1.ServiceAccount", "secrets", &["name"]),
    atomic("io.k8s.api.core.v1.ServiceAccount", "imagePullSecrets"),
    atomic("io.k8s.api.core.v1.Endpoints", "subsets"),
    atomic("io.k8s.api.core.v1.EndpointSubset", "addresses"),
    atomic("io.k8s.api.core.v1.EndpointSubset", "notReadyAddresses"),
    atomic("io.k8s.api.core.v1.EndpointSubset", "ports"),
    atomic("io.k8s.api.discovery.v1.EndpointSlice", "endpoints"),
    atomic("io.k8s.api.discovery.v1.EndpointSlice", "ports"),
    set("io.k8s.api.discovery.v1.Endpoint", "addresses"),
    ListRule {
        of: "io.k8s.api.apps.v1.DeploymentSpec",
        field: "strategy",
        list: ListKind::Object,
        merge: true,
        patch_key: None,
        retain_keys: true,
    },
    keyed("io.k8s.api.apps.v1.DeploymentStatus", "conditions", &["type"]),
    keyed("io.k8s.api.apps.v1.ReplicaSetStatus", "conditions", &["type"]),
    atomic("io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector", "matchExpressions"),
    atomic("io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelectorRequirement", "values"),
    atomic("io.k8s.api.core.v1.ProjectedVolumeSource", "sources"),
    atomic("io.k8s.api.core.v1.ConfigMapVolumeSource", "items"),
    atomic("io.k8s.api.core.v1.SecretVolumeSource", "items"),
    atomic("io.k8s.api.core.v1.DownwardAPIVolumeSource", "items"),
    atomic("io.k8s.api.core.v1.Capabilities", "add"),
    atomic("io.k8s.api.core.v1.Capabilities", "drop"),
    atomic("io.k8s.api.core.v1.PodSecurityContext", "supplementalGroups"),
    atomic("io.k8s.api.core.v1.PodSecurityContext", "sysctls"),
    atomic("io.k8s.api.core.v1.ExecAction", "command"),
    atomic("io.k8s.api.core.v1.HTTPGetAction", "httpHeaders"),
    atomic("io.k8s.api.core.v1.PodDNSConfig", "nameservers"),
    atomic("io.k8s.api.core.v1.PodDNSConfig", "searches"),
    atomic("io.k8s.api.core.v1.PodDNSConfig", "options"),
    atomic("io.k8s.api.rbac.v1.Role", "rules"),
    atomic("io.k8s.api.rbac.v1.ClusterRole", "rules"),
    atomic("io.k8s.api.rbac.v1.RoleBinding", "subjects"),
    atomic("io.k8s.api.rbac.v1.ClusterRoleBinding", "subjects"),
    atomic("io.k8s.api.rbac.v1.AggregationRule", "clusterRoleSelectors"),
    atomic("io.k8s.api.rbac.v1.PolicyRule", "apiGroups"),
    atomic("io.k8s.api.rbac.v1.PolicyRule", "nonResourceURLs"),
    atomic("io.k8s.api.rbac.v1.PolicyRule", "resourceNames"),
    atomic("io.k8s.api.rbac.v1.PolicyRule", "resources"),
    atomic("io.k8s.api.rbac.v1.PolicyRule", "verbs"),
];

/// All rules.
pub fn rules() -> impl Iterator<Item = &'static ListRule> {
    RULES.iter().chain(super::more_lists::RULES)
}

/// The rule for a field, if it has one.
pub(super) fn find(of: &str, field: &str) -> Option<&'static ListRule> {
    rules().find(|rule| rule.field == field && rule.of == of)
}
