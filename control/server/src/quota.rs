//! ResourceQuotas: the usage of a namespace changes in the very transaction that writes the object.
//!
//! A write that is not done charges nothing, a removal releases at once, and the transaction compares what the
//! decision was made from: N creations at once never exceed a quota, on however many servers they meet. Writers of
//! one namespace that are to be charged take turns within this process, so that they do not make each other start
//! over; nobody else waits for anything. What the transaction cannot know (a new quota, pods that should be gone) the
//! quota controller counts.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use carrack_api::quota::{self, Change, Demand, Insufficient, Kind, Quota};
use carrack_api::{Scope, meta, status};
use carrack_store::{Compare, CompareOp, CompareTarget, KeyRange, KeyValue, Op, Range, RangeResponse};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::OwnedMutexGuard;

use crate::ApiError;
use crate::call::Call;
use crate::object::encode;
use crate::object::parse;
use crate::registry::Beside;

/// Groups whose events are not counted, as upstream has it: they come and go by themselves.
const EVENTS: &[&str] = &["", "events.k8s.io"];

/// The right to charge a namespace's quotas, until it is dropped.
pub(crate) type Turn = OwnedMutexGuard<()>;

/// Whose turn it is, by namespace.
#[derive(Default)]
pub(crate) struct Turns(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Waits for a turn. Those who wait are requests, which are bounded and end by themselves.
    async fn take(&self, namespace: &str) -> Turn {
        let line = {
            let mut lines = self.0.lock();
            match lines.get(namespace).and_then(Weak::upgrade) {
                Some(line) => line,
                None => {
                    lines.retain(|_, line| line.strong_count() > 0);
                    let line = Arc::new(tokio::sync::Mutex::new(()));
                    lines.insert(namespace.to_owned(), Arc::downgrade(&line));
                    line
                }
            }
        };
        line.lock_owned().await
    }
}

/// What goes with changing `old` to `new` (a creation without `old`, a removal without `new`), to be written within
/// the turn that it holds. A `fact` is never refused. 403 when a quota does not allow it.
pub(crate) async fn charge(
    call: &Call,
    old: Option<&Value>,
    new: Option<&Value>,
    fact: bool,
) -> Result<Beside, ApiError> {
    let resource = &call.resource;
    let events = resource.plural == "events" && EVENTS.contains(&resource.group);
    let steps = call.server.admission_steps();
    if resource.scope != Scope::Namespaced || events || !steps.runs("ResourceQuota") {
        return Ok(Beside::default());
    }
    let kind = Kind::new(resource.group, resource.plural);
    let change = Change { kind, old, new, fact, now: Timestamp::now() };
    // Only creations grow by themselves; a quota that comes while one is under way begins with a count of its own.
    let looked = Range { serializable: true, ..quotas(call)? };
    let found = call.registry().range(looked).await?;
    let guard = new.filter(|_| old.is_none()).map(|_| none_newer(call, found.revision)).transpose()?;
    let mut beside = Beside { compare: guard.into_iter().collect(), ..Beside::default() };
    let demand = Demand::of(&steps.limited, &change);
    if demand.is_empty() && (found.kvs.is_empty() || !concerned(call, &change, &found)?) {
        return Ok(beside);
    }
    beside.turn = Some(call.server.turns.take(call.namespace()).await);
    let found = call.registry().range(quotas(call)?).await?;
    if !demand.is_empty() {
        cover(call, &change, &demand, &found, &mut beside)?;
    }
    for kv in &found.kvs {
        apply(call, &change, kv, &mut beside)?;
    }
    Ok(beside)
}

/// Refuses what is limited and not covered by any quota. What covers it has to be there when the object is written.
fn cover(
    call: &Call,
    change: &Change<'_>,
    demand: &Demand,
    found: &RangeResponse,
    beside: &mut Beside,
) -> Result<(), ApiError> {
    let mut quotas = Vec::with_capacity(found.kvs.len());
    for kv in &found.kvs {
        quotas.push(read(kv)?.1);
        beside.compare.push(Compare::mod_revision(kv.key.clone(), kv.mod_revision));
    }
    let name = || change.new.or(change.old).map_or(call.name(), meta::name);
    demand.check(&quotas, change).map_err(|refusal| match &refusal {
        Insufficient::Resources(_) => {
            status::forbidden_because(&call.resource, name(), &refusal.to_string()).into()
        }
        // Upstream's words, which do not begin as others do; its code is 500, which says that the server is at fault.
        Insufficient::Scopes(_) => ApiError::new(403, "Forbidden", refusal.to_string()),
    })
}

/// The quotas of the namespace.
fn quotas(call: &Call) -> Result<Range, ApiError> {
    Ok(Range::prefix(prefix(call)?))
}

fn prefix(call: &Call) -> Result<String, ApiError> {
    Ok(row()?.list_prefix(call.namespace()))
}

/// The row of quotas themselves.
fn row() -> Result<&'static carrack_api::Resource, ApiError> {
    let row = carrack_api::find("", "v1", "resourcequotas");
    row.ok_or_else(|| ApiError::internal("the table has no resourcequotas"))
}

/// Holds when no quota of the namespace came to be after `revision`.
fn none_newer(call: &Call, revision: i64) -> Result<Compare, ApiError> {
    Ok(Compare {
        keys: KeyRange::prefix(prefix(call)?),
        op: CompareOp::Less,
        target: CompareTarget::CreateRevision(revision + 1),
    })
}

/// Whether a quota may have something to say about the change.
fn concerned(call: &Call, change: &Change<'_>, found: &RangeResponse) -> Result<bool, ApiError> {
    for kv in &found.kvs {
        // A refusal may rest on an old look: the second one, which is up to date, decides.
        match read(kv)?.1.charge(change) {
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => return Ok(true),
        }
    }
    tracing::trace!(resource = call.resource.plural, "no quota is concerned");
    Ok(false)
}

fn read(kv: &KeyValue) -> Result<(Value, Quota), ApiError> {
    let object = parse(&kv.value)?;
    let quota = Quota::read(&object);
    Ok((object, quota))
}

/// Charges one quota.
fn apply(call: &Call, change: &Change<'_>, kv: &KeyValue, beside: &mut Beside) -> Result<(), ApiError> {
    let (mut object, quota) = read(kv)?;
    let name = || change.new.or(change.old).map_or(call.name(), meta::name);
    let used = quota.charge(change).map_err(|refusal| {
        ApiError::from(status::forbidden_because(&call.resource, name(), &refusal.to_string()))
    })?;
    if !quota.limits(change.kind) {
        return Ok(());
    }
    beside.compare.push(Compare::mod_revision(kv.key.clone(), kv.mod_revision));
    let Some(used) = used else { return Ok(()) };
    let Some(fields) = object.as_object_mut() else { return Ok(()) };
    // A quota that is written or removed itself cannot be written twice in one transaction: see `itself`.
    let status = fields.entry("status").or_insert_with(|| json!({}));
    status["used"] = quota::to_value(&used);
    if !itself(call, change, &object) {
        beside.then.push(Op::put(kv.key.clone(), encode(&object)?));
    }
    Ok(())
}

/// Whether the change is one of this very quota. Its own number is then left to the controller.
fn itself(call: &Call, change: &Change<'_>, quota: &Value) -> bool {
    let object = change.old.or(change.new);
    call.resource.plural == "resourcequotas"
        && call.resource.group.is_empty()
        && object.is_some_and(|object| meta::name(object) == meta::name(quota))
}
