//! Asks one webhook.

use serde_json::Value;

use super::super::matching::Form;
use super::asked::Asked;
use super::hook::Hook;
use super::review::{self, Question, Verdict};
use super::status;
use crate::ApiError;
use crate::audit;

/// Why a webhook's answer does not let the request through.
pub(super) enum Failure {
    /// It could not be asked, or its answer cannot be used: `failurePolicy` says what comes of it.
    Calling(String),
    /// It, or a rule about it, refuses the request.
    Refused(ApiError),
}

/// Asks about `object` (in the form that the webhook wants; `None` for deletions) and returns the JSON patch, which
/// is empty when nothing is to change.
pub(super) async fn ask(
    asked: &Asked<'_>,
    hook: &Hook,
    form: &Form,
    mutating: bool,
    object: Option<&Value>,
) -> Result<Vec<u8>, Failure> {
    if asked.request.dry_run && !hook.for_dry_runs {
        let why = format!("admission webhook {:?} does not support dry run", hook.name);
        return Err(Failure::Refused(ApiError::bad_request(why)));
    }
    let calling = |what: &str, why: &dyn std::fmt::Display| Failure::Calling(format!("{what}: {why}"));
    let version = hook.version.ok_or_else(|| {
        calling("could not create admission objects", &"it accepts no version of AdmissionReview known here")
    })?;
    let webhooks = &asked.call.server.webhooks;
    let target = hook.target(webhooks.users(mutating));
    let target = target.map_err(|why| calling("could not get REST client", why))?;
    let uid = uuid::Uuid::new_v4().to_string();
    let question = question(asked, form, &uid, object).await.map_err(Failure::Refused)?;
    let body = serde_json::to_vec(&review::question(version, question))
        .map_err(|why| calling("could not create admission objects", &why))?;
    // The webhook is told, in seconds, how long it has.
    let url = format!("{}?timeout={}s", target.url(), hook.timeout.as_millis().div_ceil(1000));
    let answer = webhooks.outbound.post(target, &url, body, hook.timeout).await;
    let answer = answer.map_err(|why| calling("failed to call webhook", &why))?;
    if !answer.status.is_success() {
        let why = status::unexpected(answer.status.as_u16(), &answer.body);
        return Err(calling("failed to call webhook", &why));
    }
    let answer: Value =
        serde_json::from_slice(&answer.body).map_err(|why| calling("failed to call webhook", &why))?;
    let verdict = review::verdict(version, &uid, mutating, &answer)
        .map_err(|why| calling("received invalid webhook response", &why))?;
    settle(asked, hook, verdict)
}

/// All that a review, or a condition, is told of the request.
pub(super) async fn question<'a>(
    asked: &'a Asked<'a>,
    form: &'a Form,
    uid: &'a str,
    object: Option<&'a Value>,
) -> Result<Question<'a>, ApiError> {
    let request = asked.request;
    let (name, namespace) = asked.place(object);
    Ok(Question {
        uid,
        kind: asked.kind(form),
        form,
        request_kind: asked.kind(asked.own_form()),
        request_form: asked.own_form(),
        subresource: &request.attributes.subresource,
        name,
        namespace,
        operation: request.operation,
        user: &request.attributes.user,
        object: object.cloned().unwrap_or(Value::Null),
        old: asked.show_any(form, request.old).await?.unwrap_or(Value::Null),
        dry_run: request.dry_run,
        options: asked.options(),
    })
}

/// Hands on what a verdict says beside its patch.
fn settle(asked: &Asked<'_>, hook: &Hook, verdict: Verdict) -> Result<Vec<u8>, Failure> {
    for (key, value) in &verdict.annotations {
        audit::annotate(key, value);
    }
    asked.call.warnings.add(verdict.warnings);
    if !verdict.allowed {
        return Err(Failure::Refused(status::denied(&hook.name, verdict.status.as_ref())));
    }
    if !verdict.patch.is_empty() && verdict.patch_type != "JSONPatch" {
        return Err(Failure::Calling(format!("unsupported patch type {:?}", verdict.patch_type)));
    }
    Ok(verdict.patch)
}

/// What comes of a failure: nothing, when the webhook's may be ignored, or the request's end.
pub(super) fn judge(hook: &Hook, failure: Failure) -> Result<(), ApiError> {
    match failure {
        Failure::Refused(error) => Err(error),
        Failure::Calling(why) if hook.ignores_failure => {
            let configuration = &hook.configuration;
            tracing::warn!(configuration, "{}; the request goes on", status::calling(&hook.name, &why));
            Ok(())
        }
        Failure::Calling(why) => Err(status::not_asked(&hook.name, &why)),
    }
}
