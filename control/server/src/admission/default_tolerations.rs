//! DefaultTolerationSeconds: a pod stays five minutes on a node that does not answer, unless it says otherwise.

use serde_json::{Value, json};

use super::{field_list, is_pod, list, spec};
use crate::authn::text;
use crate::{Admission, AdmissionRequest, ApiError, Draft, Operation};

/// The taints of a node in trouble.
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
/// Upstream's default.
const SECONDS: i64 = 300;

/// The plugin.
pub struct DefaultTolerationSeconds;

#[async_trait::async_trait]
impl Admission for DefaultTolerationSeconds {
    async fn mutate(&self, request: &AdmissionRequest<'_>, pod: &mut Draft<'_>) -> Result<(), ApiError> {
        if !is_pod(request, &[Operation::Create, Operation::Update]) {
            return Ok(());
        }
        for taint in TAINTS {
            if list(pod, "/spec/tolerations").any(|toleration| tolerates(toleration, taint)) {
                continue;
            }
            field_list(spec(pod), "tolerations").push(json!({
                "key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS,
            }));
        }
        Ok(())
    }
}

/// Whether the toleration says something about the taint: no key means any, no effect every.
fn tolerates(toleration: &Value, taint: &str) -> bool {
    let (key, effect) = (text(toleration, "/key"), text(toleration, "/effect"));
    (key.is_empty() || key == taint) && (effect.is_empty() || effect == "NoExecute")
}
