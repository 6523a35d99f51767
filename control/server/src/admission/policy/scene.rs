//! A request as policies look at it: who is meant by selectors, and the namespace, which is looked up at most once.

use std::sync::Arc;

use carrack_api::Resource;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::super::matching::{Form, Matching, NamespaceLabels, Target, forms};
use super::super::webhook::Asked as Review;
use super::index::Bound;
use crate::call::Call;
use crate::{AdmissionRequest, ApiError};

/// A request.
pub(super) struct Scene<'a> {
    pub(super) call: &'a Call,
    pub(super) request: &'a AdmissionRequest<'a>,
    /// The forms of its object.
    pub(super) review: Review<'a>,
    target: Target<'a>,
    forms: Vec<Form>,
    namespace: OnceCell<Arc<Value>>,
}

/// A policy's binding that is about the request.
pub(super) type Meant = Arc<super::index::Binding>;

impl<'a> Scene<'a> {
    pub(super) fn new(call: &'a Call, request: &'a AdmissionRequest<'a>) -> Self {
        let target = Target::of(request.attributes, request.operation);
        let forms = forms(&call.server.kinds.now(), &target);
        let review = Review::new(call, request);
        Scene { call, request, review, target, forms, namespace: OnceCell::new() }
    }

    /// The form that a policy is about, and those of its bindings that are; `None` when it is not about the request.
    pub(super) async fn meant(
        &self,
        bound: &Bound,
        object: Option<&Value>,
    ) -> Result<Option<(Form, Vec<Meant>)>, ApiError> {
        let matching = &bound.policy.matching;
        let Some(form) = matching.form(&self.target, &self.forms) else { return Ok(None) };
        if !self.is_selected(matching, object).await? {
            return Ok(None);
        }
        let mut bindings = Vec::new();
        for binding in &bound.bindings {
            let is_meant = match &binding.matching {
                None => true,
                Some(matching) => {
                    matching.form(&self.target, &self.forms).is_some()
                        && self.is_selected(matching, object).await?
                }
            };
            if is_meant {
                bindings.push(Arc::clone(binding));
            }
        }
        Ok(Some((form, bindings)))
    }

    async fn is_selected(&self, matching: &Matching, object: Option<&Value>) -> Result<bool, ApiError> {
        if !matching.selects(object, self.request.old) {
            return Ok(false);
        }
        Ok(match matching.namespace(&self.target) {
            NamespaceLabels::None => true,
            NamespaceLabels::Object => object.is_some_and(|object| matching.in_namespace(object)),
            NamespaceLabels::Stored(name) => matching.in_namespace(self.stored(name).await?),
        })
    }

    /// The namespace that expressions see; null for objects that are in none.
    pub(super) async fn namespace(&self) -> Result<&Value, ApiError> {
        let is_namespace = self.target.group.is_empty() && self.target.resource == "namespaces";
        if self.target.namespace.is_empty() || is_namespace {
            return Ok(&Value::Null);
        }
        self.stored(self.target.namespace).await
    }

    async fn stored(&self, name: &str) -> Result<&Value, ApiError> {
        let look = || async {
            let found = self.call.server.policies.objects.get("", "namespaces", "", name).await?;
            found.ok_or_else(|| ApiError::not_found("", "namespaces", name))
        };
        self.namespace.get_or_try_init(look).await.map(|namespace| &**namespace)
    }

    /// The refusal of the request, with all that is to be said.
    pub(super) fn refusal(&self, object: Option<&Value>, message: &str) -> ApiError {
        let attributes = self.request.attributes;
        let name = super::super::display_name(self.request, object);
        ApiError::forbidden(&attributes.api_group, &attributes.resource, name, message)
    }

    /// The row of a form.
    pub(super) fn row(&self, form: &Form) -> carrack_api::ResourceRef {
        let found = self.call.server.kinds.now().find(&form.group, &form.version, &form.resource);
        found.unwrap_or_else(|| self.call.resource.clone())
    }
}

/// How an object of the request merges: by its resource, or by what the body of its subresource is.
pub(super) fn merges_as<'r>(kind: &str, row: &'r Resource) -> Option<carrack_api::apply::Kind<'r>> {
    use carrack_api::apply::Kind;
    if kind == row.kind {
        return Some(Kind::Resource(row));
    }
    let bodies = carrack_api::schema::bodies::ALL;
    bodies.iter().find(|body| body.name.rsplit('.').next() == Some(kind)).map(Kind::Body)
}
