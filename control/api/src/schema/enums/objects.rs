//! What upstream says of the values of fields of the other kinds of the core group, in the words of `core/v1/types.go`: the
//! comments on its constants, on one line and without the constant's name.

use super::Values;

pub(super) const CLAIM_PHASES: Values = &[
    ("Bound", "used for PersistentVolumeClaims that are bound"),
    (
        "Lost",
        "used for PersistentVolumeClaims that lost their underlying PersistentVolume. The claim was \
         bound to a PersistentVolume and this volume does not exist any longer and all data on it was \
         lost.",
    ),
    ("Pending", "used for PersistentVolumeClaims that are not yet bound"),
];
pub(super) const EXTERNAL_TRAFFIC: Values = &[
    ("Cluster", "routes traffic to all endpoints."),
    (
        "Local",
        "preserves the source IP of the traffic by routing only to endpoints on the same node as the \
         traffic was received on (dropping the traffic if there are no local endpoints).",
    ),
];
pub(super) const INTERNAL_TRAFFIC: Values = &[
    ("Cluster", "routes traffic to all endpoints."),
    (
        "Local",
        "routes traffic only to endpoints on the same node as the client pod (dropping the traffic if \
         there are no local endpoints).",
    ),
];
pub(super) const IP_FAMILY_POLICIES: Values = &[
    (
        "PreferDualStack",
        "indicates that this service prefers dual-stack when the cluster is configured for dual-stack. \
         If the cluster is not configured for dual-stack the service will be assigned a single IPFamily. \
         If the IPFamily is not set in service.spec.ipFamilies then the service will be assigned the \
         default IPFamily configured on the cluster",
    ),
    (
        "RequireDualStack",
        "indicates that this service requires dual-stack. Using IPFamilyPolicyRequireDualStack on a \
         single stack cluster will result in validation errors. The IPFamilies (and their order) \
         assigned to this service is based on service.spec.ipFamilies. If service.spec.ipFamilies was \
         not provided then it will be assigned according to how they are configured on the cluster. If \
         service.spec.ipFamilies has only one entry then the alternative IPFamily will be added by \
         apiserver",
    ),
    (
        "SingleStack",
        "indicates that this service is required to have a single IPFamily. The IPFamily assigned is \
         based on the default IPFamily used by the cluster or as identified by service.spec.ipFamilies \
         field",
    ),
];
pub(super) const MODIFY_STATUSES: Values = &[
    ("InProgress", "InProgress indicates that the volume is being modified"),
    (
        "Infeasible",
        "Infeasible indicates that the request has been rejected as invalid by the CSI driver. To \
         resolve the error, a valid VolumeAttributesClass needs to be specified",
    ),
    (
        "Pending",
        "Pending indicates that the PersistentVolumeClaim cannot be modified due to unmet requirements, \
         such as the specified VolumeAttributesClass not existing",
    ),
];
pub(super) const NAMESPACE_PHASES: Values = &[
    ("Active", "means the namespace is available for use in the system"),
    ("Terminating", "means the namespace is undergoing graceful termination"),
];
pub(super) const NODE_PHASES: Values = &[
    ("Pending", "means the node has been created/added by the system, but not configured."),
    ("Running", "means the node has been configured and has Kubernetes components running."),
    ("Terminated", "means the node has been removed from the cluster."),
];
pub(super) const QUOTA_SCOPES: Values = &[
    ("BestEffort", "Match all pod objects that have best effort quality of service"),
    (
        "CrossNamespacePodAffinity",
        "Match all pod objects that have cross-namespace pod (anti)affinity mentioned.",
    ),
    ("NotBestEffort", "Match all pod objects that do not have best effort quality of service"),
    ("NotTerminating", "Match all pod objects where spec.activeDeadlineSeconds is nil"),
    ("PriorityClass", "Match all pod objects that have priority class mentioned"),
    ("Terminating", "Match all pod objects where spec.activeDeadlineSeconds >=0"),
    ("VolumeAttributesClass", "Match all pvc objects that have volume attributes class mentioned."),
];
pub(super) const RECLAIM_POLICIES: Values = &[
    (
        "Delete",
        "means the volume will be deleted from Kubernetes on release from its claim. The volume plugin \
         must support Deletion.",
    ),
    (
        "Recycle",
        "means the volume will be recycled back into the pool of unbound persistent volumes on release \
         from its claim. The volume plugin must support Recycling.",
    ),
    (
        "Retain",
        "means the volume will be left in its current phase (Released) for manual reclamation by the \
         administrator. The default policy is Retain.",
    ),
];
pub(super) const SERVICE_TYPES: Values = &[
    ("ClusterIP", "means a service will only be accessible inside the cluster, via the cluster IP."),
    (
        "ExternalName",
        "means a service consists of only a reference to an external name that kubedns or equivalent \
         will return as a CNAME record, with no exposing or proxying of any pods involved.",
    ),
    (
        "LoadBalancer",
        "means a service will be exposed via an external load balancer (if the cloud provider supports \
         it), in addition to 'NodePort' type.",
    ),
    (
        "NodePort",
        "means a service will be exposed on one port of every node, in addition to 'ClusterIP' type.",
    ),
];
pub(super) const SESSION_AFFINITIES: Values =
    &[("ClientIP", "is the Client IP based."), ("None", "- no session affinity.")];
pub(super) const VOLUME_MODES: Values = &[
    ("Block", "means the volume will not be formatted with a filesystem and will remain a raw block device."),
    ("Filesystem", "means the volume will be or is formatted with a filesystem."),
];
pub(super) const VOLUME_PHASES: Values = &[
    (
        "Available",
        "used for PersistentVolumes that are not yet bound Available volumes are held by the binder and \
         matched to PersistentVolumeClaims",
    ),
    ("Bound", "used for PersistentVolumes that are bound"),
    (
        "Failed",
        "used for PersistentVolumes that failed to be correctly recycled or deleted after being released \
         from a claim",
    ),
    ("Pending", "used for PersistentVolumes that are not available"),
    (
        "Released",
        "used for PersistentVolumes where the bound PersistentVolumeClaim was deleted released volumes \
         must be recycled before becoming available again this phase is used by the persistent volume \
         claim binder to signal to another process to reclaim the resource",
    ),
];
