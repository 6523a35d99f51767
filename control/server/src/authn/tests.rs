//! Certificates and tokens: what is believed, and every way of lying that we thought of.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::{Timestamp, ToSpan};
use parking_lot::Mutex;
use serde_json::{Value, json};
use time::Duration;

use super::*;
use crate::pki::ServiceAccountKeys;
use crate::pki::tests::{directory, options};

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Objects held in memory, by (group, resource, namespace, name).
#[derive(Default)]
pub(crate) struct Memory(Mutex<HashMap<[String; 4], Arc<Value>>>);

impl Memory {
    pub(crate) fn put(&self, group: &str, resource: &str, object: Value) {
        let field = |pointer| text(&object, pointer).to_owned();
        let key = [group.into(), resource.into(), field("/metadata/namespace"), field("/metadata/name")];
        self.0.lock().insert(key, Arc::new(object));
    }

    pub(crate) fn remove(&self, resource: &str, namespace: &str, name: &str) {
        self.0.lock().retain(|[_, r, ns, n], _| !(r == resource && ns == namespace && n == name));
    }
}

#[async_trait::async_trait]
impl Objects for Memory {
    async fn get(
        &self,
        group: &str,
        resource: &str,
        ns: &str,
        name: &str,
    ) -> Result<Option<Arc<Value>>, ApiError> {
        Ok(self.0.lock().get(&[group, resource, ns, name].map(str::to_owned)).cloned())
    }

    async fn list(&self, group: &str, resource: &str, namespace: &str) -> Result<Vec<Arc<Value>>, ApiError> {
        let all = self.0.lock();
        let wanted = |[g, r, ns, _]: &[String; 4]| {
            g == group && r == resource && (namespace.is_empty() || ns == namespace)
        };
        Ok(all.iter().filter(|(key, _)| wanted(key)).map(|(_, object)| Arc::clone(object)).collect())
    }
}

fn object(namespace: &str, name: &str, uid: &str) -> Value {
    json!({"metadata": {"namespace": namespace, "name": name, "uid": uid}})
}

struct Fixture {
    authn: Authn,
    objects: Arc<Memory>,
    keys: Arc<ServiceAccountKeys>,
    pki: Pki,
    _keep: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let (keep, dir) = directory();
    let pki = Pki::open_or_create(&dir, &options()).unwrap();
    let objects = Arc::new(Memory::default());
    objects.put("", "serviceaccounts", object("web", "builder", "sa-uid"));
    let mut pod = object("web", "pod-1", "pod-uid");
    pod["spec"] = json!({"serviceAccountName": "builder", "nodeName": "node-a"});
    objects.put("", "pods", pod);
    objects.put("", "nodes", json!({"metadata": {"name": "node-a", "uid": "node-uid"}}));
    objects.put("", "secrets", object("web", "old-token", "secret-uid"));
    let authn = Authn::new(&pki, ISSUER, Arc::clone(&objects) as Arc<dyn Objects>).unwrap();
    Fixture { authn, objects, keys: pki.service_account_keys(), pki, _keep: keep }
}

impl Fixture {
    async fn request(&self, spec: Value) -> Result<Value, ApiError> {
        let account = self.objects.get("", "serviceaccounts", "web", "builder").await?.unwrap();
        let bound = match spec.get("boundObjectRef") {
            Some(reference) => {
                let kind = text(reference, "/kind").to_lowercase() + "s";
                let namespace = if kind == "nodes" { "" } else { "web" };
                self.objects.get("", &kind, namespace, text(reference, "/name")).await?
            }
            None => None,
        };
        self.authn.issue(&account, json!({"spec": spec}), bound.as_deref()).await
    }

    async fn token(&self, spec: Value) -> String {
        text(&self.request(spec).await.unwrap(), "/status/token").to_owned()
    }

    async fn judge(&self, token: &str) -> Result<UserInfo, String> {
        self.judge_at(token, Timestamp::now()).await
    }

    async fn judge_at(&self, token: &str, now: Timestamp) -> Result<UserInfo, String> {
        self.authn
            .tokens
            .judge(token, &[], now)
            .await
            .map(|(user, _)| user)
            .map_err(|error| error.to_string())
    }

    /// A good payload with some claims replaced, signed by our own key.
    fn signed(&self, change: impl FnOnce(&mut Value)) -> String {
        let now = Timestamp::now().as_second();
        let mut claims = json!({
            "aud": [ISSUER], "iss": ISSUER, "sub": "system:serviceaccount:web:builder",
            "exp": now + 600, "iat": now, "nbf": now,
            "kubernetes.io": {"namespace": "web", "serviceaccount": {"name": "builder", "uid": "sa-uid"}},
        });
        change(&mut claims);
        jws::sign(&self.keys, claims.to_string().as_bytes()).unwrap()
    }
}

fn pod_reference() -> Value {
    json!({"kind": "Pod", "apiVersion": "v1", "name": "pod-1", "uid": "pod-uid"})
}

fn payload(token: &str) -> Value {
    let middle = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(middle).unwrap()).unwrap()
}

#[tokio::test]
async fn a_pods_token_is_laid_out_as_upstream_and_believed() {
    let fixture = fixture();
    let answer = fixture
        .request(json!({"audiences": [], "expirationSeconds": 3607, "boundObjectRef": pod_reference()}))
        .await
        .unwrap();
    let token = text(&answer, "/status/token");
    let claims = payload(token);
    assert_eq!(claims["aud"], json!([ISSUER]));
    assert_eq!(claims["iss"], ISSUER);
    assert_eq!(claims["sub"], "system:serviceaccount:web:builder");
    let issued = claims["iat"].as_i64().unwrap();
    assert_eq!(claims["exp"].as_i64().unwrap() - issued, 365 * 24 * 3600);
    assert_eq!(
        claims["kubernetes.io"],
        json!({
            "namespace": "web",
            "serviceaccount": {"name": "builder", "uid": "sa-uid"},
            "pod": {"name": "pod-1", "uid": "pod-uid"},
            "node": {"name": "node-a", "uid": "node-uid"},
            "warnafter": issued + 3607,
        })
    );
    let expires: Timestamp = text(&answer, "/status/expirationTimestamp").parse().unwrap();
    assert_eq!(expires.as_second(), issued + 3607);
    assert_eq!(answer["spec"]["audiences"], json!([ISSUER]));

    let user = fixture.judge(token).await.unwrap();
    assert_eq!(user.name, "system:serviceaccount:web:builder");
    assert_eq!(user.uid, "sa-uid");
    assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:web", "system:authenticated"]);
    let extra = |key: &str| user.extra[&format!("authentication.kubernetes.io/{key}")].clone();
    assert_eq!(extra("pod-name"), ["pod-1"]);
    assert_eq!(extra("pod-uid"), ["pod-uid"]);
    assert_eq!(extra("node-name"), ["node-a"]);
    assert_eq!(extra("credential-id"), [format!("JTI={}", text(&claims, "/jti"))]);
}

#[tokio::test]
async fn tokens_end_with_what_they_are_bound_to() {
    type Change = fn(&Memory);
    let cases: [(&str, Value, Change, &str); 7] = [
        (
            "account gone",
            json!({}),
            |o| o.remove("serviceaccounts", "web", "builder"),
            "serviceaccount \"builder\" does not exist",
        ),
        (
            "account made anew",
            json!({}),
            |o| o.put("", "serviceaccounts", object("web", "builder", "x")),
            "another one of the same name",
        ),
        ("pod gone", pod_reference(), |o| o.remove("pods", "web", "pod-1"), "pod \"pod-1\" does not exist"),
        (
            "pod made anew",
            pod_reference(),
            |o| o.put("", "pods", object("web", "pod-1", "x")),
            "another one of the same name",
        ),
        (
            "pod past its grace period",
            pod_reference(),
            |o| {
                let mut pod = object("web", "pod-1", "pod-uid");
                let past = Timestamp::now().checked_sub(120.seconds()).unwrap();
                pod["metadata"]["deletionTimestamp"] = json!(past.to_string());
                o.put("", "pods", pod);
            },
            "has been deleted",
        ),
        (
            "secret gone",
            json!({"kind": "Secret", "apiVersion": "v1", "name": "old-token", "uid": "secret-uid"}),
            |o| o.remove("secrets", "web", "old-token"),
            "secret \"old-token\" does not exist",
        ),
        (
            "node gone",
            json!({"kind": "Node", "apiVersion": "v1", "name": "node-a", "uid": "node-uid"}),
            |o| o.remove("nodes", "", "node-a"),
            "node \"node-a\" does not exist",
        ),
    ];
    for (what, reference, change, expected) in cases {
        let fixture = fixture();
        let spec = if text(&reference, "/kind").is_empty() {
            json!({})
        } else {
            json!({"boundObjectRef": reference})
        };
        let token = fixture.token(spec).await;
        fixture.judge(&token).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        change(&fixture.objects);
        let error = fixture.judge(&token).await.unwrap_err();
        assert!(error.contains(expected), "{what}: {error}");
    }
}

#[tokio::test]
async fn a_pod_in_its_grace_period_keeps_its_token() {
    let fixture = fixture();
    let token = fixture.token(json!({"boundObjectRef": pod_reference()})).await;
    let mut pod = object("web", "pod-1", "pod-uid");
    let soon = Timestamp::now().checked_add(30.seconds()).unwrap();
    pod["metadata"]["deletionTimestamp"] = json!(soon.to_string());
    fixture.objects.put("", "pods", pod);
    fixture.judge(&token).await.unwrap();
}

#[tokio::test]
async fn tokens_expire_to_the_second() {
    let fixture = fixture();
    let token = fixture.token(json!({"expirationSeconds": 600})).await;
    let end = payload(&token)["exp"].as_i64().unwrap();
    fixture.judge_at(&token, Timestamp::from_second(end - 1).unwrap()).await.unwrap();
    let error = fixture.judge_at(&token, Timestamp::from_second(end).unwrap()).await.unwrap_err();
    assert!(error.contains("expired"), "{error}");
}

#[tokio::test]
async fn tokens_with_wrong_claims_are_refused_although_signed() {
    let fixture = fixture();
    fixture.judge(&fixture.signed(|_| {})).await.unwrap();
    fixture.judge(&fixture.signed(|claims| claims["aud"] = json!(ISSUER))).await.unwrap();
    let future = Timestamp::now().as_second() + 3600;
    let cases: [(&str, Value, &str); 9] = [
        ("iss", json!("https://evil.example"), "not by this cluster"),
        ("aud", json!(["vault"]), "invalid for the target audiences"),
        ("aud", json!([]), "invalid for the target audiences"),
        ("nbf", json!(future), "not valid yet"),
        ("iat", json!(future), "not valid yet"),
        ("exp", json!("tomorrow"), "cannot be read"),
        ("exp", Value::Null, "cannot be read"),
        ("sub", json!("system:serviceaccount:kube-system:admin"), "subject"),
        ("kubernetes.io", json!({}), "cannot be read"),
    ];
    for (claim, value, expected) in cases {
        let token = fixture.signed(|claims| claims[claim] = value.clone());
        let error = fixture.judge(&token).await.unwrap_err();
        assert!(error.contains(expected), "{claim} = {value}: {error}");
    }
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let fixture = fixture();
    let good = fixture.signed(|_| {});
    let parts: Vec<&str> = good.split('.').collect();
    let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let other = ServiceAccountKeys::ephemeral().unwrap();
    let claims = URL_SAFE_NO_PAD.decode(parts[1]).unwrap();
    let changed = String::from_utf8(claims.clone()).unwrap().replace("builder", "admin00");
    let kid = fixture.keys.signing_id();
    let sign_as = |header: &str| {
        let signed = format!("{}.{}", encoded(header), parts[1]);
        let signature = other.sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    let mut flipped = good.clone().into_bytes();
    let last = flipped.len() - 10;
    flipped[last] = if flipped[last] == b'A' { b'B' } else { b'A' };

    let cases = [
        ("empty", String::new(), "not a JSON Web Token"),
        ("dots", "..".into(), "not a JSON Web Token"),
        ("no signature", format!("{}.{}.", parts[0], parts[1]), "not signed by a key"),
        ("cut", good[..good.len() - 2].into(), "not signed by a key"),
        ("flipped", String::from_utf8(flipped).unwrap(), "not signed by a key"),
        ("claims changed", format!("{}.{}.{}", parts[0], encoded(&changed), parts[2]), "not signed by a key"),
        ("alg none", format!("{}.{}.", encoded(r#"{"alg":"none"}"#), parts[1]), "other than ES256"),
        ("alg HS256", sign_as(r#"{"alg":"HS256"}"#), "other than ES256"),
        ("another key", jws::sign(&other, &claims).unwrap(), "not signed by a key"),
        (
            "another key, our id",
            sign_as(&format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#)),
            "not signed by a key",
        ),
        ("another key, no id", sign_as(r#"{"alg":"ES256"}"#), "not signed by a key"),
        ("crit", sign_as(r#"{"alg":"ES256","crit":["exp"]}"#), "not a JSON Web Token"),
        ("alg twice", sign_as(r#"{"alg":"none","alg":"ES256"}"#), "not a JSON Web Token"),
        ("huge", "a".repeat(jws::MAX_TOKEN_BYTES + 1), "not a JSON Web Token"),
        ("padding", format!("{good}="), "not a JSON Web Token"),
        ("four parts", format!("{good}.AAAA"), "not"),
    ];
    for (what, token, expected) in cases {
        let error = fixture.judge(&token).await.unwrap_err();
        assert!(error.contains(expected), "{what}: {error}");
    }
}

#[tokio::test]
async fn token_requests_that_make_no_sense_are_refused() {
    let fixture = fixture();
    let pod = |name: &str, uid: &str| json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid}});
    let mut foreign = object("web", "pod-2", "uid-2");
    foreign["spec"] = json!({"serviceAccountName": "other"});
    fixture.objects.put("", "pods", foreign);
    let cases = [
        (json!({"expirationSeconds": 599}), 422, "may not specify a duration less than 10 minutes"),
        (json!({"expirationSeconds": 4294967297i64}), 422, "larger than 2^32"),
        (json!({"expirationSeconds": "1h"}), 400, "must be a number"),
        (json!({"audiences": [1]}), 400, "must be strings"),
        (pod("pod-1", "another"), 409, "does not match the UID in record"),
        (pod("pod-2", "uid-2"), 400, "different serviceaccount name"),
        (
            json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v9", "name": "pod-1"}}),
            400,
            "cannot bind token",
        ),
    ];
    for (spec, code, expected) in cases {
        let error = fixture.request(spec.clone()).await.unwrap_err();
        assert_eq!(error.code, code, "{spec}");
        assert!(error.message.contains(expected), "{spec}: {}", error.message);
    }
}

#[tokio::test]
async fn reviews_judge_by_the_audience_they_ask_for() {
    let fixture = fixture();
    let token = fixture.token(json!({"audiences": ["vault", "other"]})).await;
    let bearer = Credentials { bearer: Some(token.clone()), ..Credentials::default() };
    assert_eq!(
        fixture.authn.authenticate(&bearer).await.unwrap_err().code,
        401,
        "not meant for the API server"
    );
    let (user, audiences) = fixture.authn.review_token(&token, &["x".into(), "vault".into()]).await.unwrap();
    assert_eq!(user.name, "system:serviceaccount:web:builder");
    assert_eq!(audiences, ["vault"]);
    let error = fixture.authn.review_token(&token, &[]).await.unwrap_err();
    assert!(error.message.contains("invalid bearer token"), "{}", error.message);
}

#[tokio::test]
async fn certificates_prove_identity_unless_expired_forged_or_for_another_use() {
    let fixture = fixture();
    let (_keep, dir) = directory();
    let mallory = Pki::open_or_create(&dir, &options()).unwrap();
    let masters = ["system:masters".to_owned()];
    let show = |material: &crate::pki::KeyMaterial, bearer: Option<String>| {
        use rustls_pki_types::{CertificateDer, pem::PemObject};
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(material.cert_pem.as_bytes()).collect();
        Credentials { certificates: chain.unwrap().into(), bearer, ..Credentials::default() }
    };
    let alice = fixture.pki.sign_client("alice", &["dev".into(), "ops".into()], Duration::hours(1)).unwrap();
    let user = fixture.authn.authenticate(&show(&alice, None)).await.unwrap().unwrap();
    let who = UserInfo { extra: Default::default(), ..user.clone() };
    assert_eq!(who, UserInfo::new("alice", ["dev", "ops"]));
    let id = &user.extra["authentication.kubernetes.io/credential-id"][0];
    assert!(id.strip_prefix("X509SHA256=").is_some_and(|hash| hash.len() == 64), "{id}");

    let token = fixture.signed(|_| {});
    let refused = [
        ("expired", fixture.pki.sign_client("alice", &[], Duration::minutes(-1)).unwrap()),
        ("forged", mallory.sign_client("kubernetes-admin", &masters, Duration::hours(1)).unwrap()),
        ("serving certificate", fixture.pki.node_serving_tls()),
    ];
    for (what, material) in refused {
        for bearer in [None, Some(token.clone())] {
            let error = fixture.authn.authenticate(&show(&material, bearer)).await.unwrap_err();
            assert_eq!(error.code, 401, "{what}");
        }
    }
    let garbage = Credentials { certificates: vec![vec![1, 2, 3].into()].into(), ..Credentials::default() };
    assert_eq!(fixture.authn.authenticate(&garbage).await.unwrap_err().code, 401);
    assert_eq!(fixture.authn.authenticate(&Credentials::default()).await.unwrap(), None);
}

#[test]
fn a_remembered_certificate_still_expires() {
    let fixture = fixture();
    let alice = fixture.pki.sign_client("alice", &[], Duration::hours(1)).unwrap();
    use rustls_pki_types::{CertificateDer, pem::PemObject};
    let chain = [CertificateDer::from_pem_slice(alice.cert_pem.as_bytes()).unwrap()];
    let x509 = X509::new(fixture.pki.client_verifier().unwrap());
    let now = UnixTime::now();
    x509.identify(&chain, now).unwrap();
    for (what, shift) in [("later", 2 * 3600i64), ("earlier", -3600)] {
        let then = now.as_secs().checked_add_signed(shift).unwrap();
        let then = UnixTime::since_unix_epoch(std::time::Duration::from_secs(then));
        assert!(x509.identify(&chain, then).is_err(), "{what}");
    }
}

#[test]
fn discovery_describes_the_key_that_signs() {
    let fixture = fixture();
    let configuration = fixture.authn.openid_configuration("https://192.0.2.7:6443/").unwrap();
    assert_eq!(configuration["issuer"], ISSUER);
    assert_eq!(configuration["jwks_uri"], "https://192.0.2.7:6443/openid/v1/jwks");

    let keys = fixture.authn.openid_keys().unwrap();
    let key = &keys["keys"][0];
    let part = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
    let point = [vec![4], part("x"), part("y")].concat();
    let token = fixture.signed(|_| {});
    let (signed, signature) = token.rsplit_once('.').unwrap();
    ring::signature::UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_FIXED, point)
        .verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
        .unwrap();
    assert_eq!(key["kid"], fixture.keys.signing_id());
}

#[test]
fn anonymous_paths_are_health_and_version_alone() {
    for path in ["/healthz", "/livez/ping", "/readyz", "/version", "/healthz/"] {
        assert!(anonymous_path(path), "{path}");
    }
    for path in ["/", "/api", "/apis/version", "/healthzz", "/metrics", "/openid/v1/jwks", ""] {
        assert!(!anonymous_path(path), "{path}");
    }
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers
            .append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

#[tokio::test]
async fn tokens_that_are_mounted_last_a_year_and_are_stale_after_their_hour() {
    let mut fixture = fixture();
    let now = Timestamp::now();
    let later = now.checked_add(2.hours()).unwrap();
    let mounted = || json!({"expirationSeconds": 3607, "boundObjectRef": pod_reference()});
    let issued = fixture.request(mounted()).await.unwrap();
    let expires: Timestamp = text(&issued, "/status/expirationTimestamp").parse().unwrap();
    assert!(
        (3600..3620).contains(&(expires.as_second() - now.as_second())),
        "whoever asked comes again then"
    );
    let token = text(&issued, "/status/token");
    let (judged, learned) = notes::gathered(fixture.judge(token)).await;
    assert!(judged.is_ok() && learned == notes::Notes::default());
    let (judged, learned) = notes::gathered(fixture.judge_at(token, later)).await;
    judged.unwrap();
    let (key, value) = &learned.annotations[0];
    assert_eq!(*key, "authentication.k8s.io/stale-token");
    assert!(
        value.starts_with("subject: system:serviceaccount:web:builder, seconds after warning threshold: 35")
    );
    let counts = fixture.authn.counts();
    let count = |name: &str| counts.iter().find(|(counted, ..)| *counted == name).unwrap().2;
    assert_eq!(
        (count("serviceaccount_valid_tokens_total"), count("serviceaccount_stale_tokens_total")),
        (1, 1)
    );
    let much_later = now.checked_add((366 * 24).hours()).unwrap();
    assert!(fixture.judge_at(token, much_later).await.unwrap_err().contains("has expired"));

    for spec in [
        json!({"expirationSeconds": 3607}),
        json!({"expirationSeconds": 3600, "boundObjectRef": pod_reference()}),
        json!({"expirationSeconds": 3607, "boundObjectRef": pod_reference(), "audiences": [ISSUER, "vault"]}),
    ] {
        let token = fixture.token(spec.clone()).await;
        assert!(fixture.judge_at(&token, later).await.unwrap_err().contains("has expired"), "{spec}");
    }
    let exact = AuthnOptions { exact_lifetimes: true, ..AuthnOptions::default() };
    fixture.authn = fixture.authn.with(exact).unwrap();
    let token = fixture.token(mounted()).await;
    assert!(fixture.judge_at(&token, later).await.unwrap_err().contains("has expired"));
}

#[test]
fn impersonation_asks_for_each_fact_it_assumes() {
    let real = UserInfo::new("admin", []);
    let read = |pairs| impersonation(&headers(pairs), &real);
    assert_eq!(read(&[("accept", "x")]).unwrap(), None);

    let bob = read(&[
        ("Impersonate-User", "bob"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Group", "dev"),
        ("Impersonate-Group", "ops"),
        ("Impersonate-Extra-acme.com%2Fscope", "view"),
    ]);
    let bob = bob.unwrap().unwrap();
    assert_eq!(bob.user.groups, ["dev", "ops", "system:authenticated"]);
    assert_eq!(bob.user.extra["acme.com/scope"], ["view"]);
    let needs: Vec<String> = bob
        .needs
        .iter()
        .map(|need| {
            assert_eq!((need.verb.as_str(), &need.user), ("impersonate", &real));
            format!("{}/{}/{}/{}", need.api_group, need.namespace, need.full_resource(), need.name)
        })
        .collect();
    assert_eq!(
        needs,
        [
            "//users/bob",
            "authentication.k8s.io//uids/7",
            "//groups/dev",
            "//groups/ops",
            "authentication.k8s.io//userextras/acme.com/scope/view",
        ]
    );
}

#[test]
fn impersonating_accounts_and_the_anonymous_user() {
    let real = UserInfo::new("admin", []);
    let read = |name: &str| impersonation(&headers(&[("Impersonate-User", name)]), &real).unwrap().unwrap();
    let pairs = [("Impersonate-User", "system:anonymous"), ("Impersonate-Group", "system:authenticated")];
    let odd = impersonation(&headers(&pairs), &real).unwrap().unwrap();
    assert_eq!(odd.user.groups, ["system:authenticated", "system:unauthenticated"]);
    let account = read("system:serviceaccount:web:builder");
    assert_eq!(
        account.user.groups,
        ["system:serviceaccounts", "system:serviceaccounts:web", "system:authenticated"]
    );
    assert_eq!(account.needs[0].resource, "serviceaccounts");
    assert_eq!((account.needs[0].namespace.as_str(), account.needs[0].name.as_str()), ("web", "builder"));
    assert_eq!(read("system:anonymous").user.groups, ["system:unauthenticated"]);

    for pairs in [
        &[("Impersonate-Group", "system:masters")][..],
        &[("Impersonate-User", ""), ("Impersonate-Uid", "1")],
        &[("Impersonate-User", "a"), ("Impersonate-User", "b")],
        &[("Impersonate-User", "a"), ("Impersonate-Extra-%zz", "b")],
    ] {
        assert_eq!(impersonation(&headers(pairs), &real).unwrap_err().code, 400, "{pairs:?}");
    }
}

#[tokio::test]
async fn an_authority_that_everybody_has_makes_no_proxies() {
    let options = |fixture: &Fixture, names: &[&str]| AuthnOptions {
        proxy: Some(ProxyOptions {
            authority: fixture.pki.ca_pem().into(),
            allowed_names: names.iter().map(|name| (*name).to_owned()).collect(),
            username_headers: vec![HeaderName::from_static("x-remote-user")],
            uid_headers: Vec::new(),
            group_headers: Vec::new(),
            extra_prefixes: Vec::new(),
        }),
        ..AuthnOptions::default()
    };
    let authn = |names: &[&str]| {
        let fixture = fixture();
        let options = options(&fixture, names);
        fixture.authn.with(options).map(|_| ())
    };
    assert!(matches!(authn(&[]), Err(AuthnError::Overlap)));
    assert!(authn(&["front"]).is_ok());
}
