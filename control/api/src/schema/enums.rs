//! Fields whose values are all known: those of Go types that Kubernetes' sources mark `+enum`, which a server publishes in
//! its OpenAPI documents and `kubectl explain` prints. Types that only look like it (conditions, `LimitType`, everything of
//! HorizontalPodAutoscalers) are not marked there, since others may add values, and are not here either.
//!
//! The values of a list's or map's field are those of its entries.

mod bare;
mod groups;
mod objects;
mod pods;

use super::short;
use crate::kinds::KEY_USAGES;
use Allowed::{Bare, Told};
use bare::*;
use groups::*;
use objects::*;
use pods::*;

/// Values, and what each means.
type Values = &'static [(&'static str, &'static str)];
/// Values of which nothing is said.
type Names = &'static [&'static str];

/// The values that a field may have.
#[derive(Clone, Copy, Debug)]
pub enum Allowed {
    /// Values, and what upstream says of each.
    Told(Values),
    /// Values alone.
    Bare(Names),
}

impl Allowed {
    /// The values in their order.
    pub fn names(self) -> Vec<&'static str> {
        match self {
            Told(values) => values.iter().map(|(name, _)| *name).collect(),
            Bare(names) => names.to_vec(),
        }
    }

    /// What ends the field's description, in the form of upstream's documents: a line for each value.
    pub fn description(self) -> String {
        let line = |name: &str, words: &str| format!("\n - `{name:?}` {words}").trim_end().to_owned();
        let lines: String = match self {
            Told(values) => values.iter().map(|(name, words)| line(name, words)).collect(),
            Bare(names) => names.iter().map(|name| line(name, "")).collect(),
        };
        format!("\n\nPossible enum values:{lines}")
    }
}

/// Values by type and field, sorted.
const FIELDS: &[(&str, &str, Allowed)] = &[
    ("admissionregistration.v1.MatchResources", "matchPolicy", Told(MATCH_POLICIES)),
    ("admissionregistration.v1.MutatingWebhook", "failurePolicy", Told(FAILURE_POLICIES)),
    ("admissionregistration.v1.MutatingWebhook", "matchPolicy", Told(MATCH_POLICIES)),
    ("admissionregistration.v1.MutatingWebhook", "reinvocationPolicy", Told(REINVOCATION_POLICIES)),
    ("admissionregistration.v1.MutatingWebhook", "sideEffects", Told(SIDE_EFFECTS)),
    ("admissionregistration.v1.NamedRuleWithOperations", "operations", Bare(OPERATIONS)),
    ("admissionregistration.v1.NamedRuleWithOperations", "scope", Told(ADMISSION_SCOPES)),
    ("admissionregistration.v1.RuleWithOperations", "operations", Bare(OPERATIONS)),
    ("admissionregistration.v1.RuleWithOperations", "scope", Told(ADMISSION_SCOPES)),
    (
        "admissionregistration.v1.ValidatingAdmissionPolicyBindingSpec",
        "validationActions",
        Bare(&["Audit", "Deny", "Warn"]),
    ),
    ("admissionregistration.v1.ValidatingAdmissionPolicySpec", "failurePolicy", Told(FAILURE_POLICIES)),
    ("admissionregistration.v1.ValidatingWebhook", "failurePolicy", Told(FAILURE_POLICIES)),
    ("admissionregistration.v1.ValidatingWebhook", "matchPolicy", Told(MATCH_POLICIES)),
    ("admissionregistration.v1.ValidatingWebhook", "sideEffects", Told(SIDE_EFFECTS)),
    ("apps.v1.DaemonSetUpdateStrategy", "type", Told(DAEMON_UPDATES)),
    ("apps.v1.DeploymentStrategy", "type", Told(DEPLOYMENT_STRATEGIES)),
    ("apps.v1.StatefulSetSpec", "podManagementPolicy", Told(POD_MANAGEMENT)),
    ("apps.v1.StatefulSetUpdateStrategy", "type", Told(STATEFUL_UPDATES)),
    ("batch.v1.CronJobSpec", "concurrencyPolicy", Told(CONCURRENCY_POLICIES)),
    ("batch.v1.JobSpec", "completionMode", Told(COMPLETION_MODES)),
    ("batch.v1.JobSpec", "podReplacementPolicy", Told(POD_REPLACEMENT)),
    ("batch.v1.PodFailurePolicyOnExitCodesRequirement", "operator", Bare(EXIT_CODE_OPERATORS)),
    ("batch.v1.PodFailurePolicyRule", "action", Told(FAILURE_ACTIONS)),
    ("certificates.v1.CertificateSigningRequestSpec", "usages", Bare(KEY_USAGES)),
    ("core.v1.AppArmorProfile", "type", Told(APP_ARMOR_TYPES)),
    ("core.v1.AzureDiskVolumeSource", "cachingMode", Bare(&["None", "ReadOnly", "ReadWrite"])),
    ("core.v1.AzureDiskVolumeSource", "kind", Bare(&["Dedicated", "Managed", "Shared"])),
    ("core.v1.Container", "imagePullPolicy", Told(PULL_POLICIES)),
    ("core.v1.Container", "terminationMessagePolicy", Told(TERMINATION_MESSAGES)),
    ("core.v1.ContainerPort", "protocol", Told(PROTOCOLS)),
    ("core.v1.ContainerStatus", "stopSignal", Bare(SIGNALS)),
    ("core.v1.EndpointPort", "protocol", Told(PROTOCOLS)),
    ("core.v1.EphemeralContainer", "imagePullPolicy", Told(PULL_POLICIES)),
    ("core.v1.EphemeralContainer", "terminationMessagePolicy", Told(TERMINATION_MESSAGES)),
    ("core.v1.HTTPGetAction", "scheme", Told(URI_SCHEMES)),
    ("core.v1.HostPathVolumeSource", "type", Told(HOST_PATH_TYPES)),
    ("core.v1.ImageVolumeSource", "pullPolicy", Told(PULL_POLICIES)),
    ("core.v1.Lifecycle", "stopSignal", Bare(SIGNALS)),
    ("core.v1.ModifyVolumeStatus", "status", Told(MODIFY_STATUSES)),
    ("core.v1.NamespaceStatus", "phase", Told(NAMESPACE_PHASES)),
    ("core.v1.NodeSelectorRequirement", "operator", Bare(NODE_SELECTOR_OPERATORS)),
    ("core.v1.NodeStatus", "phase", Told(NODE_PHASES)),
    ("core.v1.PersistentVolumeClaimSpec", "accessModes", Bare(ACCESS_MODES)),
    ("core.v1.PersistentVolumeClaimSpec", "volumeMode", Told(VOLUME_MODES)),
    ("core.v1.PersistentVolumeClaimStatus", "accessModes", Bare(ACCESS_MODES)),
    ("core.v1.PersistentVolumeClaimStatus", "allocatedResourceStatuses", Bare(CLAIM_RESOURCE_STATUSES)),
    ("core.v1.PersistentVolumeClaimStatus", "phase", Told(CLAIM_PHASES)),
    ("core.v1.PersistentVolumeSpec", "accessModes", Bare(ACCESS_MODES)),
    ("core.v1.PersistentVolumeSpec", "persistentVolumeReclaimPolicy", Told(RECLAIM_POLICIES)),
    ("core.v1.PersistentVolumeSpec", "volumeMode", Told(VOLUME_MODES)),
    ("core.v1.PersistentVolumeStatus", "phase", Told(VOLUME_PHASES)),
    ("core.v1.PodSecurityContext", "fsGroupChangePolicy", Told(GROUP_CHANGES)),
    ("core.v1.PodSecurityContext", "supplementalGroupsPolicy", Told(SUPPLEMENTAL_GROUPS)),
    ("core.v1.PodSpec", "dnsPolicy", Told(DNS_POLICIES)),
    ("core.v1.PodSpec", "preemptionPolicy", Told(PREEMPTION_POLICIES)),
    ("core.v1.PodSpec", "restartPolicy", Bare(RESTART_POLICIES)),
    ("core.v1.PodStatus", "phase", Told(POD_PHASES)),
    ("core.v1.PodStatus", "qosClass", Told(QUALITIES)),
    ("core.v1.PortStatus", "protocol", Told(PROTOCOLS)),
    ("core.v1.ResourceQuotaSpec", "scopes", Told(QUOTA_SCOPES)),
    (
        "core.v1.ScopedResourceSelectorRequirement",
        "operator",
        Bare(&["DoesNotExist", "Exists", "In", "NotIn"]),
    ),
    ("core.v1.ScopedResourceSelectorRequirement", "scopeName", Told(QUOTA_SCOPES)),
    ("core.v1.SeccompProfile", "type", Told(SECCOMP_TYPES)),
    ("core.v1.SecurityContext", "procMount", Told(PROC_MOUNTS)),
    ("core.v1.ServicePort", "protocol", Told(PROTOCOLS)),
    ("core.v1.ServiceSpec", "externalTrafficPolicy", Told(EXTERNAL_TRAFFIC)),
    ("core.v1.ServiceSpec", "internalTrafficPolicy", Told(INTERNAL_TRAFFIC)),
    ("core.v1.ServiceSpec", "ipFamilies", Bare(&["", "IPv4", "IPv6"])),
    ("core.v1.ServiceSpec", "ipFamilyPolicy", Told(IP_FAMILY_POLICIES)),
    ("core.v1.ServiceSpec", "sessionAffinity", Told(SESSION_AFFINITIES)),
    ("core.v1.ServiceSpec", "type", Told(SERVICE_TYPES)),
    ("core.v1.Taint", "effect", Told(TAINT_EFFECTS)),
    ("core.v1.Toleration", "effect", Told(TAINT_EFFECTS)),
    ("core.v1.Toleration", "operator", Bare(&["Equal", "Exists", "Gt", "Lt"])),
    ("core.v1.TopologySpreadConstraint", "nodeAffinityPolicy", Told(NODE_INCLUSION)),
    ("core.v1.TopologySpreadConstraint", "nodeTaintsPolicy", Told(NODE_INCLUSION)),
    ("core.v1.TopologySpreadConstraint", "whenUnsatisfiable", Told(UNSATISFIABLE)),
    ("core.v1.VolumeMount", "mountPropagation", Told(MOUNT_PROPAGATIONS)),
    ("discovery.v1.EndpointPort", "protocol", Told(PROTOCOLS)),
    ("discovery.v1.EndpointSlice", "addressType", Told(ADDRESS_TYPES)),
    ("networking.v1.HTTPIngressPath", "pathType", Told(PATH_TYPES)),
    ("networking.v1.IngressPortStatus", "protocol", Told(PROTOCOLS)),
    ("networking.v1.NetworkPolicyPort", "protocol", Told(PROTOCOLS)),
    ("networking.v1.NetworkPolicySpec", "policyTypes", Bare(&["Egress", "Ingress"])),
    ("policy.v1.PodDisruptionBudgetSpec", "unhealthyPodEvictionPolicy", Told(EVICTION_POLICIES)),
    ("resource.v1.DeviceAllocationConfiguration", "source", Bare(&["FromClaim", "FromClass"])),
    ("resource.v1.DeviceSubRequest", "allocationMode", Bare(ALLOCATION_MODES)),
    ("resource.v1.DeviceTaint", "effect", Told(DEVICE_TAINT_EFFECTS)),
    ("resource.v1.DeviceToleration", "effect", Told(DEVICE_TAINT_EFFECTS)),
    ("resource.v1.DeviceToleration", "operator", Bare(&["Equal", "Exists"])),
    ("resource.v1.ExactDeviceRequest", "allocationMode", Bare(ALLOCATION_MODES)),
    ("scheduling.v1.PriorityClass", "preemptionPolicy", Told(PREEMPTION_POLICIES)),
    ("storage.v1.StorageClass", "reclaimPolicy", Told(RECLAIM_POLICIES)),
    ("storage.v1.StorageClass", "volumeBindingMode", Told(BINDING_MODES)),
];

/// The values of a field, if they are all known.
pub(super) fn of_field(of: &str, field: &str) -> Option<Allowed> {
    let key = (short(of), field);
    FIELDS.binary_search_by(|(of, field, _)| (*of, *field).cmp(&key)).ok().map(|at| FIELDS[at].2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Shape, registry};

    #[test]
    fn rows_are_in_order_and_so_are_their_values() {
        assert!(FIELDS.is_sorted_by(|a, b| (a.0, a.1) < (b.0, b.1)));
        for (of, field, values) in FIELDS {
            assert!(values.names().is_sorted_by(|a, b| a < b), "{of}.{field}");
        }
    }

    #[test]
    fn words_are_one_line_each() {
        for (of, field, values) in FIELDS {
            let Told(values) = values else { continue };
            for (name, words) in *values {
                let neat = words.split_whitespace().collect::<Vec<_>>().join(" ");
                assert!(!words.is_empty() && neat == *words, "{of}.{field} {name}: {words}");
            }
        }
        let pulls = of_field("io.k8s.api.core.v1.Container", "imagePullPolicy").unwrap();
        assert_eq!(pulls.names(), ["Always", "IfNotPresent", "Never"]);
        let expected = "\n\nPossible enum values:\n - `\"Always\"` means that kubelet always attempts to pull the \
                        latest image. Container will fail If the pull fails.\n - `\"IfNotPresent\"` means that";
        assert!(pulls.description().starts_with(expected), "{}", pulls.description());
        let restarts = of_field("io.k8s.api.core.v1.PodSpec", "restartPolicy").unwrap();
        let expected = "\n\nPossible enum values:\n - `\"Always\"`\n - `\"Never\"`\n - `\"OnFailure\"`";
        assert_eq!(restarts.description(), expected);
    }

    #[test]
    fn each_row_is_of_a_field_that_holds_text() {
        let mut found = 0;
        for (name, definition) in registry().types() {
            for field in definition.fields.iter().filter(|field| field.allowed.is_some()) {
                let text = match &field.shape {
                    Shape::List(inner) | Shape::Map(inner) => **inner == Shape::Text,
                    shape => *shape == Shape::Text,
                };
                assert!(text, "{name}.{} is no text", field.name);
                found += 1;
            }
        }
        assert_eq!(found, FIELDS.len(), "a row names a field that no served type has");
    }
}
