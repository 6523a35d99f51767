//! Plugins of admission that a configuration turns on: what may be used under a quota alone, whose images run, and what
//! runs at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test's helpers fail as the test does

mod guarded;

use carrack_server::admission::{AdmissionConfig, Chosen, read_config};
use carrack_server::audit::{Audit, LogOptions, Mode};
use guarded::fake::Fake;
use guarded::{Cluster, Setup, named};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/web/pods";
const QUOTAS: &str = "/api/v1/namespaces/web/resourcequotas";

fn config(plugin: &str, own: Value) -> AdmissionConfig {
    let file = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration",
        "plugins": [{"name": plugin, "configuration": own}]});
    read_config(&file.to_string(), std::path::Path::new("/nowhere")).unwrap()
}

async fn start(setup: Setup) -> Cluster {
    let cluster = Cluster::start(setup).await;
    cluster.root("POST", "/api/v1/namespaces", named("Namespace", "web")).await;
    cluster.root("POST", "/api/v1/namespaces/web/serviceaccounts", named("ServiceAccount", "default")).await;
    cluster
}

fn pod(name: &str, image: &str, resources: Value) -> Value {
    let mut pod = named("Pod", name);
    pod["spec"] = json!({"containers": [{"name": "c", "image": image, "resources": resources}]});
    pod
}

/// The code and words of a request by one who may do everything.
async fn ask(cluster: &Cluster, method: &str, path: &str, body: &Value) -> (u16, String) {
    let root = carrack_server::UserInfo::new("root", ["system:masters"]);
    let (code, answer) = cluster.ask(&root, method, path, &[], body).await;
    (code, answer["message"].as_str().unwrap_or_default().to_owned())
}

/// A quota that was counted: nothing of it is used.
async fn quota(cluster: &Cluster, name: &str, spec: Value) {
    let mut quota = named("ResourceQuota", name);
    quota["spec"] = spec;
    let mut made = cluster.root("POST", QUOTAS, quota).await;
    let hard = made["spec"]["hard"].clone();
    let used: Value = hard.as_object().unwrap().keys().map(|name| (name.clone(), json!("0"))).collect();
    made["status"] = json!({"hard": hard, "used": used});
    cluster.root("PUT", &format!("{QUOTAS}/{name}/status"), made).await;
}

#[tokio::test]
async fn what_is_limited_needs_a_quota() {
    let limited = json!([
        {"resource": "pods", "matchContains": ["nvidia.com/gpu"]},
        {"resource": "pods", "matchScopes":
            [{"scopeName": "PriorityClass", "operator": "In", "values": ["system-node-critical"]}]},
        {"apiGroup": "apps", "resource": "deployments", "matchContains": ["count/deployments.apps"]},
    ]);
    let own = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "ResourceQuotaConfiguration",
        "limitedResources": limited});
    let cluster = start(Setup { admission: config("ResourceQuota", own), ..Setup::default() }).await;
    let devices = || json!({"requests": {"nvidia.com/gpu": "1"}, "limits": {"nvidia.com/gpu": "1"}});
    let gpu = |name: &str| pod(name, "i", devices());
    let critical = |name: &str| {
        let mut pod = pod(name, "i", json!({}));
        pod["spec"]["priorityClassName"] = json!("system-node-critical");
        pod
    };
    let refused = |why: &str| (403, why.to_owned());
    let no_gpu = refused("pods \"a\" is forbidden: insufficient quota to consume: requests.nvidia.com/gpu");
    let no_scope =
        refused("insufficient quota to match these scopes: [{PriorityClass In [system-node-critical]}]");
    assert_eq!(ask(&cluster, "POST", PODS, &gpu("a")).await, no_gpu);
    assert_eq!(ask(&cluster, "POST", PODS, &critical("b")).await, no_scope);
    assert_eq!(ask(&cluster, "POST", PODS, &pod("plain", "i", json!({}))).await.0, 201);
    // A quota of something else does not cover it.
    quota(&cluster, "other", json!({"hard": {"configmaps": "5"}})).await;
    assert_eq!(ask(&cluster, "POST", PODS, &gpu("a")).await, no_gpu);
    quota(&cluster, "gpus", json!({"hard": {"requests.nvidia.com/gpu": "1"}})).await;
    quota(
        &cluster,
        "critical",
        json!({"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions":
            [{"scopeName": "PriorityClass", "operator": "In", "values": ["system-node-critical"]}]}}),
    )
    .await;
    assert_eq!(ask(&cluster, "POST", PODS, &gpu("a")).await.0, 201);
    assert_eq!(ask(&cluster, "POST", PODS, &critical("b")).await.0, 201);
    let over = ask(&cluster, "POST", PODS, &gpu("c")).await;
    let words = "pods \"c\" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=1, used: \
                 requests.nvidia.com/gpu=1, limited: requests.nvidia.com/gpu=1";
    assert_eq!(over, refused(words));
    // What is there may go on when its quota goes, and nothing new may come.
    cluster.root("DELETE", &format!("{QUOTAS}/gpus"), json!(null)).await;
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(ask(&cluster, "PATCH", &format!("{PODS}/a"), &label).await.0, 200);
    assert_eq!(ask(&cluster, "POST", PODS, &gpu("a2")).await.0, 403);
    let labels = json!({"app": "a"});
    let mut deployment = named("Deployment", "d");
    deployment["apiVersion"] = json!("apps/v1");
    deployment["spec"] = json!({"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
        "spec": {"containers": [{"name": "c", "image": "i"}]}}});
    let deployments = "/apis/apps/v1/namespaces/web/deployments";
    let words = "deployments.apps \"d\" is forbidden: insufficient quota to consume: count/deployments.apps";
    assert_eq!(ask(&cluster, "POST", deployments, &deployment).await, refused(words));
}

#[tokio::test]
async fn a_webhook_says_whose_images_run() {
    let hook = Fake::start(|_, review| {
        let images = review["spec"]["containers"].as_array().unwrap();
        let good = |container: &Value| container["image"].as_str().unwrap().starts_with("good/");
        let mut status = json!({"allowed": images.iter().all(good), "auditAnnotations": {"checked": "yes"}});
        if review["spec"]["annotations"]["me.image-policy.k8s.io/why"] == json!("ask") {
            status["reason"] = json!("not signed");
        }
        (200, json!({"apiVersion": "imagepolicy.k8s.io/v1alpha1", "kind": "ImageReview", "status": status}))
    })
    .await;
    let setup = |default_allow: bool| {
        let entry = json!({"kubeConfigFile": hook.kubeconfig(), "allowTTL": 1800, "denyTTL": 1800, "retryBackoff": 1,
            "defaultAllow": default_allow});
        Setup {
            admission: config("ImagePolicyWebhook", json!({ "imagePolicy": entry })),
            chosen: Chosen::new(&["ImagePolicyWebhook".to_owned()], &[]).unwrap(),
            ..Setup::default()
        }
    };
    let cluster = start(setup(false)).await;
    assert_eq!(ask(&cluster, "POST", PODS, &pod("a", "good/a", json!({}))).await.0, 201);
    let asked = hook.asked.lock().unwrap().last().unwrap().clone();
    assert_eq!(
        (&asked["kind"], &asked["apiVersion"]),
        (&json!("ImageReview"), &json!("imagepolicy.k8s.io/v1alpha1"))
    );
    assert_eq!(asked["spec"], json!({"containers": [{"image": "good/a"}], "namespace": "web"}));
    let refused = |why: &str| (403, format!("pods \"b\" is forbidden: {why}"));
    let mut bad = pod("b", "bad/b", json!({}));
    let plain = refused("one or more images rejected by webhook backend");
    assert_eq!(ask(&cluster, "POST", PODS, &bad).await, plain);
    // The same question is not asked again; annotations of others are not sent.
    let count = hook.count();
    assert_eq!(ask(&cluster, "POST", PODS, &bad).await, plain);
    assert_eq!(ask(&cluster, "POST", PODS, &pod("c", "good/a", json!({}))).await.0, 201);
    bad["metadata"]["annotations"] = json!({"other": "x"});
    assert_eq!(ask(&cluster, "POST", PODS, &bad).await, plain);
    assert_eq!(hook.count(), count);
    bad["metadata"]["annotations"]["me.image-policy.k8s.io/why"] = json!("ask");
    let why = "image policy webhook backend denied one or more images: not signed";
    assert_eq!(ask(&cluster, "POST", PODS, &bad).await, refused(why));
    assert_eq!(
        hook.asked.lock().unwrap().last().unwrap()["spec"]["annotations"],
        json!({"me.image-policy.k8s.io/why": "ask"})
    );
    // Without an answer the configuration decides.
    hook.answer(|_, _| (503, json!({})));
    let open = start(setup(true)).await;
    let before = hook.count();
    let (code, words) = ask(&cluster, "POST", PODS, &pod("b", "other/b", json!({}))).await;
    assert_eq!(code, 403, "{words}");
    assert_eq!(hook.count(), before + 5, "it is asked five times");
    let dir = tempfile::tempdir().unwrap();
    let log = audited(&open, dir.path());
    let made = open.root("POST", PODS, pod("b", "other/b", json!({}))).await;
    assert_eq!(made["metadata"]["annotations"], json!(null), "upstream keeps its annotation neither");
    let text = std::fs::read_to_string(log).unwrap();
    let mut events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let told =
        events.find(|event| event["verb"] == "create" && event["stage"] == "ResponseComplete").unwrap();
    assert_eq!(told["annotations"]["imagepolicywebhook.image-policy.k8s.io/failed-open"], "true", "{told}");
}

/// Notes requests about pods in a file from now on.
fn audited(cluster: &Cluster, dir: &std::path::Path) -> std::path::PathBuf {
    let (policy, log) = (dir.join("policy.yaml"), dir.join("audit.log"));
    let rules = "rules: [{level: Metadata, resources: [{resources: [pods]}]}, {level: None}]";
    std::fs::write(&policy, format!("apiVersion: audit.k8s.io/v1\nkind: Policy\n{rules}\n")).unwrap();
    let options =
        LogOptions { path: log.clone(), max_age: 0, max_backup: 0, max_size: 1, mode: Mode::Blocking };
    cluster.api.set_audit(Audit::open(&policy, Some(options), None).unwrap());
    log
}

#[tokio::test]
async fn a_creation_makes_its_namespace_where_that_is_wanted() {
    let chosen = Chosen::new(&["NamespaceAutoProvision".to_owned()], &[]).unwrap();
    let cluster = start(Setup { chosen, ..Setup::default() }).await;
    let maps = |namespace: &str| format!("/api/v1/namespaces/{namespace}/configmaps");
    let map = |name: &str| named("ConfigMap", name);
    let there = async |namespace: &str| {
        ask(&cluster, "GET", &format!("/api/v1/namespaces/{namespace}"), &json!(null)).await.0 == 200
    };
    // Nothing is made where nothing is stored, and by creations alone.
    let dry = format!("{}?dryRun=All", maps("new"));
    let absent = (404, "namespaces \"new\" not found".to_owned());
    assert_eq!(ask(&cluster, "POST", &dry, &map("a")).await, absent);
    assert_eq!(ask(&cluster, "DELETE", &format!("{}/a", maps("new")), &json!(null)).await.0, 404);
    assert!(!there("new").await);
    for name in ["a", "b"] {
        assert_eq!(ask(&cluster, "POST", &maps("new"), &map(name)).await.0, 201, "{name}");
    }
    let made = cluster.root("GET", "/api/v1/namespaces/new", json!(null)).await;
    assert_eq!(made["status"]["phase"], "Active");
    // Several at once.
    let (path, all) = (maps("many"), (0..5).map(|n| map(&format!("m{n}"))).collect::<Vec<_>>());
    let codes = futures::future::join_all(all.iter().map(|map| ask(&cluster, "POST", &path, map))).await;
    assert!(codes.iter().all(|(code, _)| *code == 201), "{codes:?}");
    // A name that no namespace can have.
    let (code, words) = ask(&cluster, "POST", &maps("Odd_Name"), &map("a")).await;
    assert!((400..500).contains(&code) && !there("Odd_Name").await, "{code} {words}");
    let usual = start(Setup::default()).await;
    assert_eq!(ask(&usual, "POST", &maps("new"), &map("a")).await, absent);
}

#[tokio::test]
async fn plugins_run_as_they_are_chosen() {
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let chosen = Chosen::new(&own(&["DenyServiceExternalIPs"]), &own(&["ResourceQuota", "ServiceAccount"]));
    let cluster = start(Setup { chosen: chosen.unwrap(), ..Setup::default() }).await;
    // Without quotas nothing is refused, and nothing charged.
    quota(&cluster, "none", json!({"hard": {"pods": "0"}})).await;
    let made = cluster.root("POST", PODS, pod("a", "i", json!({}))).await;
    assert_eq!((&made["spec"]["serviceAccountName"], &made["spec"]["volumes"]), (&json!(null), &json!(null)));
    let used = cluster.root("GET", &format!("{QUOTAS}/none"), json!(null)).await;
    assert_eq!(used["status"]["used"], json!({"pods": "0"}));
    let mut service = named("Service", "s");
    service["spec"] = json!({"ports": [{"port": 80}], "externalIPs": ["192.0.2.1"]});
    let (code, words) = ask(&cluster, "POST", "/api/v1/namespaces/web/services", &service).await;
    assert_eq!(
        (code, words.ends_with("Use of external IPs is denied by admission control")),
        (403, true),
        "{words}"
    );
}
