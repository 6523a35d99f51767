//! LimitRanger: what a namespace's LimitRanges give to containers that name nothing, and what they allow.

use std::sync::Arc;

use carrack_api::footprint::{self, Amounts, Column, Counted};
use carrack_api::quantity::Quantity;
use serde_json::{Value, json};

use super::{display_name, field_map, list, spec};
use crate::authn::{Objects, text};
use crate::{Admission, AdmissionRequest, ApiError, Draft, Operation};

/// Where a pod says what it was given.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";
/// The lists of containers that have resources, and their word in the annotation.
const LISTS: &[(&str, &str)] = &[("containers", "container"), ("initContainers", "init container")];

/// The plugin.
pub struct LimitRanger {
    objects: Arc<dyn Objects>,
}

impl LimitRanger {
    /// Looks LimitRanges up in `objects`.
    pub fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects }
    }

    async fn ranges(&self, request: &AdmissionRequest<'_>) -> Result<Vec<Arc<Value>>, ApiError> {
        self.objects.list("", "limitranges", &request.attributes.namespace).await
    }
}

/// What is judged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    Pod,
    Claim,
}

fn subject(request: &AdmissionRequest<'_>) -> Option<Subject> {
    let what = request.attributes;
    let subject = match (what.api_group.as_str(), what.resource.as_str()) {
        ("", "pods") => Subject::Pod,
        ("", "persistentvolumeclaims") => Subject::Claim,
        _ => return None,
    };
    match (request.operation, what.subresource.as_str(), subject) {
        (Operation::Create, "", _)
        | (Operation::Update, "", Subject::Claim)
        | (Operation::Update, "resize", Subject::Pod) => Some(subject),
        _ => None,
    }
}

#[async_trait::async_trait]
impl Admission for LimitRanger {
    async fn mutate(&self, request: &AdmissionRequest<'_>, pod: &mut Draft<'_>) -> Result<(), ApiError> {
        if subject(request) != Some(Subject::Pod) {
            return Ok(());
        }
        for range in self.ranges(request).await? {
            give(&range, pod);
        }
        Ok(())
    }

    async fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        object: Option<&Value>,
    ) -> Result<Vec<String>, ApiError> {
        let (Some(subject), Some(object)) = (subject(request), object) else { return Ok(Vec::new()) };
        // What is going may lose its finalizers whatever the limits are by now.
        if request.old.is_some_and(carrack_api::meta::is_deleting) {
            return Ok(Vec::new());
        }
        for range in self.ranges(request).await? {
            let mut wrong = Vec::new();
            for limit in list(&range, "/spec/limits") {
                judge(limit, subject, object, request.old, &mut wrong);
            }
            if !wrong.is_empty() {
                let what = request.attributes;
                let name = display_name(request, Some(object));
                return Err(ApiError::forbidden(&what.api_group, &what.resource, name, &joined(&wrong)));
            }
        }
        Ok(Vec::new())
    }
}

/// Several complaints as one, as upstream writes them.
fn joined(wrong: &[String]) -> String {
    match wrong {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

/// Gives containers the defaults of the range, and writes down what was given.
fn give(range: &Value, pod: &mut Value) {
    let mut defaults = (Amounts::new(), Amounts::new());
    for limit in list(range, "/spec/limits").filter(|limit| text(limit, "/type") == "Container") {
        defaults.0.extend(footprint::amounts(limit.get("defaultRequest")));
        defaults.1.extend(footprint::amounts(limit.get("default")));
    }
    let mut given = Vec::new();
    for (field, word) in LISTS {
        let Some(Value::Array(containers)) = spec(pod).get_mut(*field) else { continue };
        for container in containers {
            let name = text(container, "/name").to_owned();
            // Both are looked at before either is given: a limit that was left out is no request.
            for (column, amounts, sort) in
                [(Column::Requests, &defaults.0, "request"), (Column::Limits, &defaults.1, "limit")]
            {
                let names = complete(container, column, amounts);
                if !names.is_empty() {
                    given.push(format!("{} {sort} for {word} {name}", names.join(", ")));
                }
            }
        }
    }
    if !given.is_empty() {
        let metadata = field_map(pod, "metadata");
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        annotations[ANNOTATION] = json!(format!("LimitRanger plugin set: {}", given.join("; ")));
    }
}

/// Adds the amounts that are missing; their names.
fn complete(container: &mut Value, column: Column, amounts: &Amounts) -> Vec<String> {
    if amounts.is_empty() {
        return Vec::new();
    }
    let resources = field_map(container, "resources");
    let mut held = resources.get(column.field()).and_then(Value::as_object).cloned().unwrap_or_default();
    let missing: Vec<String> = amounts.keys().filter(|name| !held.contains_key(*name)).cloned().collect();
    for name in &missing {
        held.insert(name.clone(), json!(amounts[name].to_string()));
    }
    if !missing.is_empty() {
        resources.insert(column.field().to_owned(), Value::Object(held));
    }
    missing
}

/// The requests and limits of something, now and before.
struct Asked {
    requests: Amounts,
    limits: Amounts,
    before: Option<(Amounts, Amounts)>,
}

impl Asked {
    /// Whether neither the request nor the limit was changed: what is stored is right as it is.
    fn is_unchanged(&self, name: &str) -> bool {
        self.before.as_ref().is_some_and(|(requests, limits)| {
            requests.get(name) == self.requests.get(name) && limits.get(name) == self.limits.get(name)
        })
    }
}

/// Collects what one entry of a LimitRange has against the object.
fn judge(limit: &Value, subject: Subject, object: &Value, old: Option<&Value>, wrong: &mut Vec<String>) {
    let sort = text(limit, "/type");
    match (sort, subject) {
        ("PersistentVolumeClaim", Subject::Claim) => {
            let requests = |claim: &Value| footprint::amounts(claim.pointer("/spec/resources/requests"));
            let asked = Asked {
                requests: requests(object),
                limits: Amounts::new(),
                before: old.map(|old| (requests(old), Amounts::new())),
            };
            compare(limit, sort, &asked, false, wrong);
        }
        ("Pod", Subject::Pod) => {
            let whole = |pod: &Value, column| footprint::of(pod, column, Counted::default());
            let both = |pod: &Value| (whole(pod, Column::Requests), whole(pod, Column::Limits));
            let (requests, limits) = both(object);
            compare(limit, sort, &Asked { requests, limits, before: old.map(both) }, true, wrong);
        }
        ("Container", Subject::Pod) => {
            for (field, _) in LISTS {
                for container in footprint::containers(object, field) {
                    let name = container.get("name");
                    let before =
                        old.and_then(|old| footprint::containers(old, field).find(|c| c.get("name") == name));
                    let (requests, limits) = own(container);
                    compare(limit, sort, &Asked { requests, limits, before: before.map(own) }, true, wrong);
                }
            }
        }
        _ => {}
    }
}

fn own(container: &Value) -> (Amounts, Amounts) {
    let column = |column: Column| container.get("resources").and_then(|all| all.get(column.field()));
    (footprint::amounts(column(Column::Requests)), footprint::amounts(column(Column::Limits)))
}

/// Compares with minimum, maximum and ratio; of claims there are no limits.
fn compare(limit: &Value, sort: &str, asked: &Asked, has_limits: bool, wrong: &mut Vec<String>) {
    let bounds = |field: &str| {
        let all = footprint::amounts(limit.get(field));
        all.into_iter().filter(|(name, _)| !asked.is_unchanged(name)).collect::<Amounts>()
    };
    for (name, bound) in bounds("min") {
        let (request, most) = (asked.requests.get(&name), asked.limits.get(&name));
        let begin = format!("minimum {name} usage per {sort} is {bound}");
        wrong.extend(match (request, most) {
            (None, _) => Some(format!("{begin}.  No request is specified")),
            (Some(request), _) if *request < bound => Some(format!("{begin}, but request is {request}")),
            (_, Some(most)) if *most < bound => Some(format!("{begin}, but limit is {most}")),
            _ => None,
        });
    }
    for (name, bound) in bounds("max") {
        let (request, most) = (asked.requests.get(&name), asked.limits.get(&name));
        let begin = format!("maximum {name} usage per {sort} is {bound}");
        wrong.extend(match (request, most) {
            (_, None) if has_limits => Some(format!("{begin}.  No limit is specified")),
            (None, _) if !has_limits => Some(format!("{begin}.  No request is specified")),
            (_, Some(most)) if *most > bound => Some(format!("{begin}, but limit is {most}")),
            (Some(request), _) if *request > bound => Some(format!("{begin}, but request is {request}")),
            _ => None,
        });
    }
    for (name, bound) in bounds("maxLimitRequestRatio") {
        let given = |amounts: &Amounts| amounts.get(&name).copied().filter(|amount| !amount.is_zero());
        let begin = format!("{name} max limit to request ratio per {sort} is {bound}");
        wrong.extend(match (given(&asked.requests), given(&asked.limits)) {
            (None, _) => Some(format!("{begin}, but no request is specified or request is 0")),
            (_, None) => Some(format!("{begin}, but no limit is specified or limit is 0")),
            (Some(request), Some(most)) => ratio_above(most, request, bound)
                .map(|found| format!("{begin}, but provided ratio is {found:.6}")),
        });
    }
}

/// `most / request` when it is above `bound`.
fn ratio_above(most: Quantity, request: Quantity, bound: Quantity) -> Option<f64> {
    let exact = |amount: Quantity| i128::from(amount.milli());
    let above = exact(most) * 1000 > exact(request) * exact(bound);
    #[expect(clippy::cast_precision_loss, reason = "six digits of it are shown")]
    let found = most.milli() as f64 / request.milli() as f64;
    above.then_some(found)
}
