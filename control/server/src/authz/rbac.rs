//! The RBAC authorizer: asks the policy, which a watch of the store keeps current.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot};

use super::policy::{Grant, Policy, PolicyKind, RoleRef};
use super::rule::Rule;
use crate::{Attributes, Authorizer, Decision, RuleList, UserInfo};

/// Members of this group may do anything; no binding is looked at, so that no policy can lock them out.
pub const MASTERS: &str = "system:masters";

/// How long a refusal may wait for the index. The watch behind it takes well under a millisecond; if it takes
/// seconds, the store is in trouble, and a refusal that comes late helps nobody.
const CATCH_UP: Duration = Duration::from_secs(5);

/// Refusals that may wait at a time; one more waits for a place.
const WAITING: usize = 256;

/// A question to whoever feeds the policy: answer when all that was stored before it came is taken in.
pub type Ask = oneshot::Sender<()>;

/// Judges by Roles, ClusterRoles and their bindings.
pub struct Rbac {
    policy: RwLock<Policy>,
    asks: mpsc::Sender<Ask>,
}

impl Rbac {
    /// An authorizer that knows no rule yet, and the questions that its feeder has to answer; see [`super::feed`].
    pub fn new() -> (Arc<Self>, mpsc::Receiver<Ask>) {
        let (asks, questions) = mpsc::channel(WAITING);
        (Arc::new(Self { policy: RwLock::default(), asks }), questions)
    }

    /// Takes in an object.
    pub fn put(&self, kind: PolicyKind, object: &serde_json::Value) {
        self.change(|policy| policy.put(kind, object));
    }

    /// Changes the policy; no request is judged meanwhile.
    pub(super) fn change(&self, change: impl FnOnce(&mut Policy)) {
        change(&mut self.policy.write());
    }

    /// Forgets an object.
    pub fn remove(&self, kind: PolicyKind, namespace: &str, name: &str) {
        self.policy.write().remove(kind, namespace, name);
    }

    /// Begins anew with these objects, all at once: no request sees half of them.
    pub fn replace(&self, policy: Policy) {
        *self.policy.write() = policy;
    }

    /// All rules of `user` in `namespace`; in the whole cluster when it is empty.
    pub fn rules_of(&self, user: &UserInfo, namespace: &str) -> Vec<Rule> {
        if user.in_group(MASTERS) {
            return everything();
        }
        self.policy.read().rules_of(user, namespace)
    }

    /// The rules of the role that a binding in `namespace` refers to.
    pub fn role_rules(&self, role: &RoleRef, namespace: &str) -> Option<Arc<[Rule]>> {
        self.policy.read().role_rules(role, namespace)
    }
}

#[async_trait::async_trait]
impl Authorizer for Rbac {
    fn authorize(&self, request: &Attributes) -> Decision {
        if request.user.in_group(MASTERS) {
            return Decision::Allow;
        }
        let judge = |_: Grant<'_>, rule: &Rule| {
            if rule.allows(request) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        match self.policy.read().visit(&request.user, &request.namespace, judge) {
            Some(()) => Decision::Allow,
            None => Decision::NoOpinion(String::new()),
        }
    }

    async fn catch_up(&self) {
        let (ask, answered) = oneshot::channel();
        let caught_up = async { self.asks.send(ask).await.is_ok() && answered.await.is_ok() };
        // Without a feeder the policy stays what it is, and with a slow one it is as good as it gets.
        if tokio::time::timeout(CATCH_UP, caught_up).await != Ok(true) {
            tracing::warn!("the RBAC index could not be brought up to date before a refusal");
        }
    }

    fn rules(&self, user: &UserInfo, namespace: &str) -> RuleList {
        let mut list = RuleList::default();
        for rule in self.rules_of(user, namespace) {
            let (resource, path) = rule.review_parts();
            list.resource_rules.extend(resource);
            list.non_resource_rules.extend(path);
        }
        list
    }
}

/// What members of [`MASTERS`] may do, as rules.
pub(super) fn everything() -> Vec<Rule> {
    let all = || vec!["*".to_owned()];
    vec![
        Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() },
        Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() },
    ]
}
