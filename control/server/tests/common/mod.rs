//! An API server over a store in a temporary directory, and a small client that speaks HTTP to it in the process.
// Each test file uses its own part; a helper that fails ends its test.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod objects;

use std::sync::Arc;
use std::time::Duration;

use carrack_server::{
    ApiError, ApiServer, Attributes, Authenticator, Authorizer, BoxError, Config, Credentials, Decision,
    NodeProxy, NodeRequest, ResponseBody, TokenIssuer, UserInfo, UserService, full,
};
use carrack_store::{Options, Store};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower_service::Service;

/// Lets everybody do everything, but for the user `nobody`.
pub struct AllButNobody;

impl Authorizer for AllButNobody {
    fn authorize(&self, attributes: &Attributes) -> Decision {
        match attributes.user.name.as_str() {
            "nobody" => Decision::NoOpinion("nobody may do nothing".into()),
            _ => Decision::Allow,
        }
    }
}

/// Knows nobody but the bearers of the tokens `letmein` and `metoo`; nodes answer nothing.
pub struct Strict;

#[async_trait::async_trait]
impl Authenticator for Strict {
    async fn authenticate(&self, credentials: &Credentials) -> Result<Option<UserInfo>, ApiError> {
        match credentials.bearer.as_deref() {
            Some("letmein") => Ok(Some(UserInfo::new("tester", []))),
            Some("metoo") => Ok(Some(UserInfo::new("another", []))),
            Some(_) => Err(ApiError::unauthorized()),
            None => Ok(None),
        }
    }
    async fn review_token(&self, _: &str, _: &[String]) -> Result<(UserInfo, Vec<String>), ApiError> {
        Err(ApiError::unauthorized())
    }
}

#[async_trait::async_trait]
impl TokenIssuer for Strict {
    async fn issue(
        &self,
        account: &Value,
        mut request: Value,
        bound: Option<&Value>,
    ) -> Result<Value, ApiError> {
        let of = |o: &Value| o["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        request["status"] =
            json!({"token": format!("{}:{}", of(account), bound.map(of).unwrap_or_default())});
        Ok(request)
    }
}

#[async_trait::async_trait]
impl NodeProxy for Strict {
    async fn forward(&self, request: NodeRequest) -> Result<Response<ResponseBody>, ApiError> {
        let node = request.node["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        Ok(Response::new(full(format!("{} on {node}", request.subresource))))
    }
    async fn proxy(
        &self,
        node: &Value,
        path: &str,
        request: Request<carrack_server::RequestBody>,
    ) -> Result<Response<ResponseBody>, ApiError> {
        let node = node["metadata"]["name"].as_str().unwrap_or_default();
        Ok(Response::new(full(format!("{} {path} on {node}", request.method()))))
    }
}

/// A server of its own; its data goes with it.
pub struct Cluster {
    pub api: ApiServer,
    pub store: Store,
    pub dir: tempfile::TempDir,
}

impl Cluster {
    /// A server with the objects that every cluster has.
    pub async fn start() -> Self {
        let cluster = Self::bare().await;
        cluster.api.start().await.unwrap();
        cluster
    }

    /// A server with nothing in its store.
    pub async fn bare() -> Self {
        Self::with(|_| {}, Store::clone).await
    }

    /// A server with nothing in its store, whose configuration and handle of the store are as wanted.
    pub async fn with(change: impl FnOnce(&mut Config), handle: impl FnOnce(&Store) -> Store) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(Options::new(dir.path().join("store"))).await.unwrap();
        Self::over(store, dir, change, handle, None)
    }

    /// A server with nothing in its store; `front_proxy` is what it shows to aggregated API servers.
    pub async fn with_front_proxy(front_proxy: Option<carrack_server::pki::FrontProxy>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(Options::new(dir.path().join("store"))).await.unwrap();
        Self::over(store, dir, |_| {}, Store::clone, front_proxy)
    }

    /// A further server over the same store.
    pub fn another(&self) -> Self {
        Self::over(self.store.clone(), tempfile::tempdir().unwrap(), |_| {}, Store::clone, None)
    }

    /// Ends the server and its store, and starts both again on what is on disk.
    pub async fn restart(self) -> Self {
        let Cluster { api, store, dir } = self;
        api.begin_shutdown();
        store.shutdown().await;
        drop((api, store));
        // Requests on their way hold the store's files for a moment longer.
        for _ in 0..500 {
            if let Ok(store) = Store::open(Options::new(dir.path().join("store"))).await {
                let cluster = Self::over(store, dir, |_| {}, Store::clone, None);
                cluster.api.start().await.unwrap();
                return cluster;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the store does not open again");
    }

    fn over(
        store: Store,
        dir: tempfile::TempDir,
        change: impl FnOnce(&mut Config),
        handle: impl FnOnce(&Store) -> Store,
        front_proxy: Option<carrack_server::pki::FrontProxy>,
    ) -> Self {
        let strict = Arc::new(Strict);
        let mut config = Config {
            store: handle(&store),
            advertise_address: "192.0.2.1".parse().unwrap(),
            secure_port: 6443,
            service_cidr: "10.96.0.0/16".into(),
            dns_address: "10.96.0.10".parse().unwrap(),
            authenticator: strict.clone(),
            authorizers: vec![Arc::new(AllButNobody)],
            admission: Vec::new(),
            tokens: strict.clone(),
            nodes: strict,
        };
        change(&mut config);
        Cluster { api: ApiServer::with_front_proxy(config, front_proxy).unwrap(), store, dir }
    }

    /// Waits until the server has written what it writes by itself; gives the revision.
    pub async fn settled(&self) -> i64 {
        const QUIET: Duration = Duration::from_millis(500);
        for _ in 0..60 {
            let revision = self.store.revision();
            tokio::time::sleep(QUIET).await;
            if self.store.revision() == revision {
                return revision;
            }
        }
        panic!("the server writes without an end");
    }

    pub fn client(&self) -> Client {
        Client { service: self.api.as_user(UserInfo::new("tester", [])), headers: HeaderMap::new() }
    }

    pub fn client_as(&self, user: &str) -> Client {
        Client { service: self.api.as_user(UserInfo::new(user, [])), headers: HeaderMap::new() }
    }
}

/// An answer that was read completely.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub headers: HeaderMap,
    pub bytes: bytes::Bytes,
}

impl Answer {
    /// The body; a line of text, as for paths that nobody serves, is a text.
    pub fn json(&self) -> Value {
        if self.headers.get("content-type").is_some_and(|kind| kind == "text/plain; charset=utf-8") {
            return self.text().into();
        }
        serde_json::from_slice(&self.bytes)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.bytes)))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The body of an answer that must have this code.
    #[track_caller]
    pub fn expect(self, code: u16) -> Value {
        assert_eq!(self.code, code, "{}", self.text());
        self.json()
    }

    pub fn warnings(&self) -> Vec<String> {
        self.headers.get_all("warning").iter().map(|v| v.to_str().unwrap().to_owned()).collect()
    }
}

/// Sends requests as one user.
#[derive(Clone)]
pub struct Client {
    service: UserService,
    headers: HeaderMap,
}

impl Client {
    /// The same client with a further header.
    pub fn with(&self, name: &'static str, value: &str) -> Client {
        let mut client = self.clone();
        client.headers.insert(name, value.parse().unwrap());
        client
    }

    pub async fn open(
        &self,
        method: Method,
        path: &str,
        body: impl Into<bytes::Bytes>,
    ) -> Response<ResponseBody> {
        let mut request = Request::new(full(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap();
        *request.headers_mut() = self.headers.clone();
        self.service.clone().call(request).await.unwrap()
    }

    pub async fn send(&self, method: Method, path: &str, body: impl Into<bytes::Bytes>) -> Answer {
        let response = self.open(method, path, body).await;
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { code: head.status.as_u16(), headers: head.headers, bytes }
    }

    /// A request whose body never comes.
    pub async fn stall(&self, method: Method, path: &str) -> u16 {
        let frames = futures::stream::pending::<Result<http_body::Frame<bytes::Bytes>, BoxError>>();
        let mut request = Request::new(http_body_util::StreamBody::new(frames));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap();
        self.service.clone().call(request).await.unwrap().status().as_u16()
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, "").await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, body.to_string()).await
    }

    /// A patch; `kind` is `json`, `merge`, `strategic-merge` or `apply`.
    pub async fn patch(&self, kind: &str, path: &str, body: &Value) -> Answer {
        let media = match kind {
            "apply" => "application/apply-patch+yaml".to_owned(),
            other => format!("application/{other}-patch+json"),
        };
        self.with("content-type", &media).send(Method::PATCH, path, body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, "").await
    }

    pub async fn delete_with(&self, path: &str, options: &Value) -> Answer {
        self.send(Method::DELETE, path, options.to_string()).await
    }

    /// Opens a watch, if the server lets it be opened; its answer otherwise.
    pub async fn try_watch(&self, path: &str) -> Result<Events, u16> {
        let response = self.open(Method::GET, path, "").await;
        match response.status().as_u16() {
            200 => Ok(Events { body: response.into_body(), buffer: Vec::new() }),
            code => Err(code),
        }
    }

    /// Opens a watch.
    pub async fn watch(&self, path: &str) -> Events {
        let response = self.open(Method::GET, path, "").await;
        assert_eq!(response.status(), 200, "{path}");
        Events { body: response.into_body(), buffer: Vec::new() }
    }
}

/// The events of a watch.
pub struct Events {
    body: ResponseBody,
    buffer: Vec<u8>,
}

impl Events {
    /// The next event; `None` at the end of the watch. Waits at most ten seconds.
    pub async fn next(&mut self) -> Option<Value> {
        let next = async {
            loop {
                if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                    let line: Vec<u8> = self.buffer.drain(..=end).collect();
                    return Some(serde_json::from_slice(&line).unwrap());
                }
                let frame: Result<_, BoxError> = self.body.frame().await?;
                self.buffer.extend_from_slice(frame.unwrap().data_ref().unwrap());
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), next).await.expect("no event came")
    }

    /// The next event as `TYPE name`.
    pub async fn line(&mut self) -> String {
        let Some(event) = self.next().await else { return "END".into() };
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
        format!("{} {name}", event["type"].as_str().unwrap())
    }

    /// Whether nothing comes within a moment.
    pub async fn is_silent(&mut self) -> bool {
        self.buffer.is_empty()
            && tokio::time::timeout(std::time::Duration::from_millis(100), self.body.frame()).await.is_err()
    }
}

pub const MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub const PODS: &str = "/api/v1/namespaces/default/pods";
pub const SERVICES: &str = "/api/v1/namespaces/default/services";
pub const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

pub fn map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": value}})
}

pub fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": "busybox"}]},
    })
}

pub fn deployment(name: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "busybox"}]},
            },
        },
    })
}

pub fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80}]},
    })
}
