//! `delete`: at once, gracefully, or as soon as finalizers let go.
//!
//! What a deletion comes to is decided by [`plan`], a pure function of the object, the options and the time.

use carrack_api::codec;
use carrack_api::schema::bodies;
use carrack_api::strategy::Strategy;
use carrack_api::{meta, status};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::call::{Answer, Body, Call};
use crate::object::to_served;
use crate::options::{DeleteOptions, Propagation};
use crate::registry::Swap;
use crate::rewrite::{is_namespace, spec_finalizers};
use crate::{ApiError, Operation, quota, side};

/// How often a lost race is run again.
const ATTEMPTS: usize = 128;
/// Holds an object until its dependents have lost their references to it.
const ORPHAN: &str = "orphan";
/// Holds an object until its dependents are gone.
const FOREGROUND: &str = "foregroundDeletion";
/// Kinds whose deletion answers the object and not a `Status`, as upstream has it.
const ANSWERS_OBJECT: &[&str] = &[
    "pods",
    "services",
    "serviceaccounts",
    "podtemplates",
    "persistentvolumes",
    "persistentvolumeclaims",
    "resourcequotas",
];

/// What a deletion comes to.
#[derive(Debug, PartialEq)]
enum Plan {
    /// The object goes now.
    Remove,
    /// The object stays for now and becomes this.
    Mark(Value),
    /// The object's deletion is under way, and this request changes nothing.
    Pending,
}

/// Deletes the object that the request names.
pub(super) async fn delete(call: &Call, body: Body) -> Result<Answer, ApiError> {
    let options = parse_options(call, &body)?;
    delete_named(call, call.name(), &options).await
}

/// Reads the options from the body, if there is one, and the query.
pub(super) fn parse_options(call: &Call, body: &Body) -> Result<DeleteOptions, ApiError> {
    if body.is_empty() {
        return DeleteOptions::parse(&call.query, None);
    }
    let (text, media) = call.text_of(body, &bodies::DELETE_OPTIONS)?;
    let decoded = codec::decode_type(&text, media, &bodies::DELETE_OPTIONS)
        .map_err(|e| ApiError::bad_request(format!("DeleteOptions cannot be decoded: {e}")))?;
    let found = decoded.value.get("kind").and_then(Value::as_str).unwrap_or("DeleteOptions");
    if found != "DeleteOptions" {
        return Err(ApiError::bad_request(format!("the body of a deletion is DeleteOptions, not {found}")));
    }
    let options = DeleteOptions::parse(&call.query, Some(&decoded.value))?;
    let _ = call.deletion.set(decoded.value);
    Ok(options)
}

/// Deletes one object.
pub(super) async fn delete_named(
    call: &Call,
    name: &str,
    options: &DeleteOptions,
) -> Result<Answer, ApiError> {
    let key = call.resource.key(call.namespace(), name);
    // As upstream: only who says that dependents are not orphaned, in the old way, is told that the object is still there.
    let marked = if options.cascades { 202 } else { 200 };
    let mut present = call.registry().get_key(key.clone()).await?;
    for _ in 0..ATTEMPTS {
        let Some(kv) = present else {
            return Err(status::not_found(&call.resource, name).into());
        };
        let old = call.read(&kv).await?.object()?;
        check_preconditions(call, name, &old, options)?;
        let admission = call.admission(Operation::Delete, call.resource.kind, Some(&old), options.dry_run);
        call.judge(&admission, None).await?;
        let now = Timestamp::now();
        let plan = if is_namespace(call) {
            plan_namespace(&old, now)
        } else {
            plan(call.strategy(), &old, options, now)
        };
        present = match plan {
            Plan::Pending => return Ok(Answer::Stored(marked, call.read(&kv).await?)),
            Plan::Remove if options.dry_run => return Ok(removed(call, name, old)),
            Plan::Mark(mut object) if options.dry_run => {
                to_served(&call.resource, &mut object);
                return Ok(Answer::Object(marked, object));
            }
            Plan::Remove => {
                let beside = side::prepare(call, Some(&old), None, false).await?;
                let beside = beside.with(quota::charge(call, Some(&old), None, true).await?);
                match call.remove(&key, kv.mod_revision, beside).await? {
                    Swap::Done(_) => return Ok(removed(call, name, old)),
                    Swap::Lost(found) => found,
                }
            }
            Plan::Mark(object) => {
                let value = call.encode(&object).await?;
                match call.put(&key, kv.mod_revision, value.clone(), side::keep(&kv)).await? {
                    Swap::Done(revision) => {
                        return Ok(Answer::Stored(marked, call.written(value, revision).await?));
                    }
                    Swap::Lost(found) => found,
                }
            }
        };
    }
    Err(status::conflict(&call.resource, name, status::OPTIMISTIC_LOCK).into())
}

/// The answer to a deletion that is done.
fn removed(call: &Call, name: &str, mut old: Value) -> Answer {
    if call.resource.group.is_empty() && ANSWERS_OBJECT.contains(&call.resource.plural) {
        to_served(&call.resource, &mut old);
        return Answer::Object(200, old);
    }
    Answer::success(&call.resource, name, meta::uid(&old))
}

/// Checks UID and resourceVersion.
pub(super) fn check_preconditions(
    call: &Call,
    name: &str,
    old: &Value,
    options: &DeleteOptions,
) -> Result<(), ApiError> {
    if let Some(uid) = &options.uid
        && uid != meta::uid(old)
    {
        return Err(status::deletion_precondition(&call.resource, name, "UID", uid, meta::uid(old)).into());
    }
    if let Some(wanted) = &options.resource_version
        && wanted != meta::resource_version(old)
    {
        let found = meta::resource_version(old);
        return Err(
            status::deletion_precondition(&call.resource, name, "ResourceVersion", wanted, found).into()
        );
    }
    Ok(())
}

/// What the deletion of a namespace comes to: its content goes first, and `spec.finalizers` say when it is gone.
fn plan_namespace(old: &Value, now: Timestamp) -> Plan {
    let held = !spec_finalizers(old).is_empty() || meta::finalizers(old).next().is_some();
    match (meta::is_deleting(old), held) {
        (_, false) => Plan::Remove,
        (true, true) => Plan::Pending,
        (false, true) => {
            let mut new = old.clone();
            meta::set(&mut new, "deletionTimestamp", meta::format_time(now));
            if let Some(fields) = new.as_object_mut() {
                let status = fields.entry("status").or_insert_with(|| json!({}));
                status["phase"] = json!("Terminating");
            }
            Plan::Mark(new)
        }
    }
}

/// What a deletion comes to for all other kinds. `old` is the object as it is.
fn plan(strategy: &dyn Strategy, old: &Value, options: &DeleteOptions, now: Timestamp) -> Plan {
    let mut new = old.clone();
    if !meta::is_deleting(old) {
        strategy.prepare_delete(&mut new, now);
    }
    set_collector_finalizers(&mut new, options.propagation);
    let held = meta::finalizers(&new).next().is_some();
    if meta::is_deleting(old) {
        return plan_again(strategy, old, new, held, options.grace_seconds);
    }
    let grace = strategy.grace_period(old, options.grace_seconds).unwrap_or(0);
    if grace == 0 && !held {
        return Plan::Remove;
    }
    meta::mark_deleted(&mut new, now, grace);
    Plan::Mark(new)
}

/// A further deletion of an object whose deletion has begun: it may shorten the grace, and change what holds the
/// object.
fn plan_again(strategy: &dyn Strategy, old: &Value, mut new: Value, held: bool, asked: Option<i64>) -> Plan {
    let before = meta::deletion_grace(old).unwrap_or(0);
    // Only a grace that the client names shortens: the kind's own was applied by the first deletion.
    let grace = match asked {
        Some(_) => strategy.grace_period(old, asked).unwrap_or(0).min(before),
        None => before,
    };
    if grace == 0 && !held {
        return Plan::Remove;
    }
    if grace < before {
        let began = meta::deletion_time(old).unwrap_or(Timestamp::UNIX_EPOCH)
            - jiff::SignedDuration::from_secs(before);
        meta::mark_deleted(&mut new, began, grace);
    }
    if new == *old { Plan::Pending } else { Plan::Mark(new) }
}

/// Sets or drops the garbage collector's finalizers as the propagation asks; unsaid, they stay as they are.
fn set_collector_finalizers(object: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else { return };
    let mut finalizers: Vec<String> =
        meta::finalizers(object).filter(|f| *f != ORPHAN && *f != FOREGROUND).map(str::to_owned).collect();
    match propagation {
        Propagation::Orphan => finalizers.push(ORPHAN.to_owned()),
        Propagation::Foreground => finalizers.push(FOREGROUND.to_owned()),
        Propagation::Background => {}
    }
    if finalizers.is_empty() {
        if let Some(metadata) = meta::metadata_mut(object) {
            metadata.remove("finalizers");
        }
    } else {
        meta::set(object, "finalizers", finalizers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods() -> &'static dyn Strategy {
        carrack_api::find("", "v1", "pods").unwrap().strategy()
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn pod(node: &str) -> Value {
        let mut pod = json!({"metadata": {"name": "a"}, "spec": {"terminationGracePeriodSeconds": 30}});
        if !node.is_empty() {
            pod["spec"]["nodeName"] = json!(node);
        }
        pod
    }

    fn marked(plan: Plan) -> (String, i64) {
        let Plan::Mark(object) = plan else { panic!("not marked: {plan:?}") };
        let time = object["metadata"]["deletionTimestamp"].as_str().unwrap().to_owned();
        (time, object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap())
    }

    #[test]
    fn unbound_pods_go_at_once_and_bound_ones_gracefully() {
        let options = DeleteOptions::default();
        assert_eq!(plan(pods(), &pod(""), &options, now()), Plan::Remove);
        let expected = ("2026-01-01T00:00:30Z".to_owned(), 30);
        assert_eq!(marked(plan(pods(), &pod("n"), &options, now())), expected);
        let force = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
        assert_eq!(plan(pods(), &pod("n"), &force, now()), Plan::Remove);
    }

    #[test]
    fn a_second_deletion_only_shortens() {
        let Plan::Mark(terminating) = plan(pods(), &pod("n"), &DeleteOptions::default(), now()) else {
            panic!()
        };
        let ask = |seconds| DeleteOptions { grace_seconds: seconds, ..DeleteOptions::default() };
        let later = now() + jiff::SignedDuration::from_secs(5);
        assert_eq!(plan(pods(), &terminating, &ask(None), later), Plan::Pending);
        assert_eq!(plan(pods(), &terminating, &ask(Some(60)), later), Plan::Pending);
        let expected = ("2026-01-01T00:00:10Z".to_owned(), 10);
        assert_eq!(marked(plan(pods(), &terminating, &ask(Some(10)), later)), expected);
        assert_eq!(plan(pods(), &terminating, &ask(Some(0)), later), Plan::Remove);
    }

    #[test]
    fn finalizers_hold() {
        let maps = carrack_api::find("", "v1", "configmaps").unwrap().strategy();
        let held = json!({"metadata": {"name": "a", "finalizers": ["x/y"]}});
        let Plan::Mark(first) = plan(maps, &held, &DeleteOptions::default(), now()) else { panic!() };
        assert_eq!(first["metadata"]["deletionGracePeriodSeconds"], json!(0));
        assert_eq!(plan(maps, &first, &DeleteOptions::default(), now()), Plan::Pending);
        let plain = json!({"metadata": {"name": "a"}});
        for (propagation, finalizer) in [(Propagation::Orphan, ORPHAN), (Propagation::Foreground, FOREGROUND)]
        {
            let options = DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() };
            let Plan::Mark(object) = plan(maps, &plain, &options, now()) else { panic!() };
            assert_eq!(object["metadata"]["finalizers"], json!([finalizer]));
            let background =
                DeleteOptions { propagation: Some(Propagation::Background), ..DeleteOptions::default() };
            assert_eq!(plan(maps, &object, &background, now()), Plan::Remove);
        }
    }

    #[test]
    fn namespaces_wait_for_their_content() {
        let namespace = json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}});
        let Plan::Mark(object) = plan_namespace(&namespace, now()) else { panic!() };
        assert_eq!(object["status"]["phase"], json!("Terminating"));
        assert_eq!(plan_namespace(&object, now()), Plan::Pending);
        let mut empty = object;
        empty["spec"]["finalizers"] = json!([]);
        assert_eq!(plan_namespace(&empty, now()), Plan::Remove);
    }
}
