//! Validating webhooks: all that are meant, at once.

use std::sync::Arc;

use futures::future::join_all;
use serde_json::Value;

use super::ask::{Failure, ask, judge};
use super::asked::Asked;
use super::hook::Hook;
use crate::ApiError;

/// Asks all about `object` (in the stored form). Where several refuse, the first in their order is heard.
pub(super) async fn ask_all(
    asked: &Asked<'_>,
    hooks: &[Arc<Hook>],
    object: Option<&Value>,
) -> Result<(), ApiError> {
    let mut meant = Vec::new();
    for hook in hooks {
        if let Some(form) = asked.form(hook, object).await? {
            meant.push((hook, form));
        }
    }
    let answers = join_all(meant.iter().map(|(hook, form)| async move {
        let shown = asked.show_any(form, object).await.map_err(Failure::Refused)?;
        ask(asked, hook, form, false, shown.as_ref()).await
    }));
    for ((hook, _), answer) in meant.iter().zip(answers.await) {
        if let Err(failure) = answer {
            judge(hook, failure)?;
        }
    }
    Ok(())
}
