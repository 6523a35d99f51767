//! NamespaceLifecycle: nothing is made in a namespace that does not exist or is going, and three namespaces stay.

use std::sync::Arc;

use serde_json::Value;

use super::display_name;
use crate::authn::{Objects, text};
use crate::{Admission, AdmissionRequest, ApiError, Cause, Draft, Operation};

/// Namespaces that the system itself lives in.
const PROTECTED: [&str; 3] = ["default", "kube-system", "kube-public"];

/// The plugin.
pub struct NamespaceLifecycle {
    objects: Arc<dyn Objects>,
}

impl NamespaceLifecycle {
    /// Looks namespaces up in `objects`.
    pub fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects }
    }

    async fn check(&self, request: &AdmissionRequest<'_>, object: Option<&Value>) -> Result<(), ApiError> {
        let what = request.attributes;
        let is_namespace = what.api_group.is_empty() && what.resource == "namespaces";
        if is_namespace {
            return match request.operation {
                Operation::Delete if what.subresource.is_empty() => protected(&what.name),
                _ => Ok(()),
            };
        }
        let judged = matches!(request.operation, Operation::Create | Operation::Update);
        // Questions about permissions may be asked of a namespace that is going, or not there yet.
        let review = what.api_group == "authorization.k8s.io";
        if what.namespace.is_empty() || !judged || review {
            return Ok(());
        }
        let namespace = self.objects.get("", "namespaces", "", &what.namespace).await?;
        let namespace = namespace.ok_or_else(|| ApiError::not_found("", "namespaces", &what.namespace))?;
        // A subresource belongs to an object that exists: a pod that is shutting down with its namespace may still
        // be bound, get a token or be evicted.
        let creates = request.operation == Operation::Create && what.subresource.is_empty();
        if creates && terminating(&namespace) {
            let message = format!("namespace {} is being terminated", what.namespace);
            let why = format!(
                "unable to create new content in namespace {} because it is being terminated",
                what.namespace
            );
            let name = display_name(request, object);
            let cause =
                Cause { reason: "NamespaceTerminating".into(), message, field: "metadata.namespace".into() };
            return Err(ApiError::forbidden(&what.api_group, &what.resource, name, &why).with_cause(cause));
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl Admission for NamespaceLifecycle {
    async fn mutate(&self, request: &AdmissionRequest<'_>, object: &mut Draft<'_>) -> Result<(), ApiError> {
        // First of all plugins, so that the complaints of those that look something up do not hide this one.
        self.check(request, Some(object)).await
    }

    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        object: Option<&Value>,
    ) -> Result<Vec<String>, ApiError> {
        // Creations were judged first; what happens to the namespace between that and the write, the write itself
        // looks at.
        if request.operation == Operation::Delete {
            self.check(request, object).await?;
        }
        Ok(Vec::new())
    }
}

fn protected(name: &str) -> Result<(), ApiError> {
    if PROTECTED.contains(&name) {
        return Err(ApiError::forbidden("", "namespaces", name, "this namespace may not be deleted"));
    }
    Ok(())
}

fn terminating(namespace: &Value) -> bool {
    text(namespace, "/status/phase") == "Terminating"
        || !text(namespace, "/metadata/deletionTimestamp").is_empty()
}
