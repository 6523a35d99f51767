//! Every namespace has its ServiceAccount `default`, from the moment it exists.

use std::sync::Arc;

use carrack_client::Key;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use serde_json::json;

use crate::cache::{Caches, Feeds};
use crate::driver::{Controller, LookError};
use crate::plan::{Action, Plan};
use crate::queue::Queue;
use crate::resource::SERVICE_ACCOUNT;

/// The account that every namespace has.
const ACCOUNT: &str = "default";

/// What the plan for one namespace is made from.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The namespace.
    pub namespace: Arc<Namespace>,
    /// Whether the account is there.
    pub exists: bool,
}

/// The controller; its keys are namespaces.
pub struct Accounts {
    caches: Arc<Caches>,
}

impl Accounts {
    /// A controller that reads `caches`.
    #[must_use]
    pub fn new(caches: Arc<Caches>) -> Self {
        Self { caches }
    }

    /// Feeds `queue` with namespaces.
    pub fn hook(feeds: &mut Feeds, queue: &Arc<Queue>) {
        let own = Arc::clone(queue);
        feeds.namespaces.push(Box::new(move |change| {
            if let Some(namespace) = &change.new {
                own.add(Key::of(&namespace.metadata));
            }
        }));
        let own = Arc::clone(queue);
        feeds.accounts.push(Box::new(move |change| {
            if let (None, Some(gone)) = (&change.new, &change.old) {
                own.add(Key::cluster(gone.metadata.namespace.clone().unwrap_or_default()));
            }
        }));
    }
}

/// Whether a namespace takes new objects.
pub(crate) fn open(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|s| s.phase.as_deref());
    namespace.metadata.deletion_timestamp.is_none() && phase != Some("Terminating")
}

/// Creates the account where it is missing.
#[must_use]
pub fn plan(snapshot: &Snapshot) -> Plan {
    let mut plan = Plan::none();
    if snapshot.exists || !open(&snapshot.namespace) {
        return plan;
    }
    let namespace = snapshot.namespace.metadata.name.as_deref().unwrap_or_default();
    let body = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": { "name": ACCOUNT, "namespace": namespace },
    });
    plan.push(Action::create(SERVICE_ACCOUNT, namespace, body).existing_ok());
    plan
}

impl Controller for Accounts {
    type Snapshot = Snapshot;
    const NAME: &'static str = "serviceaccount";

    async fn snapshot(&self, key: &Key) -> Result<Option<Snapshot>, LookError> {
        let Some(namespace) = self.caches.namespaces.get(key) else { return Ok(None) };
        let account = self.caches.accounts.get(&Key::new(key.name.clone(), ACCOUNT));
        Ok(Some(Snapshot { namespace, exists: account.is_some() }))
    }

    fn plan(&self, snapshot: &Snapshot, _now: Timestamp) -> Plan {
        plan(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn snapshot(exists: bool, deleting: bool) -> Snapshot {
        let mut namespace = Namespace { metadata: testing::meta("a"), ..Namespace::default() };
        namespace.metadata.deletion_timestamp = deleting.then(|| testing::ago(0));
        Snapshot { namespace: Arc::new(namespace), exists }
    }

    #[test]
    fn only_an_open_namespace_without_one_gets_an_account() {
        let made = plan(&snapshot(false, false));
        let actions: Vec<_> = made.actions().map(|a| (a.resource.clone(), a.key.clone())).collect();
        assert_eq!(actions, [(SERVICE_ACCOUNT, Key::new("a", "default"))]);
        assert_eq!(plan(&snapshot(true, false)), Plan::none());
        assert_eq!(plan(&snapshot(false, true)), Plan::none());
    }
}
