//! `log`, `exec`, `attach` and `portforward` of pods: found here, answered by the pod's node.

use carrack_api::find;
use serde_json::{Map, Value, json};

use crate::call::{Answer, Call};
use crate::object::Stored;
use crate::{ApiError, NodeRequest, Operation, RequestBody};

/// The kind of the options of each connection, as admission names it.
const OPTIONS: &[(&str, &str)] =
    &[("exec", "PodExecOptions"), ("attach", "PodAttachOptions"), ("portforward", "PodPortForwardOptions")];

/// Hands the request to the node of the pod that it names.
pub(super) async fn connect(call: &Call, request: http::Request<RequestBody>) -> Result<Answer, ApiError> {
    let subresource = call.subresource.map_or("", |s| s.name);
    let found = call.registry().get(&call.resource, call.namespace(), call.name()).await?;
    let pod = Stored::from(&*found.ok_or_else(|| call.not_found())?).object()?;
    if let Some((_, kind)) = OPTIONS.iter().find(|(name, _)| *name == subresource) {
        // A WebSocket is opened by GET; reading rights are no rights to run commands (upstream's
        // AuthorizePodWebsocketUpgradeCreatePermission).
        if call.info.verb != "create" {
            super::create::authorize(call).await?;
        }
        let mut options = options(call, kind);
        let admission = call.admission(Operation::Connect, kind, None, false);
        call.mutate(&admission, &mut options).await?;
        call.judge(&admission, Some(&options)).await?;
    }
    if subresource == "log" && node_of(&pod).is_empty() {
        // Nothing has run yet, so that there is nothing to read; upstream answers the same.
        let mut nothing = http::Response::new(crate::full(""));
        *nothing.status_mut() = http::StatusCode::NO_CONTENT;
        return Ok(Answer::Ready(nothing));
    }
    let node = node(call, &pod).await?;
    let request = NodeRequest { pod, node, subresource: subresource.to_owned(), request };
    Ok(Answer::Ready(call.server.config.nodes.forward(request).await?))
}

fn node_of(pod: &Value) -> &str {
    pod.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default()
}

/// The node that the pod is bound to.
async fn node(call: &Call, pod: &Value) -> Result<Value, ApiError> {
    let name = node_of(pod);
    if name.is_empty() {
        return Err(ApiError::bad_request(format!("pod {} does not have a host assigned", call.name())));
    }
    let nodes = find("", "v1", "nodes").ok_or_else(|| ApiError::internal("the table has no nodes"))?;
    let found = call.registry().get(nodes, "", name).await?;
    let kv = found
        .ok_or_else(|| ApiError::internal(format!("the pod's node {name:?} is not registered (any more)")))?;
    Stored::from(&*kv).object()
}

/// The query as an options object.
fn options(call: &Call, kind: &str) -> Value {
    let mut options = Map::new();
    options.insert("kind".into(), kind.into());
    options.insert("apiVersion".into(), "v1".into());
    if let Some(container) = call.query.non_empty("container") {
        options.insert("container".into(), container.into());
    }
    let commands: Vec<&str> = call.query.all("command").collect();
    if !commands.is_empty() {
        options.insert("command".into(), commands.into());
    }
    for flag in ["stdin", "stdout", "stderr", "tty"] {
        if let Some(value) = call.query.optional_flag(flag) {
            options.insert(flag.into(), value.into());
        }
    }
    let ports: Vec<i64> =
        call.query.all("ports").flat_map(|p| p.split(',')).filter_map(|p| p.parse().ok()).collect();
    if !ports.is_empty() {
        options.insert("ports".into(), json!(ports));
    }
    options.into()
}
