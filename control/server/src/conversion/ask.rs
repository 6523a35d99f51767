//! Asks a webhook.

use std::time::Duration;

use carrack_api::custom::Webhook;
use serde_json::Value;

use super::Converter;
use super::review::{self, Version};
use crate::admission::webhook::unexpected;
use crate::outbound::Target;

/// How long a webhook has for its answer; upstream's figure.
const LIMIT: Duration = Duration::from_secs(30);

impl Converter {
    /// Asks a webhook for `objects` in the form of `desired`. An error is the whole message.
    pub(super) async fn ask(
        &self,
        webhook: &Webhook,
        desired: &str,
        objects: &[Value],
    ) -> Result<Vec<Value>, String> {
        let who = objects.first().map(review::subject).unwrap_or_default();
        let failed = |why: String| format!("conversion webhook for {who} failed: {why}");
        let version = Version::choose(&webhook.reviews)?;
        let target = Target::of_client_config(&webhook.client).map_err(|why| failed(why.to_string()))?;
        // As upstream, the webhook is told how long it has.
        let url = format!("{}?timeout={}s", target.url(), LIMIT.as_secs());
        let uid = uuid::Uuid::new_v4().to_string();
        let question = review::question(version, &uid, desired, objects);
        let body = serde_json::to_vec(&question).map_err(|why| failed(why.to_string()))?;
        let answer = tokio::select! {
            () = self.end.cancelled() => return Err(failed("the API server is shutting down".to_owned())),
            answer = self.outbound.post(&target, &url, body, LIMIT) => answer,
        };
        let answer = answer.map_err(|why| failed(why.to_string()))?;
        if !answer.status.is_success() {
            return Err(failed(unexpected(answer.status.as_u16(), &answer.body)));
        }
        let answer = serde_json::from_slice(&answer.body).map_err(|why| failed(why.to_string()))?;
        review::converted(version, &uid, desired, objects, answer)
    }
}
