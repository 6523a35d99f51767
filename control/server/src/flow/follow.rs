//! Keeps the rules in step with the stored objects, the objects that every cluster has as they should be, and the seats
//! where they are wanted.

use std::sync::Weak;
use std::time::Duration;

use carrack_api::Resource;
use carrack_store::{KeyRange, Range, Store, Watch};
use futures::future::{select_all, try_join_all};
use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{bootstrap, share};
use crate::object::Stored;
use crate::server::{ApiServer, Inner};
use crate::{ApiError, StartError};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const PATH: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";
/// Changes within this time are taken in together.
const GATHER: Duration = Duration::from_millis(100);
/// How often objects are counted, and those that every cluster has are looked at although nothing changed.
const CARE_EVERY: Duration = Duration::from_secs(60);
/// Wait after a failure.
const RETRY: Duration = Duration::from_secs(1);

fn row(plural: &str) -> Result<&'static Resource, ApiError> {
    carrack_api::find(GROUP, "v1", plural).ok_or_else(|| ApiError::internal(format!("no kind for {plural}")))
}

/// Makes the objects that every cluster has, and judges by what is stored.
pub(crate) async fn start(api: &ApiServer) -> Result<(), StartError> {
    let kinds = [("prioritylevelconfigurations", bootstrap::levels()), ("flowschemas", bootstrap::schemas())];
    for (plural, objects) in kinds {
        let found = stored(api, plural).await.map_err(refused)?;
        // At once: the store syncs them together.
        try_join_all(objects.iter().map(|wanted| keep(api, plural, &found, wanted))).await?;
    }
    load(api).await.map_err(refused)
}

fn refused(error: ApiError) -> StartError {
    StartError::Refused { what: PATH.to_owned(), message: error.to_string() }
}

/// One object: made if it is not there, brought back to what it should be if that is the server's to decide.
async fn keep(api: &ApiServer, plural: &str, found: &[Value], wanted: &Value) -> Result<(), StartError> {
    let present = found.iter().find(|found| found["metadata"]["name"] == wanted["metadata"]["name"]);
    if present.is_some_and(|present| bootstrap::amend(present, wanted).is_none()) {
        return Ok(());
    }
    let collection = format!("{PATH}/{plural}");
    api.ensure(&collection, wanted.clone(), |found| bootstrap::amend(found, wanted)).await
}

/// Follows the stored objects and cares for the seats, until the server ends.
pub(crate) async fn care(server: Weak<Inner>, store: Store, end: CancellationToken) {
    tokio::select! {
        () = end.cancelled() => {}
        () = async { tokio::join!(follow(server.clone(), store.clone()), adjust(server.clone()), count(server, store)); } => {}
    }
}

async fn adjust(server: Weak<Inner>) {
    loop {
        tokio::time::sleep(share::ADJUST_EVERY).await;
        let Some(inner) = server.upgrade() else { return };
        inner.flow.adjust();
    }
}

/// Counts what is stored: what lists cost is estimated by it.
async fn count(server: Weak<Inner>, store: Store) {
    loop {
        for row in carrack_api::resources().iter().filter(|row| !row.storage_prefix.is_empty()) {
            let all = Range::prefix(row.storage_prefix);
            let range = Range { count_only: true, serializable: true, ..all };
            let Ok(found) = store.range(range).await else { continue };
            let Some(inner) = server.upgrade() else { return };
            inner.flow.stored.write().insert(row.storage_prefix, found.count);
        }
        tokio::time::sleep(CARE_EVERY).await;
    }
}

async fn follow(server: Weak<Inner>, store: Store) {
    loop {
        let mut watchers = Vec::new();
        for plural in ["prioritylevelconfigurations", "flowschemas"] {
            let watcher = row(plural).and_then(|row| {
                store.watch(Watch::of(KeyRange::prefix(row.storage_prefix))).map_err(ApiError::from)
            });
            match watcher {
                Ok(watcher) => watchers.push(watcher),
                Err(error) => tracing::warn!(%error, "priority and fairness cannot be followed"),
            }
        }
        if watchers.is_empty() {
            return;
        }
        // Whatever changed before the watches began is taken in first.
        let mut at = Instant::now();
        let mut alive = true;
        while alive {
            tokio::time::sleep_until(at).await;
            let Some(inner) = server.upgrade() else { return };
            if let Err(error) = settle(&ApiServer { inner }).await {
                tracing::warn!(%error, "priority and fairness");
            }
            let next = select_all(watchers.iter_mut().map(|watcher| Box::pin(watcher.next())));
            if let Ok((change, ..)) = tokio::time::timeout(CARE_EVERY, next).await {
                alive = matches!(change, Some(Ok(_)));
            }
            at = Instant::now() + GATHER;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Brings back what was taken away, judges by what is stored, and says which schemas lead nowhere.
async fn settle(api: &ApiServer) -> Result<(), StartError> {
    start(api).await?;
    let schemas = stored(api, "flowschemas").await.unwrap_or_default();
    let levels = stored(api, "prioritylevelconfigurations").await.unwrap_or_default();
    for schema in schemas {
        let wanted = schema["spec"]["priorityLevelConfiguration"]["name"].as_str().unwrap_or_default();
        let exists = levels.iter().any(|level| level["metadata"]["name"] == wanted);
        let Some(marked) = mark(&schema, wanted, exists, Timestamp::now()) else { continue };
        let name = schema["metadata"]["name"].as_str().unwrap_or_default();
        let (code, answer) =
            api.request(Method::PUT, &format!("{PATH}/flowschemas/{name}/status"), Some(&marked)).await;
        if code >= 400 && code != 409 {
            tracing::warn!(schema = name, answer = %answer["message"], "cannot write the status of a FlowSchema");
        }
    }
    Ok(())
}

/// The schema with the condition that says whether its level exists; `None` when it says so.
fn mark(schema: &Value, level: &str, exists: bool, now: Timestamp) -> Option<Value> {
    let (status, reason, but) = match exists {
        true => ("False", "Found", "and it exists"),
        false => ("True", "NotFound", "but there is no such object"),
    };
    let conditions = schema["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    let present = conditions.iter().find(|c| c["type"] == "Dangling");
    if present.is_some_and(|c| c["status"] == status && c["reason"] == reason) {
        return None;
    }
    let condition = json!({
        "type": "Dangling", "status": status, "reason": reason,
        "lastTransitionTime": carrack_api::meta::format_time(now),
        "message": format!(
            "This FlowSchema references the PriorityLevelConfiguration object named {level:?} {but}"
        ),
    });
    let others = conditions.iter().filter(|c| c["type"] != "Dangling").cloned();
    let all: Vec<Value> = others.chain([condition]).collect();
    let mut marked = schema.clone();
    marked["status"]["conditions"] = all.into();
    Some(marked)
}

async fn stored(api: &ApiServer, plural: &str) -> Result<Vec<Value>, ApiError> {
    let found = api.inner.registry.range(Range::prefix(row(plural)?.storage_prefix)).await?;
    found.kvs.iter().map(|kv| Stored::from(&**kv).object()).collect()
}

async fn load(api: &ApiServer) -> Result<(), ApiError> {
    let (schemas, levels) =
        (stored(api, "flowschemas").await?, stored(api, "prioritylevelconfigurations").await?);
    api.inner.flow.configure(&schemas, &levels);
    Ok(())
}
