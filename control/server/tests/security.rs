//! The whole way in over TLS: keys, identities, roles, admission, as clients meet them.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test's helpers fail as the test does

mod guarded;

use std::path::PathBuf;
use std::process::Stdio;

use carrack_server::UserInfo;
use carrack_server::pki::Pki;
use guarded::{Cluster, Setup, named, pki};
use http::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

async fn cluster() -> Cluster {
    Cluster::start(Setup::default()).await
}

async fn with_token(cluster: &Cluster, token: &str, path: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    cluster.over_tls(None, Method::GET, path, &[("authorization", &bearer)]).await.unwrap().0
}

/// A token for the account `web/builder`.
async fn token(cluster: &Cluster, spec: Value) -> String {
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    let answer = cluster.root("POST", "/api/v1/namespaces/web/serviceaccounts/builder/token", request).await;
    answer["status"]["token"].as_str().unwrap().to_owned()
}

/// A namespace `web` with the accounts `default` and `builder`.
async fn furnish(cluster: &Cluster) {
    cluster.root("POST", "/api/v1/namespaces", named("Namespace", "web")).await;
    for name in ["default", "builder"] {
        let account = named("ServiceAccount", name);
        cluster.root("POST", "/api/v1/namespaces/web/serviceaccounts", account).await;
    }
}

/// Lets `user` have the ClusterRole in the namespace `web`.
async fn bind(cluster: &Cluster, user: &str, role: &str) {
    cluster.root("POST", BINDINGS, binding(user, "ClusterRole", role)).await;
}

const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/web/rolebindings";
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/web/roles";

fn binding(user: &str, kind: &str, role: &str) -> Value {
    let group = "rbac.authorization.k8s.io";
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": format!("{user}-{role}")},
        "roleRef": {"apiGroup": group, "kind": kind, "name": role},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    })
}

fn pod(name: &str, spec: Value) -> Value {
    let mut pod = named("Pod", name);
    pod["spec"] = spec;
    pod
}

fn containers() -> Value {
    json!({"containers": [{"name": "c", "image": "busybox"}]})
}

fn user(name: &str) -> UserInfo {
    UserInfo::new(name, [])
}

fn node(name: &str) -> UserInfo {
    UserInfo::new(format!("system:node:{name}"), ["system:nodes"])
}

#[tokio::test]
async fn who_shows_nothing_sees_nothing_but_health() {
    let cluster = cluster().await;
    for (path, code) in [
        ("/healthz", 200),
        ("/livez", 200),
        ("/version", 200),
        ("/", 401),
        ("/api", 401),
        ("/api/v1/namespaces", 401),
        ("/openid/v1/jwks", 401),
        ("/metrics", 401),
        ("/nonsense", 401),
    ] {
        let (found, body) = cluster.over_tls(None, Method::GET, path, &[]).await.unwrap();
        assert_eq!(found, code, "{path}: {body}");
    }
    let (code, body) =
        cluster.over_tls(None, Method::GET, "/api", &[("impersonate-user", "root")]).await.unwrap();
    assert_eq!((code, body["reason"].as_str()), (401, Some("Unauthorized")));
}

#[tokio::test]
async fn certificates_open_the_door_and_forged_ones_do_not() {
    let cluster = cluster().await;
    let hour = time::Duration::hours(1);
    let masters = ["system:masters".to_owned()];
    let root = cluster.pki.sign_client("root", &masters, hour).unwrap();
    let (code, list) = cluster.over_tls(Some(&root), Method::GET, "/api/v1/namespaces", &[]).await.unwrap();
    assert_eq!(code, 200);
    assert!(list["items"].as_array().unwrap().len() >= 4, "{list}");
    let jane = cluster.pki.sign_client("jane", &[], hour).unwrap();
    let (code, status) = cluster.over_tls(Some(&jane), Method::GET, "/api/v1/namespaces", &[]).await.unwrap();
    let words = "namespaces is forbidden: User \"jane\" cannot list resource \"namespaces\" in API group \"\" at the cluster scope";
    assert_eq!((code, status["message"].as_str()), (403, Some(words)));

    let elsewhere = tempfile::tempdir().unwrap();
    let forged = pki(elsewhere.path()).sign_client("root", &masters, hour).unwrap();
    let expired = cluster.pki.sign_client("root", &masters, -time::Duration::minutes(1)).unwrap();
    for (what, material) in
        [("forged", forged), ("expired", expired), ("serving", cluster.pki.node_serving_tls())]
    {
        let refused = cluster.over_tls(Some(&material), Method::GET, "/api/v1/namespaces", &[]).await;
        assert!(refused.is_err(), "{what}: {refused:?}");
    }
    // A good certificate does not make up for a bad token... nor does a bad token spoil it: certificates come first.
    let both = cluster
        .over_tls(Some(&root), Method::GET, "/api", &[("authorization", "Bearer x.y.z")])
        .await
        .unwrap();
    assert_eq!(both.0, 200);
}

#[tokio::test]
async fn tokens_of_accounts_work_until_what_they_stand_for_is_gone() {
    let cluster = cluster().await;
    furnish(&cluster).await;
    bind(&cluster, "system:serviceaccount:web:builder", "view").await;
    let pods = "/api/v1/namespaces/web/pods";
    cluster
        .root(
            "POST",
            pods,
            pod("a", json!({"serviceAccountName": "builder", "containers": [{"name": "c", "image": "i"}]})),
        )
        .await;
    let free = token(&cluster, json!({})).await;
    let bound =
        token(&cluster, json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "a"}})).await;
    let elsewhere = token(&cluster, json!({"audiences": ["vault"]})).await;
    for (token, code) in [(&free, 200), (&bound, 200), (&elsewhere, 401)] {
        assert_eq!(with_token(&cluster, token, pods).await, code);
    }
    assert_eq!(with_token(&cluster, "rubbish", "/healthz").await, 401, "a bad token is no token");
    assert_eq!(with_token(&cluster, &free, "/api/v1/namespaces/web/secrets").await, 403);
    assert_eq!(
        with_token(&cluster, &free, "/openid/v1/jwks").await,
        200,
        "accounts may check tokens themselves"
    );

    // The review says what a request would meet.
    let reviewed = async |token: &str, audiences: Value| {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token, "audiences": audiences}});
        cluster.root("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review).await["status"].clone()
    };
    let status = reviewed(&bound, json!([])).await;
    assert_eq!(status["user"]["username"], "system:serviceaccount:web:builder");
    assert_eq!(status["user"]["extra"]["authentication.kubernetes.io/pod-name"], json!(["a"]));
    assert_eq!(reviewed(&elsewhere, json!(["vault"])).await["authenticated"], true);
    assert_ne!(reviewed(&elsewhere, json!([])).await["authenticated"], true);

    let root = UserInfo::new("root", ["system:masters"]);
    let now = json!({"gracePeriodSeconds": 0});
    let (code, answer) = cluster.ask(&root, "DELETE", &format!("{pods}/a"), &[], &now).await;
    assert_eq!(code, 200, "{answer}");
    assert_eq!(with_token(&cluster, &bound, pods).await, 401);
    assert_eq!(with_token(&cluster, &free, pods).await, 200);
    cluster.root("DELETE", "/api/v1/namespaces/web/serviceaccounts/builder", json!({})).await;
    assert_eq!(with_token(&cluster, &free, pods).await, 401);
}

#[tokio::test]
async fn what_is_granted_counts_at_once_and_what_is_taken_is_gone() {
    let cluster = cluster().await;
    furnish(&cluster).await;
    let list = |name: String| {
        let cluster = &cluster;
        async move { cluster.ask(&user(&name), "GET", "/api/v1/namespaces/web/pods", &[], &Value::Null).await.0 }
    };
    for round in 0..20 {
        let name = format!("user-{round}");
        assert_eq!(list(name.clone()).await, 403);
        bind(&cluster, &name, "view").await;
        assert_eq!(list(name.clone()).await, 200, "round {round}");
    }
    cluster.root("DELETE", &format!("{BINDINGS}/user-0-view"), json!({})).await;
    let gone = async {
        while list("user-0".into()).await != 403 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), gone).await.expect("the binding still counts");
}

#[tokio::test]
async fn no_way_of_writing_roles_and_bindings_gives_more_than_one_has() {
    let cluster = cluster().await;
    furnish(&cluster).await;
    bind(&cluster, "ada", "admin").await;
    let write = |method: Method, path: String, body: Value| {
        let cluster = &cluster;
        async move { cluster.ask(&user("ada"), method.as_str(), &path, &[], &body).await }
    };
    let role = |rules: Value| json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"}, "rules": rules});
    let few = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
    let all = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]);
    let (post, patch, put) = (Method::POST, Method::PATCH, Method::PUT);
    assert_eq!(write(post.clone(), ROLES.into(), role(few)).await.0, 201);
    let (code, status) =
        write(post.clone(), BINDINGS.into(), binding("ada", "ClusterRole", "cluster-admin")).await;
    assert_eq!(code, 403);
    assert!(status["message"].as_str().unwrap().contains("not currently held"), "{status}");
    let (code, status) = write(patch, format!("{ROLES}/r"), json!({"rules": all})).await;
    assert_eq!(code, 403, "{status}");
    assert_eq!(write(put, format!("{ROLES}/r"), role(all.clone())).await.0, 403);
    assert_eq!(write(post.clone(), ROLES.into(), role(all)).await.0, 403);
    let own = write(post, BINDINGS.into(), binding("bob", "Role", "r")).await;
    assert_eq!(own.0, 201, "{}", own.1);
    assert_eq!(
        cluster.ask(&user("bob"), "GET", "/api/v1/namespaces/web/pods/x", &[], &Value::Null).await.0,
        404
    );
}

#[tokio::test]
async fn acting_as_somebody_else_takes_permission_and_gives_their_verdict() {
    let cluster = cluster().await;
    furnish(&cluster).await;
    bind(&cluster, "vera", "view").await;
    let hour = time::Duration::hours(1);
    let root = cluster.pki.sign_client("root", &["system:masters".into()], hour).unwrap();
    let vera = cluster.pki.sign_client("vera", &[], hour).unwrap();
    let ask = |certificate, headers: &'static [(&'static str, &'static str)], path: &'static str| {
        let cluster = &cluster;
        async move { cluster.over_tls(Some(certificate), Method::GET, path, headers).await.unwrap() }
    };
    let pods = "/api/v1/namespaces/web/pods";
    assert_eq!(ask(&root, &[("impersonate-user", "vera")], pods).await.0, 200);
    let (code, status) = ask(&root, &[("impersonate-user", "vera")], "/api/v1/nodes").await;
    assert!(
        code == 403 && status["message"].as_str().unwrap().contains("User \"vera\" cannot list"),
        "{status}"
    );
    assert_eq!(
        ask(&root, &[("impersonate-user", "x"), ("impersonate-group", "system:masters")], "/api/v1/nodes")
            .await
            .0,
        200
    );
    let (code, status) = ask(&vera, &[("impersonate-user", "root")], pods).await;
    let words = "users \"root\" is forbidden: User \"vera\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope";
    assert_eq!((code, status["message"].as_str()), (403, Some(words)));
    assert_eq!(ask(&vera, &[("impersonate-group", "system:masters")], pods).await.0, 400);
}

#[tokio::test]
async fn pods_come_out_with_identity_tolerations_and_priority() {
    let cluster = cluster().await;
    furnish(&cluster).await;
    let pods = "/api/v1/namespaces/web/pods";
    let made = cluster.root("POST", pods, pod("a", containers())).await;
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    assert_eq!(made["spec"]["priority"], 0);
    assert_eq!(made["spec"]["tolerations"].as_array().unwrap().len(), 2);
    let sources = &made["spec"]["volumes"][0]["projected"]["sources"];
    assert_eq!(sources[0]["serviceAccountToken"]["expirationSeconds"], 3607);
    let mount = &made["spec"]["containers"][0]["volumeMounts"][0];
    assert_eq!(mount["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");

    let root = || UserInfo::new("root", ["system:masters"]);
    let ghost = pod("b", json!({"serviceAccountName": "ghost", "containers": [{"name": "c", "image": "i"}]}));
    let (code, status) = cluster.ask(&root(), "POST", pods, &[], &ghost).await;
    let words = "pods \"b\" is forbidden: error looking up service account web/ghost: serviceaccount \"ghost\" not found";
    assert_eq!((code, status["message"].as_str()), (403, Some(words)));
    let (code, status) =
        cluster.ask(&root(), "POST", "/api/v1/namespaces/nowhere/pods", &[], &pod("a", containers())).await;
    assert_eq!((code, status["message"].as_str()), (404, Some("namespaces \"nowhere\" not found")));
    let (code, status) =
        cluster.ask(&root(), "DELETE", "/api/v1/namespaces/kube-system", &[], &Value::Null).await;
    let words = "namespaces \"kube-system\" is forbidden: this namespace may not be deleted";
    assert_eq!((code, status["message"].as_str()), (403, Some(words)));
    assert_eq!(cluster.ask(&root(), "DELETE", "/api/v1/namespaces/web", &[], &Value::Null).await.0, 200);
    let (code, status) = cluster.ask(&root(), "POST", pods, &[], &pod("c", containers())).await;
    assert_eq!(code, 403);
    assert!(status["message"].as_str().unwrap().ends_with("because it is being terminated"), "{status}");
}

#[tokio::test]
async fn nodes_do_their_work_and_keep_off_each_others() {
    let cluster = cluster().await;
    furnish(&cluster).await;
    let pods = "/api/v1/namespaces/web/pods";
    for (name, on) in [("mine", "n"), ("theirs", "m")] {
        let mut spec = containers();
        spec["nodeName"] = json!(on);
        cluster.root("POST", pods, pod(name, spec)).await;
    }
    let uid = async |name: &str| {
        let pod = cluster.root("GET", &format!("{pods}/{name}"), json!({})).await;
        pod["metadata"]["uid"].as_str().unwrap().to_owned()
    };
    let ask = |method: Method, path: String, body: Value| {
        let cluster = &cluster;
        async move { cluster.ask(&node("n"), method.as_str(), &path, &[], &body).await }
    };
    let status = json!({"status": {"phase": "Running"}});
    let token = |name: &str, uid: &str| {
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid}}})
    };
    let account = "/api/v1/namespaces/web/serviceaccounts/default/token";
    let (mine, theirs) = (uid("mine").await, uid("theirs").await);
    let cases = [
        ("register", Method::POST, "/api/v1/nodes".into(), named("Node", "n"), 201),
        ("register another", Method::POST, "/api/v1/nodes".into(), named("Node", "m"), 403),
        ("own status", Method::PATCH, "/api/v1/nodes/n/status".into(), json!({"status": {"phase": ""}}), 200),
        (
            "own taints",
            Method::PATCH,
            "/api/v1/nodes/n".into(),
            json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}),
            403,
        ),
        (
            "reserved label",
            Method::PATCH,
            "/api/v1/nodes/n".into(),
            json!({"metadata": {"labels": {"node-restriction.kubernetes.io/a": "b"}}}),
            403,
        ),
        ("delete itself", Method::DELETE, "/api/v1/nodes/n".into(), json!({}), 403),
        ("status of its pod", Method::PATCH, format!("{pods}/mine/status"), status.clone(), 200),
        ("status of a foreign pod", Method::PATCH, format!("{pods}/theirs/status"), status, 403),
        ("token for its pod", Method::POST, account.into(), token("mine", &mine), 201),
        ("token for a foreign pod", Method::POST, account.into(), token("theirs", &theirs), 403),
        (
            "token for nobody",
            Method::POST,
            account.into(),
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}),
            403,
        ),
        (
            "delete a foreign pod",
            Method::DELETE,
            format!("{pods}/theirs"),
            json!({"gracePeriodSeconds": 0}),
            403,
        ),
        ("delete its pod", Method::DELETE, format!("{pods}/mine"), json!({"gracePeriodSeconds": 0}), 200),
        ("list secrets", Method::GET, "/api/v1/secrets".into(), json!({}), 403),
        ("list all pods", Method::GET, "/api/v1/pods".into(), json!({}), 403),
        ("list its pods", Method::GET, "/api/v1/pods?fieldSelector=spec.nodeName%3Dn".into(), json!({}), 200),
    ];
    for (what, method, path, body, code) in cases {
        let (found, answer) = ask(method, path, body).await;
        assert_eq!(found, code, "{what}: {answer}");
    }
}

/// kubectl, where there is one.
fn kubectl() -> Option<PathBuf> {
    let found = std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|dir| dir.join("kubectl"))
        .find(|path| path.exists());
    if found.is_none() {
        eprintln!("kubectl is not installed: what it does is not tested");
    }
    found
}

#[tokio::test]
async fn kubectl_logs_in_asks_and_gets_answers() {
    let Some(kubectl) = kubectl() else { return };
    let cluster = cluster().await;
    let kubeconfig = cluster.dir.path().join("admin.kubeconfig");
    let server = format!("https://{}", cluster.address);
    Pki::write_secret(&kubeconfig, &cluster.pki.admin_kubeconfig(&server, &[])).unwrap();
    let run = async |arguments: &str, input: &Value| {
        let mut child = tokio::process::Command::new(&kubectl)
            .args(arguments.split(' '))
            .env("KUBECONFIG", &kubeconfig)
            .env("HOME", cluster.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).await.unwrap();
        let output = child.wait_with_output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let ok = async |arguments: &str, input: Value| {
        let (success, out, error) = run(arguments, &input).await;
        assert!(success, "kubectl {arguments}: {out} {error}");
        out
    };
    ok("apply -f -", named("Namespace", "web")).await;
    ok("apply -n web -f -", named("ServiceAccount", "builder")).await;
    ok("apply -n web -f -", binding("system:serviceaccount:web:builder", "ClusterRole", "edit")).await;
    assert!(ok("get clusterrole,clusterrolebinding", Value::Null).await.contains("system:kube-scheduler"));

    // Reviews as kubectl sends them raw: its own commands for them speak protobuf.
    let raw = async |path: &str, object: Value, more: &str| {
        serde_json::from_str::<Value>(&ok(&format!("create --raw {path} -f -{more}"), object).await).unwrap()
    };
    let who = " --as=system:serviceaccount:web:builder";
    let authentication = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let me = raw(authentication, review.clone(), "").await;
    assert_eq!(me["status"]["userInfo"]["username"], "kubernetes-admin");
    assert!(me["metadata"]["creationTimestamp"].is_string(), "{me}");
    let other = raw(authentication, review, who).await;
    assert_eq!(other["status"]["userInfo"]["groups"][1], "system:serviceaccounts:web");
    for (namespace, allowed) in [("web", true), ("default", false)] {
        let attributes = json!({"verb": "create", "resource": "pods", "namespace": namespace});
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes}});
        let answer = raw("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, who).await;
        assert_eq!(answer["status"]["allowed"], allowed, "{namespace}");
    }
    let request = |seconds: i64| {
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds}})
    };
    let path = "/api/v1/namespaces/web/serviceaccounts/builder/token";
    let token = raw(path, request(600), "").await["status"]["token"].as_str().unwrap().to_owned();
    let authority = cluster.dir.path().join("pki/ca.crt");
    let bare =
        format!("--kubeconfig=/dev/null --server={server} --certificate-authority={}", authority.display());
    assert_eq!(ok(&format!("{bare} --token={token} get pods -n web -o name"), Value::Null).await, "");
    let (success, _, error) = run(&format!("{bare} --token=rubbish get pods -n web"), &Value::Null).await;
    assert!(!success && error.contains("You must be logged in to the server"), "{error}");
    let (success, _, error) = run(&format!("create --raw {path} -f -"), &request(60)).await;
    assert!(!success && error.contains("may not specify a duration less than 10 minutes"), "{error}");
    let (success, _, error) = run(&format!("get nodes{who}"), &Value::Null).await;
    let words = "Error from server (Forbidden): nodes is forbidden: User \"system:serviceaccount:web:builder\" cannot list resource \"nodes\"";
    assert!(!success && error.starts_with(words), "{error}");
    let grab = binding("system:serviceaccount:web:builder", "ClusterRole", "admin");
    let (success, _, error) = run(&format!("create -n web -f -{who}"), &grab).await;
    assert!(!success && error.contains("Forbidden"), "{error}");
}
