//! AlwaysAdmit, AlwaysDeny, NamespaceExists and DenyServiceExternalIPs.

use std::sync::Arc;

use serde_json::Value;

use super::super::{display_name, list};
use crate::authn::Objects;
use crate::{Admission, AdmissionRequest, ApiError, Operation};

/// AlwaysAdmit: has no say.
pub(crate) struct AlwaysAdmit;

impl Admission for AlwaysAdmit {}

/// AlwaysDeny: refuses everything, for tests.
pub(crate) struct AlwaysDeny;

#[async_trait::async_trait]
impl Admission for AlwaysDeny {
    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        object: Option<&Value>,
    ) -> Result<Vec<String>, ApiError> {
        let what = request.attributes;
        let why = "admission control is denying all modifications";
        Err(ApiError::forbidden(&what.api_group, &what.resource, display_name(request, object), why))
    }
}

/// NamespaceExists: also deletions need a namespace that is there.
pub(crate) struct NamespaceExists {
    objects: Arc<dyn Objects>,
}

impl NamespaceExists {
    /// Looks namespaces up in `objects`.
    pub(crate) fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects }
    }
}

#[async_trait::async_trait]
impl Admission for NamespaceExists {
    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        _: Option<&Value>,
    ) -> Result<Vec<String>, ApiError> {
        let what = request.attributes;
        let is_namespace = what.api_group.is_empty() && what.resource == "namespaces";
        if is_namespace || what.namespace.is_empty() || request.operation == Operation::Connect {
            return Ok(Vec::new());
        }
        match self.objects.get("", "namespaces", "", &what.namespace).await? {
            Some(_) => Ok(Vec::new()),
            None => Err(ApiError::not_found("", "namespaces", &what.namespace)),
        }
    }
}

/// DenyServiceExternalIPs: no service gets addresses that lead other people's connections to it.
pub(crate) struct DenyServiceExternalIPs;

#[async_trait::async_trait]
impl Admission for DenyServiceExternalIPs {
    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        service: Option<&Value>,
    ) -> Result<Vec<String>, ApiError> {
        let what = request.attributes;
        let written = matches!(request.operation, Operation::Create | Operation::Update);
        let is_service =
            what.api_group.is_empty() && what.resource == "services" && what.subresource.is_empty();
        let Some(service) = service.filter(|_| written && is_service) else { return Ok(Vec::new()) };
        const PLACE: &str = "/spec/externalIPs";
        let had = |ip: &Value| request.old.is_some_and(|old| list(old, PLACE).any(|old| old == ip));
        if list(service, PLACE).all(had) {
            return Ok(Vec::new());
        }
        let why = "Use of external IPs is denied by admission control";
        Err(ApiError::forbidden("", "services", display_name(request, Some(service)), why))
    }
}
