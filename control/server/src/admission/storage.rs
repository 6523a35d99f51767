//! Storage: the class of claims that name none (DefaultStorageClass), the finalizers of what is in use
//! (StorageObjectInUseProtection), and which claims may grow (PersistentVolumeClaimResize).

use std::sync::Arc;

use carrack_api::{footprint, meta};
use serde_json::{Value, json};

use super::default_class::newest_default;
use super::{display_name, field_list, field_map, spec};
use crate::authn::{Objects, text};
use crate::{Admission, AdmissionRequest, ApiError, Draft, Operation};

const GROUP: &str = "storage.k8s.io";
const CLASSES: &str = "storageclasses";
const CLAIMS: &str = "persistentvolumeclaims";
/// The older place of a claim's class.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
const DEFAULT: &[&str] =
    &["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
/// What holds objects that are in use; the protection controllers take it off.
const PROTECTED: &[(&str, &str)] =
    &[(CLAIMS, "kubernetes.io/pvc-protection"), ("persistentvolumes", "kubernetes.io/pv-protection")];

/// Whether this is about an object of the core group itself.
fn is_about(request: &AdmissionRequest<'_>, resource: &str, operation: Operation) -> bool {
    let what = request.attributes;
    what.api_group.is_empty()
        && what.resource == resource
        && what.subresource.is_empty()
        && request.operation == operation
}

/// The class that a claim names; empty for none.
fn class_of(claim: &Value) -> &str {
    meta::annotation(claim, CLASS_ANNOTATION).unwrap_or_else(|| text(claim, "/spec/storageClassName"))
}

/// DefaultStorageClass.
pub struct DefaultStorageClass {
    objects: Arc<dyn Objects>,
}

impl DefaultStorageClass {
    /// Looks classes up in `objects`.
    pub fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects }
    }
}

#[async_trait::async_trait]
impl Admission for DefaultStorageClass {
    async fn mutate(&self, request: &AdmissionRequest<'_>, claim: &mut Draft<'_>) -> Result<(), ApiError> {
        // An empty name is a choice too: no class at all.
        let chosen = meta::annotation(claim, CLASS_ANNOTATION).is_some()
            || claim.pointer("/spec/storageClassName").is_some_and(Value::is_string);
        if !is_about(request, CLAIMS, Operation::Create) || chosen {
            return Ok(());
        }
        let classes = self.objects.list(GROUP, CLASSES, "").await?;
        if let Some(class) = newest_default(&classes, DEFAULT) {
            spec(claim).insert("storageClassName".into(), json!(class));
        }
        Ok(())
    }
}

/// StorageObjectInUseProtection.
pub struct StorageObjectInUseProtection;

#[async_trait::async_trait]
impl Admission for StorageObjectInUseProtection {
    async fn mutate(&self, request: &AdmissionRequest<'_>, object: &mut Draft<'_>) -> Result<(), ApiError> {
        for (resource, finalizer) in PROTECTED {
            if is_about(request, resource, Operation::Create)
                && !meta::finalizers(object).any(|f| f == *finalizer)
            {
                field_list(field_map(object, "metadata"), "finalizers").push(json!(finalizer));
            }
        }
        Ok(())
    }
}

/// PersistentVolumeClaimResize.
pub struct PersistentVolumeClaimResize {
    objects: Arc<dyn Objects>,
}

impl PersistentVolumeClaimResize {
    /// Looks classes up in `objects`.
    pub fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects }
    }

    /// Whether the class of both allows its volumes to grow.
    async fn allows(&self, new: &Value, old: &Value) -> Result<bool, ApiError> {
        let class = class_of(new);
        if class.is_empty() || class != class_of(old) {
            return Ok(false);
        }
        let class = self.objects.get(GROUP, CLASSES, "", class).await?;
        Ok(class.is_some_and(|class| class.get("allowVolumeExpansion") == Some(&json!(true))))
    }
}

#[async_trait::async_trait]
impl Admission for PersistentVolumeClaimResize {
    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        claim: Option<&Value>,
    ) -> Result<Vec<String>, ApiError> {
        let (Some(new), Some(old)) = (claim, request.old) else { return Ok(Vec::new()) };
        let size = |claim: &Value| {
            footprint::amounts(claim.pointer("/spec/resources/requests")).get("storage").copied()
        };
        if !is_about(request, CLAIMS, Operation::Update) || size(new) <= size(old) {
            return Ok(Vec::new());
        }
        let refuse = |why: &str| Err(ApiError::forbidden("", CLAIMS, display_name(request, Some(new)), why));
        if text(old, "/status/phase") != "Bound" {
            return refuse("Only bound persistent volume claims can be expanded");
        }
        if !self.allows(new, old).await? {
            return refuse(
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc \
                 must support resize",
            );
        }
        Ok(Vec::new())
    }
}
