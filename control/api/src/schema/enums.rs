//! Fields whose values are all known: those of Go types that Kubernetes' sources mark `+enum`, which a server publishes in
//! its OpenAPI documents and `kubectl explain` prints. Types that only look like it (conditions, `LimitType`, everything of
//! HorizontalPodAutoscalers) are not marked there, since others may add values, and are not here either.
//!
//! The values of a list's or map's field are those of its entries.

use super::short;

type Values = &'static [&'static str];

const ACCESS_MODES: Values = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const ADMISSION_SCOPES: Values = &["*", "Cluster", "Namespaced"];
const CLAIM_RESOURCE_STATUSES: Values = &[
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];
const DNS_POLICIES: Values = &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
const DEVICE_TAINT_EFFECTS: Values = &["NoExecute", "NoSchedule", "None"];
const EXIT_CODE_OPERATORS: Values = &["In", "NotIn"];
const FAILURE_POLICIES: Values = &["Fail", "Ignore"];
const HOST_PATH_TYPES: Values =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
const KEY_USAGES: Values = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
const MATCH_POLICIES: Values = &["Equivalent", "Exact"];
const NODE_INCLUSION: Values = &["Honor", "Ignore"];
const NODE_SELECTOR_OPERATORS: Values = &["DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn"];
const OPERATIONS: Values = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const PREEMPTION_POLICIES: Values = &["Never", "PreemptLowerPriority"];
const PROFILE_TYPES: Values = &["Localhost", "RuntimeDefault", "Unconfined"];
const PROTOCOLS: Values = &["SCTP", "TCP", "UDP"];
const PULL_POLICIES: Values = &["Always", "IfNotPresent", "Never"];
const QUOTA_SCOPES: Values = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];
const RECLAIM_POLICIES: Values = &["Delete", "Recycle", "Retain"];
const REINVOCATION_POLICIES: Values = &["IfNeeded", "Never"];
const ROLLING_OR_ON_DELETE: Values = &["OnDelete", "RollingUpdate"];
const SIDE_EFFECTS: Values = &["None", "NoneOnDryRun", "Some", "Unknown"];
const SIGNALS: Values = &[
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMAX-1",
    "SIGRTMAX-10",
    "SIGRTMAX-11",
    "SIGRTMAX-12",
    "SIGRTMAX-13",
    "SIGRTMAX-14",
    "SIGRTMAX-2",
    "SIGRTMAX-3",
    "SIGRTMAX-4",
    "SIGRTMAX-5",
    "SIGRTMAX-6",
    "SIGRTMAX-7",
    "SIGRTMAX-8",
    "SIGRTMAX-9",
    "SIGRTMIN",
    "SIGRTMIN+1",
    "SIGRTMIN+10",
    "SIGRTMIN+11",
    "SIGRTMIN+12",
    "SIGRTMIN+13",
    "SIGRTMIN+14",
    "SIGRTMIN+15",
    "SIGRTMIN+2",
    "SIGRTMIN+3",
    "SIGRTMIN+4",
    "SIGRTMIN+5",
    "SIGRTMIN+6",
    "SIGRTMIN+7",
    "SIGRTMIN+8",
    "SIGRTMIN+9",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];
const TAINT_EFFECTS: Values = &["NoExecute", "NoSchedule", "PreferNoSchedule"];
const TERMINATION_MESSAGE_POLICIES: Values = &["FallbackToLogsOnError", "File"];
const TRAFFIC_POLICIES: Values = &["Cluster", "Local"];
const VOLUME_MODES: Values = &["Block", "Filesystem"];

/// Values by type and field, sorted.
const FIELDS: &[(&str, &str, Values)] = &[
    ("admissionregistration.v1.MatchResources", "matchPolicy", MATCH_POLICIES),
    ("admissionregistration.v1.MutatingWebhook", "failurePolicy", FAILURE_POLICIES),
    ("admissionregistration.v1.MutatingWebhook", "matchPolicy", MATCH_POLICIES),
    ("admissionregistration.v1.MutatingWebhook", "reinvocationPolicy", REINVOCATION_POLICIES),
    ("admissionregistration.v1.MutatingWebhook", "sideEffects", SIDE_EFFECTS),
    ("admissionregistration.v1.NamedRuleWithOperations", "operations", OPERATIONS),
    ("admissionregistration.v1.NamedRuleWithOperations", "scope", ADMISSION_SCOPES),
    ("admissionregistration.v1.RuleWithOperations", "operations", OPERATIONS),
    ("admissionregistration.v1.RuleWithOperations", "scope", ADMISSION_SCOPES),
    (
        "admissionregistration.v1.ValidatingAdmissionPolicyBindingSpec",
        "validationActions",
        &["Audit", "Deny", "Warn"],
    ),
    ("admissionregistration.v1.ValidatingAdmissionPolicySpec", "failurePolicy", FAILURE_POLICIES),
    ("admissionregistration.v1.ValidatingWebhook", "failurePolicy", FAILURE_POLICIES),
    ("admissionregistration.v1.ValidatingWebhook", "matchPolicy", MATCH_POLICIES),
    ("admissionregistration.v1.ValidatingWebhook", "sideEffects", SIDE_EFFECTS),
    ("apps.v1.DaemonSetUpdateStrategy", "type", ROLLING_OR_ON_DELETE),
    ("apps.v1.DeploymentStrategy", "type", &["Recreate", "RollingUpdate"]),
    ("apps.v1.StatefulSetSpec", "podManagementPolicy", &["OrderedReady", "Parallel"]),
    ("apps.v1.StatefulSetUpdateStrategy", "type", ROLLING_OR_ON_DELETE),
    ("batch.v1.CronJobSpec", "concurrencyPolicy", &["Allow", "Forbid", "Replace"]),
    ("batch.v1.JobSpec", "completionMode", &["Indexed", "NonIndexed"]),
    ("batch.v1.JobSpec", "podReplacementPolicy", &["Failed", "TerminatingOrFailed"]),
    ("batch.v1.PodFailurePolicyOnExitCodesRequirement", "operator", EXIT_CODE_OPERATORS),
    ("batch.v1.PodFailurePolicyRule", "action", &["Count", "FailIndex", "FailJob", "Ignore"]),
    ("certificates.v1.CertificateSigningRequestSpec", "usages", KEY_USAGES),
    ("core.v1.AppArmorProfile", "type", PROFILE_TYPES),
    ("core.v1.AzureDiskVolumeSource", "cachingMode", &["None", "ReadOnly", "ReadWrite"]),
    ("core.v1.AzureDiskVolumeSource", "kind", &["Dedicated", "Managed", "Shared"]),
    ("core.v1.Container", "imagePullPolicy", PULL_POLICIES),
    ("core.v1.Container", "terminationMessagePolicy", TERMINATION_MESSAGE_POLICIES),
    ("core.v1.ContainerPort", "protocol", PROTOCOLS),
    ("core.v1.ContainerStatus", "stopSignal", SIGNALS),
    ("core.v1.EndpointPort", "protocol", PROTOCOLS),
    ("core.v1.EphemeralContainer", "imagePullPolicy", PULL_POLICIES),
    ("core.v1.EphemeralContainer", "terminationMessagePolicy", TERMINATION_MESSAGE_POLICIES),
    ("core.v1.HTTPGetAction", "scheme", &["HTTP", "HTTPS"]),
    ("core.v1.HostPathVolumeSource", "type", HOST_PATH_TYPES),
    ("core.v1.ImageVolumeSource", "pullPolicy", PULL_POLICIES),
    ("core.v1.Lifecycle", "stopSignal", SIGNALS),
    ("core.v1.ModifyVolumeStatus", "status", &["InProgress", "Infeasible", "Pending"]),
    ("core.v1.NamespaceStatus", "phase", &["Active", "Terminating"]),
    ("core.v1.NodeSelectorRequirement", "operator", NODE_SELECTOR_OPERATORS),
    ("core.v1.NodeStatus", "phase", &["Pending", "Running", "Terminated"]),
    ("core.v1.PersistentVolumeClaimSpec", "accessModes", ACCESS_MODES),
    ("core.v1.PersistentVolumeClaimSpec", "volumeMode", VOLUME_MODES),
    ("core.v1.PersistentVolumeClaimStatus", "accessModes", ACCESS_MODES),
    ("core.v1.PersistentVolumeClaimStatus", "allocatedResourceStatuses", CLAIM_RESOURCE_STATUSES),
    ("core.v1.PersistentVolumeClaimStatus", "phase", &["Bound", "Lost", "Pending"]),
    ("core.v1.PersistentVolumeSpec", "accessModes", ACCESS_MODES),
    ("core.v1.PersistentVolumeSpec", "persistentVolumeReclaimPolicy", RECLAIM_POLICIES),
    ("core.v1.PersistentVolumeSpec", "volumeMode", VOLUME_MODES),
    ("core.v1.PersistentVolumeStatus", "phase", &["Available", "Bound", "Failed", "Pending", "Released"]),
    ("core.v1.PodSecurityContext", "fsGroupChangePolicy", &["Always", "OnRootMismatch"]),
    ("core.v1.PodSecurityContext", "supplementalGroupsPolicy", &["Merge", "Strict"]),
    ("core.v1.PodSpec", "dnsPolicy", DNS_POLICIES),
    ("core.v1.PodSpec", "preemptionPolicy", PREEMPTION_POLICIES),
    ("core.v1.PodSpec", "restartPolicy", &["Always", "Never", "OnFailure"]),
    ("core.v1.PodStatus", "phase", &["Failed", "Pending", "Running", "Succeeded", "Unknown"]),
    ("core.v1.PodStatus", "qosClass", &["BestEffort", "Burstable", "Guaranteed"]),
    ("core.v1.PortStatus", "protocol", PROTOCOLS),
    ("core.v1.ResourceQuotaSpec", "scopes", QUOTA_SCOPES),
    ("core.v1.ScopedResourceSelectorRequirement", "operator", &["DoesNotExist", "Exists", "In", "NotIn"]),
    ("core.v1.ScopedResourceSelectorRequirement", "scopeName", QUOTA_SCOPES),
    ("core.v1.SeccompProfile", "type", PROFILE_TYPES),
    ("core.v1.SecurityContext", "procMount", &["Default", "Unmasked"]),
    ("core.v1.ServicePort", "protocol", PROTOCOLS),
    ("core.v1.ServiceSpec", "externalTrafficPolicy", TRAFFIC_POLICIES),
    ("core.v1.ServiceSpec", "internalTrafficPolicy", TRAFFIC_POLICIES),
    ("core.v1.ServiceSpec", "ipFamilies", &["", "IPv4", "IPv6"]),
    ("core.v1.ServiceSpec", "ipFamilyPolicy", &["PreferDualStack", "RequireDualStack", "SingleStack"]),
    ("core.v1.ServiceSpec", "sessionAffinity", &["ClientIP", "None"]),
    ("core.v1.ServiceSpec", "type", &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]),
    ("core.v1.Taint", "effect", TAINT_EFFECTS),
    ("core.v1.Toleration", "effect", TAINT_EFFECTS),
    ("core.v1.Toleration", "operator", &["Equal", "Exists", "Gt", "Lt"]),
    ("core.v1.TopologySpreadConstraint", "nodeAffinityPolicy", NODE_INCLUSION),
    ("core.v1.TopologySpreadConstraint", "nodeTaintsPolicy", NODE_INCLUSION),
    ("core.v1.TopologySpreadConstraint", "whenUnsatisfiable", &["DoNotSchedule", "ScheduleAnyway"]),
    ("core.v1.VolumeMount", "mountPropagation", &["Bidirectional", "HostToContainer", "None"]),
    ("discovery.v1.EndpointPort", "protocol", PROTOCOLS),
    ("discovery.v1.EndpointSlice", "addressType", &["FQDN", "IPv4", "IPv6"]),
    ("networking.v1.HTTPIngressPath", "pathType", &["Exact", "ImplementationSpecific", "Prefix"]),
    ("networking.v1.IngressPortStatus", "protocol", PROTOCOLS),
    ("networking.v1.NetworkPolicyPort", "protocol", PROTOCOLS),
    ("networking.v1.NetworkPolicySpec", "policyTypes", &["Egress", "Ingress"]),
    ("policy.v1.PodDisruptionBudgetSpec", "unhealthyPodEvictionPolicy", &["AlwaysAllow", "IfHealthyBudget"]),
    ("resource.v1.DeviceAllocationConfiguration", "source", &["FromClaim", "FromClass"]),
    ("resource.v1.DeviceSubRequest", "allocationMode", &["All", "ExactCount"]),
    ("resource.v1.DeviceTaint", "effect", DEVICE_TAINT_EFFECTS),
    ("resource.v1.DeviceToleration", "effect", DEVICE_TAINT_EFFECTS),
    ("resource.v1.DeviceToleration", "operator", &["Equal", "Exists"]),
    ("resource.v1.ExactDeviceRequest", "allocationMode", &["All", "ExactCount"]),
    ("scheduling.v1.PriorityClass", "preemptionPolicy", PREEMPTION_POLICIES),
    ("storage.v1.StorageClass", "reclaimPolicy", RECLAIM_POLICIES),
    ("storage.v1.StorageClass", "volumeBindingMode", &["Immediate", "WaitForFirstConsumer"]),
];

/// The values of a field, if they are all known.
pub(super) fn of_field(of: &str, field: &str) -> Option<Values> {
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
            assert!(values.is_sorted_by(|a, b| a < b), "{of}.{field}");
        }
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
