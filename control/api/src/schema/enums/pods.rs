//! What upstream says of the values of fields of pods, in the words of `core/v1/types.go`: the comments on its
//! constants, on one line and without the constant's name.

use super::Values;

pub(super) const APP_ARMOR_TYPES: Values = &[
    ("Localhost", "indicates that a profile pre-loaded on the node should be used."),
    ("RuntimeDefault", "indicates that the container runtime's default AppArmor profile should be used."),
    ("Unconfined", "indicates that no AppArmor profile should be enforced."),
];
pub(super) const DNS_POLICIES: Values = &[
    (
        "ClusterFirst",
        "indicates that the pod should use cluster DNS first unless hostNetwork is true, if it is \
         available, then fall back on the default (as determined by kubelet) DNS settings.",
    ),
    (
        "ClusterFirstWithHostNet",
        "indicates that the pod should use cluster DNS first, if it is available, then fall back on the \
         default (as determined by kubelet) DNS settings.",
    ),
    ("Default", "indicates that the pod should use the default (as determined by kubelet) DNS settings."),
    (
        "None",
        "indicates that the pod should use empty DNS settings. DNS parameters such as nameservers and \
         search paths should be defined via DNSConfig.",
    ),
];
pub(super) const GROUP_CHANGES: Values = &[
    (
        "Always",
        "indicates that volume's ownership and permissions should always be changed whenever volume is \
         mounted inside a Pod. This the default behavior.",
    ),
    (
        "OnRootMismatch",
        "indicates that volume's ownership and permissions will be changed only when permission and \
         ownership of root directory does not match with expected permissions on the volume. This can \
         help shorten the time it takes to change ownership and permissions of a volume.",
    ),
];
pub(super) const HOST_PATH_TYPES: Values = &[
    ("", "For backwards compatible, leave it empty if unset"),
    ("BlockDevice", "A block device must exist at the given path"),
    ("CharDevice", "A character device must exist at the given path"),
    ("Directory", "A directory must exist at the given path"),
    (
        "DirectoryOrCreate",
        "If nothing exists at the given path, an empty directory will be created there as needed with \
         file mode 0755, having the same group and ownership with Kubelet.",
    ),
    ("File", "A file must exist at the given path"),
    (
        "FileOrCreate",
        "If nothing exists at the given path, an empty file will be created there as needed with file \
         mode 0644, having the same group and ownership with Kubelet.",
    ),
    ("Socket", "A UNIX socket must exist at the given path"),
];
pub(super) const MOUNT_PROPAGATIONS: Values = &[
    (
        "Bidirectional",
        "means that the volume in a container will receive new mounts from the host or other containers, \
         and its own mounts will be propagated from the container to the host or other containers. Note \
         that this mode is recursively applied to all mounts in the volume (\"rshared\" in Linux \
         terminology).",
    ),
    (
        "HostToContainer",
        "means that the volume in a container will receive new mounts from the host or other containers, \
         but filesystems mounted inside the container won't be propagated to the host or other \
         containers. Note that this mode is recursively applied to all mounts in the volume (\"rslave\" \
         in Linux terminology).",
    ),
    (
        "None",
        "means that the volume in a container will not receive new mounts from the host or other \
         containers, and filesystems mounted inside the container won't be propagated to the host or \
         other containers. Note that this mode corresponds to \"private\" in Linux terminology.",
    ),
];
pub(super) const NODE_INCLUSION: Values = &[
    ("Honor", "means use this scheduling directive when calculating pod topology spread skew."),
    ("Ignore", "means ignore this scheduling directive when calculating pod topology spread skew."),
];
pub(super) const POD_PHASES: Values = &[
    (
        "Failed",
        "means that all containers in the pod have terminated, and at least one container has terminated \
         in a failure (exited with a non-zero exit code or was stopped by the system).",
    ),
    (
        "Pending",
        "means the pod has been accepted by the system, but one or more of the containers has not been \
         started. This includes time before being bound to a node, as well as time spent pulling images \
         onto the host.",
    ),
    (
        "Running",
        "means the pod has been bound to a node and all of the containers have been started. At least \
         one container is still running or is in the process of being restarted.",
    ),
    (
        "Succeeded",
        "means that all containers in the pod have voluntarily terminated with a container exit code of \
         0, and the system is not going to restart any of these containers.",
    ),
    (
        "Unknown",
        "means that for some reason the state of the pod could not be obtained, typically due to an \
         error in communicating with the host of the pod. Deprecated: It isn't being set since 2015 \
         (74da3b14b0c0f658b3bb8d2def5094686d0e9095)",
    ),
];
pub(super) const PREEMPTION_POLICIES: Values = &[
    ("Never", "means that pod never preempts other pods with lower priority."),
    ("PreemptLowerPriority", "means that pod can preempt other pods with lower priority."),
];
pub(super) const PROC_MOUNTS: Values = &[
    (
        "Default",
        "uses the container runtime defaults for readonly and masked paths for /proc. Most container \
         runtimes mask certain paths in /proc to avoid accidental security exposure of special devices \
         or information.",
    ),
    (
        "Unmasked",
        "bypasses the default masking behavior of the container runtime and ensures the newly created \
         /proc the container stays in tact with no modifications.",
    ),
];
pub(super) const PROTOCOLS: Values =
    &[("SCTP", "is the SCTP protocol."), ("TCP", "is the TCP protocol."), ("UDP", "is the UDP protocol.")];
pub(super) const PULL_POLICIES: Values = &[
    (
        "Always",
        "means that kubelet always attempts to pull the latest image. Container will fail If the pull \
         fails.",
    ),
    (
        "IfNotPresent",
        "means that kubelet pulls if the image isn't present on disk. Container will fail if the image \
         isn't present and the pull fails.",
    ),
    (
        "Never",
        "means that kubelet never pulls an image, but only uses a local image. Container will fail if \
         the image isn't present",
    ),
];
pub(super) const QUALITIES: Values = &[
    ("BestEffort", "is the BestEffort qos class."),
    ("Burstable", "is the Burstable qos class."),
    ("Guaranteed", "is the Guaranteed qos class."),
];
pub(super) const SECCOMP_TYPES: Values = &[
    (
        "Localhost",
        "indicates a profile defined in a file on the node should be used. The file's location relative \
         to <kubelet-root-dir>/seccomp.",
    ),
    ("RuntimeDefault", "represents the default container runtime seccomp profile."),
    ("Unconfined", "indicates no seccomp profile is applied (A.K.A. unconfined)."),
];
pub(super) const SUPPLEMENTAL_GROUPS: Values = &[
    (
        "Merge",
        "means that the container's provided SupplementalGroups and FsGroup (specified in \
         SecurityContext) will be merged with the primary user's groups as defined in the container \
         image (in /etc/group).",
    ),
    (
        "Strict",
        "means that the container's provided SupplementalGroups and FsGroup (specified in \
         SecurityContext) will be used instead of any groups defined in the container image.",
    ),
];
pub(super) const TAINT_EFFECTS: Values = &[
    (
        "NoExecute",
        "Evict any already-running pods that do not tolerate the taint. Currently enforced by \
         NodeController.",
    ),
    (
        "NoSchedule",
        "Do not allow new pods to schedule onto the node unless they tolerate the taint, but allow all \
         pods submitted to Kubelet without going through the scheduler to start, and allow all \
         already-running pods to continue running. Enforced by the scheduler.",
    ),
    (
        "PreferNoSchedule",
        "Like TaintEffectNoSchedule, but the scheduler tries not to schedule new pods onto the node, \
         rather than prohibiting new pods from scheduling onto the node entirely. Enforced by the \
         scheduler.",
    ),
];
pub(super) const TERMINATION_MESSAGES: Values = &[
    (
        "FallbackToLogsOnError",
        "will read the most recent contents of the container logs for the container status message when \
         the container exits with an error and the terminationMessagePath has no contents.",
    ),
    (
        "File",
        "is the default behavior and will set the container status message to the contents of the \
         container's terminationMessagePath when the container exits.",
    ),
];
pub(super) const UNSATISFIABLE: Values = &[
    ("DoNotSchedule", "instructs the scheduler not to schedule the pod when constraints are not satisfied."),
    ("ScheduleAnyway", "instructs the scheduler to schedule the pod even if constraints are not satisfied."),
];
pub(super) const URI_SCHEMES: Values = &[
    ("HTTP", "means that the scheme used will be http://"),
    ("HTTPS", "means that the scheme used will be https://"),
];
