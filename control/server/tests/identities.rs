//! Who is believed, and who is asked: other issuers of tokens, proxies, webhooks, bootstrap tokens, and the tokens of
//! ServiceAccounts, each against a server with everything that guards it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test's helpers fail as the test does

mod guarded;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use carrack_server::audit::{Audit, LogOptions, Mode};
use carrack_server::authn::{
    Anonymous, AuthnOptions, Condition, Expressions, Issuer, Mapping, ProxyOptions, Rule, TokenWebhook,
    read_authentication,
};
use carrack_server::authz::config::{Choice, plain_webhook, read};
use carrack_server::{ReloadError, Remote, UserInfo};
use guarded::fake::Fake;
use guarded::{Cluster, Setup, named, pki};
use http::Method;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

/// A key of the issuer, ES256.
struct Key {
    id: String,
    pair: EcdsaKeyPair,
}

impl Key {
    fn new(id: &str) -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random);
        Key { id: id.into(), pair: pair.unwrap() }
    }

    fn published(&self) -> Value {
        let (x, y) = self.pair.public_key().as_ref()[1..].split_at(32);
        json!({"kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)})
    }

    fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "kid": self.id});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(claims));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

/// What an issuer at `url` with these keys answers.
fn provider(url: String, keys: &[&Key]) -> impl Fn(&str, &Value) -> (u16, Value) + Send + 'static {
    let keys: Vec<Value> = keys.iter().map(|key| key.published()).collect();
    move |path, _| match path {
        "/.well-known/openid-configuration" => {
            (200, json!({"issuer": url, "jwks_uri": format!("{url}/keys")}))
        }
        "/keys" => (200, json!({ "keys": keys })),
        _ => (404, json!(null)),
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

async fn wait(mut holds: impl AsyncFnMut() -> bool, what: &str) {
    for _ in 0..2000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what}: it did not come about in forty seconds");
}

#[tokio::test]
async fn tokens_of_an_issuer_count_while_its_keys_change_and_while_it_is_away() {
    let (first, second, unknown) = (Key::new("one"), Key::new("two"), Key::new("three"));
    let fake = Fake::start(|_, _| (503, json!(null))).await;
    let mapping = |claim: &str| Mapping { claim: claim.into(), prefix: "oidc:".into() };
    let issuer = Issuer {
        url: fake.url.clone(),
        authority: Some(fake.authority.clone()),
        audiences: vec!["kube".into()],
        username: mapping("sub"),
        groups: Some(mapping("groups")),
        ..Issuer::default()
    };
    let authn = AuthnOptions { issuers: vec![issuer], ..AuthnOptions::default() };
    let cluster = Cluster::start(Setup { authn, ..Setup::default() }).await;
    let claims = |more: Value| {
        let mut claims = json!({
            "iss": fake.url, "sub": "jane", "aud": "kube", "exp": now() + 600, "groups": ["dev"], "jti": "x",
        });
        for (key, value) in more.as_object().unwrap() {
            claims[key] = value.clone();
        }
        claims
    };
    let good = first.sign(&claims(json!({})));
    assert_eq!(cluster.whoami(&good).await, Err(401), "before the first fetch");
    assert!(cluster.refusal(&good).await.contains("oidc: authenticator not initialized"));
    fake.answer(provider(fake.url.clone(), &[&first]));
    // The next fetch is up to ten seconds away, and nobody waits for it.
    tokio::time::sleep(Duration::from_secs(10)).await;
    wait(async || cluster.whoami(&good).await.is_ok(), "the issuer's keys").await;
    let user = cluster.whoami(&good).await.unwrap();
    assert_eq!(user["username"], "oidc:jane");
    assert_eq!(user["groups"], json!(["oidc:dev", "system:authenticated"]));
    assert_eq!(user["extra"]["authentication.kubernetes.io/credential-id"], json!(["JTI=x"]));

    for (claims, says) in [
        (claims(json!({"exp": now() - 1})), "oidc: token is expired"),
        (claims(json!({"aud": "other"})), "expected audience in [\"kube\"] got [\"other\"]"),
        (claims(json!({"nbf": now() + 1000})), "before the nbf"),
        (claims(json!({"sub": null})), "oidc: parse username claims \"sub\""),
        (claims(json!({"iss": "https://elsewhere.example.com"})), "invalid bearer token"),
    ] {
        let token = first.sign(&claims);
        assert!(cluster.refusal(&token).await.contains(says), "{claims}: {}", cluster.refusal(&token).await);
        assert_eq!(cluster.whoami(&token).await, Err(401));
    }
    let mut parts: Vec<String> = good.split('.').map(str::to_owned).collect();
    parts[0] = URL_SAFE_NO_PAD.encode("{\"alg\":\"none\"}");
    parts[2] = String::new();
    assert!(cluster.refusal(&parts.join(".")).await.contains("unsupported algorithm, got \"none\""));

    // A key that was made since is found at once.
    fake.answer(provider(fake.url.clone(), &[&second]));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let newer = second.sign(&claims(json!({})));
    assert_eq!(cluster.whoami(&newer).await.unwrap()["username"], "oidc:jane");
    assert_eq!(cluster.whoami(&good).await, Err(401), "the old key is not published any more");

    // While the issuer is away, what is known goes on counting.
    fake.answer(|_, _| (500, json!(null)));
    let strange = unknown.sign(&claims(json!({})));
    assert!(cluster.refusal(&strange).await.contains("failed to verify id token signature"));
    assert!(cluster.whoami(&newer).await.is_ok());
}

#[tokio::test]
async fn a_changed_file_is_followed_and_a_wrong_one_is_not() {
    let key = Key::new("one");
    let fake = Fake::start(|_, _| (503, json!(null))).await;
    fake.answer(provider(fake.url.clone(), &[&key]));
    let cluster = Cluster::start(Setup::default()).await;
    let file = cluster.dir.path().join("authentication.yaml");
    let write = |issuers: Value| {
        let document = json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": issuers,
        });
        std::fs::write(&file, document.to_string()).unwrap();
    };
    write(json!([]));
    let (path, authn) = (file.clone(), cluster.authn.clone());
    cluster.api.follow("authentication", file.clone(), move || {
        let read =
            read_authentication(&path, "https://own").map_err(|why| ReloadError::Wrong(why.to_string()));
        let authn = authn.clone();
        async move { authn.adopt(read?.jwt).await }
    });
    let claims = json!({"iss": fake.url, "sub": "jane", "aud": "kube", "exp": now() + 600});
    let token = key.sign(&claims);
    assert_eq!(cluster.whoami(&token).await, Err(401));
    write(json!([{
        "issuer": {"url": fake.url, "certificateAuthority": fake.authority, "audiences": ["kube"]},
        "claimMappings": {"username": {"claim": "sub", "prefix": "one:"}},
    }]));
    wait(async || cluster.whoami(&token).await.is_ok(), "the issuer").await;
    assert_eq!(cluster.whoami(&token).await.unwrap()["username"], "one:jane");
    std::fs::write(&file, "kind: Pod").unwrap();
    let root = UserInfo::new("root", ["system:masters"]);
    let counted = async |line: &str| {
        let (_, page) = cluster.ask(&root, "GET", "/metrics", &[], &json!(null)).await;
        page.as_str().unwrap().lines().any(|found| found == line)
    };
    let failure = "apiserver_authentication_config_controller_automatic_reloads_total{status=\"failure\"} 1";
    wait(async || counted(failure).await, "the refusal").await;
    assert!(cluster.whoami(&token).await.is_ok(), "the former configuration counts");
    assert!(
        counted("apiserver_authentication_config_controller_automatic_reloads_total{status=\"success\"} 1")
            .await
    );
    write(json!([]));
    wait(async || cluster.whoami(&token).await == Err(401), "the end of the issuer").await;
}

#[tokio::test]
async fn claims_become_a_user_by_expressions() {
    let key = Key::new("one");
    let fake = Fake::start(|_, _| (503, json!(null))).await;
    fake.answer(provider(fake.url.clone(), &[&key]));
    let rule =
        |expression: &str, message: &str| Rule { expression: expression.into(), message: message.into() };
    let issuer = Issuer {
        url: fake.url.clone(),
        authority: Some(fake.authority.clone()),
        audiences: vec!["kube".into()],
        expressions: Expressions {
            username: "'ci:' + claims.repository.split('/')[0]".into(),
            groups: "claims.teams.filter(t, t.startsWith('dev')).map(t, 'ci:' + t)".into(),
            extra: vec![("example.org/ref".into(), "claims.ref".into())],
            claim_rules: vec![rule("claims.exp - claims.iat <= 3600", "it lives too long")],
            user_rules: vec![rule("!user.username.endsWith(':root')", "nobody is root")],
            ..Expressions::default()
        },
        ..Issuer::default()
    };
    let authn = AuthnOptions { issuers: vec![issuer], ..AuthnOptions::default() };
    let cluster = Cluster::start(Setup { authn, ..Setup::default() }).await;
    let token = |repository: &str, seconds: i64| {
        key.sign(&json!({"iss": fake.url, "aud": "kube", "iat": now(), "exp": now() + seconds, "repository": repository,
            "teams": ["dev-a", "ops"], "ref": "main"}))
    };
    let good = token("acme/site", 600);
    wait(async || cluster.whoami(&good).await.is_ok(), "the issuer's keys").await;
    let user = cluster.whoami(&good).await.unwrap();
    assert_eq!((&user["username"], &user["extra"]["example.org/ref"]), (&json!("ci:acme"), &json!(["main"])));
    assert_eq!(user["groups"], json!(["ci:dev-a", "system:authenticated"]));
    for (token, says) in
        [(token("acme/site", 4000), "it lives too long"), (token("root/x", 600), "nobody is root")]
    {
        assert!(cluster.refusal(&token).await.contains(says), "{}", cluster.refusal(&token).await);
        assert_eq!(cluster.whoami(&token).await, Err(401));
    }
}

#[tokio::test]
async fn a_proxy_speaks_for_others_and_nobody_else_does() {
    let dir = tempfile::tempdir().unwrap();
    let front = pki(dir.path());
    let header = |name: &str| vec![name.parse().unwrap()];
    let proxy = ProxyOptions {
        authority: front.ca_pem().into(),
        allowed_names: vec!["front".into()],
        username_headers: header("x-remote-user"),
        uid_headers: header("x-remote-uid"),
        group_headers: header("x-remote-group"),
        extra_prefixes: vec!["x-remote-extra-".into()],
    };
    let authn = AuthnOptions { proxy: Some(proxy), ..AuthnOptions::default() };
    let proxies = Some(front.ca_pem().to_owned());
    let cluster = Cluster::start(Setup { authn, proxies, ..Setup::default() }).await;
    let hour = time::Duration::hours(1);
    let sign = |pki: &carrack_server::pki::Pki, name: &str| pki.sign_client(name, &[], hour).unwrap();
    let (trusted, stranger) = (sign(&front, "front"), sign(&front, "stranger"));
    let vera = sign(&cluster.pki, "vera");
    let masters = [("x-remote-user", "jane"), ("x-remote-group", "system:masters")];
    let nodes = "/api/v1/nodes";
    let ask = async |certificate, headers: &[(&str, &str)]| {
        cluster.over_tls(certificate, Method::GET, nodes, headers).await.unwrap()
    };
    assert_eq!(ask(Some(&trusted), &masters).await.0, 200);
    let (code, status) = ask(Some(&trusted), &masters[..1]).await;
    assert!(
        code == 403 && status["message"].as_str().unwrap().contains("User \"jane\" cannot list"),
        "{status}"
    );
    assert_eq!(ask(Some(&trusted), &[]).await.0, 401, "a proxy is nobody itself");
    assert_eq!(ask(Some(&stranger), &masters).await.0, 401, "a name that is not allowed");
    assert_eq!(ask(None, &masters).await.0, 401, "no certificate");
    let (code, status) = ask(Some(&vera), &masters).await;
    assert!(code == 403 && status["message"].as_str().unwrap().contains("User \"vera\""), "{status}");
}

#[tokio::test]
async fn a_webhook_judges_the_tokens_that_nobody_knows() {
    let hook = Fake::start(|_, review| {
        assert_eq!(review["kind"], "TokenReview");
        match review["spec"]["token"].as_str() {
            Some("open sesame") => {
                let user = json!({"username": "ali", "groups": ["forty"], "uid": "1"});
                (200, json!({"status": {"authenticated": true, "user": user}}))
            }
            Some("stolen") => (200, json!({"status": {"authenticated": false, "error": "it was stolen"}})),
            _ => (200, json!({"status": {"authenticated": false}})),
        }
    })
    .await;
    let webhook = TokenWebhook {
        target: Remote::open(&hook.kubeconfig(), Duration::from_secs(5)).unwrap(),
        version: "v1".into(),
        ttl: Duration::from_secs(60),
    };
    let conditions = vec![Condition { path: "/api".into() }];
    let anonymous = Some(Anonymous { enabled: true, conditions });
    let authn = AuthnOptions { webhook: Some(webhook), anonymous, ..AuthnOptions::default() };
    let cluster = Cluster::start(Setup { authn, ..Setup::default() }).await;
    let user = cluster.whoami("open sesame").await.unwrap();
    assert_eq!(
        (&user["username"], &user["groups"]),
        (&json!("ali"), &json!(["forty", "system:authenticated"]))
    );
    let asked = hook.count();
    cluster.whoami("open sesame").await.unwrap();
    assert_eq!(hook.count(), asked, "the answer is remembered");
    assert_eq!(cluster.refusal("stolen").await, "[invalid bearer token, it was stolen]");
    assert_eq!(cluster.whoami("guess").await, Err(401));
    hook.answer(|_, _| (500, json!(null)));
    assert!(cluster.whoami("open sesame").await.is_ok(), "also while the webhook is away");
    assert_eq!(cluster.whoami("other").await, Err(401));
    // Who may come without credentials is said by the configuration.
    for (path, code) in [("/api", 403), ("/healthz", 401), ("/version", 401)] {
        let (found, _) = cluster.over_tls(None, Method::GET, path, &[]).await.unwrap();
        assert_eq!(found, code, "{path}");
    }
}

fn jane() -> UserInfo {
    UserInfo::new("jane", ["dev"])
}

#[tokio::test]
async fn an_authorization_webhook_is_asked_in_its_turn() {
    let hook = Fake::start(|_, review| {
        let verb = review.pointer("/spec/resourceAttributes/verb").and_then(Value::as_str);
        match verb.unwrap_or_default() {
            "list" => (200, json!({"status": {"allowed": true}})),
            "create" => {
                (200, json!({"status": {"allowed": false, "denied": true, "reason": "the hook says no"}}))
            }
            "get" => (200, json!({"status": {"allowed": false, "reason": "the hook does not know"}})),
            _ => (500, json!(null)),
        }
    })
    .await;
    let minute = Duration::from_secs(60);
    let webhook = plain_webhook(&hook.kubeconfig(), "v1", minute, minute);
    let choices = vec![Choice::Node, Choice::Rbac, webhook];
    let cluster = Cluster::start(Setup { choices, ..Setup::default() }).await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let list = format!("{maps}?labelSelector=app%3Dweb&fieldSelector=metadata.name!%3Dx");
    let none = json!(null);
    assert_eq!(cluster.ask(&jane(), "GET", &list, &[], &none).await.0, 200);
    let review = hook.asked.lock().unwrap().last().unwrap().clone();
    assert_eq!(
        (&review["apiVersion"], &review["spec"]["user"]),
        (&json!("authorization.k8s.io/v1"), &json!("jane"))
    );
    let asked = &review["spec"]["resourceAttributes"];
    assert_eq!((&asked["resource"], &asked["namespace"]), (&json!("configmaps"), &json!("default")));
    assert_eq!(asked["labelSelector"]["requirements"][0]["values"], json!(["web"]));
    assert_eq!(asked["fieldSelector"]["requirements"][0]["operator"], "NotIn");
    let count = hook.count();
    assert_eq!(cluster.ask(&jane(), "GET", &list, &[], &none).await.0, 200);
    assert_eq!(hook.count(), count, "the answer is remembered");
    let (code, status) = cluster.ask(&jane(), "GET", &format!("{maps}/a"), &[], &none).await;
    assert!(
        code == 403 && status["message"].as_str().unwrap().ends_with(": the hook does not know"),
        "{status}"
    );
    let (code, status) = cluster.ask(&jane(), "POST", maps, &[], &named("ConfigMap", "a")).await;
    assert!(code == 403 && status["message"].as_str().unwrap().ends_with(": the hook says no"), "{status}");
    let (code, _) = cluster.ask(&jane(), "DELETE", &format!("{maps}/a"), &[], &none).await;
    assert_eq!(code, 403, "a webhook that fails allows nothing");
    let count = hook.count();
    cluster.root("GET", maps, json!(null)).await;
    assert_eq!(hook.count(), count, "who comes first has decided");
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": "default"}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let (_, answer) = cluster.ask(&jane(), "POST", path, &[], &review).await;
    assert_eq!(answer["status"]["incomplete"], true, "a webhook lists no rules");
}

#[tokio::test]
async fn conditions_decide_what_an_authorization_webhook_is_asked() {
    let hook = Fake::start(|_, _| (200, json!({"status": {"allowed": true}}))).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("authorization.yaml");
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n- type: Webhook\n  \
         name: some\n  webhook:\n    timeout: 3s\n    subjectAccessReviewVersion: v1\n    \
         matchConditionSubjectAccessReviewVersion: v1\n    failurePolicy: Deny\n    matchConditions:\n    - expression: \
         has(request.resourceAttributes)\n    - expression: request.resourceAttributes.namespace != 'kube-system'\n    - \
         expression: request.resourceAttributes.namespace != 'broken' || request.nonResourceAttributes.path == ''\n    \
         connectionInfo: {{type: KubeConfigFile, kubeConfigFile: {}}}\n",
        hook.kubeconfig().display()
    );
    std::fs::write(&file, text).unwrap();
    let choices = read(&file, None).unwrap();
    let cluster = Cluster::start(Setup { choices, ..Setup::default() }).await;
    let ask = async |path: &str| cluster.ask(&jane(), "GET", path, &[], &json!(null)).await.0;
    let maps = |namespace: &str| format!("/api/v1/namespaces/{namespace}/configmaps");
    assert_eq!(ask(&maps("default")).await, 200);
    let count = hook.count();
    assert_eq!(ask(&maps("kube-system")).await, 403, "nobody else allows it");
    assert_eq!(ask("/metrics").await, 403);
    assert_eq!(ask(&maps("broken")).await, 403, "a condition that fails refuses, as the policy says");
    assert_eq!(hook.count(), count, "it was not asked about any of them");
}

#[tokio::test]
async fn the_file_says_the_order_and_a_webhook_in_front_can_refuse() {
    let hook = Fake::start(|_, review| {
        let secret = review.pointer("/spec/resourceAttributes/resource") == Some(&json!("secrets"));
        (200, json!({"status": {"allowed": false, "denied": secret, "reason": "no secrets"}}))
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let (file, abac) = (dir.path().join("authorization.yaml"), dir.path().join("policies"));
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n- type: Webhook\n  \
         name: guard\n  webhook:\n    timeout: 3s\n    authorizedTTL: 1m\n    unauthorizedTTL: 1m\n    \
         subjectAccessReviewVersion: v1\n    matchConditionSubjectAccessReviewVersion: v1\n    failurePolicy: Deny\n    \
         connectionInfo: {{type: KubeConfigFile, kubeConfigFile: {}}}\n- {{type: ABAC, name: policies}}\n- {{type: RBAC, name: \
         rbac}}\n",
        hook.kubeconfig().display()
    );
    std::fs::write(&file, text).unwrap();
    let policy = json!({"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy",
        "spec": {"user": "jane", "namespace": "*", "resource": "*", "apiGroup": "*", "readonly": true}});
    std::fs::write(&abac, policy.to_string()).unwrap();
    let choices = read(&file, Some(&abac)).unwrap();
    let cluster = Cluster::start(Setup { choices, ..Setup::default() }).await;
    let ask = async |method: &str, path: &str| cluster.ask(&jane(), method, path, &[], &json!(null)).await.0;
    let root = UserInfo::new("root", ["system:masters"]);
    assert_eq!(ask("GET", "/api/v1/nodes").await, 200);
    assert_eq!(ask("DELETE", "/api/v1/nodes/a").await, 403);
    assert_eq!(ask("GET", "/api/v1/secrets").await, 403);
    assert_eq!(cluster.ask(&root, "GET", "/api/v1/secrets", &[], &json!(null)).await.0, 403, "not even root");
    // Without an answer nobody gets further, but for what is remembered.
    hook.answer(|_, _| (500, json!(null)));
    assert_eq!(ask("GET", "/api/v1/nodes").await, 200);
    assert_eq!(ask("GET", "/api/v1/services").await, 403);
}

fn encoded(text: &str) -> Value {
    json!(STANDARD.encode(text))
}

#[tokio::test]
async fn bootstrap_tokens_log_in_until_their_time_is_over() {
    let authn = AuthnOptions { bootstrap_tokens: true, ..AuthnOptions::default() };
    let cluster = Cluster::start(Setup { authn, ..Setup::default() }).await;
    let secrets = "/api/v1/namespaces/kube-system/secrets";
    let mut secret = named("Secret", "bootstrap-token-abcdef");
    secret["type"] = json!("bootstrap.kubernetes.io/token");
    let until = |seconds| encoded(&jiff::Timestamp::from_second(now() + seconds).unwrap().to_string());
    secret["data"] = json!({
        "token-id": encoded("abcdef"), "token-secret": encoded("0123456789abcdef"),
        "usage-bootstrap-authentication": encoded("true"), "usage-bootstrap-signing": encoded("true"),
        "auth-extra-groups": encoded("system:bootstrappers:workers"), "expiration": until(3600),
    });
    let mut info = named("ConfigMap", "cluster-info");
    info["data"] = json!({"kubeconfig": "here"});
    cluster.root("POST", "/api/v1/namespaces/kube-public/configmaps", info).await;
    cluster.root("POST", secrets, secret.clone()).await;
    let token = "abcdef.0123456789abcdef";
    let user = cluster.whoami(token).await.unwrap();
    assert_eq!(user["username"], "system:bootstrap:abcdef");
    assert!(user["groups"].as_array().unwrap().contains(&json!("system:bootstrappers:workers")));
    assert_eq!(cluster.whoami("abcdef.0123456789abcdeg").await, Err(401));
    let signed = async || {
        let path = "/api/v1/namespaces/kube-public/configmaps/cluster-info";
        cluster.root("GET", path, json!(null)).await["data"].get("jws-kubeconfig-abcdef").is_some()
    };
    wait(async || signed().await, "the signature").await;
    let path = format!("{secrets}/bootstrap-token-abcdef");
    secret["data"]["expiration"] = json!(until(2));
    cluster.root("PUT", &path, secret).await;
    wait(async || !cluster.lets_in(token).await, "the end of the token").await;
    let root = UserInfo::new("root", ["system:masters"]);
    wait(async || cluster.ask(&root, "GET", &path, &[], &json!(null)).await.0 == 404, "the cleaning").await;
    wait(async || !signed().await, "the end of the signature").await;
}

#[tokio::test]
async fn tokens_of_accounts_end_with_what_they_are_bound_to() {
    let cluster = Cluster::start(Setup::default()).await;
    let core = "/api/v1/namespaces/default";
    cluster.root("POST", &format!("{core}/serviceaccounts"), named("ServiceAccount", "runner")).await;
    cluster.root("POST", "/api/v1/nodes", named("Node", "n1")).await;
    cluster.root("POST", &format!("{core}/secrets"), named("Secret", "anchor")).await;
    let token = async |kind: &str, name: &str| {
        let bound = json!({"kind": kind, "apiVersion": "v1", "name": name});
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"boundObjectRef": bound}});
        let answer = cluster.root("POST", &format!("{core}/serviceaccounts/runner/token"), request).await;
        answer["status"]["token"].as_str().unwrap().to_owned()
    };
    let (by_node, by_secret) = (token("Node", "n1").await, token("Secret", "anchor").await);
    let user = cluster.whoami(&by_node).await.unwrap();
    let extra = |key: &str| user["extra"][format!("authentication.kubernetes.io/{key}")][0].clone();
    assert_eq!(extra("node-name"), "n1");
    assert!(extra("node-uid").as_str().unwrap().len() == 36);
    assert!(extra("credential-id").as_str().unwrap().starts_with("JTI="));
    assert!(cluster.whoami(&by_secret).await.is_ok());
    cluster.root("DELETE", &format!("{core}/secrets/anchor"), json!(null)).await;
    assert_eq!(cluster.whoami(&by_secret).await, Err(401));
    assert!(cluster.whoami(&by_node).await.is_ok());
    cluster.root("DELETE", "/api/v1/nodes/n1", json!(null)).await;
    assert_eq!(cluster.whoami(&by_node).await, Err(401));
}

#[tokio::test]
async fn a_secret_tells_when_its_token_was_used() {
    let cluster = Cluster::start(Setup::default()).await;
    let log = cluster.dir.path().join("audit.log");
    let policy = cluster.dir.path().join("policy.yaml");
    std::fs::write(&policy, "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n")
        .unwrap();
    let options =
        LogOptions { path: log.clone(), max_age: 0, max_backup: 0, max_size: 1, mode: Mode::Blocking };
    cluster.api.set_audit(Audit::open(&policy, Some(options), None).unwrap());
    let core = "/api/v1/namespaces/default";
    let path = format!("{core}/secrets/lasting");
    let mut secret = named("Secret", "lasting");
    secret["type"] = json!("kubernetes.io/service-account-token");
    secret["metadata"]["annotations"] = json!({"kubernetes.io/service-account.name": "runner"});
    cluster.root("POST", &format!("{core}/serviceaccounts"), named("ServiceAccount", "runner")).await;
    cluster.root("POST", &format!("{core}/secrets"), secret).await;
    let read = async || cluster.root("GET", &path, json!(null)).await;
    wait(async || read().await["data"]["token"].is_string(), "the token").await;
    let token =
        String::from_utf8(STANDARD.decode(read().await["data"]["token"].as_str().unwrap()).unwrap()).unwrap();
    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let label = "kubernetes.io/legacy-token-last-used";

    let told = |key: &str| {
        let text = std::fs::read_to_string(&log).unwrap();
        let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.rev().find_map(|event| event["annotations"][key].as_str().map(str::to_owned))
    };
    assert!(cluster.lets_in(&token).await);
    wait(async || read().await["metadata"]["labels"][label] == today, "the date").await;
    assert_eq!(told("authentication.k8s.io/legacy-token").unwrap(), "system:serviceaccount:default:runner");
    assert_eq!(told("authentication.k8s.io/legacy-token-manual-secret").unwrap(), "lasting");
    // Nothing is written where it says so already.
    let version = read().await["metadata"]["resourceVersion"].clone();
    assert!(cluster.lets_in(&token).await);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(read().await["metadata"]["resourceVersion"], version);

    let listed = json!({"secrets": [{"name": "lasting"}]});
    cluster.root("PATCH", &format!("{core}/serviceaccounts/runner"), listed).await;
    assert!(cluster.lets_in(&token).await);
    assert_eq!(told("authentication.k8s.io/legacy-token-autogenerated-secret").unwrap(), "lasting");

    let old = json!({"metadata": {"labels": {"kubernetes.io/legacy-token-invalid-since": today, label: "2020-01-01"}}});
    cluster.root("PATCH", &path, old).await;
    assert!(!cluster.lets_in(&token).await);
    assert_eq!(told("authentication.k8s.io/legacy-token-invalidated").unwrap(), "lasting/default");
    wait(async || read().await["metadata"]["labels"][label] == today, "the date").await;
    assert!(cluster.refusal(&token).await.contains(
        "the token in secret default/lasting for service account default/runner has been marked invalid"
    ));

    let (_, page) =
        cluster.ask(&UserInfo::new("root", ["system:masters"]), "GET", "/metrics", &[], &json!(null)).await;
    let page = page.as_str().unwrap();
    for line in [
        "serviceaccount_legacy_tokens_total 5",
        "serviceaccount_legacy_manual_token_uses_total 2",
        "serviceaccount_legacy_auto_token_uses_total 1",
        "serviceaccount_invalid_legacy_auto_token_uses_total 2",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}");
    }
}

#[tokio::test]
async fn since_when_tokens_are_tracked_is_told() {
    let cluster = Cluster::start(Setup::default()).await;
    let path =
        "/api/v1/namespaces/kube-system/configmaps/kube-apiserver-legacy-service-account-token-tracking";
    let root = UserInfo::new("root", ["system:masters"]);
    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let since = async || cluster.ask(&root, "GET", path, &[], &json!(null)).await.1["data"]["since"].clone();
    wait(async || since().await == today, "the map").await;
    cluster.root("PATCH", path, json!({"data": {"since": "yesterday"}})).await;
    wait(async || since().await == today, "the mended map").await;
    cluster.root("PATCH", path, json!({"data": {"since": "2024-02-29"}})).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(since().await, "2024-02-29", "a date stays");
    cluster.root("DELETE", path, json!(null)).await;
    wait(async || since().await == today, "the map again").await;
}

#[tokio::test]
async fn a_secret_gets_the_token_of_its_account_and_goes_with_it() {
    let cluster = Cluster::start(Setup::default()).await;
    let core = "/api/v1/namespaces/default";
    let path = format!("{core}/secrets/lasting");
    let mut secret = named("Secret", "lasting");
    secret["type"] = json!("kubernetes.io/service-account-token");
    secret["metadata"]["annotations"] = json!({"kubernetes.io/service-account.name": "runner"});
    cluster.root("POST", &format!("{core}/serviceaccounts"), named("ServiceAccount", "runner")).await;
    cluster.root("POST", &format!("{core}/secrets"), secret).await;
    let filled = async || {
        let secret = cluster.root("GET", &path, json!(null)).await;
        let token = STANDARD.decode(secret["data"]["token"].as_str()?).ok()?;
        Some((String::from_utf8(token).unwrap(), secret))
    };
    wait(async || filled().await.is_some(), "the token").await;
    let (token, secret) = filled().await.unwrap();
    assert_eq!(secret["data"]["namespace"], encoded("default"));
    assert_eq!(secret["data"]["ca.crt"], encoded(cluster.pki.ca_pem()));
    assert!(secret["metadata"]["annotations"]["kubernetes.io/service-account.uid"].is_string());
    let user = cluster.whoami(&token).await.unwrap();
    assert_eq!(user["username"], "system:serviceaccount:default:runner");
    assert_eq!(
        user["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"])
    );
    // Another token in the Secret is the end of this one.
    let other = json!({"data": {"token": encoded("other")}});
    cluster.root("PATCH", &path, other).await;
    assert_eq!(cluster.whoami(&token).await, Err(401));
    assert!(cluster.refusal(&token).await.contains("does not match server's copy"));
    cluster.root("PATCH", &path, json!({"data": {"token": encoded(&token)}})).await;
    assert!(cluster.whoami(&token).await.is_ok());
    cluster.root("DELETE", &format!("{core}/serviceaccounts/runner"), json!(null)).await;
    assert_eq!(cluster.whoami(&token).await, Err(401));
    let root = UserInfo::new("root", ["system:masters"]);
    wait(async || cluster.ask(&root, "GET", &path, &[], &json!(null)).await.0 == 404, "the cleaning").await;
}
