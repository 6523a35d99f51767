//! `metrics.k8s.io/v1beta1`: what nodes and pods use, for `kubectl top` and autoscalers, as metrics-server serves it.
//!
//! Nothing is collected beforehand: the nodes that an answer is about are asked when it is wanted, and what they said is
//! kept for a moment ([`scrape`]). They compute rates of CPU use by themselves, so that the first answer is a whole one
//! and each server of a control plane can give it. An APIService that names a Service takes the group over, since
//! aggregation comes before this ([`crate::aggregation`]).

mod objects;
mod scrape;
mod summary;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use carrack_api::select::{Selection, View};
use carrack_api::{Resource, codec, find};
use carrack_store::{KeyRange, Range};
use jiff::Timestamp;
use serde_json::Value;

use crate::ApiError;
use crate::authn::text;
use crate::call::{Answer, Call};
use crate::verbs::answered;
pub(crate) use scrape::Scrapes;

const GROUP: &str = "metrics.k8s.io";

/// Answers `get` and `list` of both resources.
pub(crate) async fn read(call: &Call) -> Result<Answer, ApiError> {
    let of_nodes = call.resource.plural == "nodes";
    let is_get = call.info.verb == "get";
    let found = match is_get {
        true => vec![one(call).await?],
        false => selected(call).await?,
    };
    let mut made = if of_nodes { nodes(call, found).await } else { pods(call, found).await? };
    if !is_get {
        return answered::list(call, made);
    }
    made.pop().map(|object| Answer::Object(200, object)).ok_or_else(|| unknown(call, of_nodes))
}

/// 404 for what is there and has no measurements, in metrics-server's words.
fn unknown(call: &Call, of_nodes: bool) -> ApiError {
    match of_nodes {
        true => ApiError::not_found(GROUP, "nodemetrics", call.name()),
        false => {
            let name = format!("{}/{}", call.namespace(), call.name());
            ApiError::not_found(GROUP, "podmetrics", &name)
        }
    }
}

/// The row of the node or pod that a measurement is about.
fn measured(plural: &str) -> Result<&'static Resource, ApiError> {
    find("", "v1", plural).ok_or_else(|| ApiError::internal(format!("the table has no {plural}")))
}

/// Objects by their keys, without what says who manages them. As with an informer, they are those that this server
/// knows: a measurement is never newer.
async fn stored(call: &Call, keys: KeyRange) -> Result<Vec<Value>, ApiError> {
    let found = call.registry().range(Range { serializable: true, ..Range::of(keys) }).await?;
    let mut objects = Vec::with_capacity(found.kvs.len());
    for kv in &found.kvs {
        tokio::task::consume_budget().await;
        objects.push(codec::read_lean(&kv.value).map_err(ApiError::internal)?.object);
    }
    Ok(objects)
}

/// The node or pod that is named.
async fn one(call: &Call) -> Result<Value, ApiError> {
    let row = measured(call.resource.plural)?;
    let found = stored(call, KeyRange::key(row.key(call.namespace(), call.name()))).await?.pop();
    found.ok_or_else(|| ApiError::not_found("", row.plural, call.name()))
}

/// The nodes or pods that the selectors want, in the order of their names.
async fn selected(call: &Call) -> Result<Vec<Value>, ApiError> {
    let row = measured(call.resource.plural)?;
    let asked = |key| call.query.get(key).unwrap_or_default();
    let selection = Selection::parse(&call.resource, asked("labelSelector"), asked("fieldSelector"))
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let mut found = stored(call, KeyRange::prefix(row.list_prefix(call.namespace()))).await?;
    found.retain(|object| selection.matches(&View::of(&call.resource, object)));
    // The store's order is that of whole keys, in which `a-b/x` comes before `a/x`.
    let place = |object: &Value, field: &str| text(object, &format!("/metadata/{field}")).to_owned();
    found.sort_by_cached_key(|object| (place(object, "namespace"), place(object, "name")));
    Ok(found)
}

/// Whether the cluster has given a node up: its lease has run out. To ask it would only take time.
fn is_lost(node: &Value) -> bool {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "Unknown")
}

async fn nodes(call: &Call, mut found: Vec<Value>) -> Vec<Value> {
    found.retain(|node| !is_lost(node));
    let said = call.server.scrapes.of(&*call.server.config.nodes, &found).await;
    let now = Timestamp::now();
    let made = found.iter().filter_map(|node| {
        let reading = said.get(text(node, "/metadata/name"))?.node()?;
        Some(objects::node(node, reading, now))
    });
    made.collect()
}

async fn pods(call: &Call, mut found: Vec<Value>) -> Result<Vec<Value>, ApiError> {
    found.retain(|pod| text(pod, "/status/phase") == "Running");
    // A node is believed about its own pods alone.
    let names: BTreeSet<&str> = found.iter().map(|pod| text(pod, "/spec/nodeName")).collect();
    let row = measured("nodes")?;
    let mut hosts = Vec::with_capacity(names.len());
    for name in names.into_iter().filter(|name| !name.is_empty()) {
        hosts.extend(stored(call, KeyRange::key(row.key("", name))).await?);
    }
    hosts.retain(|node| !is_lost(node));
    let said = call.server.scrapes.of(&*call.server.config.nodes, &hosts).await;
    let now = Timestamp::now();
    let made = found.iter().filter_map(|pod| {
        let summary = said.get(text(pod, "/spec/nodeName"))?;
        let readings = summary.pod(text(pod, "/metadata/namespace"), text(pod, "/metadata/name"))?;
        objects::pod(pod, readings, now)
    });
    Ok(made.collect())
}
