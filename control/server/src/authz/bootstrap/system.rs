//! The cluster-wide roles of the system's parts, and whom they are for.

use super::{ALL_VERBS, At, EVENTS, Named, On, READ, RECORD, Role, Row, Subject};

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";
const CERTIFICATES: &str = "certificates.k8s.io";
const COORDINATION: &str = "coordination.k8s.io";
const DEVICES: &str = "resource.k8s.io";
const STORAGE: &str = "storage.k8s.io";

const READ_UPDATE: &str = "get list patch update watch";
const HEALTH: &str = "/healthz /livez /readyz /version /version/";

const APPROVE_CLIENT: &[Row] =
    &[Named("approve", CERTIFICATES, "signers", "kubernetes.io/kube-apiserver-client")];
const APPROVE_KUBELET_CLIENT: &[Row] =
    &[Named("approve", CERTIFICATES, "signers", "kubernetes.io/kube-apiserver-client-kubelet")];
const APPROVE_KUBELET_SERVING: &[Row] =
    &[Named("approve", CERTIFICATES, "signers", "kubernetes.io/kubelet-serving")];
const APPROVE_UNKNOWN: &[Row] = &[Named("approve", CERTIFICATES, "signers", "kubernetes.io/legacy-unknown")];

/// Every ClusterRole but those for people and for single controllers.
pub(super) const ROLES: &[Role] = &[
    ("cluster-admin", &[On("*", "*", "*"), At("*", "*")]),
    (
        "system:discovery",
        &[At(
            "get",
            "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/",
        )],
    ),
    ("system:public-info-viewer", &[At("get", HEALTH)]),
    (
        "system:basic-user",
        &[
            On("create", AUTHORIZATION, "selfsubjectaccessreviews selfsubjectrulesreviews"),
            On("create", AUTHENTICATION, "selfsubjectreviews"),
        ],
    ),
    (
        "system:service-account-issuer-discovery",
        &[At(
            "get",
            "/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
        )],
    ),
    (
        "system:auth-delegator",
        &[On("create", AUTHENTICATION, "tokenreviews"), On("create", AUTHORIZATION, "subjectaccessreviews")],
    ),
    (
        "system:monitoring",
        &[
            At("get", "/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*"),
            At("get", "/flagz"),
            At("get", "/statusz"),
        ],
    ),
    (
        "system:heapster",
        &[On(READ, "core", "events namespaces nodes pods"), On(READ, "extensions", "deployments")],
    ),
    ("system:kube-aggregator", &[On(READ, "core", "endpoints services")]),
    ("system:kube-dns", &[On("list watch", "core", "endpoints services")]),
    (
        "system:kubelet-api-admin",
        &[
            On(READ, "core", "nodes"),
            On("proxy", "core", "nodes"),
            On("*", "core", "nodes/log nodes/metrics nodes/proxy nodes/stats"),
            On("*", "core", "nodes/configz nodes/healthz nodes/pods"),
        ],
    ),
    ("system:node", NODE),
    ("system:node-bootstrapper", &[On("create get list watch", CERTIFICATES, "certificatesigningrequests")]),
    (
        "system:node-problem-detector",
        &[On("get", "core", "nodes"), On("patch", "core", "nodes/status"), On(RECORD, EVENTS, "events")],
    ),
    (
        "system:node-proxier",
        &[
            On("list watch", "core", "endpoints services"),
            On(READ, "core", "nodes"),
            On(RECORD, EVENTS, "events"),
            On("list watch", "networking.k8s.io", "servicecidrs"),
            On("list watch", "discovery.k8s.io", "endpointslices"),
        ],
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        &[On("create", CERTIFICATES, "certificatesigningrequests/nodeclient")],
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &[On("create", CERTIFICATES, "certificatesigningrequests/selfnodeclient")],
    ),
    ("system:certificates.k8s.io:kube-apiserver-client-approver", APPROVE_CLIENT),
    ("system:certificates.k8s.io:kube-apiserver-client-kubelet-approver", APPROVE_KUBELET_CLIENT),
    ("system:certificates.k8s.io:kubelet-serving-approver", APPROVE_KUBELET_SERVING),
    ("system:certificates.k8s.io:legacy-unknown-approver", APPROVE_UNKNOWN),
    (
        "system:persistent-volume-provisioner",
        &[
            On("create delete get list watch", "core", "persistentvolumes"),
            On("get list update watch", "core", "persistentvolumeclaims"),
            On(READ, STORAGE, "storageclasses"),
            On("watch", "core", "events"),
            On(RECORD, EVENTS, "events"),
        ],
    ),
    (
        "system:volume-scheduler",
        &[
            On(READ_UPDATE, "core", "persistentvolumes"),
            On(READ, STORAGE, "storageclasses"),
            On(READ_UPDATE, "core", "persistentvolumeclaims"),
        ],
    ),
    ("system:kube-scheduler", SCHEDULER),
    ("system:kube-controller-manager", CONTROLLERS),
];

const NODE: &[Row] = &[
    On("create", AUTHENTICATION, "tokenreviews"),
    On("create", AUTHORIZATION, "localsubjectaccessreviews subjectaccessreviews"),
    On(READ, "core", "services"),
    On("create get list patch update watch", "core", "nodes"),
    On("patch update", "core", "nodes/status"),
    On(RECORD, "core", "events"),
    On("create delete get list watch", "core", "pods"),
    On("patch update", "core", "pods/status"),
    On("create", "core", "pods/eviction"),
    On(READ, "core", "configmaps secrets"),
    On("get", "core", "persistentvolumeclaims persistentvolumes"),
    On("get", "core", "endpoints"),
    On("create get list watch", CERTIFICATES, "certificatesigningrequests"),
    On("create delete get patch update", COORDINATION, "leases"),
    On("get", STORAGE, "volumeattachments"),
    On("create", "core", "serviceaccounts/token"),
    On("get patch update", "core", "persistentvolumeclaims/status"),
    On(READ, STORAGE, "csidrivers"),
    On("create delete get patch update", STORAGE, "csinodes"),
    On(READ, "node.k8s.io", "runtimeclasses"),
    On("get", DEVICES, "resourceclaims"),
    On("deletecollection", DEVICES, "resourceslices"),
    On("get", "core", "serviceaccounts"),
    // This cluster's agent also does the work of upstream's kube-proxy (`system:node-proxier`).
    On("list watch", "core", "endpoints"),
    On(READ, "discovery.k8s.io", "endpointslices"),
    On(RECORD, "events.k8s.io", "events"),
];

const SCHEDULER: &[Row] = &[
    On(RECORD, EVENTS, "events"),
    On("create", COORDINATION, "leases"),
    Named("get list update watch", COORDINATION, "leases", "kube-scheduler carrack-scheduler"),
    On(ALL_VERBS, COORDINATION, "leasecandidates"),
    On(READ, "core", "nodes"),
    On("delete get list watch", "core", "pods"),
    On("create", "core", "bindings pods/binding"),
    On("patch update", "core", "pods/status"),
    On(READ, "core", "replicationcontrollers services"),
    On(READ, "apps extensions", "replicasets"),
    On(READ, "apps", "statefulsets"),
    On(READ, "policy", "poddisruptionbudgets"),
    On(READ, "core", "persistentvolumeclaims persistentvolumes"),
    On("create", AUTHENTICATION, "tokenreviews"),
    On("create", AUTHORIZATION, "subjectaccessreviews"),
    On(READ, STORAGE, "csidrivers csinodes csistoragecapacities volumeattachments"),
    On(READ, "core", "namespaces"),
    On(READ, DEVICES, "deviceclasses devicetaintrules resourceslices"),
    On(READ_UPDATE, DEVICES, "resourceclaims resourceclaims/status"),
    On(READ_UPDATE, "core", "pods/finalizers"),
    // This cluster's scheduler also looks at the classes of priority.
    On(READ, "scheduling.k8s.io", "priorityclasses"),
];

const CONTROLLERS: &[Row] = &[
    On(RECORD, EVENTS, "events"),
    On("create", COORDINATION, "leases"),
    Named("get update", COORDINATION, "leases", "kube-controller-manager"),
    On("create", "core", "secrets serviceaccounts"),
    On("delete", "core", "secrets"),
    On("get", "core", "configmaps namespaces secrets serviceaccounts"),
    On("update", "core", "secrets serviceaccounts"),
    On("create", AUTHENTICATION, "tokenreviews"),
    On("create", AUTHORIZATION, "subjectaccessreviews"),
    On("list watch", "*", "*"),
    On("create", "core", "serviceaccounts/token"),
    // From here on what upstream gives to the single controllers, which are one identity here. The garbage collector
    // and the namespace controller reach every kind, whatever it is called.
    On("delete deletecollection get list patch update watch", "*", "*"),
    On("create", "core", "configmaps endpoints pods"),
    On("create", "core", "endpoints/restricted pods/eviction"),
    On("create", "discovery.k8s.io", "endpointslices endpointslices/restricted"),
    On("create", "apps", "controllerrevisions replicasets"),
    On("create", "batch", "jobs"),
    On("create", "core", "persistentvolumeclaims persistentvolumes"),
    On("create", DEVICES, "resourceclaims"),
    On("get", "metrics.k8s.io", "pods"),
];

use Subject::{Account, Group, User};

/// ClusterRoleBindings: the role, which is also the binding's name, and its subjects.
pub(super) const BINDINGS: &[(&str, &[Subject])] = &[
    ("cluster-admin", &[Group("system:masters")]),
    ("system:monitoring", &[Group("system:monitoring")]),
    ("system:discovery", &[Group("system:authenticated")]),
    ("system:basic-user", &[Group("system:authenticated")]),
    ("system:public-info-viewer", &[Group("system:authenticated"), Group("system:unauthenticated")]),
    ("system:node-proxier", &[User("system:kube-proxy")]),
    ("system:kube-controller-manager", &[User("system:kube-controller-manager")]),
    ("system:kube-dns", &[Account("kube-dns")]),
    ("system:kube-scheduler", &[User("system:kube-scheduler")]),
    ("system:volume-scheduler", &[User("system:kube-scheduler")]),
    ("system:node", &[]),
    ("system:service-account-issuer-discovery", &[Group("system:serviceaccounts")]),
];
