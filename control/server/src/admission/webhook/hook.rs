//! One webhook, read from its configuration once.

use std::sync::OnceLock;
use std::time::Duration;

use carrack_api::select::SelectorError;
use serde_json::Value;

use super::super::matching::Matching;
use super::conditions::Conditions;
use crate::authn::text;
use crate::outbound::{Target, WebhookUsers};

/// How long a webhook gets when its configuration does not say; upstream's default.
const TIMEOUT_SECONDS: u64 = 10;

/// The versions of AdmissionReview that this server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V1Beta1,
}

/// A webhook.
pub(super) struct Hook {
    /// The name of the webhook.
    pub(super) name: String,
    /// The name of its configuration.
    pub(super) configuration: String,
    pub(super) matching: Matching,
    /// Where it is, or why that cannot be told.
    place: Result<Target, String>,
    /// The same with the credentials that are for it, once it is asked.
    target: OnceLock<Target>,
    /// Whether the request goes on when the webhook cannot be asked.
    pub(super) ignores_failure: bool,
    /// Whether it may be asked about dry runs.
    pub(super) for_dry_runs: bool,
    /// Whether it wants to see what others changed after it.
    pub(super) reinvoke: bool,
    pub(super) timeout: Duration,
    /// The first version in its list that this server speaks.
    pub(super) version: Option<Version>,
    /// What else it asks of requests, or why that cannot be told.
    pub(super) conditions: Result<Conditions, String>,
}

impl Hook {
    /// Reads an entry of `webhooks`.
    pub(super) fn read(configuration: &str, webhook: &Value) -> Result<Self, SelectorError> {
        let timeout = webhook.get("timeoutSeconds").and_then(Value::as_u64).unwrap_or(TIMEOUT_SECONDS);
        let list = |field: &str| webhook.get(field).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let config = webhook.get("clientConfig").unwrap_or(&Value::Null);
        Ok(Hook {
            name: text(webhook, "/name").to_owned(),
            configuration: configuration.to_owned(),
            matching: Matching::of_webhook(webhook)?,
            place: Target::of_client_config(config).map_err(|why| why.to_string()),
            target: OnceLock::new(),
            ignores_failure: text(webhook, "/failurePolicy") == "Ignore",
            for_dry_runs: matches!(text(webhook, "/sideEffects"), "None" | "NoneOnDryRun"),
            reinvoke: text(webhook, "/reinvocationPolicy") == "IfNeeded",
            timeout: Duration::from_secs(timeout),
            version: list("admissionReviewVersions").iter().find_map(|version| match version.as_str() {
                Some("v1") => Some(Version::V1),
                Some("v1beta1") => Some(Version::V1Beta1),
                _ => None,
            }),
            conditions: Conditions::read(webhook),
        })
    }

    /// What is called, as the user that `users` has for it; they are the same each time.
    pub(super) fn target(&self, users: Option<&WebhookUsers>) -> Result<&Target, &String> {
        let place = self.place.as_ref()?;
        let Some(users) = users else { return Ok(place) };
        Ok(self.target.get_or_init(|| users.known_to(place)))
    }
}
