//! Objects that are owned and replaced as a whole by server-side apply: what upstream marks `+structType=atomic` and
//! `+mapType=atomic`. OpenAPI tells clients as `x-kubernetes-map-type`.

use super::short;

/// Types, by their OpenAPI name without `io.k8s.api.` or `io.k8s.apimachinery.pkg.apis.`.
const TYPES: &[&str] = &[
    "admissionregistration.v1.MatchResources",
    "admissionregistration.v1.NamedRuleWithOperations",
    "admissionregistration.v1.ParamKind",
    "admissionregistration.v1.ParamRef",
    "admissionregistration.v1.Variable",
    "autoscaling.v1.CrossVersionObjectReference",
    "core.v1.ConfigMapKeySelector",
    "core.v1.EndpointAddress",
    "core.v1.EndpointPort",
    "core.v1.FileKeySelector",
    "core.v1.LocalObjectReference",
    "core.v1.NodeSelector",
    "core.v1.NodeSelectorTerm",
    "core.v1.ObjectFieldSelector",
    "core.v1.ObjectReference",
    "core.v1.ResourceFieldSelector",
    "core.v1.ScopeSelector",
    "core.v1.ScopedResourceSelectorRequirement",
    "core.v1.SecretKeySelector",
    "core.v1.SecretReference",
    "core.v1.TopologySelectorTerm",
    "core.v1.TypedLocalObjectReference",
    "discovery.v1.EndpointPort",
    "meta.v1.LabelSelector",
    "meta.v1.OwnerReference",
    "networking.v1.ServiceBackendPort",
    "rbac.v1.RoleRef",
    "rbac.v1.Subject",
];

/// Maps, by their type and field.
const FIELDS: &[(&str, &str)] = &[
    ("core.v1.PodSpec", "nodeSelector"),
    ("core.v1.ReplicationControllerSpec", "selector"),
    ("core.v1.ServiceSpec", "selector"),
    ("node.v1.Scheduling", "nodeSelector"),
];
/// Fields of an atomic type that are nevertheless owned field by field.
const GRANULAR: &[(&str, &str)] = &[("core.v1.PersistentVolumeSpec", "claimRef")];

/// Whether objects of the type are one piece.
pub(super) fn is_type(name: &str) -> bool {
    TYPES.binary_search(&short(name)).is_ok()
}

/// Whether the field is one piece.
pub(super) fn is_field(of: &str, field: &str) -> bool {
    FIELDS.contains(&(short(of), field))
}

/// Whether the field is not one piece although its type is.
pub(super) fn is_granular(of: &str, field: &str) -> bool {
    GRANULAR.contains(&(short(of), field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_sorted_and_found() {
        assert!(TYPES.is_sorted());
        assert!(is_type("io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"));
        assert!(!is_type("io.k8s.api.core.v1.PodSpec"));
        assert!(is_field("io.k8s.api.core.v1.PodSpec", "nodeSelector"));
    }
}
