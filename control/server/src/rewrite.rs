//! Changing a stored object: the loop that updates, patches and subresources share.
//!
//! Each round reads the object, lets the caller make the wanted one, runs it through the kind's rules and
//! admission, and swaps it in if nobody else wrote meanwhile. A round that loses starts over with what is there
//! then, so that only a caller who insists on a resourceVersion meets a conflict.

use std::sync::Arc;

use carrack_api::schema::always::complete_stored;
use carrack_api::status::{self, FieldError, FieldPath};
use carrack_api::{Scope, meta};
use carrack_store::KeyValue;
use serde_json::Value;

use crate::admission::policy::typecheck;
use crate::call::{Answer, Call};
use crate::definitions::rules;
use crate::object::{Stored, to_served};
use crate::registry::Swap;
use crate::{ApiError, Operation, quota, side, tracking};

/// How often a lost race is run again. Each loss means that another writer won, so that this many writers of
/// one object at once get through.
const ATTEMPTS: usize = 128;

/// Which part of the object a write may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All but the status.
    Object,
    /// The status.
    Status,
    /// What the subresource of this name owns, such as `resize`.
    Sub(&'static str),
    /// What the closure changes and nothing else: the server's own steps, such as a binding.
    Exact,
}

/// What became of the object.
pub(crate) enum Rewritten {
    /// It is (or with this content was) stored.
    Stored(Stored),
    /// It would look like this (dry run), or looked like this when it was removed; in the stored form.
    Object(Value),
}

impl Rewritten {
    /// The answer of a verb that answers the object itself.
    pub(crate) fn into_answer(self, call: &Call) -> Answer {
        match self {
            Rewritten::Stored(stored) => Answer::Stored(200, stored),
            Rewritten::Object(mut object) => {
                to_served(&call.resource, &mut object);
                Answer::Object(200, object)
            }
        }
    }

    /// The object in the form that writes work on, with its resourceVersion.
    pub(crate) fn into_object(self) -> Result<Value, ApiError> {
        match self {
            Rewritten::Stored(stored) => stored.object(),
            Rewritten::Object(object) => Ok(object),
        }
    }
}

/// Changes the object that the call names to what `change` makes of the present one (both in the stored form,
/// with resourceVersion). `None` when there is no such object.
pub(crate) async fn rewrite(
    call: &Call,
    name: &str,
    part: Part,
    dry_run: bool,
    mut change: impl FnMut(&Value) -> Result<Value, ApiError> + Send,
) -> Result<Option<Rewritten>, ApiError> {
    let key = call.resource.key(call.namespace(), name);
    let mut present = call.registry().get_key(key.clone()).await?;
    for _ in 0..ATTEMPTS {
        let Some(kv) = present else { return Ok(None) };
        let mut old = call.read(&kv).await?.object()?;
        // What was stored by an older server lacks what would be taken for a change.
        complete_stored(&call.resource, &mut old);
        let new = change(&old)?;
        match round(call, &key, name, part, dry_run, &kv, &old, new).await? {
            Round::Done(result) => return Ok(Some(result)),
            Round::Lost(found) => present = found,
        }
    }
    Err(status::conflict(&call.resource, name, status::OPTIMISTIC_LOCK).into())
}

/// What one round came to.
enum Round {
    Done(Rewritten),
    Lost(Option<Arc<KeyValue>>),
}

/// One round: rules, admission, validation, swap.
#[expect(clippy::too_many_arguments, reason = "the state of the one loop above")]
async fn round(
    call: &Call,
    key: &str,
    name: &str,
    part: Part,
    dry_run: bool,
    kv: &Arc<KeyValue>,
    old: &Value,
    mut new: Value,
) -> Result<Round, ApiError> {
    check_identity(call, name, part, &mut new, old)?;
    prepare(call, part, &mut new, old)?;
    // As upstream, which tells of a patch's only behind admission.
    call.dedup_owners(&mut new, call.info.verb == "patch");
    if part != Part::Exact {
        tracking::track(call, Some(old), &mut new).await?;
    }
    let admission = call.admission(Operation::Update, call.resource.kind, Some(old), dry_run);
    if call.mutate(&admission, &mut new).await? {
        call.dedup_owners(&mut new, true);
        check_identity(call, name, part, &mut new, old)?;
        prepare(call, part, &mut new, old)?;
    }
    typecheck::note(call, &admission, &mut new);
    let beside = match part {
        Part::Object => side::prepare(call, Some(old), Some(&mut new), dry_run).await?,
        Part::Status | Part::Sub(_) | Part::Exact => side::keep(kv),
    };
    validate(call, name, part, &new, old).await?;
    call.judge(&admission, Some(&new)).await?;
    if goes_now(call, &new, old) {
        if dry_run {
            return Ok(Round::Done(Rewritten::Object(new)));
        }
        let release = side::prepare(call, Some(old), None, false).await?;
        let release = release.with(quota::charge(call, Some(old), None, true).await?);
        return Ok(match call.remove(key, kv.mod_revision, release).await? {
            Swap::Done(revision) => {
                meta::set(&mut new, "resourceVersion", revision.to_string());
                Round::Done(Rewritten::Object(new))
            }
            Swap::Lost(found) => Round::Lost(found),
        });
    }
    let value = call.encode(&new).await?;
    // As upstream, a write that changes nothing brings what an old key encrypted under the present one.
    if value == kv.value && (dry_run || !call.registry().store().is_outdated(key.to_owned()).await?) {
        return Ok(Round::Done(Rewritten::Stored(call.read(kv).await?)));
    }
    let fact = matches!(part, Part::Status | Part::Exact);
    let beside = beside.with(quota::charge(call, Some(old), Some(&new), fact).await?);
    if dry_run {
        meta::set(&mut new, "resourceVersion", kv.mod_revision.to_string());
        return Ok(Round::Done(Rewritten::Object(new)));
    }
    Ok(match call.put(key, kv.mod_revision, value.clone(), beside).await? {
        Swap::Done(revision) => Round::Done(Rewritten::Stored(call.written(value, revision).await?)),
        Swap::Lost(found) => Round::Lost(found),
    })
}

/// Checks that the wanted object is the present one: name, namespace, UID and resourceVersion.
fn check_identity(call: &Call, name: &str, part: Part, new: &mut Value, old: &Value) -> Result<(), ApiError> {
    meta::check_name(new, name)?;
    meta::set(new, "name", name);
    if call.resource.scope == Scope::Namespaced {
        meta::check_namespace(new, call.namespace())?;
    }
    let (wanted, found) = (meta::uid(new), meta::uid(old));
    if !wanted.is_empty() && wanted != found {
        return Err(other_uid(call, name, wanted, found));
    }
    match meta::resource_version(new) {
        "" if part == Part::Object && !call.strategy().allows_unconditional_update() => {
            return Err(meta::resource_version_required(&call.resource, name).into());
        }
        // Upstream takes "0" for unset in writes.
        "" | "0" => {}
        wanted if wanted != meta::resource_version(old) => {
            return Err(status::conflict(&call.resource, name, status::OPTIMISTIC_LOCK).into());
        }
        _ => {}
    }
    let revision = meta::resource_version(old).to_owned();
    meta::set(new, "resourceVersion", revision);
    meta::stamp_update(new, old);
    Ok(())
}

/// The refusal of a uid that is not the object's: an update takes it for a precondition, a patch would change it.
pub(crate) fn other_uid(call: &Call, name: &str, wanted: &str, found: &str) -> ApiError {
    if call.info.verb == "update" {
        let key = call.resource.key(call.namespace(), name);
        return status::uid_mismatch(&call.resource, name, &key, wanted, found).into();
    }
    let at = FieldPath::root("metadata").child("uid");
    status::invalid_object(&call.resource, name, &[FieldError::invalid(&at, wanted, "field is immutable")])
        .into()
}

/// Applies the kind's rules about what a write may change.
fn prepare(call: &Call, part: Part, new: &mut Value, old: &Value) -> Result<(), ApiError> {
    let strategy = call.strategy();
    if part != Part::Exact {
        strategy.default(new);
    }
    complete_stored(&call.resource, new);
    match part {
        Part::Object => strategy.prepare_update(new, old),
        Part::Status => strategy.prepare_status_update(new, old),
        Part::Sub(name) if !strategy.prepare_part_update(name, new, old) => {
            return Err(not_built(call, name));
        }
        Part::Sub(_) | Part::Exact => {}
    }
    Ok(())
}

/// 501: a subresource that discovery names and that nobody answers yet.
pub(crate) fn not_built(call: &Call, subresource: &str) -> ApiError {
    let what = format!("subresource {subresource:?} of {}", call.resource.group_resource());
    status::not_implemented(&what).into()
}

/// Refuses what is not valid.
async fn validate(call: &Call, name: &str, part: Part, new: &Value, old: &Value) -> Result<(), ApiError> {
    let strategy = call.strategy();
    let (mut errors, warnings) = match part {
        Part::Object => strategy.review(new, Some(old)),
        Part::Status => (strategy.validate_status_update(new, old), Vec::new()),
        Part::Sub(name) => (strategy.validate_part_update(name, new, old), Vec::new()),
        Part::Exact => return Ok(()),
    };
    rules::judge(call, new, Some(old), &mut errors).await?;
    if !errors.is_empty() {
        return Err(status::invalid_object(&call.resource, name, &errors).into());
    }
    call.warnings.add(warnings);
    Ok(())
}

/// Whether the object's deletion has begun and nothing holds it any more after this write.
fn goes_now(call: &Call, new: &Value, old: &Value) -> bool {
    if !meta::is_deleting(old) || meta::finalizers(new).next().is_some() {
        return false;
    }
    if is_namespace(call) {
        return spec_finalizers(new).is_empty();
    }
    meta::deletion_grace(old) == Some(0)
}

/// Whether the call is about Namespace objects, which have finalizers of their own in `spec`.
pub(crate) fn is_namespace(call: &Call) -> bool {
    call.resource.group.is_empty() && call.resource.plural == "namespaces"
}

/// `spec.finalizers` of a namespace.
pub(crate) fn spec_finalizers(namespace: &Value) -> &[Value] {
    namespace.pointer("/spec/finalizers").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
