//! What webhooks answer.

use serde_json::Value;

use super::hook::Version;
use super::review::verdict;
use super::status::denied;

/// An answer to a review, of either kind of webhook, and the refusal that it makes.
pub(crate) fn answer(answer: &Value) {
    for (version, mutating) in [(Version::V1, true), (Version::V1, false), (Version::V1Beta1, true)] {
        if let Ok(verdict) = verdict(version, "uid", mutating, answer) {
            drop(denied("w", verdict.status.as_ref()).to_string());
        }
    }
}
