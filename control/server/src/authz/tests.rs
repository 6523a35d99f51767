//! Who may do what: tables of verdicts, attempts to get more, and the answers to reviews.

use std::sync::Arc;

use serde_json::{Value, json};

use super::bootstrap::{self, Step};
use super::*;
use crate::{
    Admission, AdmissionRequest, ApiError, Attributes, Authenticator, Authorizer, Credentials, Operation,
    UserInfo,
};

/// The bootstrap policy and what `more` adds, with a feeder that is always up to date.
fn rbac(more: &[(PolicyKind, Value)]) -> Arc<Rbac> {
    let (rbac, mut asks) = Rbac::new();
    for (kind, object) in bootstrap::objects().iter().chain(more) {
        rbac.put(*kind, object);
    }
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move {
            while let Some(ask) = asks.recv().await {
                let _ = ask.send(());
            }
        });
    }
    rbac
}

fn role(namespace: &str, name: &str, rules: Value) -> (PolicyKind, Value) {
    let kind = if namespace.is_empty() { PolicyKind::ClusterRole } else { PolicyKind::Role };
    (kind, json!({"metadata": {"name": name, "namespace": namespace}, "rules": rules}))
}

/// A binding named after its role; `role` is `Role/name` or `ClusterRole/name`.
fn binding(namespace: &str, role: &str, subjects: Value) -> (PolicyKind, Value) {
    let kind = if namespace.is_empty() { PolicyKind::ClusterRoleBinding } else { PolicyKind::RoleBinding };
    let (role_kind, name) = role.split_once('/').unwrap();
    let role = json!({"apiGroup": GROUP, "kind": role_kind, "name": name});
    let metadata = json!({"name": format!("{name}-binding"), "namespace": namespace});
    (kind, json!({"metadata": metadata, "roleRef": role, "subjects": subjects}))
}

fn user(name: &str) -> Value {
    json!([{"kind": "User", "apiGroup": GROUP, "name": name}])
}

/// A request in short: `verb [group/]resource[/subresource][:name] [@namespace]`, or `verb /path`.
fn request(who: &UserInfo, text: &str) -> Attributes {
    let mut words = text.split(' ');
    let (verb, what) = (words.next().unwrap(), words.next().unwrap());
    let namespace = words.next().map_or("", |word| word.strip_prefix('@').unwrap());
    let mut request = Attributes { user: who.clone(), verb: verb.into(), ..Attributes::default() };
    if what.starts_with('/') {
        request.path = what.into();
        return request;
    }
    let (what, name) = what.split_once(':').unwrap_or((what, ""));
    // Groups have a dot or are one of the two old ones that have not.
    let mut parts: Vec<&str> = what.split('/').collect();
    if parts[0].contains('.') || matches!(parts[0], "apps" | "batch" | "autoscaling" | "policy") {
        request.api_group = parts.remove(0).into();
    }
    request.resource = parts[0].into();
    request.subresource = parts.get(1).copied().unwrap_or_default().into();
    request.name = name.into();
    request.namespace = namespace.into();
    request
}

fn verdicts(rbac: &Rbac, who: &UserInfo, table: &[(&str, bool)]) {
    for (text, expected) in table {
        let allowed = rbac.authorize(&request(who, text)) == crate::Decision::Allow;
        assert_eq!(allowed, *expected, "{}: {text}", who.name);
    }
}

#[test]
fn rules_match_as_upstream_matches_them() {
    let rule = |value: Value| serde_json::from_value::<Rule>(value).unwrap();
    let who = UserInfo::new("jane", []);
    let pods = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]});
    let cases = [
        (pods.clone(), "get pods:a @x", true),
        (pods.clone(), "list pods @x", false),
        (pods.clone(), "get pods/log:a @x", false),
        (pods.clone(), "get apps/pods:a @x", false),
        (pods, "get /pods", false),
        (
            json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}),
            "delete apps/deployments/scale:a @x",
            true,
        ),
        (json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}), "get /metrics", false),
        (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["*/log"]}), "get pods/log:a @x", true),
        (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["*/log"]}), "get pods:a @x", false),
        (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods/*"]}), "get pods/log:a @x", false),
        (
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}),
            "get pods:a @x",
            true,
        ),
        (
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}),
            "get pods:b @x",
            false,
        ),
        (
            json!({"verbs": ["list"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}),
            "list pods @x",
            false,
        ),
        (json!({"verbs": ["get"], "nonResourceURLs": ["/logs/*"]}), "get /logs/a/b", true),
        (json!({"verbs": ["get"], "nonResourceURLs": ["/logs/*"]}), "get /logs", false),
        (json!({"verbs": ["get"], "nonResourceURLs": ["/metrics"]}), "get /metrics/slis", false),
        (json!({"verbs": ["get"], "nonResourceURLs": ["*"]}), "get /anything", true),
        (json!({"verbs": [], "apiGroups": ["*"], "resources": ["*"]}), "get pods:a @x", false),
        (json!({}), "get pods:a @x", false),
    ];
    for (value, text, expected) in cases {
        assert_eq!(rule(value.clone()).allows(&request(&who, text)), expected, "{value}: {text}");
    }
}

#[test]
fn the_parts_of_the_system_may_do_their_work_and_no_more() {
    let rbac = rbac(&[]);
    verdicts(
        &rbac,
        &UserInfo::new("system:kube-scheduler", []),
        &[
            ("watch pods", true),
            ("list nodes", true),
            ("create pods/binding:a @x", true),
            ("patch pods/status:a @x", true),
            ("delete pods:a @x", true),
            ("create events.k8s.io/events @x", true),
            ("update coordination.k8s.io/leases:kube-scheduler @kube-system", true),
            ("watch storage.k8s.io/storageclasses", true),
            ("create pods @x", false),
            ("update pods:a @x", false),
            ("get secrets:a @x", false),
            ("patch nodes:n", false),
            ("create pods/exec:a @x", false),
        ],
    );
    verdicts(
        &rbac,
        &UserInfo::new("system:kube-controller-manager", []),
        &[
            ("update apps/deployments/status:a @x", true),
            ("create apps/replicasets @x", true),
            ("create pods @x", true),
            ("create discovery.k8s.io/endpointslices @x", true),
            ("update endpoints:a @x", true),
            ("update namespaces/finalize:x", true),
            ("deletecollection example.org/widgets @x", true),
            ("create serviceaccounts @x", true),
            ("create configmaps @x", true),
            ("patch nodes:n", true),
            ("patch nodes/status:n", true),
            ("create serviceaccounts/token:a @x", false),
            ("create rbac.authorization.k8s.io/clusterrolebindings", false),
            ("create secrets @x", false),
            ("impersonate users:root", false),
            ("escalate rbac.authorization.k8s.io/clusterroles:a", false),
            ("bind rbac.authorization.k8s.io/clusterroles:cluster-admin", false),
        ],
    );
    verdicts(
        &rbac,
        &UserInfo::new("system:node:n", ["system:nodes"]),
        &[
            ("create nodes", true),
            ("patch nodes/status:n", true),
            ("watch pods", true),
            ("patch pods/status:a @x", true),
            ("delete pods:a @x", true),
            ("watch discovery.k8s.io/endpointslices", true),
            ("get secrets:a @x", true),
            ("list secrets @x", false),
            ("watch configmaps @x", false),
            ("create serviceaccounts/token:a @x", true),
            ("update coordination.k8s.io/leases:n @kube-node-lease", true),
            ("create authorization.k8s.io/subjectaccessreviews", true),
            ("update pods:a @x", false),
            ("create pods/binding:a @x", false),
            ("update services:a @x", false),
            ("delete nodes:n", false),
            ("create secrets @x", false),
        ],
    );
}

#[test]
fn people_have_what_their_role_says() {
    let rbac = rbac(&[
        binding("web", "ClusterRole/view", user("vera")),
        binding("web", "ClusterRole/edit", user("ed")),
        binding("web", "ClusterRole/admin", user("ada")),
    ]);
    let table = |expected: [bool; 3], text: &'static str| (text, expected);
    let table = [
        table([true, true, true], "get pods:a @web"),
        table([true, true, true], "get pods/log:a @web"),
        table([true, true, true], "watch apps/deployments @web"),
        table([false, true, true], "get secrets:a @web"),
        table([false, true, true], "patch apps/deployments/scale:a @web"),
        table([false, true, true], "create pods/exec:a @web"),
        table([false, true, true], "impersonate serviceaccounts:sa @web"),
        table([false, false, true], "create rbac.authorization.k8s.io/rolebindings @web"),
        table([false, false, false], "get pods:a @other"),
        table([false, false, false], "list pods"),
        table([false, false, false], "update resourcequotas:a @web"),
        table([false, false, false], "delete namespaces:web @web"),
        table([false, false, false], "get nodes:n"),
        table([true, true, true], "create authorization.k8s.io/selfsubjectaccessreviews"),
        table([true, true, true], "get /apis/apps/v1"),
        table([false, false, false], "get /metrics"),
    ];
    for (index, name) in ["vera", "ed", "ada"].into_iter().enumerate() {
        let rows: Vec<_> = table.iter().map(|(text, expected)| (*text, expected[index])).collect();
        verdicts(&rbac, &UserInfo::new(name, []), &rows);
    }
    verdicts(
        &rbac,
        &crate::authn::anonymous(),
        &[("get /healthz", true), ("get /version", true), ("get /api", false)],
    );
    verdicts(
        &rbac,
        &UserInfo::new("root", ["system:masters"]),
        &[("drop apps/tables", true), ("get /x", true)],
    );
}

#[test]
fn bindings_follow_changes_of_roles_subjects_and_themselves() {
    let accounts = json!([{"kind": "ServiceAccount", "name": "builder"}, {"kind": "Group", "name": "dev"}]);
    let rbac = rbac(&[
        role("web", "reader", json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"]}])),
        binding("web", "Role/reader", accounts),
    ]);
    let account = UserInfo::new("system:serviceaccount:web:builder", []);
    let other = UserInfo::new("system:serviceaccount:other:builder", []);
    let dev = UserInfo::new("jane", ["dev"]);
    for (who, expected) in [(&account, true), (&other, false), (&dev, true)] {
        verdicts(&rbac, who, &[("get configmaps:a @web", expected), ("get configmaps:a @other", false)]);
    }
    // The role changes: the binding follows.
    let (kind, changed) =
        role("web", "reader", json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]));
    rbac.put(kind, &changed);
    verdicts(&rbac, &dev, &[("get configmaps:a @web", false), ("get pods:a @web", true)]);
    // The subjects change.
    let (kind, changed) = binding("web", "Role/reader", user("joe"));
    rbac.put(kind, &changed);
    verdicts(&rbac, &dev, &[("get pods:a @web", false)]);
    verdicts(&rbac, &UserInfo::new("joe", []), &[("get pods:a @web", true)]);
    // The role goes; a role made anew counts again; then the binding goes.
    rbac.remove(PolicyKind::Role, "web", "reader");
    verdicts(&rbac, &UserInfo::new("joe", []), &[("get pods:a @web", false)]);
    let (kind, again) =
        role("web", "reader", json!([{"verbs": ["*"], "apiGroups": [""], "resources": ["pods"]}]));
    rbac.put(kind, &again);
    verdicts(&rbac, &UserInfo::new("joe", []), &[("delete pods:a @web", true)]);
    rbac.remove(PolicyKind::RoleBinding, "web", "reader-binding");
    verdicts(&rbac, &UserInfo::new("joe", []), &[("get pods:a @web", false)]);
}

#[test]
fn malformed_policy_grants_nothing() {
    let rbac = rbac(&[
        (
            PolicyKind::ClusterRole,
            json!({"metadata": {"name": "odd"}, "rules": [{"verbs": "get"}, null, 7, {"verbs": null}]}),
        ),
        binding(
            "",
            "ClusterRole/odd",
            json!([{"kind": "User", "name": ""}, null, {"kind": "Robot", "name": "x"}, {"kind": "User", "name": "x"}]),
        ),
        (PolicyKind::ClusterRoleBinding, json!({"metadata": {"name": "none"}})),
    ]);
    verdicts(&rbac, &UserInfo::new("x", []), &[("get pods:a @web", false), ("get /odd", false)]);
}

#[tokio::test]
async fn a_refusal_waits_for_what_was_granted_a_moment_ago() {
    let (rbac, mut asks) = Rbac::new();
    let feeder = Arc::clone(&rbac);
    tokio::spawn(async move {
        let ask = asks.recv().await.unwrap();
        for (kind, object) in [
            role("", "reader", json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}])),
            binding("", "ClusterRole/reader", user("jane")),
        ] {
            feeder.put(kind, &object);
        }
        ask.send(()).unwrap();
    });
    let authorizers: [Arc<dyn Authorizer>; 1] = [rbac];
    decide(&authorizers, &request(&UserInfo::new("jane", []), "get pods:a @web")).await.unwrap();
}

#[tokio::test]
async fn refusals_use_upstreams_words() {
    let authorizers: [Arc<dyn Authorizer>; 1] = [rbac(&[])];
    let jane = UserInfo::new("jane", []);
    let cases = [
        (
            "list pods @web",
            r#"pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "web""#,
        ),
        (
            "get apps/deployments/scale:a @web",
            r#"deployments.apps "a" is forbidden: User "jane" cannot get resource "deployments/scale" in API group "apps" in the namespace "web""#,
        ),
        (
            "get nodes:n",
            r#"nodes "n" is forbidden: User "jane" cannot get resource "nodes" in API group "" at the cluster scope"#,
        ),
        ("get /metrics", r#"forbidden: User "jane" cannot get path "/metrics""#),
    ];
    for (text, expected) in cases {
        let error = decide(&authorizers, &request(&jane, text)).await.unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (403, expected));
    }
}

#[test]
fn covering_takes_rules_together() {
    let rules = |value: Value| serde_json::from_value::<Vec<Rule>>(value).unwrap();
    let held = rules(json!([
        {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "*/log"]},
        {"verbs": ["watch"], "apiGroups": [""], "resources": ["pods"]},
        {"verbs": ["get"], "apiGroups": ["apps"], "resources": ["*"], "resourceNames": ["a", "b"]},
        {"verbs": ["get"], "nonResourceURLs": ["/logs/*"]},
    ]));
    let cases = [
        (json!({"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["pods"]}), 0),
        (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "pods/log", "services/log"]}), 0),
        (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "secrets"]}), 1),
        (json!({"verbs": ["get", "delete"], "apiGroups": ["", "apps"], "resources": ["pods"]}), 3),
        (
            json!({"verbs": ["get"], "apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["a"]}),
            0,
        ),
        (
            json!({"verbs": ["get"], "apiGroups": ["apps"], "resources": ["deployments"], "resourceNames": ["a", "c"]}),
            1,
        ),
        (json!({"verbs": ["get"], "apiGroups": ["apps"], "resources": ["deployments"]}), 1),
        (json!({"verbs": ["*"], "apiGroups": [""], "resources": ["pods"]}), 1),
        (json!({"verbs": ["get"], "apiGroups": ["*"], "resources": ["pods"]}), 1),
        (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["*"]}), 1),
        (json!({"verbs": ["get"], "nonResourceURLs": ["/logs/a", "/logs/*"]}), 0),
        (json!({"verbs": ["get"], "nonResourceURLs": ["/log*", "*"]}), 2),
    ];
    for (wanted, missing) in cases {
        let wanted_rules = rules(json!([wanted]));
        assert_eq!(uncovered(&held, &wanted_rules).len(), missing, "{wanted}");
        assert_eq!(uncovered(&wanted_rules, &wanted_rules), [], "{wanted} covers itself");
    }
}

/// Has `who` write `object`, over `old` if there is one.
async fn write(
    rbac: &Arc<Rbac>,
    who: &UserInfo,
    (kind, object): &(PolicyKind, Value),
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let authorizers: Vec<Arc<dyn Authorizer>> = vec![Arc::clone(rbac) as Arc<dyn Authorizer>];
    let plugin = Escalation::new(Arc::clone(rbac), authorizers);
    let text = |pointer| crate::authn::text(object, pointer);
    let operation = if old.is_some() { Operation::Update } else { Operation::Create };
    let attributes = Attributes {
        user: who.clone(),
        verb: if old.is_some() { "update" } else { "create" }.into(),
        api_group: GROUP.into(),
        resource: kind.resource().into(),
        name: text("/metadata/name").into(),
        namespace: text("/metadata/namespace").into(),
        ..Attributes::default()
    };
    let request =
        AdmissionRequest { attributes: &attributes, operation, kind: kind.kind(), old, dry_run: false };
    plugin.validate(&request, Some(object)).await.map(drop)
}

#[tokio::test]
async fn nobody_grants_what_he_does_not_have() {
    let any = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]);
    let read = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
    let own = json!([{"verbs": ["escalate"], "apiGroups": [GROUP], "resources": ["roles"], "resourceNames": ["blessed"]}]);
    let bind = json!([{"verbs": ["bind"], "apiGroups": [GROUP], "resources": ["clusterroles"], "resourceNames": ["edit"]}]);
    let rbac = rbac(&[
        binding("web", "ClusterRole/admin", user("ada")),
        role("web", "escalator", own),
        binding("web", "Role/escalator", user("eve")),
        role("web", "binder", bind),
        binding("web", "Role/binder", user("bob")),
    ]);
    let ada = UserInfo::new("ada", []);
    let root = UserInfo::new("root", ["system:masters"]);
    let eve = UserInfo::new("eve", []);
    let bob = UserInfo::new("bob", []);
    let mut aggregated = role("web", "r", read.clone());
    aggregated.1["aggregationRule"] = json!({"clusterRoleSelectors": [{}]});
    let cases: [(&str, &UserInfo, (PolicyKind, Value), u16); 17] = [
        ("an admin grants reading", &ada, role("web", "r", read.clone()), 0),
        ("but not everything", &ada, role("web", "r", any.clone()), 403),
        ("nor elsewhere", &ada, role("other", "r", read.clone()), 403),
        ("nor in the whole cluster", &ada, role("", "r", read.clone()), 403),
        ("nor through an aggregated role", &ada, aggregated, 403),
        ("root grants everything", &root, role("", "r", any.clone()), 0),
        ("escalate counts for the named role", &eve, role("web", "blessed", any.clone()), 0),
        ("and for no other", &eve, role("web", "cursed", any), 403),
        ("an admin binds edit", &ada, binding("web", "ClusterRole/edit", user("x")), 0),
        ("and his own role", &ada, binding("web", "ClusterRole/admin", user("x")), 0),
        ("but not cluster-admin", &ada, binding("web", "ClusterRole/cluster-admin", user("ada")), 403),
        ("nor a role in another namespace", &ada, binding("other", "ClusterRole/view", user("ada")), 403),
        ("nor in the whole cluster", &ada, binding("", "ClusterRole/view", user("ada")), 403),
        ("nor a role that is not there", &ada, binding("web", "Role/ghost", user("ada")), 404),
        ("bind counts for the named role", &bob, binding("web", "ClusterRole/edit", user("x")), 0),
        ("and for no other", &bob, binding("web", "ClusterRole/view", user("x")), 403),
        ("root binds anything", &root, binding("", "ClusterRole/cluster-admin", user("x")), 0),
    ];
    for (what, who, object, code) in cases {
        let result = write(&rbac, who, &object, None).await;
        assert_eq!(result.as_ref().err().map_or(0, |error| error.code), code, "{what}: {result:?}");
    }
    let error = write(&rbac, &ada, &role("", "r", read), None).await.unwrap_err();
    assert_eq!(
        error.message,
        "clusterroles.rbac.authorization.k8s.io \"r\" is forbidden: user \"ada\" (groups=[\"system:authenticated\"]) is \
         attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\"]}"
    );
}

#[tokio::test]
async fn changes_that_grant_nothing_new_are_free() {
    let any = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]);
    let rbac = rbac(&[]);
    let nobody = UserInfo::new("nobody", []);
    let (kind, old) = role("web", "strong", any.clone());
    let mut labelled = old.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    write(&rbac, &nobody, &(kind, labelled), Some(&old)).await.unwrap();
    let (kind, weak) = role("web", "strong", json!([]));
    write(&rbac, &nobody, &(kind, old), Some(&weak)).await.unwrap_err();

    let (kind, old) = binding("web", "ClusterRole/cluster-admin", user("x"));
    let mut labelled = old.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    write(&rbac, &nobody, &(kind, labelled), Some(&old)).await.unwrap();
    let mut grown = old.clone();
    grown["subjects"] = user("nobody");
    write(&rbac, &nobody, &(kind, grown), Some(&old)).await.unwrap_err();
}

#[test]
fn the_bootstrap_policy_is_whole() {
    let objects = bootstrap::objects();
    let names = |wanted: PolicyKind| {
        let of_kind = objects.iter().filter(move |(kind, _)| *kind == wanted);
        of_kind.map(|(_, object)| object["metadata"]["name"].as_str().unwrap()).collect::<Vec<_>>()
    };
    let roles = names(PolicyKind::ClusterRole);
    for name in [
        "cluster-admin",
        "admin",
        "edit",
        "view",
        "system:basic-user",
        "system:discovery",
        "system:public-info-viewer",
        "system:node",
        "system:kube-scheduler",
        "system:kube-controller-manager",
    ] {
        assert!(roles.contains(&name), "{name}");
    }
    for (kind, object) in &objects {
        if let Some(role) = object.pointer("/roleRef/name") {
            assert!(roles.contains(&role.as_str().unwrap()), "{object}");
        } else {
            let rules = object["rules"].as_array().unwrap();
            assert_eq!(
                super::policy::rules(object).len(),
                rules.len(),
                "every rule of {kind:?} {object} can be read"
            );
        }
    }
}

#[test]
fn bootstrap_adds_what_is_missing_and_leaves_the_rest() {
    let wanted = &bootstrap::objects()[1].1;
    assert_eq!(bootstrap::reconcile(wanted, wanted), Step::Keep);

    let own = json!({"apiGroups": ["x"], "resources": ["y"], "verbs": ["get"]});
    let mut stored = wanted.clone();
    stored["metadata"]["resourceVersion"] = json!("7");
    stored["rules"] = json!([own]);
    let Step::Update(updated) = bootstrap::reconcile(&stored, wanted) else { panic!("no update") };
    assert_eq!(updated["metadata"]["resourceVersion"], "7");
    assert_eq!(updated["rules"][0], own);
    assert_eq!(updated["rules"][1], wanted["rules"][0]);

    stored["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] = json!("false");
    assert_eq!(bootstrap::reconcile(&stored, wanted), Step::Keep);

    let binding =
        bootstrap::objects().into_iter().find(|(kind, _)| *kind == PolicyKind::ClusterRoleBinding).unwrap().1;
    let mut other = binding.clone();
    other["roleRef"]["name"] = json!("view");
    assert_eq!(bootstrap::reconcile(&other, &binding), Step::Replace);
    let mut removed = binding.clone();
    removed.as_object_mut().unwrap().remove("subjects");
    assert!(matches!(bootstrap::reconcile(&removed, &binding), Step::Update(object) if object == binding));
}

/// Knows one token.
struct OneToken;

#[async_trait::async_trait]
impl Authenticator for OneToken {
    async fn authenticate(&self, _: &Credentials) -> Result<Option<UserInfo>, ApiError> {
        Ok(None)
    }

    async fn review_token(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<(UserInfo, Vec<String>), ApiError> {
        if token == "good" {
            Ok((UserInfo::new("jane", ["dev"]), audiences.to_vec()))
        } else {
            Err(ApiError::new(401, "Unauthorized", "[invalid bearer token, expired]"))
        }
    }
}

fn reviewer() -> Reviewer {
    let rbac = rbac(&[binding("web", "ClusterRole/view", user("vera"))]);
    Reviewer { authorizers: vec![rbac], authenticator: Arc::new(OneToken) }
}

async fn review(resource: &str, who: &str, namespace: &str, spec: Value) -> Result<Value, ApiError> {
    let who = UserInfo::new(who, []);
    let answer = reviewer().answer(resource, &who, namespace, json!({"spec": spec})).await.unwrap();
    answer.map(|review| review["status"].clone())
}

#[tokio::test]
async fn reviews_give_the_verdict_that_a_request_would_get() {
    let pods = |verb: &str, namespace: &str| json!({"resourceAttributes": {"verb": verb, "resource": "pods", "namespace": namespace}});
    let ask = |who: &'static str, spec: Value| async move {
        review("selfsubjectaccessreviews", who, "", spec).await.unwrap()
    };
    assert_eq!(ask("vera", pods("list", "web")).await, json!({"allowed": true}));
    assert_eq!(ask("vera", pods("list", "")).await, json!({"allowed": false}));
    assert_eq!(ask("vera", pods("*", "web")).await, json!({"allowed": false}));
    assert_eq!(
        ask("vera", json!({"resourceAttributes": {"verb": "get", "namespace": "web"}})).await,
        json!({"allowed": false})
    );
    assert_eq!(
        ask("vera", json!({"nonResourceAttributes": {"verb": "get", "path": "/api"}})).await,
        json!({"allowed": true})
    );

    let other = |user: Value, namespace: &str| {
        let mut spec = pods("get", namespace);
        spec.as_object_mut().unwrap().extend(user.as_object().unwrap().clone());
        spec
    };
    for resource in ["subjectaccessreviews", "localsubjectaccessreviews"] {
        let about = |spec| review(resource, "root", "web", spec);
        assert_eq!(about(other(json!({"user": "vera"}), "web")).await.unwrap(), json!({"allowed": true}));
        assert_eq!(about(other(json!({"user": "joe"}), "web")).await.unwrap(), json!({"allowed": false}));
        assert_eq!(
            about(other(json!({"groups": ["system:masters"]}), "web")).await.unwrap(),
            json!({"allowed": true})
        );
        assert_eq!(about(other(json!({}), "web")).await.unwrap_err().code, 422);
        assert_eq!(about(json!({"user": "vera"})).await.unwrap_err().code, 422);
    }
    let elsewhere =
        review("localsubjectaccessreviews", "root", "web", other(json!({"user": "vera"}), "x")).await;
    assert_eq!(elsewhere.unwrap_err().code, 422);
    let path = json!({"user": "vera", "nonResourceAttributes": {"verb": "get", "path": "/api"}});
    assert_eq!(review("localsubjectaccessreviews", "root", "web", path).await.unwrap_err().code, 422);
}

#[tokio::test]
async fn reviews_of_oneself_and_of_tokens() {
    let status = review("selfsubjectreviews", "vera", "", json!({})).await.unwrap();
    assert_eq!(status, json!({"userInfo": {"username": "vera", "groups": ["system:authenticated"]}}));

    let status = review("selfsubjectrulesreviews", "vera", "", json!({"namespace": "web"})).await.unwrap();
    assert_eq!(status["incomplete"], false);
    let rules = status["resourceRules"].as_array().unwrap();
    assert!(rules.iter().any(|rule| rule["resources"] == json!(["selfsubjectreviews"])), "{rules:?}");
    assert!(rules.iter().any(|rule| rule["resources"].as_array().unwrap().contains(&json!("pods/log"))));
    assert!(!status["nonResourceRules"].as_array().unwrap().is_empty());
    assert_eq!(review("selfsubjectrulesreviews", "vera", "", json!({})).await.unwrap_err().code, 400);

    let good =
        review("tokenreviews", "root", "", json!({"token": "good", "audiences": ["vault"]})).await.unwrap();
    let user = json!({"username": "jane", "groups": ["dev", "system:authenticated"]});
    assert_eq!(good, json!({"authenticated": true, "user": user, "audiences": ["vault"]}));
    let bad = review("tokenreviews", "root", "", json!({"token": "bad"})).await.unwrap();
    assert_eq!(bad, json!({"authenticated": false, "user": {}, "error": "[invalid bearer token, expired]"}));
    assert_eq!(review("tokenreviews", "root", "", json!({})).await.unwrap_err().code, 400);
    assert!(reviewer().answer("pods", &UserInfo::default(), "", json!({})).await.is_none());
}
