//! What upstream says of the values of fields of the kinds of the named groups, in the words of their `types.go`: the comments
//! on their constants, on one line and without the constant's name.

use super::Values;

pub(super) const ADDRESS_TYPES: Values = &[
    ("FQDN", "represents a FQDN."),
    ("IPv4", "represents an IPv4 Address."),
    ("IPv6", "represents an IPv6 Address."),
];
pub(super) const ADMISSION_SCOPES: Values = &[
    ("*", "means that all scopes are included."),
    (
        "Cluster",
        "means that scope is limited to cluster-scoped objects. Namespace objects are cluster-scoped.",
    ),
    ("Namespaced", "means that scope is limited to namespaced objects."),
];
pub(super) const BINDING_MODES: Values = &[
    (
        "Immediate",
        "indicates that PersistentVolumeClaims should be immediately provisioned and bound. This is the \
         default mode.",
    ),
    (
        "WaitForFirstConsumer",
        "indicates that PersistentVolumeClaims should not be provisioned and bound until the first Pod \
         is created that references the PeristentVolumeClaim. The volume provisioning and binding will \
         occur during Pod scheduing.",
    ),
];
pub(super) const COMPLETION_MODES: Values = &[
    (
        "Indexed",
        "is a Job completion mode. In this mode, the Pods of a Job get an associated completion index \
         from 0 to (.spec.completions - 1). The Job is considered complete when a Pod completes for each \
         completion index.",
    ),
    (
        "NonIndexed",
        "is a Job completion mode. In this mode, the Job is considered complete when there have been \
         .spec.completions successfully completed Pods. Pod completions are homologous to each other.",
    ),
];
pub(super) const CONCURRENCY_POLICIES: Values = &[
    ("Allow", "allows CronJobs to run concurrently."),
    ("Forbid", "forbids concurrent runs, skipping next run if previous hasn't finished yet."),
    ("Replace", "cancels currently running job and replaces it with a new one."),
];
pub(super) const DAEMON_UPDATES: Values = &[
    ("OnDelete", "Replace the old daemons only when it's killed"),
    (
        "RollingUpdate",
        "Replace the old daemons by new ones using rolling update i.e replace them on each node one \
         after the other.",
    ),
];
pub(super) const DEPLOYMENT_STRATEGIES: Values = &[
    ("Recreate", "Kill all existing pods before creating new ones."),
    (
        "RollingUpdate",
        "Replace the old ReplicaSets by new one using rolling update i.e gradually scale down the old \
         ReplicaSets and scale up the new one.",
    ),
];
pub(super) const DEVICE_TAINT_EFFECTS: Values = &[
    ("NoExecute", "Evict any already-running pods that do not tolerate the device taint."),
    (
        "NoSchedule",
        "Do not allow new pods to schedule which use a tainted device unless they tolerate the taint, \
         but allow all pods submitted to Kubelet without going through the scheduler to start, and allow \
         all already-running pods to continue running.",
    ),
    ("None", "No effect, the taint is purely informational."),
];
pub(super) const EVICTION_POLICIES: Values = &[
    (
        "AlwaysAllow",
        "policy means that all running pods (status.phase=\"Running\"), but not yet healthy are \
         considered disrupted and can be evicted regardless of whether the criteria in a PDB is met. \
         This means perspective running pods of a disrupted application might not get a chance to become \
         healthy. Healthy pods will be subject to the PDB for eviction.",
    ),
    (
        "IfHealthyBudget",
        "policy means that running pods (status.phase=\"Running\"), but not yet healthy can be evicted \
         only if the guarded application is not disrupted (status.currentHealthy is at least equal to \
         status.desiredHealthy). Healthy pods will be subject to the PDB for eviction.",
    ),
];
pub(super) const FAILURE_ACTIONS: Values = &[
    (
        "Count",
        "This is an action which might be taken on a pod failure - the pod failure is handled in the \
         default way - the counter towards .backoffLimit, represented by the job's .status.failed field, \
         is incremented.",
    ),
    (
        "FailIndex",
        "This is an action which might be taken on a pod failure - mark the Job's index as failed to \
         avoid restarts within this index. This action can only be used when backoffLimitPerIndex is \
         set.",
    ),
    (
        "FailJob",
        "This is an action which might be taken on a pod failure - mark the pod's job as Failed and \
         terminate all running pods.",
    ),
    (
        "Ignore",
        "This is an action which might be taken on a pod failure - the counter towards .backoffLimit, \
         represented by the job's .status.failed field, is not incremented and a replacement pod is \
         created.",
    ),
];
pub(super) const FAILURE_POLICIES: Values = &[
    ("Fail", "means that an error calling the webhook causes the admission to fail."),
    ("Ignore", "means that an error calling the webhook is ignored."),
];
pub(super) const MATCH_POLICIES: Values = &[
    (
        "Equivalent",
        "means requests should be sent to the webhook if they modify a resource listed in rules via \
         another API group or version.",
    ),
    ("Exact", "means requests should only be sent to the webhook if they exactly match a given rule."),
];
pub(super) const PATH_TYPES: Values = &[
    ("Exact", "matches the URL path exactly and with case sensitivity."),
    (
        "ImplementationSpecific",
        "matching is up to the IngressClass. Implementations can treat this as a separate PathType or \
         treat it identically to Prefix or Exact path types.",
    ),
    (
        "Prefix",
        "matches based on a URL path prefix split by '/'. Matching is case sensitive and done on a path \
         element by element basis. A path element refers to the list of labels in the path split by the \
         '/' separator. A request is a match for path p if every p is an element-wise prefix of p of the \
         request path. Note that if the last element of the path is a substring of the last element in \
         request path, it is not a match (e.g. /foo/bar matches /foo/bar/baz, but does not match \
         /foo/barbaz). If multiple matching paths exist in an Ingress spec, the longest matching path is \
         given priority. Examples: - /foo/bar does not match requests to /foo/barbaz - /foo/bar matches \
         request to /foo/bar and /foo/bar/baz - /foo and /foo/ both match requests to /foo and /foo/. If \
         both paths are present in an Ingress spec, the longest matching path (/foo/) is given priority.",
    ),
];
pub(super) const POD_MANAGEMENT: Values = &[
    (
        "OrderedReady",
        "will create pods in strictly increasing order on scale up and strictly decreasing order on \
         scale down, progressing only when the previous pod is ready or terminated. At most one pod will \
         be changed at any time.",
    ),
    (
        "Parallel",
        "will create and delete pods as soon as the stateful set replica count is changed, and will not \
         wait for pods to be ready or complete termination.",
    ),
];
pub(super) const POD_REPLACEMENT: Values = &[
    (
        "Failed",
        "means to wait until a previously created Pod is fully terminated (has phase Failed or \
         Succeeded) before creating a replacement Pod.",
    ),
    (
        "TerminatingOrFailed",
        "means that we recreate pods when they are terminating (has a metadata.deletionTimestamp) or \
         failed.",
    ),
];
pub(super) const REINVOCATION_POLICIES: Values = &[
    (
        "IfNeeded",
        "indicates that the webhook may be called at least one additional time as part of the admission \
         evaluation if the object being admitted is modified by other admission plugins after the \
         initial webhook call.",
    ),
    (
        "Never",
        "indicates that the webhook must not be called more than once in a single admission evaluation.",
    ),
];
pub(super) const SIDE_EFFECTS: Values = &[
    ("None", "means that calling the webhook will have no side effects."),
    (
        "NoneOnDryRun",
        "means that calling the webhook will possibly have side effects, but if the request being \
         reviewed has the dry-run attribute, the side effects will be suppressed.",
    ),
    (
        "Some",
        "means that calling the webhook will possibly have side effects. If a request with the dry-run \
         attribute would trigger a call to this webhook, the request will instead fail.",
    ),
    (
        "Unknown",
        "means that no information is known about the side effects of calling the webhook. If a request \
         with the dry-run attribute would trigger a call to this webhook, the request will instead fail.",
    ),
];
pub(super) const STATEFUL_UPDATES: Values = &[
    (
        "OnDelete",
        "triggers the legacy behavior. Version tracking and ordered rolling restarts are disabled. Pods \
         are recreated from the StatefulSetSpec when they are manually deleted. When a scale operation \
         is performed with this strategy,specification version indicated by the StatefulSet's \
         currentRevision.",
    ),
    (
        "RollingUpdate",
        "indicates that update will be applied to all Pods in the StatefulSet with respect to the \
         StatefulSet ordering constraints. When a scale operation is performed with this strategy, new \
         Pods will be created from the specification version indicated by the StatefulSet's \
         updateRevision.",
    ),
];
