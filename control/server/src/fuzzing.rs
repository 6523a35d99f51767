//! What `cargo xtask fuzz` feeds to this package, and where it begins.

#![allow(clippy::expect_used, clippy::panic, reason = "whatever is wrong is to be seen")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use carrack_api::resources;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use serde_json::{Value, json};

use crate::audit::Audit;
use crate::authn::{fuzzing as authn, impersonation};
use crate::authz::abac::Abac;
use crate::encryption::Encryption;
use crate::negotiate::{self, Representation};
use crate::options::{DeleteOptions, ListOptions, WatchOptions, WriteOptions, Writing};
use crate::protobuf::{encode, to_json};
use crate::query::Query;
use crate::router::RequestInfo;
use crate::verbs::ContinueToken;
use crate::{Remote, UserInfo, WebhookUsers, admission, authz, proxy};

mod answers;
mod whole;

/// A name, a function that takes anything and never panics, and what it is fed first.
pub type Target = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);

/// All of this package's.
pub const TARGETS: &[Target] = &[
    ("server-protobuf", protobuf, protobuf_seeds),
    ("server-request", request, || texts(&[REQUEST])),
    ("server-continue", continue_token, || texts(&[CONTINUE])),
    ("server-token", authn::token, authn::token_seeds),
    ("server-claims", authn::claims, authn::claim_seeds),
    ("server-keys", authn::keys, authn::key_seeds),
    ("server-certificate", authn::certificate, authn::certificate_seeds),
    ("server-audit", audit, || texts(AUDITED)),
    ("server-files", files, file_seeds),
    ("server-html", html, || texts(&[HTML])),
    ("server-answers", answers::answers, || texts(answers::SEEDS)),
    ("server-kept", crate::encryption::fuzzing::kept, crate::encryption::fuzzing::seeds),
    ("server-whole", whole::whole, whole::seeds),
];

const CONTINUE: &str = "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6NSwic3RhcnQiOiJhL2IifQ";

/// The path, the query, and headers, line by line.
const REQUEST: &str = "/apis/apps/v1/namespaces/a/deployments/b/scale\nlabelSelector=a%3Db&fieldSelector=metadata.name%3Db&\
limit=5&continue=x&watch=true&pretty&dryRun=All&resourceVersion=5&resourceVersionMatch=Exact&fieldManager=m\n\
application/json;as=Table;v=v1;g=meta.k8s.io,application/vnd.kubernetes.protobuf;q=0.5,*/*\ngzip;q=0, deflate\n\
application/json; charset=utf-8\nMozilla/5.0\njane\nsystem:masters\n7\nscope%2fa";

const HEADERS: [HeaderName; 8] = [
    ACCEPT,
    ACCEPT_ENCODING,
    CONTENT_TYPE,
    USER_AGENT,
    HeaderName::from_static("impersonate-user"),
    HeaderName::from_static("impersonate-group"),
    HeaderName::from_static("impersonate-uid"),
    HeaderName::from_static("impersonate-extra-a%2fb"),
];

/// The path of a request, then the policy.
const AUDITED: &[&str] = &[
    "/apis/apps/v1/namespaces/a/deployments/b/scale\napiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\n\
     rules:\n- level: Metadata\n  users: [u]\n  verbs: [get]\n  namespaces: [a]\n  resources:\n  - group: apps\n    resources: \
     [deployments/scale, '*/status']\n    resourceNames: [b]\n- level: None\n  nonResourceURLs: ['/healthz*']\n",
    "/healthz/a\n{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: RequestResponse, nonResourceURLs: ['/h*'], \
     omitManagedFields: true, omitStages: [Panic]}]}",
];

const HTML: &str =
    "<html><a href='/b?c#d'>e</a><img src=\"//f/g\" srcset=h><base href=i><!-- <a href=j> --><a\thref = k />";

const FILES: &[&str] = &[
    "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n- issuer:\n    url: https://a.example\n    \
     audiences: [x]\n  claimMappings:\n    username: {claim: sub, prefix: 'p:'}\n    groups: {expression: claims.g}\n  \
     claimValidationRules:\n  - {claim: a, requiredValue: b}\n",
    "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- name: c\n  context: {cluster: k, user: u}\nclusters:\n- name: k\n  \
     cluster: {server: 'https://127.0.0.1:1'}\nusers:\n- name: u\n  user: {token: t}\n",
    "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets, '*.apps']\n  providers:\n  \
     - aescbc:\n      keys:\n      - {name: k, secret: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=}\n  - identity: {}\n",
    "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n- name: PodSecurity\n  configuration:\n    apiVersion: \
     pod-security.admission.config.k8s.io/v1\n    kind: PodSecurityConfiguration\n    defaults: {enforce: baseline, enforce-version: latest}\n",
    "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n- {type: Node, name: n}\n- {type: RBAC, name: r}\n",
    "{\"apiVersion\":\"abac.authorization.kubernetes.io/v1beta1\",\"kind\":\"Policy\",\"spec\":{\"user\":\"a\",\"namespace\":\"*\"}}\n",
];

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// The first byte chooses the resource; what was read can be written, and is the same again.
fn protobuf(data: &[u8]) {
    let [which, body @ ..] = data else { return };
    let resource = &resources()[usize::from(*which) % resources().len()];
    let Ok(text) = to_json(body, &resource.schema) else { return };
    let mut value: Value = serde_json::from_slice(&text).expect("what was made is JSON");
    (value["apiVersion"], value["kind"]) = (resource.api_version.into(), resource.kind.into());
    let Some(encoded) = encode::object(&value) else { return };
    let again = to_json(&encoded, &resource.schema).expect("what was written can be read");
    let again: Value = serde_json::from_slice(&again).expect("what was made is JSON");
    let twice = encode::object(&again).expect("it can be written again");
    assert_eq!(encoded, twice, "{value} is {again}");
}

fn protobuf_seeds() -> Vec<Vec<u8>> {
    let object =
        json!({"metadata": {"name": "a", "labels": {"b": "c"}, "creationTimestamp": "2025-03-04T05:06:07Z"}});
    let each = resources().iter().enumerate().filter_map(|(at, resource)| {
        let mut object = object.clone();
        (object["apiVersion"], object["kind"]) = (resource.api_version.into(), resource.kind.into());
        Some([vec![u8::try_from(at).ok()?], encode::object(&object)?].concat())
    });
    each.collect()
}

/// What is known of a request before anybody answers it.
fn request(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (path, query) = (String::from_utf8_lossy(line()), String::from_utf8_lossy(line()));
    let Ok(query) = Query::parse(&query) else { return };
    let mut headers = HeaderMap::new();
    for name in HEADERS {
        if let Ok(value) = HeaderValue::from_bytes(line()) {
            headers.append(name, value);
        }
    }
    for method in [Method::GET, Method::POST, Method::DELETE] {
        if let Ok(info) = RequestInfo::parse(&method, &path, &query) {
            let _ = (info.is_long_running(), info.attributes(UserInfo::new("u", [])));
        }
    }
    let _ = Representation::negotiate(&headers, &query, true);
    let _ = (negotiate::content_type(&headers), negotiate::aggregated_discovery(&headers));
    let _ = impersonation(&headers, &UserInfo::new("u", ["g"]));
    let _ = (ListOptions::parse(&query), WatchOptions::parse(&query));
    let _ = (WriteOptions::parse(&query, Writing::Patch), DeleteOptions::parse(&query, None));
}

fn continue_token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(token) = ContinueToken::decode(text) {
        let again = ContinueToken::decode(&token.encode().expect("a token has a text"));
        assert_eq!(again.ok(), Some(token));
    }
}

/// A file in memory with this text in it.
fn file(text: &[u8]) -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    let path = FILE.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        base.join(format!("carrack-fuzz-file-{}", std::process::id()))
    });
    std::fs::write(path, text).expect("a file in memory");
    path
}

/// A policy judges a request that is never answered.
fn audit(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (path, policy) = data.split_at(at);
    let path = String::from_utf8_lossy(path);
    let Ok(info) = RequestInfo::parse(&Method::GET, &path, &Query::default()) else { return };
    let policy = file(policy);
    let audit = Audit::open(policy, None, None);
    let _ = std::fs::remove_file(policy);
    if let Ok(audit) = audit {
        let (user, id) = (UserInfo::new("u", ["g"]), HeaderValue::from_static("1"));
        drop(Arc::new(audit).begin(&user, &info, &Request::new(()), &id));
    }
}

fn file_seeds() -> Vec<Vec<u8>> {
    (0u8..).zip(FILES).map(|(which, text)| [&[which], text.as_bytes()].concat()).collect()
}

/// What an administrator writes; the first byte says which file it is.
fn files(data: &[u8]) {
    let [which, text @ ..] = data else { return };
    let path = file(text);
    let text = String::from_utf8_lossy(text);
    match usize::from(*which) % FILES.len() {
        0 => drop(crate::authn::read_authentication(path, "https://own")),
        1 => drop((Remote::open(path, Duration::from_secs(1)), WebhookUsers::open(path))),
        2 => drop(Encryption::parse(&text)),
        3 => drop(admission::read_config(&text, Path::new("/nowhere"))),
        4 => drop(authz::config::read(path, None)),
        _ => drop(Abac::open(path)),
    }
    let _ = std::fs::remove_file(path);
}

/// A page that a pod or a Service answers through the proxy: what is no link stays as it is.
fn html(data: &[u8]) {
    let same = proxy::rewrite_html(data, |_| None);
    assert_eq!(same, data, "nothing was to be changed");
    let _ = proxy::rewrite_html(data, |link| Some(format!("/proxy{link}")));
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[test]
fn nothing_that_once_went_wrong_does_so_again() {
    replay::replay("server", TARGETS);
}
