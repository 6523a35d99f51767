//! What webhooks are asked about: the request, and its object in the form that each wants to see.

use std::sync::Arc;

use carrack_api::codec;
use carrack_api::schema::always::complete_stored;
use carrack_api::{GroupVersionKind, ResourceRef, meta};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::super::matching::{Form, NamespaceLabels, Target, forms};
use super::super::policy::request::questions;
use super::ask::question;
use super::hook::Hook;
use super::review;
use crate::call::Call;
use crate::object::to_storage;
use crate::verbs::scale;
use crate::{AdmissionRequest, ApiError, Operation};

/// A request.
pub(crate) struct Asked<'a> {
    pub(in crate::admission) call: &'a Call,
    pub(in crate::admission) request: &'a AdmissionRequest<'a>,
    pub(super) target: Target<'a>,
    /// The form that was asked for.
    own: Form,
    /// The forms in which the resource is served.
    forms: Vec<Form>,
    /// The namespace of the request, looked up at most once.
    namespace: OnceCell<Arc<Value>>,
}

/// What the object of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// The resource itself, which is stored in one form and shown in others.
    Object,
    /// The Scale of the resource, which is shown in place of it.
    Scale,
    /// Something of its own, such as a Binding.
    Other,
}

impl<'a> Asked<'a> {
    pub(in crate::admission) fn new(call: &'a Call, request: &'a AdmissionRequest<'a>) -> Self {
        let target = Target::of(request.attributes, request.operation);
        let (own, forms) = (target.form(), forms(&call.server.kinds.now(), &target));
        Asked { call, request, target, own, forms, namespace: OnceCell::new() }
    }

    /// The form that was asked for.
    pub(in crate::admission) fn own_form(&self) -> &Form {
        &self.own
    }

    /// The form in which the webhook wants to be asked; `None` when it does not want to. `object` is in the stored
    /// form.
    pub(super) async fn form(&self, hook: &Hook, object: Option<&Value>) -> Result<Option<Form>, ApiError> {
        let Some(form) = hook.matching.form(&self.target, &self.forms) else { return Ok(None) };
        if !hook.matching.selects(object, self.request.old) {
            return Ok(None);
        }
        let meant = match hook.matching.namespace(&self.target) {
            NamespaceLabels::None => true,
            NamespaceLabels::Object => object.is_some_and(|object| hook.matching.in_namespace(object)),
            NamespaceLabels::Stored(name) => hook.matching.in_namespace(self.namespace(name).await?),
        };
        if !meant {
            return Ok(None);
        }
        Ok(self.meets_conditions(hook, &form, object).await?.then_some(form))
    }

    /// Whether the request meets the webhook's conditions; where that cannot be told, `failurePolicy` decides between
    /// not to ask and to refuse.
    async fn meets_conditions(
        &self,
        hook: &Hook,
        form: &Form,
        object: Option<&Value>,
    ) -> Result<bool, ApiError> {
        let held = match &hook.conditions {
            Ok(conditions) if conditions.is_empty() => return Ok(true),
            Ok(conditions) => {
                let shown = self.show_any(form, object).await?;
                let mut request = review::request(question(self, form, "", shown.as_ref()).await?);
                let mut take = |field: &str| request.get_mut(field).map(Value::take).unwrap_or_default();
                let (object, old) = (take("object"), take("oldObject"));
                let (rights, queries) = questions(self.call, self.request);
                rights.settled(|| conditions.hold(&object, &old, &request, &queries)).await
            }
            Err(why) => Err(why.clone()),
        };
        match held {
            Ok(held) => Ok(held),
            Err(why) if hook.ignores_failure => {
                tracing::warn!(webhook = hook.name, why, "its conditions failed; it is not asked");
                Ok(false)
            }
            Err(why) => {
                let attributes = self.request.attributes;
                let (name, _) = self.place(object);
                Err(ApiError::forbidden(&attributes.api_group, &attributes.resource, name, &why))
            }
        }
    }

    async fn namespace(&self, name: &str) -> Result<&Value, ApiError> {
        let look = || async {
            let found = self.call.server.webhooks.objects.get("", "namespaces", "", name).await?;
            found.ok_or_else(|| ApiError::not_found("", "namespaces", name))
        };
        self.namespace.get_or_try_init(look).await.map(|namespace| &**namespace)
    }

    fn body(&self) -> Body {
        match self.call.subresource {
            Some(part) if part.name == "scale" => Body::Scale,
            _ if self.request.kind == self.call.resource.kind => Body::Object,
            _ => Body::Other,
        }
    }

    /// The kind of what is shown in that form.
    pub(in crate::admission) fn kind(&self, form: &Form) -> GroupVersionKind {
        let row = self.row(form);
        match (self.body(), self.call.subresource) {
            (Body::Object, _) | (_, None) => row.gvk(),
            (_, Some(part)) => row.subresource(part.name).map_or(part.kind, |part| part.kind),
        }
    }

    /// The row of a form; the request's own where the table has no other.
    fn row(&self, form: &Form) -> ResourceRef {
        let found = self.call.server.kinds.now().find(&form.group, &form.version, &form.resource);
        found.unwrap_or_else(|| self.call.resource.clone())
    }

    /// What a webhook is shown of an object in the form that writes work on.
    pub(in crate::admission) async fn show(&self, form: &Form, object: &Value) -> Result<Value, ApiError> {
        match self.body() {
            Body::Other => Ok(object.clone()),
            Body::Scale => scale::scale_of(&self.call.resource, object),
            Body::Object => self.call.server.converter.shown(&self.row(form), object).await,
        }
    }

    /// The same of an object that need not be there.
    pub(in crate::admission) async fn show_any(
        &self,
        form: &Form,
        object: Option<&Value>,
    ) -> Result<Option<Value>, ApiError> {
        match object {
            Some(object) => self.show(form, object).await.map(Some),
            None => Ok(None),
        }
    }

    /// Takes over what a webhook made of what it was shown: fields that the kind does not have are dropped, defaults
    /// are set, and the object is in the stored form again.
    pub(super) async fn take(&self, form: &Form, object: &mut Value, patched: Value) -> Result<(), ApiError> {
        match self.body() {
            Body::Other => *object = patched,
            Body::Scale => {
                let replicas = patched.pointer("/spec/replicas").cloned().unwrap_or(json!(0));
                scale::set_replicas(&self.call.resource, object, replicas);
            }
            Body::Object => {
                let new = codec::check(patched, &self.row(form)).map_err(ApiError::internal)?.value;
                *object = self.completed(form, new).await?;
            }
        }
        Ok(())
    }

    /// The same for what a policy made, whose unknown fields are an error.
    pub(in crate::admission) async fn take_all(
        &self,
        form: &Form,
        object: &mut Value,
        patched: Value,
    ) -> Result<(), ApiError> {
        if self.body() != Body::Object {
            return self.take(form, object, patched).await;
        }
        let decoded = codec::check(patched, &self.row(form)).map_err(ApiError::internal)?;
        if let Some(why) = decoded.strict_error() {
            return Err(ApiError::internal(why));
        }
        *object = self.completed(form, decoded.value).await?;
        Ok(())
    }

    /// An object in the form that writes work on again, with defaults.
    async fn completed(&self, form: &Form, mut shown: Value) -> Result<Value, ApiError> {
        let row = self.row(form);
        match row.custom() {
            Some(custom) => {
                let own = self.call.resource.api_version;
                shown = self.call.server.converter.convert(custom, &shown, own).await?;
            }
            None => to_storage(&row, &mut shown),
        }
        self.call.strategy().default(&mut shown);
        complete_stored(&self.call.resource, &mut shown);
        Ok(shown)
    }

    /// Name and namespace as reviews tell them.
    pub(super) fn place<'b>(&'b self, object: Option<&'b Value>) -> (&'b str, &'b str) {
        let attributes = self.request.attributes;
        let known = object.or(self.request.old).map_or("", meta::name);
        let name = if attributes.name.is_empty() { known } else { &attributes.name };
        let own = attributes.resource == "namespaces" && attributes.namespace.is_empty();
        (name, if own { name } else { &attributes.namespace })
    }

    /// The options of the verb.
    pub(in crate::admission) fn options(&self) -> Value {
        let kind = match (self.request.operation, self.request.attributes.verb.as_str()) {
            (Operation::Connect, _) => return Value::Null,
            (_, "patch") => "PatchOptions",
            (Operation::Create, _) => "CreateOptions",
            (Operation::Update, _) => "UpdateOptions",
            (Operation::Delete, _) => "DeleteOptions",
        };
        let mut options = match (self.request.operation, self.call.deletion.get()) {
            (Operation::Delete, Some(body)) => body.clone(),
            _ => json!({}),
        };
        options["kind"] = kind.into();
        options["apiVersion"] = "meta.k8s.io/v1".into();
        let query = &self.call.query;
        if self.request.dry_run {
            options["dryRun"] = json!(["All"]);
        }
        let fields: &[&str] = match self.request.operation {
            Operation::Delete => &["propagationPolicy"],
            _ => &["fieldManager", "fieldValidation"],
        };
        for field in fields {
            if let Some(value) = query.non_empty(field) {
                options[*field] = value.into();
            }
        }
        if let (Operation::Delete, Ok(Some(seconds))) =
            (self.request.operation, query.integer("gracePeriodSeconds"))
        {
            options["gracePeriodSeconds"] = seconds.into();
        }
        if kind == "PatchOptions" && query.flag("force") {
            options["force"] = true.into();
        }
        options
    }
}
