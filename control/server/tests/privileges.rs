//! Who may do what: the table of `privileges.txt`, and attempts to get more than one has, each by requests to a server
//! with everything that guards it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test's helpers fail as the test does

#[path = "privileges/attacks.rs"]
mod attacks;
mod guarded;

use carrack_server::UserInfo;
use guarded::{Cluster, Setup, named};
use http::Method;
use serde_json::{Value, json};

const TABLE: &str = include_str!("privileges.txt");
const RBAC: &str = "rbac.authorization.k8s.io";
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/web/roles";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/web/rolebindings";
const CLUSTER_ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
const CLUSTER_BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

/// Those who ask: the name in the table, the user's name, and groups beside `system:authenticated`.
const WHO: &[(&str, &str, &[&str])] = &[
    ("root", "root", &["system:masters"]),
    ("carla", "carla", &[]),
    ("jane", "jane", &["developers"]),
    ("vera", "vera", &[]),
    ("ed", "ed", &[]),
    ("ada", "ada", &[]),
    ("reader", "reader", &[]),
    ("lister", "lister", &[]),
    ("keeper", "keeper", &[]),
    ("binder", "binder", &[]),
    ("actor", "actor", &[]),
    ("boss", "boss", &[]),
    ("watcher", "watcher", &[]),
    ("updater", "updater", &[]),
    ("scheduler", "system:kube-scheduler", &[]),
    ("manager", "system:kube-controller-manager", &[]),
    ("kubeproxy", "system:kube-proxy", &[]),
    ("dns", "system:serviceaccount:kube-system:kube-dns", &["system:serviceaccounts"]),
    ("monitor", "prometheus", &["system:monitoring"]),
    ("node", "system:node:n1", &["system:nodes"]),
    ("notanode", "system:node:n1", &["developers"]),
    ("nodegroup", "n1", &["system:nodes"]),
    ("bootstrapper", "system:bootstrap:abcdef", &["system:bootstrappers"]),
    (
        "account",
        "system:serviceaccount:web:default",
        &["system:serviceaccounts", "system:serviceaccounts:web"],
    ),
    ("deployments", "system:serviceaccount:kube-system:deployment-controller", &[]),
    ("collector", "system:serviceaccount:kube-system:generic-garbage-collector", &[]),
    ("namespaces", "system:serviceaccount:kube-system:namespace-controller", &[]),
    ("aggregation", "system:serviceaccount:kube-system:clusterrole-aggregation-controller", &[]),
    ("certificates", "system:serviceaccount:kube-system:certificate-controller", &[]),
    ("cleaner", "system:serviceaccount:kube-system:token-cleaner", &[]),
    ("signer", "system:serviceaccount:kube-system:bootstrap-signer", &[]),
];

fn who(name: &str) -> UserInfo {
    if name == "anonymous" {
        let groups = vec!["system:unauthenticated".to_owned()];
        return UserInfo { name: "system:anonymous".into(), groups, ..UserInfo::default() };
    }
    let found = WHO.iter().find(|(short, ..)| *short == name);
    let (_, name, groups) = found.unwrap_or_else(|| panic!("the table has no {name}"));
    UserInfo::new(*name, groups.iter().copied())
}

/// The attributes of a SubjectAccessReview for a line of the table.
fn question(text: &str) -> Value {
    let mut words = text.split(' ');
    let (verb, what) = (words.next().unwrap(), words.next().unwrap());
    if what.starts_with('/') {
        return json!({"nonResourceAttributes": {"verb": verb, "path": what}});
    }
    let (what, name) = what.split_once(':').unwrap_or((what, ""));
    let mut parts: Vec<&str> = what.split('/').collect();
    let old_groups = ["apps", "batch", "autoscaling", "policy"];
    let group = if parts[0].contains('.') || old_groups.contains(&parts[0]) { parts.remove(0) } else { "" };
    let mut asked = json!({
        "verb": verb, "group": group, "resource": parts[0], "subresource": parts.get(1).unwrap_or(&""),
        "name": name, "version": "v1",
    });
    for word in words {
        match word.split_at(1) {
            ("@", namespace) => asked["namespace"] = json!(namespace),
            ("?", selector) => asked["fieldSelector"] = json!({ "rawSelector": selector }),
            _ => panic!("{text}"),
        }
    }
    json!({ "resourceAttributes": asked })
}

fn role(kind: &str, name: &str, rules: Value) -> Value {
    json!({"apiVersion": format!("{RBAC}/v1"), "kind": kind, "metadata": {"name": name}, "rules": rules})
}

fn binding(kind: &str, name: &str, role: (&str, &str), user: &str) -> Value {
    json!({
        "apiVersion": format!("{RBAC}/v1"), "kind": kind, "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": role.0, "name": role.1},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": user}],
    })
}

fn rule(verbs: &[&str], group: &str, resources: &[&str], names: &[&str]) -> Value {
    json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "resourceNames": names})
}

/// A cluster with people in it, and two nodes with a pod each.
async fn furnished() -> Cluster {
    let cluster = Cluster::start(Setup::default()).await;
    let root = |method: &'static str, path: String, body: Value| {
        let cluster = &cluster;
        async move { cluster.root(method, &path, body).await }
    };
    let core = "/api/v1/namespaces/web";
    root("POST", "/api/v1/namespaces".into(), named("Namespace", "web")).await;
    for account in ["default", "runner"] {
        root("POST", format!("{core}/serviceaccounts"), named("ServiceAccount", account)).await;
    }
    for name in ["n1", "n2"] {
        root("POST", "/api/v1/nodes".into(), named("Node", name)).await;
    }
    let roles = [
        (
            "reader",
            json!([rule(&["get"], "", &["pods/exec"], &[]), rule(&["get"], "", &["secrets"], &["named"])]),
        ),
        ("lister", json!([rule(&["list"], "", &["secrets"], &[])])),
        ("keeper", json!([rule(&["create", "update", "escalate"], RBAC, &["roles"], &[])])),
        (
            "watcher",
            json!([rule(&["get", "list", "watch", "deletecollection"], "", &["secrets"], &["named"])]),
        ),
        ("updater", json!([rule(&["update"], "coordination.k8s.io", &["leases"], &[])])),
        (
            "binder",
            json!([
                rule(&["create"], RBAC, &["rolebindings"], &[]),
                rule(&["bind"], RBAC, &["clusterroles"], &["edit"])
            ]),
        ),
    ];
    for (name, rules) in roles {
        root("POST", ROLES.into(), role("Role", name, rules)).await;
        root("POST", BINDINGS.into(), binding("RoleBinding", name, ("Role", name), name)).await;
    }
    for (user, name) in [("vera", "view"), ("ed", "edit"), ("ada", "admin"), ("boss", "cluster-admin")] {
        root("POST", BINDINGS.into(), binding("RoleBinding", user, ("ClusterRole", name), user)).await;
    }
    let acting = json!([
        rule(&["impersonate"], "", &["users"], &["vera"]),
        rule(&["impersonate"], "", &["groups"], &["developers"]),
        rule(&["impersonate"], "authentication.k8s.io", &["uids"], &["7"]),
        rule(&["impersonate"], "authentication.k8s.io", &["userextras/scope"], &["a"]),
    ]);
    root("POST", CLUSTER_ROLES.into(), role("ClusterRole", "actor", acting)).await;
    for (user, name) in [("carla", "cluster-admin"), ("actor", "actor")] {
        let bound = binding("ClusterRoleBinding", user, ("ClusterRole", name), user);
        root("POST", CLUSTER_BINDINGS.into(), bound).await;
    }
    for (name, node) in [("mine", "n1"), ("theirs", "n2")] {
        let mut pod = named("Pod", name);
        pod["spec"] = json!({
            "nodeName": node, "serviceAccountName": "runner", "automountServiceAccountToken": false,
            "containers": [{"name": "c", "image": "i"}],
        });
        if name == "mine" {
            pod["spec"]["volumes"] = json!([
                {"name": "a", "secret": {"secretName": "key"}},
                {"name": "b", "configMap": {"name": "settings"}},
                {"name": "c", "persistentVolumeClaim": {"claimName": "claim"}},
                {"name": "d", "projected": {"sources": [
                    {"serviceAccountToken": {"path": "token"}},
                    {"serviceAccountToken": {"path": "other", "audience": "vault"}},
                ]}},
            ]);
        }
        root("POST", format!("{core}/pods"), pod).await;
    }
    cluster
}

#[tokio::test]
async fn everybody_may_do_what_the_table_says_and_no_more() {
    let cluster = furnished().await;
    let mut asking = String::new();
    let (mut rows, mut wrong) = (0, Vec::new());
    for line in TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(section) = line.strip_prefix('[') {
            asking = section.trim_end_matches(']').to_owned();
            continue;
        }
        let (sign, text) = line.split_once(' ').unwrap();
        let user = who(&asking);
        let mut spec = question(text);
        spec["user"] = json!(user.name);
        spec["groups"] = json!(user.groups);
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec,
        });
        let answer = cluster.root("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review).await;
        rows += 1;
        if answer["status"]["allowed"] != json!(sign == "+") {
            wrong.push(format!("[{asking}] {line}: {}", answer["status"]));
        }
    }
    assert!(wrong.is_empty(), "{} of {rows} rows are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(rows >= 150, "{rows}");
}

/// Who asks, for what, with which headers and body, and the code that answers.
type Attempt = (&'static str, &'static str, String, &'static [(&'static str, &'static str)], Value, u16);

async fn attempt(cluster: &Cluster, attempts: Vec<Attempt>) {
    let mut wrong = Vec::new();
    for (asking, method, path, headers, body, code) in attempts {
        let (found, answer) = cluster.ask(&who(asking), method, &path, headers, &body).await;
        if found != code {
            wrong.push(format!(
                "[{asking}] {method} {path} {headers:?} {body}: {found}, not {code}: {answer}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn nobody_grants_what_he_has_not() {
    let cluster = furnished().await;
    let all = || json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]);
    let pods = || json!([rule(&["get"], "", &["pods"], &[])]);
    let bind = |name: &str, kind: &str, role: &str| binding("RoleBinding", name, (kind, role), "mallory");
    let mut aggregated = role("ClusterRole", "all", json!(null));
    aggregated["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]});
    let label = json!({"metadata": {"labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}}});
    let no = &[][..];
    attempt(
        &cluster,
        vec![
            ("ada", "POST", ROLES.into(), no, role("Role", "few", pods()), 201),
            ("ada", "POST", ROLES.into(), no, role("Role", "many", all()), 403),
            ("ada", "PATCH", format!("{ROLES}/few"), no, json!({"rules": all()}), 403),
            ("ada", "PUT", format!("{ROLES}/few"), no, role("Role", "few", all()), 403),
            ("ada", "POST", BINDINGS.into(), no, bind("a", "Role", "few"), 201),
            ("ada", "POST", BINDINGS.into(), no, bind("b", "ClusterRole", "admin"), 201),
            ("ada", "POST", BINDINGS.into(), no, bind("c", "ClusterRole", "cluster-admin"), 403),
            ("ada", "POST", BINDINGS.into(), no, bind("d", "ClusterRole", "system:node"), 403),
            ("ada", "POST", BINDINGS.into(), no, bind("e", "ClusterRole", "not-there"), 404),
            ("ada", "POST", CLUSTER_ROLES.into(), no, aggregated.clone(), 403),
            ("ed", "POST", ROLES.into(), no, role("Role", "mine", pods()), 403),
            ("vera", "POST", BINDINGS.into(), no, bind("f", "ClusterRole", "view"), 403),
            // Who may escalate writes any role, but cannot bind it.
            ("keeper", "POST", ROLES.into(), no, role("Role", "kept", all()), 201),
            ("keeper", "POST", BINDINGS.into(), no, bind("g", "Role", "kept"), 403),
            // Who may bind one role binds that one alone.
            ("binder", "POST", BINDINGS.into(), no, bind("h", "ClusterRole", "edit"), 201),
            ("binder", "POST", BINDINGS.into(), no, bind("i", "ClusterRole", "admin"), 403),
            ("manager", "POST", CLUSTER_ROLES.into(), no, role("ClusterRole", "x", pods()), 403),
            // Labels that make a role part of others are for those who may write ClusterRoles.
            ("ada", "PATCH", format!("{CLUSTER_ROLES}/actor"), no, label.clone(), 403),
            ("carla", "POST", CLUSTER_ROLES.into(), no, aggregated, 201),
            ("carla", "PATCH", format!("{CLUSTER_ROLES}/actor"), no, label, 200),
        ],
    )
    .await;
}

#[tokio::test]
async fn nobody_becomes_another_without_permission() {
    let cluster = furnished().await;
    let me = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let review = || json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let as_who = |asking: &'static str, headers: &'static [(&'static str, &'static str)], code: u16| {
        (asking, "POST", me.to_owned(), headers, review(), code)
    };
    attempt(
        &cluster,
        vec![
            as_who("root", &[("impersonate-user", "x"), ("impersonate-group", "system:masters")], 201),
            as_who("jane", &[("impersonate-user", "root")], 403),
            as_who("jane", &[("impersonate-user", "jane")], 403),
            as_who("jane", &[("impersonate-group", "system:masters")], 400),
            as_who("ed", &[("impersonate-user", "system:serviceaccount:web:runner")], 201),
            as_who("ed", &[("impersonate-user", "system:serviceaccount:kube-system:default")], 403),
            as_who("ed", &[("impersonate-user", "system:serviceaccount:web:a:b")], 403),
            as_who(
                "ed",
                &[
                    ("impersonate-user", "system:serviceaccount:web:runner"),
                    ("impersonate-group", "system:masters"),
                ],
                403,
            ),
            as_who("actor", &[("impersonate-user", "vera")], 201),
            as_who("actor", &[("impersonate-user", "ada")], 403),
            as_who("actor", &[("impersonate-user", "vera"), ("impersonate-group", "developers")], 201),
            as_who("actor", &[("impersonate-user", "vera"), ("impersonate-group", "system:nodes")], 403),
            as_who("actor", &[("impersonate-user", "vera"), ("impersonate-uid", "7")], 201),
            as_who("actor", &[("impersonate-user", "vera"), ("impersonate-uid", "8")], 403),
            as_who("actor", &[("impersonate-user", "vera"), ("impersonate-extra-scope", "a")], 201),
            as_who("actor", &[("impersonate-user", "vera"), ("impersonate-extra-scope", "b")], 403),
            as_who("actor", &[("impersonate-user", "vera"), ("impersonate-extra-other", "a")], 403),
            as_who("node", &[("impersonate-user", "system:node:n2")], 403),
        ],
    )
    .await;
    let headers = [("impersonate-group", "a"), ("impersonate-uid", "7"), ("impersonate-extra-scope", "b")];
    let (code, answer) = cluster.ask(&who("actor"), "POST", me, &headers, &review()).await;
    assert_eq!(code, 400);
    assert_eq!(
        answer["message"],
        "requested [{Group  a    } {UserExtra  b  authentication.k8s.io/v1  scope} \
         {UID  7  authentication.k8s.io/v1  }] without impersonating a user"
    );
    let headers = [
        ("impersonate-user", "vera"),
        ("impersonate-group", "developers"),
        ("impersonate-uid", "7"),
        ("impersonate-extra-scope", "a"),
    ];
    let (_, answer) = cluster.ask(&who("actor"), "POST", me, &headers, &review()).await;
    let user = &answer["status"]["userInfo"];
    assert_eq!((&user["username"], &user["uid"]), (&json!("vera"), &json!("7")));
    assert_eq!(user["groups"], json!(["developers", "system:authenticated"]));
    assert_eq!(user["extra"], json!({"scope": ["a"]}));
}

/// A request for a certificate of `user`.
fn signing(name: &str, signer: &str, user: &str, groups: &[&str]) -> Value {
    use base64::Engine as _;
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, user);
    for group in groups {
        params.distinguished_name.push(rcgen::DnType::OrganizationName, *group);
    }
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    let mut object = named("CertificateSigningRequest", name);
    object["apiVersion"] = json!("certificates.k8s.io/v1");
    object["spec"] = json!({
        "signerName": signer, "usages": ["client auth"],
        "request": base64::engine::general_purpose::STANDARD.encode(pem),
    });
    object
}

#[tokio::test]
async fn tokens_and_certificates_lead_nowhere_else() {
    let cluster = furnished().await;
    let token = "/api/v1/namespaces/web/serviceaccounts/runner/token";
    let pod = |name: &'static str| {
        let cluster = &cluster;
        async move {
            let pod = cluster.root("GET", &format!("/api/v1/namespaces/web/pods/{name}"), json!(null)).await;
            json!({"kind": "Pod", "apiVersion": "v1", "name": name, "uid": pod["metadata"]["uid"]})
        }
    };
    let (mine, theirs) = (pod("mine").await, pod("theirs").await);
    let request = |bound: Option<&Value>| json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"boundObjectRef": bound}});
    let client = "kubernetes.io/kube-apiserver-client";
    let no = &[][..];
    attempt(
        &cluster,
        vec![
            ("jane", "POST", token.into(), no, request(None), 403),
            ("vera", "POST", token.into(), no, request(None), 403),
            ("ed", "POST", token.into(), no, request(None), 201),
            ("node", "POST", token.into(), no, request(Some(&mine)), 201),
            ("node", "POST", token.into(), no, request(Some(&theirs)), 403),
            ("node", "POST", token.into(), no, request(None), 403),
            (
                "carla",
                "POST",
                REQUESTS.into(),
                no,
                signing("masters", client, "mallory", &["system:masters"]),
                403,
            ),
            (
                "root",
                "POST",
                REQUESTS.into(),
                no,
                signing("masters", client, "mallory", &["system:masters"]),
                403,
            ),
            ("carla", "POST", REQUESTS.into(), no, signing("dev", client, "mallory", &["developers"]), 201),
            ("jane", "POST", REQUESTS.into(), no, signing("jane", client, "mallory", &[]), 403),
            ("node", "POST", REQUESTS.into(), no, signing("node", client, "mallory", &[]), 201),
            ("node", "PATCH", format!("{REQUESTS}/node/approval"), no, json!({"status": {}}), 403),
            ("node", "POST", "/api/v1/nodes".into(), no, named("Node", "n3"), 403),
            (
                "node",
                "PATCH",
                "/api/v1/nodes/n2".into(),
                no,
                json!({"metadata": {"labels": {"a": "b"}}}),
                403,
            ),
            ("node", "DELETE", "/api/v1/nodes/n1".into(), no, json!(null), 403),
            ("node", "GET", "/api/v1/pods".into(), no, json!(null), 403),
            ("node", "GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1".into(), no, json!(null), 200),
            ("node", "GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dn2".into(), no, json!(null), 403),
            ("node", "GET", "/api/v1/pods?fieldSelector=spec.nodeName!%3Dn1".into(), no, json!(null), 403),
            ("node", "GET", "/api/v1/namespaces/web/secrets?watch=1".into(), no, json!(null), 403),
            ("reader", "GET", "/api/v1/namespaces/web/secrets/other".into(), no, json!(null), 403),
            ("reader", "GET", "/api/v1/namespaces/web/secrets/named".into(), no, json!(null), 404),
            (
                "reader",
                "POST",
                "/api/v1/namespaces/web/pods/mine/exec?command=sh".into(),
                no,
                json!(null),
                403,
            ),
            ("lister", "GET", "/api/v1/namespaces/web/secrets?watch=1".into(), no, json!(null), 403),
            ("lister", "GET", "/api/v1/namespaces/web/secrets".into(), no, json!(null), 200),
        ],
    )
    .await;
}

#[tokio::test]
async fn who_shows_nothing_gets_nothing_but_health_and_version() {
    let cluster = furnished().await;
    let served = cluster.root("GET", "/", json!(null)).await;
    let mut paths: Vec<String> =
        served["paths"].as_array().unwrap().iter().map(|p| p.as_str().unwrap().to_owned()).collect();
    let more = [
        "/",
        "/api/v1/namespaces",
        "/api/v1/namespaces/web/secrets",
        "/api/v1/nodes/n1/proxy/",
        "/api/v1/pods?watch=1",
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        "/.well-known/openid-configuration",
        "/logs",
        "/debug/pprof",
        "/nonsense",
        "//api",
        "/healthz/../api",
        "/%68ealthz",
        "/api/v1/namespaces/kube-public/configmaps/cluster-info",
    ];
    paths.extend(more.map(str::to_owned));
    let open = |path: &str| ["/healthz", "/livez", "/readyz", "/version"].contains(&path);
    for path in &paths {
        for method in [Method::GET, Method::POST] {
            let (code, _) = cluster.over_tls(None, method.clone(), path, &[]).await.unwrap();
            let fits = match (open(path), &method) {
                (true, &Method::GET) => code == 200 || (path == "/readyz" && code == 500),
                (true, _) => code == 403,
                // Whatever looks like a path of health is judged, and refused.
                _ => code == 401 || (path.starts_with("/healthz") && code == 403),
            };
            assert!(fits, "{method} {path}: {code}");
        }
    }
    assert!(paths.len() > 40, "{paths:?}");
}

#[tokio::test]
async fn the_policy_is_put_right_at_start() {
    let cluster = furnished().await;
    // What somebody broke is put right, unless an administrator keeps it.
    let clear = json!({"rules": []});
    cluster.root("PATCH", &format!("{CLUSTER_ROLES}/system%3Akube-dns"), clear.clone()).await;
    let kept = json!({"rules": [], "metadata": {"annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}}});
    cluster.root("PATCH", &format!("{CLUSTER_ROLES}/system%3Aheapster"), kept).await;
    cluster.root("DELETE", &format!("{CLUSTER_BINDINGS}/system%3Adiscovery"), json!(null)).await;
    cluster.api.start().await.unwrap();
    let rules = |name: &'static str| {
        let cluster = &cluster;
        async move {
            let role = cluster.root("GET", &format!("{CLUSTER_ROLES}/{name}"), json!(null)).await;
            role["rules"].as_array().map_or(0, Vec::len)
        }
    };
    assert_eq!(rules("system%3Akube-dns").await, 1);
    assert_eq!(rules("system%3Aheapster").await, 0);
    cluster.root("GET", &format!("{CLUSTER_BINDINGS}/system%3Adiscovery"), json!(null)).await;
}
