//! TaintNodesByCondition: a new node gets no pods before it says that it is ready. The node controller takes the taint
//! off.

use serde_json::{Value, json};

use super::{field_list, list, spec};
use crate::authn::text;
use crate::{Admission, AdmissionRequest, ApiError, Draft, Operation};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const EFFECT: &str = "NoSchedule";

/// The plugin.
pub struct TaintNodesByCondition;

#[async_trait::async_trait]
impl Admission for TaintNodesByCondition {
    async fn mutate(&self, request: &AdmissionRequest<'_>, node: &mut Draft<'_>) -> Result<(), ApiError> {
        let what = request.attributes;
        let created = request.operation == Operation::Create
            && what.api_group.is_empty()
            && what.resource == "nodes"
            && what.subresource.is_empty();
        let is_it = |taint: &Value| text(taint, "/key") == NOT_READY && text(taint, "/effect") == EFFECT;
        if created && !list(node, "/spec/taints").any(is_it) {
            field_list(spec(node), "taints").push(json!({"key": NOT_READY, "effect": EFFECT}));
        }
        Ok(())
    }
}
