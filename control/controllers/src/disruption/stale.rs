//! Pods that were marked as about to be disrupted and still run: after two minutes the mark goes.

use std::sync::Arc;
use std::time::Duration;

use carrack_client::Key;
use jiff::Timestamp;
use serde_json::json;

use crate::cache::{Caches, Feeds, Pod};
use crate::driver::{Controller, LookError};
use crate::plan::{Action, Plan};
use crate::queue::Queue;
use crate::resource::POD;
use crate::when::left;

/// Upstream's figure.
const TIMEOUT: Duration = Duration::from_secs(2 * 60);
const TARGET: &str = "DisruptionTarget";
/// What the node says of a pod that it ends itself, which may take as long as it likes.
const BY_NODE: &str = "TerminationByKubelet";

/// The controller; its keys are pods.
pub struct StaleMarks {
    caches: Arc<Caches>,
}

impl StaleMarks {
    /// A controller that reads `caches`.
    #[must_use]
    pub fn new(caches: Arc<Caches>) -> Self {
        Self { caches }
    }

    /// Feeds `queue` with pods that are marked.
    pub fn hook(feeds: &mut Feeds, queue: &Arc<Queue>) {
        let own = Arc::clone(queue);
        feeds.pods.push(Box::new(move |change| {
            if let Some(pod) = change.new.as_ref().filter(|pod| marked_at(pod).is_some()) {
                own.add(Key::of(&pod.metadata));
            }
        }));
    }
}

/// When a pod was marked that has to go or lose the mark.
fn marked_at(pod: &Pod) -> Option<Timestamp> {
    let mark = pod.condition(TARGET).filter(|mark| mark.status == "True")?;
    if !pod.active() || mark.reason.as_deref() == Some(BY_NODE) {
        return None;
    }
    mark.last_transition_time.as_ref().map(|time| time.0)
}

/// Takes the mark away once it is old.
#[must_use]
pub(super) fn plan(pod: &Pod, now: Timestamp) -> Plan {
    let mut plan = Plan::none();
    let Some(at) = marked_at(pod) else { return plan };
    if let Some(wait) = left(now, at, TIMEOUT) {
        plan.again_after(wait);
        return plan;
    }
    let second = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let condition = json!({
        "type": TARGET, "status": "False", "reason": null, "message": null, "lastTransitionTime": second.to_string(),
    });
    let body = json!({
        "metadata": crate::diff::guard(&pod.metadata), "status": { "conditions": [condition] },
    });
    plan.push(Action::strategic(POD, Key::of(&pod.metadata), "status", body).missing_ok());
    plan.note("was to be disrupted and still runs");
    plan
}

impl Controller for StaleMarks {
    type Snapshot = Arc<Pod>;
    const NAME: &'static str = "stale-disruption";

    async fn snapshot(&self, key: &Key) -> Result<Option<Self::Snapshot>, LookError> {
        Ok(self.caches.pods.get(key))
    }

    fn plan(&self, pod: &Self::Snapshot, now: Timestamp) -> Plan {
        plan(pod, now)
    }
}
