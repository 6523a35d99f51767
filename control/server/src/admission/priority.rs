//! Priority: turns the name of a priority class into the number that the scheduler and the node go by.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{display_name, is_pod, spec};
use crate::authn::{Objects, text};
use crate::{Admission, AdmissionRequest, ApiError, Draft, Operation};

const GROUP: &str = "scheduling.k8s.io";
const CLASSES: &str = "priorityclasses";
/// The classes that every cluster has, also before they are stored as objects.
const SYSTEM_CLASSES: [(&str, i64); 2] =
    [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];
/// What a pod without a class has when no class is the cluster's default.
const DEFAULT: i64 = 0;
const PREEMPT: &str = "PreemptLowerPriority";

/// The plugin.
pub struct Priority {
    objects: Arc<dyn Objects>,
}

/// What a class gives to a pod.
struct Class {
    name: String,
    value: i64,
    preemption: String,
}

impl Priority {
    /// Looks classes up in `objects`.
    pub fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects }
    }

    /// The class of that name; for no name the cluster's default. `None` when there is none of that name.
    async fn class(&self, name: &str) -> Result<Option<Class>, ApiError> {
        if let Some((name, value)) = SYSTEM_CLASSES.into_iter().find(|(system, _)| *system == name) {
            return Ok(Some(Class { name: name.into(), value, preemption: PREEMPT.into() }));
        }
        if name.is_empty() {
            return self.default_class().await.map(Some);
        }
        let class = self.objects.get(GROUP, CLASSES, "", name).await?;
        Ok(class.map(|class| read(&class)))
    }

    /// Of several defaults the lowest counts: it harms the others least.
    async fn default_class(&self) -> Result<Class, ApiError> {
        let classes = self.objects.list(GROUP, CLASSES, "").await?;
        let defaults = classes.iter().filter(|class| class["globalDefault"] == json!(true));
        let lowest = defaults.map(|class| read(class)).min_by_key(|class| class.value);
        Ok(lowest.unwrap_or(Class { name: String::new(), value: DEFAULT, preemption: PREEMPT.into() }))
    }
}

#[async_trait::async_trait]
impl Admission for Priority {
    async fn mutate(&self, request: &AdmissionRequest<'_>, pod: &mut Draft<'_>) -> Result<(), ApiError> {
        if is_pod(request, &[Operation::Update]) {
            keep(pod, request.old);
            return Ok(());
        }
        if !is_pod(request, &[Operation::Create]) {
            return Ok(());
        }
        let refuse = |pod: &Value, why: String| {
            ApiError::forbidden("", "pods", display_name(request, Some(pod)), &why)
        };
        let wanted = text(pod, "/spec/priorityClassName").to_owned();
        let class = self.class(&wanted).await?;
        let class =
            class.ok_or_else(|| refuse(pod, format!("no PriorityClass with name {wanted} was found")))?;
        let fields = spec(pod);
        if let Some(value) = given(fields.get("priority"))
            && value != &json!(class.value)
        {
            let why = format!(
                "the integer value of priority ({value}) must not be provided in pod spec; priority admission \
                 controller computed {} from the given PriorityClass name",
                class.value
            );
            return Err(refuse(pod, why));
        }
        if let Some(policy) = given(fields.get("preemptionPolicy"))
            && policy != &json!(class.preemption)
        {
            let why = format!(
                "the string value of PreemptionPolicy ({}) must not be provided in pod spec; priority admission \
                 controller computed {} from the given PriorityClass name",
                policy.as_str().unwrap_or_default(),
                class.preemption
            );
            return Err(refuse(pod, why));
        }
        fields.insert("priority".into(), json!(class.value));
        fields.insert("preemptionPolicy".into(), json!(class.preemption));
        if !class.name.is_empty() {
            fields.insert("priorityClassName".into(), json!(class.name));
        }
        Ok(())
    }

    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        object: Option<&Value>,
    ) -> Result<Vec<String>, ApiError> {
        if request.attributes.api_group == GROUP && request.attributes.resource == CLASSES {
            self.judge_class(request, object).await?;
        }
        Ok(Vec::new())
    }
}

impl Priority {
    /// What is wrong with writing or deleting a class.
    async fn judge_class(
        &self,
        request: &AdmissionRequest<'_>,
        object: Option<&Value>,
    ) -> Result<(), ApiError> {
        let name = display_name(request, object);
        let refuse = |why: &str| Err(ApiError::forbidden(GROUP, CLASSES, name, why));
        if request.operation == Operation::Delete {
            let system = SYSTEM_CLASSES.iter().any(|(system, _)| *system == name);
            return if system {
                refuse("this is a system priority class and cannot be deleted")
            } else {
                Ok(())
            };
        }
        if object.is_none_or(|class| class.get("globalDefault") != Some(&json!(true))) {
            return Ok(());
        }
        let classes = self.objects.list(GROUP, CLASSES, "").await?;
        let others = classes.iter().filter(|class| class["globalDefault"] == json!(true));
        match others.map(|class| text(class, "/metadata/name")).find(|other| *other != name) {
            Some(other) => refuse(&format!(
                "PriorityClass {other} is already marked as default. Only one default can exist"
            )),
            None => Ok(()),
        }
    }
}

/// An update by a client that does not know these fields leaves them as they are.
fn keep(pod: &mut Value, old: Option<&Value>) {
    for field in ["priority", "preemptionPolicy"] {
        let Some(value) = old.and_then(|old| given(old.get("spec")?.get(field))) else { continue };
        let fields = spec(pod);
        if given(fields.get(field)).is_none() {
            fields.insert(field.into(), value.clone());
        }
    }
}

fn given(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| !value.is_null())
}

fn read(class: &Value) -> Class {
    let preemption = text(class, "/preemptionPolicy");
    Class {
        name: text(class, "/metadata/name").into(),
        value: class.get("value").and_then(Value::as_i64).unwrap_or(DEFAULT),
        preemption: if preemption.is_empty() { PREEMPT.into() } else { preemption.into() },
    }
}
