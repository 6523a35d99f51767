//! Reviews: questions in the form of objects that are answered and not stored.

use carrack_api::meta;

use crate::authn::notes::gathered;
use crate::authz::Reviewer;
use crate::call::{Answer, Body, Call};
use crate::options::{WriteOptions, Writing};
use crate::{ApiError, audit, used_tokens};

/// Answers the review in the body.
pub(super) async fn create(call: &Call, body: Body) -> Result<Answer, ApiError> {
    let options = WriteOptions::parse(&call.query, Writing::Create)?;
    let review = call.decode(&body, &options)?;
    if !call.namespace().is_empty() {
        meta::check_namespace(&review, call.namespace())?;
    }
    let reviewer = Reviewer {
        authorizers: call.server.config.authorizers.clone(),
        authenticator: call.server.config.authenticator.clone(),
    };
    let answered = reviewer.answer(call.resource.plural, &call.attributes.user, call.namespace(), review);
    let (answered, learned) = gathered(answered).await;
    call.warnings.add(learned.warnings.iter().map(|text| (*text).to_owned()));
    for (key, value) in &learned.annotations {
        audit::annotate(key, value);
    }
    if let Some(used) = learned.used {
        used_tokens::mark(&call.server, used);
    }
    let review = answered.ok_or_else(|| {
        ApiError::from(carrack_api::status::not_implemented(&call.resource.group_resource()))
    })??;
    Ok(Answer::Object(201, review))
}
