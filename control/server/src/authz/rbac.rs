//! The RBAC authorizer: asks the policy, which a watch of the store keeps current.

use std::ops::ControlFlow;
use std::sync::Arc;

use carrack_store::Store;
use serde_json::Value;
use tokio::sync::mpsc;

use super::feed::{self, FeedError};
use super::index::{Ask, Index, Indexed};
use super::policy::{GROUP, Grant, Policy, PolicyKind, RoleRef};
use super::rule::Rule;
use crate::{Attributes, Authorizer, Decision, RuleList, UserInfo, audit};

/// Members of this group may do anything; no binding is looked at, so that no policy can lock them out.
pub const MASTERS: &str = "system:masters";

/// Judges by Roles, ClusterRoles and their bindings.
pub struct Rbac(Arc<Indexed<Policy>>);

impl Index for Policy {
    // In the order of `PolicyKind::ALL`.
    const RESOURCES: &'static [(&'static str, &'static str)] = &[
        (GROUP, PolicyKind::Role.resource()),
        (GROUP, PolicyKind::ClusterRole.resource()),
        (GROUP, PolicyKind::RoleBinding.resource()),
        (GROUP, PolicyKind::ClusterRoleBinding.resource()),
    ];

    fn put(&mut self, resource: usize, _: &str, _: &str, object: &Value) {
        Policy::put(self, PolicyKind::ALL[resource], object);
    }

    fn remove(&mut self, resource: usize, namespace: &str, name: &str) {
        Policy::remove(self, PolicyKind::ALL[resource], namespace, name);
    }
}

impl Rbac {
    /// An authorizer that knows no rule yet, and the questions that its feeder has to answer; see [`super::feed`].
    pub fn new() -> (Arc<Self>, mpsc::Receiver<Ask>) {
        let (index, questions) = Indexed::new();
        (Arc::new(Self(index)), questions)
    }

    /// An authorizer that follows the policy in `store`. On return it knows all that is stored. A task follows the
    /// store until the authorizer is dropped or the store is closed.
    pub async fn start(store: Store) -> Result<Arc<Self>, FeedError> {
        Ok(Arc::new(Self(feed::start(store).await?)))
    }

    /// Takes in an object.
    pub fn put(&self, kind: PolicyKind, object: &Value) {
        self.0.change(|policy| policy.put(kind, object));
    }

    /// Forgets an object.
    pub fn remove(&self, kind: PolicyKind, namespace: &str, name: &str) {
        self.0.change(|policy| policy.remove(kind, namespace, name));
    }

    /// All rules of `user` in `namespace`; in the whole cluster when it is empty.
    pub fn rules_of(&self, user: &UserInfo, namespace: &str) -> Vec<Rule> {
        if user.in_group(MASTERS) {
            return everything();
        }
        self.0.read().rules_of(user, namespace)
    }

    /// The rules of the role that a binding in `namespace` refers to.
    pub fn role_rules(&self, role: &RoleRef, namespace: &str) -> Option<Arc<[Rule]>> {
        self.0.read().role_rules(role, namespace)
    }
}

#[async_trait::async_trait]
impl Authorizer for Rbac {
    fn authorize(&self, request: &Attributes) -> Decision {
        if request.user.in_group(MASTERS) {
            return Decision::Allow;
        }
        let judge = |grant: Grant<'_>, rule: &Rule| {
            if !rule.allows(request) {
                return ControlFlow::Continue(());
            }
            audit::explain(|| format!("RBAC: allowed by {grant}"));
            ControlFlow::Break(())
        };
        match self.0.read().visit(&request.user, &request.namespace, judge) {
            Some(()) => Decision::Allow,
            None => Decision::NoOpinion(String::new()),
        }
    }

    async fn catch_up(&self) {
        self.0.catch_up().await;
    }

    fn rules(&self, user: &UserInfo, namespace: &str) -> RuleList {
        let mut list = RuleList::default();
        for rule in self.0.read().rules_of(user, namespace) {
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
