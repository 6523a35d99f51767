//! Whether the server behind an APIService is there, with upstream's reasons: its Service, its endpoints, and what
//! it answers.

use std::time::Duration;

use carrack_api::meta;
use http::header::{ACCEPT, IF_NONE_MATCH};
use http::{HeaderValue, Request, Uri};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::proxy::name_user;
use super::remote::Remote;
use super::{Aggregation, Known};
use crate::authn::{Objects, text};
use crate::outbound::{Answer, CallFailure, Endpoints, endpoints, is_of};
use crate::{ApiError, UserInfo, empty};

/// How long the server has to answer; upstream's figure.
const LOOK: Duration = Duration::from_secs(5);

/// The condition `Available`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) status: &'static str,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Condition {
    fn no(reason: &'static str, message: String) -> Self {
        Condition { status: "False", reason, message }
    }

    fn passed() -> Self {
        Condition { status: "True", reason: "Passed", message: "all checks passed".to_owned() }
    }
}

/// What the Service and its endpoints say: `None` when nothing stands against asking the server.
pub(super) fn obstacle(
    remote: &Remote,
    service: Option<&Value>,
    slices: &[&Value],
    legacy: Option<&Value>,
) -> Option<Condition> {
    let (namespace, name, port) = remote.service();
    let Some(service) = service else {
        let message = format!("service/{name} in {namespace:?} is not present");
        return Some(Condition::no("ServiceNotFound", message));
    };
    if !matches!(text(service, "/spec/type"), "" | "ClusterIP") {
        return None;
    }
    let ports = service.pointer("/spec/ports").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let entry = ports.iter().find(|entry| entry.get("port").and_then(Value::as_u64) == Some(port.into()));
    let Some(entry) = entry else {
        let message = format!("service/{name} in {namespace:?} is not listening on port {port}");
        return Some(Condition::no("ServicePortError", message));
    };
    if slices.is_empty() && legacy.is_none() {
        let message = format!("cannot find endpointslices for service/{name} in {namespace:?}");
        return Some(Condition::no("EndpointsNotFound", message));
    }
    match endpoints(service, port, slices, legacy) {
        Ok(Endpoints::Addresses(_) | Endpoints::Name(..)) => None,
        Err(_) => {
            let port_name = text(entry, "/name");
            let message = format!(
                "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
            );
            Some(Condition::no("MissingEndpoints", message))
        }
    }
}

/// The APIService with the condition; `None` when it says so already.
pub(super) fn with_condition(object: &Value, wanted: &Condition, now: Timestamp) -> Option<Value> {
    let mut new = object.clone();
    let status = new.as_object_mut()?.entry("status").or_insert_with(|| json!({}));
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let conditions = status["conditions"].as_array_mut()?;
    let mut condition = json!({
        "type": "Available", "status": wanted.status, "reason": wanted.reason, "message": wanted.message,
        "lastTransitionTime": meta::format_time(now),
    });
    match conditions.iter_mut().find(|found| found["type"] == "Available") {
        Some(found) => {
            // The time is that of the last change of the status alone.
            if found["status"] == wanted.status {
                condition["lastTransitionTime"] = found["lastTransitionTime"].clone();
            }
            *found = condition;
        }
        None => conditions.push(condition),
    }
    (new != *object).then_some(new)
}

impl Aggregation {
    /// Looks whether a remote group version is there, and notes what it says of itself.
    pub(super) async fn look(&self, remote: &Remote, objects: &dyn Objects) -> Result<Condition, ApiError> {
        let (namespace, name, _) = remote.service();
        let service = objects.get("", "services", namespace, name).await?;
        let slices = objects.list("discovery.k8s.io", "endpointslices", namespace).await?;
        let slices: Vec<&Value> = slices.iter().map(|slice| &**slice).filter(|s| is_of(s, name)).collect();
        let legacy = objects.get("", "endpoints", namespace, name).await?;
        if let Some(obstacle) = obstacle(remote, service.as_deref(), &slices, legacy.as_deref()) {
            return Ok(obstacle);
        }
        let path = remote.path();
        match self.fetch(remote, &path).await {
            Ok(resources) => {
                let openapi = match self.fetch(remote, "/openapi/v3").await {
                    Ok(index) => {
                        let key = path.trim_start_matches('/').replace('~', "~0").replace('/', "~1");
                        let url = text(&index, &format!("/paths/{key}/serverRelativeURL"));
                        (!url.is_empty()).then(|| url.to_owned())
                    }
                    // Not every server has it.
                    Err(_) => None,
                };
                let openapi_v2 = self.document_of(remote).await;
                let known = Known { resources: resources.into(), openapi, openapi_v2 };
                self.known.lock().insert(remote.name.clone(), known);
                Ok(Condition::passed())
            }
            Err(why) => {
                let url = format!("{}{path}", remote.looked_at(None).url().trim_end_matches('/'));
                let message = format!("failing or missing response from {url}: {why}");
                Ok(Condition::no("FailedDiscoveryCheck", message))
            }
        }
    }

    /// A JSON document of the remote server.
    async fn fetch(&self, remote: &Remote, path: &str) -> Result<Value, String> {
        let (url, answer) = self.request(remote, path, None).await?;
        answer.json().map_err(|why| match why {
            CallFailure::Status(code) => format!("bad status from {url}: {code}"),
            CallFailure::Json(why) => format!("{url} did not answer JSON: {why}"),
            other => other.to_string(),
        })
    }

    /// What the remote server answers at a path, with its URL; 304 when that is still what `tag` names.
    pub(super) async fn request(
        &self,
        remote: &Remote,
        path: &str,
        tag: Option<HeaderValue>,
    ) -> Result<(String, Answer), String> {
        let identity = self.front_proxy.as_ref().map(|proxy| proxy.identity.clone());
        let target = remote.looked_at(identity);
        let url = format!("{}{path}", target.url().trim_end_matches('/'));
        let mut request = Request::new(empty());
        *request.uri_mut() = url.parse::<Uri>().map_err(|why| why.to_string())?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(tag) = tag {
            request.headers_mut().insert(IF_NONE_MATCH, tag);
        }
        let user = UserInfo {
            name: "system:kube-aggregator".into(),
            groups: vec!["system:masters".into()],
            ..UserInfo::default()
        };
        name_user(request.headers_mut(), &user)?;
        let answer = self.outbound.ask(&target, request, LOOK).await.map_err(|why| why.to_string())?;
        Ok((url, answer))
    }
}
