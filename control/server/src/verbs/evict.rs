//! `pods/eviction`: a deletion that respects disruption budgets.

use std::sync::Arc;

use carrack_api::schema::bodies;
use carrack_api::{Resource, find, meta, status};
use carrack_store::{KeyValue, Range};
use jiff::Timestamp;
use serde_json::Value;

use super::budget::{self, Standing, Verdict};
use super::delete;
use crate::call::{Answer, Body, Call};
use crate::options::{DeleteOptions, WriteOptions, Writing};
use crate::registry::Swap;
use crate::{ApiError, Operation, side};

const EVICTION: (&str, &str) = ("policy/v1", "Eviction");

/// How often a lost race is run again.
const ATTEMPTS: usize = 128;

/// Deletes the pod as the Eviction in the body asks; 429 where its budget does not allow it now.
pub(super) async fn create(call: &Call, body: Body) -> Result<Answer, ApiError> {
    let options = WriteOptions::parse(&call.query, Writing::Create)?;
    let mut eviction = call.decode_as(&body, &bodies::EVICTION, EVICTION, &options)?;
    meta::check_name(&eviction, call.name())?;
    meta::check_namespace(&eviction, call.namespace())?;
    let admission = call.admission(Operation::Create, EVICTION.1, None, options.dry_run);
    call.mutate(&admission, &mut eviction).await?;
    call.judge(&admission, Some(&eviction)).await?;
    let mut deletion = DeleteOptions::parse(&call.query, eviction.get("deleteOptions"))?;
    deletion.dry_run |= options.dry_run;
    evict(call, deletion).await?;
    let mut done = status::success(&call.resource, call.name(), "");
    done.code = 201;
    done.details = None;
    Ok(Answer::Other(201, done.to_value()))
}

async fn evict(call: &Call, asked: DeleteOptions) -> Result<(), ApiError> {
    let key = call.resource.key(call.namespace(), call.name());
    for _ in 0..ATTEMPTS {
        let kv = call.registry().get_key(key.clone()).await?.ok_or_else(|| call.not_found())?;
        let pod = call.read(&kv).await?.object()?;
        // Before a budget gives anything for it.
        delete::check_preconditions(call, call.name(), &pod, &asked)?;
        let standing = budget::standing(&pod);
        if standing == Standing::Guarded {
            return disrupt(call, &pod, asked).await;
        }
        let mut deletion = asked.clone();
        if standing == Standing::Waiting {
            // It may start meanwhile, and be looked at again.
            deletion.resource_version.get_or_insert_with(|| meta::resource_version(&pod).to_owned());
        }
        match delete::delete_named(call, call.name(), &deletion).await {
            Err(error) if error.code == 409 && asked.resource_version.is_none() => {}
            ended => return ended.map(drop),
        }
    }
    Err(status::conflict(&call.resource, call.name(), status::OPTIMISTIC_LOCK).into())
}

/// Evicts a running pod: asks its budget, says in a condition why it goes, and deletes it.
async fn disrupt(call: &Call, pod: &Value, asked: DeleteOptions) -> Result<(), ApiError> {
    let mut deletion = asked.clone();
    let mut free_of = None;
    match &budgets_of(call, pod).await?[..] {
        [] => {}
        [kv] => free_of = take(call, pod, kv, asked.dry_run).await?,
        _ => {
            let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(ApiError::new(500, "", why));
        }
    }
    if free_of.is_some() {
        // It must not have become ready since.
        deletion.resource_version.get_or_insert_with(|| meta::resource_version(pod).to_owned());
    }
    let done = match mark(call, &mut deletion).await {
        Ok(()) => delete::delete_named(call, call.name(), &deletion).await.map(drop),
        Err(error) => Err(error),
    };
    match (done, free_of) {
        (Err(error), Some(name)) if error.code == 409 && asked.resource_version.is_none() => {
            Err(budget::unknown(&name))
        }
        (done, _) => done,
    }
}

/// The budgets that are about the pod.
async fn budgets_of(call: &Call, pod: &Value) -> Result<Vec<Arc<KeyValue>>, ApiError> {
    let all = call.registry().range(Range::prefix(budgets()?.list_prefix(call.namespace()))).await?;
    let mut own = Vec::new();
    let budgets = call.on(budgets()?);
    for kv in all.kvs {
        if budget::guards(&budgets.read(&kv).await?.object()?, pod) {
            own.push(kv);
        }
    }
    Ok(own)
}

/// The resource of budgets.
fn budgets() -> Result<&'static Resource, ApiError> {
    let row = find("policy", "v1", "poddisruptionbudgets");
    row.ok_or_else(|| ApiError::internal("the table has no poddisruptionbudgets"))
}

/// Takes one eviction from the budget; its name where it gives the pod for nothing.
async fn take(
    call: &Call,
    pod: &Value,
    kv: &Arc<KeyValue>,
    dry_run: bool,
) -> Result<Option<String>, ApiError> {
    let budgets = call.on(budgets()?);
    let mut present = Some(kv.clone());
    let mut name = String::new();
    for _ in 0..ATTEMPTS {
        // A budget that went meanwhile guards nothing.
        let Some(kv) = present else { return Ok(None) };
        let budget = budgets.read(&kv).await?.object()?;
        name = meta::name(&budget).to_owned();
        let taken = match budget::judge(&budget, pod, Timestamp::now())? {
            Verdict::Free => return Ok(Some(name)),
            Verdict::Taken(_) if dry_run => return Ok(None),
            Verdict::Taken(taken) => budgets.encode(&taken).await?,
        };
        let key = budgets.resource.key(call.namespace(), &name);
        match budgets.put(&key, kv.mod_revision, taken, side::keep(&kv)).await? {
            Swap::Done(_) => return Ok(None),
            Swap::Lost(found) => present = found,
        }
    }
    let why = format!("couldn't update PodDisruptionBudget {name:?} due to conflicts");
    Err(status::timeout(&why, 10).into())
}

/// Writes the condition that says why the pod goes. A pod that has to be of a certain revision is then of the next one.
async fn mark(call: &Call, deletion: &mut DeleteOptions) -> Result<(), ApiError> {
    if deletion.dry_run {
        return Ok(());
    }
    let key = call.resource.key(call.namespace(), call.name());
    let mut present = call.registry().get_key(key.clone()).await?;
    for _ in 0..ATTEMPTS {
        let Some(kv) = present else { return Err(call.not_found()) };
        let pod = call.read(&kv).await?.object()?;
        delete::check_preconditions(call, call.name(), &pod, deletion)?;
        let value = call.encode(&budget::marked(&pod, Timestamp::now())).await?;
        match call.put(&key, kv.mod_revision, value, side::keep(&kv)).await? {
            Swap::Done(revision) => {
                if let Some(wanted) = &mut deletion.resource_version {
                    *wanted = revision.to_string();
                }
                return Ok(());
            }
            Swap::Lost(found) => present = found,
        }
    }
    Err(status::conflict(&call.resource, call.name(), status::OPTIMISTIC_LOCK).into())
}
