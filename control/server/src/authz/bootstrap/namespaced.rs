//! Roles of the system's namespaces, and whom they are for.

use serde_json::Value;

use super::{
    EVENTS, Named, On, PolicyKind, READ, RECORD, Row, SYSTEM_NAMESPACE, Subject, bound, object, rule,
};

const PUBLIC_NAMESPACE: &str = "kube-public";
const READER: &str = "extension-apiserver-authentication-reader";
const MANAGER: &str = "system::leader-locking-kube-controller-manager";
const SCHEDULER: &str = "system::leader-locking-kube-scheduler";
const SIGNER: &str = "system:controller:bootstrap-signer";
const CLOUD: &str = "system:controller:cloud-provider";
const CLEANER: &str = "system:controller:token-cleaner";

/// Namespace, name and rows.
const ROLES: &[(&str, &str, &[Row])] = &[
    (SYSTEM_NAMESPACE, READER, &[Named(READ, "core", "configmaps", "extension-apiserver-authentication")]),
    (SYSTEM_NAMESPACE, SIGNER, &[On(READ, "core", "secrets")]),
    (SYSTEM_NAMESPACE, CLOUD, &[On("create get list watch", "core", "configmaps")]),
    (
        SYSTEM_NAMESPACE,
        CLEANER,
        &[On("delete get list watch", "core", "secrets"), On(RECORD, EVENTS, "events")],
    ),
    (
        SYSTEM_NAMESPACE,
        MANAGER,
        &[
            On("watch", "core", "configmaps"),
            Named("get update", "core", "configmaps", "kube-controller-manager"),
        ],
    ),
    (
        SYSTEM_NAMESPACE,
        SCHEDULER,
        &[On("watch", "core", "configmaps"), Named("get update", "core", "configmaps", "kube-scheduler")],
    ),
    (
        PUBLIC_NAMESPACE,
        SIGNER,
        &[
            On(READ, "core", "configmaps"),
            Named("update", "core", "configmaps", "cluster-info"),
            On(RECORD, EVENTS, "events"),
        ],
    ),
];

use Subject::{Account, User};

/// Namespace, name, role and subjects.
const BINDINGS: &[(&str, &str, &str, &[Subject])] = &[
    (
        SYSTEM_NAMESPACE,
        "system::extension-apiserver-authentication-reader",
        READER,
        &[User("system:kube-controller-manager"), User("system:kube-scheduler")],
    ),
    (
        SYSTEM_NAMESPACE,
        MANAGER,
        MANAGER,
        &[User("system:kube-controller-manager"), Account("kube-controller-manager")],
    ),
    (SYSTEM_NAMESPACE, SCHEDULER, SCHEDULER, &[User("system:kube-scheduler"), Account("kube-scheduler")]),
    (SYSTEM_NAMESPACE, SIGNER, SIGNER, &[Account("bootstrap-signer")]),
    (SYSTEM_NAMESPACE, CLOUD, CLOUD, &[Account("cloud-provider")]),
    (SYSTEM_NAMESPACE, CLEANER, CLEANER, &[Account("token-cleaner")]),
    (PUBLIC_NAMESPACE, SIGNER, SIGNER, &[Account("bootstrap-signer")]),
];

pub(super) fn roles() -> impl Iterator<Item = (PolicyKind, Value)> {
    ROLES.iter().map(|(namespace, name, rows)| {
        let mut role = object(PolicyKind::Role, namespace, name);
        role["rules"] = rows.iter().map(rule).collect();
        (PolicyKind::Role, role)
    })
}

pub(super) fn bindings() -> impl Iterator<Item = (PolicyKind, Value)> {
    BINDINGS.iter().map(|(namespace, name, role, subjects)| {
        let kind = PolicyKind::RoleBinding;
        (kind, bound(object(kind, namespace, name), PolicyKind::Role, role, subjects))
    })
}
