//! OwnerReferencesPermissionEnforcement: who makes an object somebody's has to be allowed to delete it, and who lets it
//! hold up the deletion of its owner, to change the owner's finalizers.

use std::sync::Arc;

use carrack_api::{Scope, resources};
use serde_json::Value;

use super::super::{display_name, list};
use crate::authn::{Objects, text};
use crate::authz::verdict;
use crate::{Admission, AdmissionRequest, ApiError, Attributes, Authorizer, Operation};

const OWNERS: &str = "/metadata/ownerReferences";

/// The plugin.
pub(crate) struct OwnerReferencesPermissionEnforcement {
    objects: Arc<dyn Objects>,
    authorizers: Vec<Arc<dyn Authorizer>>,
}

impl OwnerReferencesPermissionEnforcement {
    /// `authorizers` say who may; definitions of custom resources are looked up in `objects`.
    pub(crate) fn new(objects: Arc<dyn Objects>, authorizers: Vec<Arc<dyn Authorizer>>) -> Self {
        Self { objects, authorizers }
    }

    async fn may(&self, question: Attributes, otherwise: &str) -> Result<(), String> {
        let verdict = verdict(&self.authorizers, &question).await;
        verdict.map_err(|reason| format!("{otherwise}: {reason}, <nil>"))
    }

    /// The resource of an owner's kind, and whether it is in namespaces.
    async fn resource(
        &self,
        group: &str,
        version: &str,
        kind: &str,
    ) -> Result<Option<(String, bool)>, ApiError> {
        let row = resources().iter().find(|r| (r.group, r.version, r.kind) == (group, version, kind));
        if let Some(row) = row {
            return Ok(Some((row.plural.to_owned(), row.scope == Scope::Namespaced)));
        }
        let all = self.objects.list("apiextensions.k8s.io", "customresourcedefinitions", "").await?;
        let found = all
            .iter()
            .find(|d| text(d, "/spec/group") == group && text(d, "/spec/names/kind") == kind)
            .map(|d| (text(d, "/spec/names/plural").to_owned(), text(d, "/spec/scope") == "Namespaced"));
        Ok(found)
    }

    async fn judge(
        &self,
        request: &Attributes,
        new: &Value,
        old: Option<&Value>,
    ) -> Result<Result<(), String>, ApiError> {
        if old.is_some() {
            let question = Attributes { verb: "delete".into(), ..request.clone() };
            let otherwise = "cannot set an ownerRef on a resource you can't delete";
            if let Err(why) = self.may(question, otherwise).await {
                return Ok(Err(why));
            }
        }
        for owner in newly_blocked(new, old) {
            let (api_version, kind) = (text(owner, "/apiVersion"), text(owner, "/kind"));
            let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
            let Some((resource, namespaced)) = self.resource(group, version, kind).await? else {
                return Ok(Err(format!(
                    "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion \
                     {api_version} Kind {kind}"
                )));
            };
            let question = Attributes {
                user: request.user.clone(),
                verb: "update".into(),
                api_group: group.into(),
                version: version.into(),
                resource,
                subresource: "finalizers".into(),
                name: text(owner, "/name").into(),
                namespace: if namespaced { request.namespace.clone() } else { String::new() },
                ..Attributes::default()
            };
            let otherwise = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set \
                             finalizers on";
            if let Err(why) = self.may(question, otherwise).await {
                return Ok(Err(why));
            }
        }
        Ok(Ok(()))
    }
}

/// The owners whose deletion the object holds up, and did not before.
fn newly_blocked<'a>(new: &'a Value, old: Option<&'a Value>) -> Vec<&'a Value> {
    let blocks = |owner: &&Value| owner.get("blockOwnerDeletion") == Some(&Value::Bool(true));
    let did = |owner: &&Value| {
        let before = old.into_iter().flat_map(|old| list(old, OWNERS).filter(blocks));
        before.into_iter().any(|known| text(known, "/uid") == text(owner, "/uid"))
    };
    list(new, OWNERS).filter(blocks).filter(|owner| !did(owner)).collect()
}

#[async_trait::async_trait]
impl Admission for OwnerReferencesPermissionEnforcement {
    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        object: Option<&Value>,
    ) -> Result<Vec<String>, ApiError> {
        let what = request.attributes;
        let written = matches!(request.operation, Operation::Create | Operation::Update);
        // The status of a pod changes no owners.
        let status = (what.resource.as_str(), what.subresource.as_str()) == ("pods", "status");
        let Some(object) = object.filter(|_| written && !status) else { return Ok(Vec::new()) };
        let before: Vec<&Value> = request.old.into_iter().flat_map(|old| list(old, OWNERS)).collect();
        if list(object, OWNERS).eq(before) {
            return Ok(Vec::new());
        }
        match self.judge(what, object, request.old).await? {
            Ok(()) => Ok(Vec::new()),
            Err(why) => Err(ApiError::forbidden(
                &what.api_group,
                &what.resource,
                display_name(request, Some(object)),
                &why,
            )),
        }
    }
}
