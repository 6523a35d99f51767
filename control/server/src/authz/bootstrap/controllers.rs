//! Roles of upstream's controllers, each bound to the ServiceAccount of its name in `kube-system`: for those who run
//! controllers of their own beside this cluster's.

use super::{EVENTS, Named, On, READ, RECORD, Role};

pub(super) fn role_name(controller: &str) -> String {
    format!("system:controller:{controller}")
}

/// What every controller may note down.
const NOTES: super::Row = On(RECORD, EVENTS, "events");
const POD_MAKER: &str = "create delete list patch watch";
const READ_UPDATE: &str = "get list update watch";
const SIGNERS: &str = "kubernetes.io/kube-apiserver-client kubernetes.io/kube-apiserver-client-kubelet \
     kubernetes.io/kubelet-serving kubernetes.io/legacy-unknown";

/// By the name of the controller.
pub(super) const ROLES: &[Role] = &[
    (
        "attachdetach-controller",
        &[
            On("list watch", "core", "persistentvolumeclaims persistentvolumes"),
            On(READ, "core", "nodes"),
            On("patch update", "core", "nodes/status"),
            On("list watch", "core", "pods"),
            NOTES,
            On("create delete get list watch", "storage.k8s.io", "volumeattachments"),
            On(READ, "storage.k8s.io", "csidrivers"),
            On(READ, "storage.k8s.io", "csinodes"),
        ],
    ),
    (
        "certificate-controller",
        &[
            On("delete get list watch", "certificates.k8s.io", "certificatesigningrequests"),
            On(
                "update",
                "certificates.k8s.io",
                "certificatesigningrequests/approval certificatesigningrequests/status",
            ),
            Named("approve", "certificates.k8s.io", "signers", "kubernetes.io/kube-apiserver-client-kubelet"),
            Named("sign", "certificates.k8s.io", "signers", SIGNERS),
            On("create", "authorization.k8s.io", "subjectaccessreviews"),
            NOTES,
        ],
    ),
    (
        "clusterrole-aggregation-controller",
        &[On("escalate get list patch update watch", "rbac.authorization.k8s.io", "clusterroles")],
    ),
    (
        "cronjob-controller",
        &[
            On(READ_UPDATE, "batch", "cronjobs"),
            On("create delete get list patch update watch", "batch", "jobs"),
            On("update", "batch", "cronjobs/status"),
            On("update", "batch", "cronjobs/finalizers"),
            On("delete list watch", "core", "pods"),
            NOTES,
        ],
    ),
    (
        "daemon-set-controller",
        &[
            On(READ, "apps extensions", "daemonsets"),
            On("update", "apps extensions", "daemonsets/status"),
            On("update", "apps extensions", "daemonsets/finalizers"),
            On("list watch", "core", "nodes"),
            On(POD_MAKER, "core", "pods"),
            On("create", "core", "pods/binding"),
            On("create delete get list patch update watch", "apps", "controllerrevisions"),
            NOTES,
        ],
    ),
    (
        "deployment-controller",
        &[
            On(READ_UPDATE, "apps extensions", "deployments"),
            On("update", "apps extensions", "deployments/status"),
            On("update", "apps extensions", "deployments/finalizers"),
            On("create delete get list patch update watch", "apps extensions", "replicasets"),
            On(READ_UPDATE, "core", "pods"),
            NOTES,
        ],
    ),
    (
        "device-taint-eviction-controller",
        &[
            On("delete get list watch", "core", "pods"),
            On("patch update", "core", "pods/status"),
            On(READ, "resource.k8s.io", "deviceclasses devicetaintrules resourceclaims resourceslices"),
            NOTES,
        ],
    ),
    (
        "disruption-controller",
        &[
            On(READ, "apps extensions", "deployments"),
            On(READ, "apps extensions", "replicasets"),
            On(READ, "core", "replicationcontrollers"),
            On(READ, "policy", "poddisruptionbudgets"),
            On(READ, "apps", "statefulsets"),
            On("update", "policy", "poddisruptionbudgets/status"),
            On("patch update", "core", "pods/status"),
            On("get", "*", "*/scale"),
            NOTES,
        ],
    ),
    (
        "endpoint-controller",
        &[
            On(READ, "core", "pods services"),
            On("create delete get list update watch", "core", "endpoints"),
            On("create", "core", "endpoints/restricted"),
            NOTES,
        ],
    ),
    (
        "endpointslice-controller",
        &[
            On(READ, "core", "nodes pods services"),
            On("update", "core", "services/finalizers"),
            On("create delete get list update watch", "discovery.k8s.io", "endpointslices"),
            On("create", "discovery.k8s.io", "endpointslices/restricted"),
            NOTES,
        ],
    ),
    (
        "endpointslicemirroring-controller",
        &[
            On(READ, "core", "endpoints services"),
            On("update", "core", "services/finalizers"),
            On("update", "core", "endpoints/finalizers"),
            On("create delete get list update watch", "discovery.k8s.io", "endpointslices"),
            On("create", "discovery.k8s.io", "endpointslices/restricted"),
            NOTES,
        ],
    ),
    (
        "ephemeral-volume-controller",
        &[
            On(READ, "core", "pods"),
            On("update", "core", "pods/finalizers"),
            On("create get list watch", "core", "persistentvolumeclaims"),
            NOTES,
        ],
    ),
    (
        "expand-controller",
        &[
            On("get list patch update watch", "core", "persistentvolumes"),
            On("patch update", "core", "persistentvolumeclaims/status"),
            On(READ, "core", "persistentvolumeclaims"),
            On("get", "core", "services"),
            NOTES,
        ],
    ),
    ("generic-garbage-collector", &[On("delete get list patch update watch", "*", "*"), NOTES]),
    (
        "horizontal-pod-autoscaler",
        &[
            On(READ, "autoscaling", "horizontalpodautoscalers"),
            On("update", "autoscaling", "horizontalpodautoscalers/status"),
            On("get update", "*", "*/scale"),
            On("list watch", "core", "pods"),
            On("list", "metrics.k8s.io", "pods"),
            On("get list", "custom.metrics.k8s.io", "*"),
            On("get list", "external.metrics.k8s.io", "*"),
            NOTES,
        ],
    ),
    (
        "job-controller",
        &[
            On("get list patch update watch", "batch", "jobs"),
            On("update", "batch", "jobs/status"),
            On("update", "batch", "jobs/finalizers"),
            On(POD_MAKER, "core", "pods"),
            NOTES,
        ],
    ),
    (
        "legacy-service-account-token-cleaner",
        &[
            Named("get", "core", "configmaps", "kube-apiserver-legacy-service-account-token-tracking"),
            On("delete patch", "core", "secrets"),
        ],
    ),
    (
        "namespace-controller",
        &[
            On("delete get list watch", "core", "namespaces"),
            On("update", "core", "namespaces/finalize namespaces/status"),
            On("delete deletecollection get list watch", "*", "*"),
        ],
    ),
    (
        "node-controller",
        &[
            On("delete get list patch update watch", "core", "nodes"),
            On("patch update", "core", "nodes/status"),
            On("patch update", "core", "pods/status"),
            On("delete get list watch", "core", "pods"),
            NOTES,
        ],
    ),
    (
        "persistent-volume-binder",
        &[
            On("create delete get list update watch", "core", "persistentvolumes"),
            On("update", "core", "persistentvolumes/status"),
            On(READ_UPDATE, "core", "persistentvolumeclaims"),
            On("update", "core", "persistentvolumeclaims/status"),
            On("create delete get list watch", "core", "pods"),
            On(READ, "storage.k8s.io", "storageclasses"),
            On("list watch", "core", "nodes"),
            On("watch", "core", "events"),
            On("get", "core", "services"),
            NOTES,
        ],
    ),
    (
        "pod-garbage-collector",
        &[
            On("delete list watch", "core", "pods"),
            On(READ, "core", "nodes"),
            On("patch", "core", "pods/status"),
        ],
    ),
    ("pv-protection-controller", &[On(READ_UPDATE, "core", "persistentvolumes"), NOTES]),
    (
        "pvc-protection-controller",
        &[On(READ_UPDATE, "core", "persistentvolumeclaims"), On(READ, "core", "pods"), NOTES],
    ),
    (
        "replicaset-controller",
        &[
            On(READ_UPDATE, "apps extensions", "replicasets"),
            On("update", "apps extensions", "replicasets/status"),
            On("update", "apps extensions", "replicasets/finalizers"),
            On(POD_MAKER, "core", "pods"),
            NOTES,
        ],
    ),
    (
        "replication-controller",
        &[
            On(READ_UPDATE, "core", "replicationcontrollers"),
            On("update", "core", "replicationcontrollers/status"),
            On("update", "core", "replicationcontrollers/finalizers"),
            On(POD_MAKER, "core", "pods"),
            NOTES,
        ],
    ),
    (
        "resource-claim-controller",
        &[
            On(READ, "core", "pods"),
            On("update", "core", "pods/finalizers"),
            On("create delete get list watch", "resource.k8s.io", "resourceclaims"),
            On("patch update", "resource.k8s.io", "resourceclaims resourceclaims/status"),
            On("patch update", "core", "pods/status"),
            NOTES,
        ],
    ),
    (
        "resourcequota-controller",
        &[On("list watch", "*", "*"), On("update", "core", "resourcequotas/status"), NOTES],
    ),
    ("root-ca-cert-publisher", &[On("create update", "core", "configmaps"), NOTES]),
    ("route-controller", &[On("list watch", "core", "nodes"), On("patch", "core", "nodes/status"), NOTES]),
    (
        "selinux-warning-controller",
        &[
            NOTES,
            On(READ, "core", "persistentvolumeclaims persistentvolumes pods"),
            On(READ, "storage.k8s.io", "csidrivers"),
        ],
    ),
    ("service-account-controller", &[On("create", "core", "serviceaccounts"), NOTES]),
    (
        "service-cidrs-controller",
        &[
            On("get list patch update watch", "networking.k8s.io", "servicecidrs"),
            On("patch update", "networking.k8s.io", "servicecidrs/finalizers"),
            On("patch update", "networking.k8s.io", "servicecidrs/status"),
            On(READ, "networking.k8s.io", "ipaddresses"),
            NOTES,
        ],
    ),
    (
        "service-controller",
        &[
            On(READ, "core", "services"),
            On("patch update", "core", "services/status"),
            On("list watch", "core", "nodes"),
            NOTES,
        ],
    ),
    (
        "statefulset-controller",
        &[
            On("list watch", "core", "pods"),
            On(READ, "apps", "statefulsets"),
            On("update", "apps", "statefulsets/status"),
            On("update", "apps", "statefulsets/finalizers"),
            On("create delete get patch update", "core", "pods"),
            On("create delete get list patch update watch", "apps", "controllerrevisions"),
            On("create get list watch", "core", "persistentvolumeclaims"),
            On("delete update", "core", "persistentvolumeclaims"),
            On("update", "core", "pods/finalizers"),
            NOTES,
        ],
    ),
    ("ttl-after-finished-controller", &[On("delete get list watch", "batch", "jobs"), NOTES]),
    ("ttl-controller", &[On("list patch update watch", "core", "nodes"), NOTES]),
    (
        "validatingadmissionpolicy-status-controller",
        &[
            On(READ, "admissionregistration.k8s.io", "validatingadmissionpolicies"),
            On("get patch update", "admissionregistration.k8s.io", "validatingadmissionpolicies/status"),
            NOTES,
        ],
    ),
    (
        "volumeattributesclass-protection-controller",
        &[
            On(READ, "core", "persistentvolumeclaims persistentvolumes"),
            On(READ_UPDATE, "storage.k8s.io", "volumeattributesclasses"),
            NOTES,
        ],
    ),
];
