//! Nobody grants what he does not have: checks on roles and bindings as they are written.
//!
//! A role may hold only rules that its author has, unless he has the verb `escalate` on it. A binding may refer
//! only to a role whose rules its author has, unless he has the verb `bind` on that role. This holds at the
//! admission step, for creations, updates and patches alike, whatever path they come by.

use std::sync::Arc;

use serde_json::Value;

use super::decide::verdict;
use super::policy::{self, GROUP, PolicyKind, RoleRef};
use super::rbac::{MASTERS, Rbac};
use super::rule::{Rule, uncovered};
use crate::authn::text;
use crate::{Admission, AdmissionRequest, ApiError, Attributes, Authorizer, Operation};

/// The admission plugin.
pub struct Escalation {
    rbac: Arc<Rbac>,
    authorizers: Vec<Arc<dyn Authorizer>>,
}

impl Escalation {
    /// `rbac` knows the rules that people hold; `authorizers` say who may `escalate` and `bind`.
    pub fn new(rbac: Arc<Rbac>, authorizers: Vec<Arc<dyn Authorizer>>) -> Self {
        Self { rbac, authorizers }
    }

    async fn check(&self, request: &Attributes, object: &Value, old: Option<&Value>) -> Result<(), ApiError> {
        let kind = PolicyKind::ALL.into_iter().find(|kind| kind.resource() == request.resource);
        let Some(kind) = kind else { return Ok(()) };
        if request.user.in_group(MASTERS) {
            return Ok(());
        }
        match kind {
            PolicyKind::Role | PolicyKind::ClusterRole => self.check_role(request, object, old).await,
            PolicyKind::RoleBinding | PolicyKind::ClusterRoleBinding => {
                self.check_binding(request, object, old).await
            }
        }
    }

    async fn check_role(
        &self,
        request: &Attributes,
        role: &Value,
        old: Option<&Value>,
    ) -> Result<(), ApiError> {
        let unchanged = |field| old.is_some_and(|old| old.get(field) == role.get(field));
        if unchanged("rules") && unchanged("aggregationRule") {
            return Ok(());
        }
        let name = text(role, "/metadata/name");
        // As upstream: a creation names nothing in its path, so that a rule for one name does not cover it.
        if self.may(request, "escalate", &request.resource, &request.name).await {
            return Ok(());
        }
        let mut wanted = policy::rules(role);
        if role.get("aggregationRule").is_some_and(|rule| !rule.is_null()) {
            // An aggregated role takes in whatever roles others may label later.
            wanted.extend(super::rbac::everything());
        }
        self.check_covered(
            request,
            &wanted,
            name,
            "is attempting to grant RBAC permissions not currently held",
        )
        .await
    }

    async fn check_binding(
        &self,
        request: &Attributes,
        binding: &Value,
        old: Option<&Value>,
    ) -> Result<(), ApiError> {
        let unchanged = |field| old.is_some_and(|old| old.get(field) == binding.get(field));
        if unchanged("roleRef") && unchanged("subjects") {
            return Ok(());
        }
        let role = policy::role_ref(binding);
        let resource = match role.kind.as_str() {
            "Role" => PolicyKind::Role.resource(),
            "ClusterRole" => PolicyKind::ClusterRole.resource(),
            // Such a binding grants nothing; saying what is wrong with it is validation's part.
            _ => return Ok(()),
        };
        if self.may(request, "bind", resource, &role.name).await {
            return Ok(());
        }
        let wanted = self.rules_behind(request, &role, resource).await?;
        let name = text(binding, "/metadata/name");
        let what = "is attempting to grant RBAC permissions not currently held";
        self.check_covered(request, &wanted, name, what).await
    }

    async fn rules_behind(
        &self,
        request: &Attributes,
        role: &RoleRef,
        resource: &str,
    ) -> Result<Arc<[Rule]>, ApiError> {
        // A refusal or an outdated role is the danger here: judge by what is stored now.
        self.rbac.catch_up().await;
        self.rbac
            .role_rules(role, &request.namespace)
            .ok_or_else(|| ApiError::not_found(GROUP, resource, &role.name))
    }

    async fn may(&self, request: &Attributes, verb: &str, resource: &str, name: &str) -> bool {
        let question = Attributes {
            verb: verb.into(),
            resource: resource.into(),
            name: name.into(),
            subresource: String::new(),
            ..request.clone()
        };
        verdict(&self.authorizers, &question).await.is_ok()
    }

    async fn check_covered(
        &self,
        request: &Attributes,
        wanted: &[Rule],
        name: &str,
        what: &str,
    ) -> Result<(), ApiError> {
        self.rbac.catch_up().await;
        let held = self.rbac.rules_of(&request.user, &request.namespace);
        let missing = uncovered(&held, wanted);
        if missing.is_empty() {
            return Ok(());
        }
        let missing: Vec<String> = missing.iter().map(Rule::to_string).collect();
        let why = format!(
            "user {:?} (groups={:?}) {what}:\n{}",
            request.user.name,
            request.user.groups,
            missing.join("\n")
        );
        Err(ApiError::forbidden(GROUP, &request.resource, name, &why))
    }
}

#[async_trait::async_trait]
impl Admission for Escalation {
    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        object: Option<&Value>,
    ) -> Result<Vec<String>, ApiError> {
        let attributes = request.attributes;
        let written = matches!(request.operation, Operation::Create | Operation::Update);
        if let Some(object) = object
            && written
            && attributes.api_group == GROUP
        {
            self.check(attributes, object, request.old).await?;
        }
        Ok(Vec::new())
    }
}
