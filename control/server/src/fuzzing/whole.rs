//! Whole requests: a server in this process, with all that admits and validates, answers whatever is asked. Every write
//! is a rehearsal (`dryRun=All`), so that the objects that are there stay what they are, and what went wrong once goes
//! wrong again.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use carrack_store::{Options, Store};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method, Request};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::runtime::Runtime;
use tower_service::Service;

use crate::admission::{AdmissionConfig, Chosen, Steps, plugins_with};
use crate::authn::{Authn, Objects, issuer};
use crate::authz::Rbac;
use crate::kubelet::NodeClient;
use crate::pki::{Pki, PkiOptions};
use crate::{ApiServer, Authorizer, Config, StoreObjects, UserInfo, full};

/// The objects that are there.
const OBJECTS: &str = include_str!("../../tests/common/objects.yaml");

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(8);

/// Ways below an object, beside the object itself.
const BELOW: &[&str] = &[
    "",
    "/status",
    "/scale",
    "/eviction",
    "/binding",
    "/token",
    "/approval",
    "/ephemeralcontainers",
    "/resize",
];

/// Bodies of patches, each with its type.
const PATCHES: &[(&str, &str)] = &[
    (
        "application/merge-patch+json",
        r#"{"metadata":{"labels":{"a":"b"},"finalizers":null},"spec":{"replicas":3}}"#,
    ),
    (
        "application/json-patch+json",
        r#"[{"op":"add","path":"/metadata/labels","value":{"a":"b"}},{"op":"remove","path":"/spec"}]"#,
    ),
    (
        "application/strategic-merge-patch+json",
        r#"{"spec":{"containers":[{"name":"main","$patch":"delete"}],"$retainKeys":["a"]}}"#,
    ),
    ("application/apply-patch+yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: one, labels: {a: c}}\n"),
];

struct Whole {
    runtime: Runtime,
    api: ApiServer,
}

fn server() -> &'static Whole {
    static SERVER: OnceLock<Whole> = OnceLock::new();
    SERVER.get_or_init(|| {
        let runtime = Runtime::new().expect("a runtime");
        let api = runtime.block_on(start());
        Whole { runtime, api }
    })
}

fn directory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let base = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let dir = base.join(format!("carrack-fuzz-whole-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory in memory");
    dir
}

async fn start() -> ApiServer {
    let dir = directory();
    let options = PkiOptions {
        node_name: "n".into(),
        node_ips: vec![Ipv4Addr::LOCALHOST.into()],
        service_ip: Ipv4Addr::new(10, 96, 0, 1).into(),
        cluster_domain: "cluster.local".into(),
        hostname: "n".into(),
        extra_sans: vec![],
    };
    let pki = Pki::open_or_create(&dir.join("pki"), &options).expect("keys can be made");
    let store = Store::open(Options::new(dir.join("store"))).await.expect("a store");
    let objects: Arc<dyn Objects> = Arc::new(StoreObjects::new(store.clone()));
    let authn =
        Arc::new(Authn::new(&pki, &issuer("cluster.local"), Arc::clone(&objects)).expect("identities"));
    let rbac = Rbac::start(store.clone()).await.expect("roles");
    let authorizers: Vec<Arc<dyn Authorizer>> = vec![rbac.clone()];
    let (admission, chosen) = (AdmissionConfig::default(), Chosen::default());
    let api = ApiServer::new(Config {
        store,
        advertise_address: Ipv4Addr::new(192, 0, 2, 7).into(),
        secure_port: 6443,
        service_cidr: "10.96.0.0/16".into(),
        dns_address: Ipv4Addr::new(10, 96, 0, 10).into(),
        authenticator: authn.clone(),
        admission: plugins_with(&objects, &rbac, &authorizers, &admission, &chosen).expect("plugins"),
        authorizers,
        tokens: authn,
        nodes: Arc::new(NodeClient::new(pki.kubelet_client_tls().expect("keys"))),
    })
    .expect("a server");
    api.set_admission_steps(Steps::new(chosen, admission.limited_resources));
    api.start().await.expect("it starts");
    let account = ("/api/v1/namespaces/default/serviceaccounts".to_owned(), "{metadata: {name: default}}");
    // Without its controller a quota would refuse all further pods.
    let others = objects_there().into_iter().filter(|(path, _)| !path.contains("quota"));
    for (path, object) in std::iter::once(account).chain(others) {
        let (code, answer) = ask(&api, Method::POST, &path, "application/yaml", "", object.as_bytes()).await;
        assert!(code == 201 || code == 409, "{path}: {code} {answer}");
    }
    // Whoever ends this process ends it at once. What is open stays, and rehearsals need no new files.
    let _ = std::fs::remove_dir_all(&dir);
    api
}

/// Each object, and where it is made.
fn objects_there() -> Vec<(String, &'static str)> {
    let path = |text: &str| {
        let object = carrack_api::codec::decode(text.as_bytes(), carrack_api::codec::Media::Yaml).ok()?.value;
        let (group, version) = {
            let api_version = object["apiVersion"].as_str()?;
            api_version.split_once('/').unwrap_or(("", api_version))
        };
        let row = carrack_api::find_kind(group, version, object["kind"].as_str()?)?;
        let namespace = match row.scope {
            carrack_api::Scope::Namespaced => "/namespaces/default",
            carrack_api::Scope::Cluster => "",
        };
        Some(format!("{}{namespace}/{}", row.root_path(), row.plural))
    };
    OBJECTS.split("\n---\n").filter_map(|text| Some((path(text)?, text))).collect()
}

async fn ask(
    api: &ApiServer,
    method: Method,
    path: &str,
    content: &str,
    accept: &str,
    body: &[u8],
) -> (u16, Value) {
    let mut request = Request::new(full(bytes::Bytes::copy_from_slice(body)));
    *request.method_mut() = method;
    let Ok(uri) = path.parse() else { return (400, Value::Null) };
    *request.uri_mut() = uri;
    for (name, value) in [(CONTENT_TYPE, content), (ACCEPT, accept)] {
        if let Ok(value) = HeaderValue::from_str(value)
            && !value.is_empty()
        {
            request.headers_mut().insert(name, value);
        }
    }
    let mut service = api.as_user(UserInfo::new("root", ["system:masters"]));
    let response = service.call(request).await.expect("there is always an answer");
    let code = response.status().as_u16();
    if path.contains("watch") {
        // It would go on.
        return (code, Value::Null);
    }
    let bytes = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}

/// For each kind: it is made again, put, patched in each way, read below, listed as a table, deleted.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let mut add = |line: String, content: &str, accept: &str, body: &str| {
        seeds.push(format!("{line}\n{content}\n{accept}\n{body}").into_bytes());
    };
    for (number, (path, object)) in objects_there().into_iter().enumerate() {
        add(format!("POST {path}?fieldValidation=Strict"), "application/yaml", "application/json", object);
        add(format!("PUT {path}/one"), "application/yaml", "application/yaml", object);
        let (content, patch) = PATCHES[number % PATCHES.len()];
        let below = BELOW[number % BELOW.len()];
        add(format!("PATCH {path}/one{below}?fieldManager=f&force=true"), content, "", patch);
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        add(
            format!("GET {path}?labelSelector=a%21%3Db&fieldSelector=metadata.name%3Done&limit=1"),
            "",
            table,
            "",
        );
        add(
            format!("DELETE {path}/one"),
            "",
            "",
            r#"{"propagationPolicy":"Foreground","preconditions":{"uid":"u"}}"#,
        );
    }
    seeds
}

/// The method, the path and the query; the type of the body; what is accepted; the body.
pub(super) fn whole(data: &[u8]) {
    let mut parts = data.splitn(4, |byte| *byte == b'\n');
    let mut line = || std::str::from_utf8(parts.next().unwrap_or_default()).unwrap_or_default();
    let (first, content, accept) = (line(), line(), line());
    let body = parts.next().unwrap_or_default();
    let Some((method, target)) = first.split_once(' ') else { return };
    let Ok(method) = method.parse::<Method>() else { return };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    // A dial of a node or a Service takes as long as it takes.
    if !path.starts_with('/') || path.contains("proxy") {
        return;
    }
    let rehearsal = if matches!(method, Method::GET | Method::HEAD) { "" } else { "&dryRun=All" };
    let target = format!("{path}?{query}{rehearsal}");
    let whole = server();
    let asked = ask(&whole.api, method, &target, content, accept, body);
    let answer = whole.runtime.block_on(async { tokio::time::timeout(PATIENCE, asked).await });
    let (code, answer) = answer.expect("an answer comes in time");
    let is_own_fault = code >= 500 && ![501, 503, 504].contains(&code);
    assert!(!is_own_fault, "{target}: {code} {answer}");
}
