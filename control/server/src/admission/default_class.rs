//! DefaultIngressClass, and how a default is found among classes that say they are it.

use std::cmp::Reverse;
use std::sync::Arc;

use carrack_api::meta;
use serde_json::{Value, json};

use super::spec;
use crate::authn::Objects;
use crate::{Admission, AdmissionRequest, ApiError, Draft, Operation};

const GROUP: &str = "networking.k8s.io";
/// The older place of an ingress's class.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const DEFAULT: &[&str] = &["ingressclass.kubernetes.io/is-default-class"];

/// The name of the class that one of the annotations marks as the default. Of several the newest counts, of several of
/// the same time the first by name.
pub(super) fn newest_default<'a>(classes: &'a [Arc<Value>], marks: &[&str]) -> Option<&'a str> {
    let marked = |class: &&Arc<Value>| marks.iter().any(|mark| meta::annotation(class, mark) == Some("true"));
    let defaults = classes.iter().filter(marked);
    defaults.map(|class| (Reverse(meta::creation_time(class)), meta::name(class))).min().map(|(_, name)| name)
}

/// The plugin.
pub struct DefaultIngressClass {
    objects: Arc<dyn Objects>,
}

impl DefaultIngressClass {
    /// Looks classes up in `objects`.
    pub fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects }
    }
}

#[async_trait::async_trait]
impl Admission for DefaultIngressClass {
    async fn mutate(&self, request: &AdmissionRequest<'_>, ingress: &mut Draft<'_>) -> Result<(), ApiError> {
        let what = request.attributes;
        let created = request.operation == Operation::Create
            && what.api_group == GROUP
            && what.resource == "ingresses"
            && what.subresource.is_empty();
        let chosen = ingress.pointer("/spec/ingressClassName").is_some_and(Value::is_string)
            || meta::annotation(ingress, CLASS_ANNOTATION).is_some();
        if !created || chosen {
            return Ok(());
        }
        let classes = self.objects.list(GROUP, "ingressclasses", "").await?;
        if let Some(class) = newest_default(&classes, DEFAULT) {
            spec(ingress).insert("ingressClassName".into(), json!(class));
        }
        Ok(())
    }
}
