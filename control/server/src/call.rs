//! One request about a served resource, after authorization: what its verb needs to answer it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use carrack_api::codec::{self, Decoded};
use carrack_api::schema::TypeRef;
use carrack_api::{Resource, ResourceRef, Scope, Subresource, meta, status};
use carrack_store::{KeyValue, Revision};
use parking_lot::Mutex;
use serde_json::Value;

use crate::admission::{annotations::Annotations, auto_provision, policy, webhook};
use crate::audit;
use crate::negotiate::{Representation, TEXT};
use crate::object::Stored;
use crate::options::{FieldValidation, WriteOptions};
use crate::query::Query;
use crate::registry::{Beside, Registry, Swap};
use crate::router::RequestInfo;
use crate::server::Inner;
use crate::service::Origin;
use crate::{AdmissionRequest, ApiError, Attributes, Draft, Operation, definitions, protobuf};

/// Media types of bodies that are objects.
pub(crate) const OBJECT_MEDIA: &[&str] = &["application/json", "application/yaml", protobuf::MEDIA_TYPE];

/// The step of admission that asks mutating webhooks.
const MUTATING: &str = "MutatingAdmissionWebhook";

/// The request.
pub(crate) struct Call {
    pub(crate) server: Arc<Inner>,
    pub(crate) resource: ResourceRef,
    pub(crate) subresource: Option<Subresource>,
    pub(crate) info: RequestInfo,
    pub(crate) attributes: Attributes,
    pub(crate) query: Query,
    pub(crate) representation: Representation,
    /// The body's media type, without parameters.
    pub(crate) content_type: String,
    /// Who is said to manage what this call writes.
    pub(crate) manager: String,
    pub(crate) warnings: Arc<Warnings>,
    /// What admission tells the audit log.
    pub(crate) annotations: Arc<Annotations>,
    /// The options in the body of a deletion, once they are read.
    pub(crate) deletion: OnceLock<Value>,
    /// Where the request comes from.
    pub(crate) origin: Origin,
}

/// Texts for `Warning` headers, each once, in order.
#[derive(Default)]
pub(crate) struct Warnings(Mutex<Vec<String>>);

impl Warnings {
    /// Adds texts that are not there yet.
    pub(crate) fn add(&self, texts: impl IntoIterator<Item = String>) {
        let mut all = self.0.lock();
        for text in texts {
            if !all.contains(&text) {
                all.push(text);
            }
        }
    }

    /// Takes all texts out.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

impl Call {
    pub(crate) fn registry(&self) -> &Registry {
        &self.server.registry
    }

    /// A stored object as readers of the resource get it; for writes, in the form that they work on.
    pub(crate) async fn read(&self, kv: &Arc<KeyValue>) -> Result<Stored, ApiError> {
        Ok(self.server.converter.one(&self.resource, kv).await?.stored())
    }

    /// The bytes that are stored for an object in the form that writes work on.
    pub(crate) async fn encode(&self, object: &Value) -> Result<Bytes, ApiError> {
        self.server.converter.encode(&self.resource, object).await
    }

    /// Writes an object, as [`Registry::put`] does; a definition is served by when this comes back.
    pub(crate) async fn put(
        &self,
        key: &str,
        known: Revision,
        value: Bytes,
        beside: Beside,
    ) -> Result<Swap, ApiError> {
        self.settled(self.registry().put(key, known, value, beside).await?).await
    }

    /// Removes an object, as [`Registry::remove`] does; a definition is no longer served when this comes back.
    pub(crate) async fn remove(&self, key: &str, known: Revision, beside: Beside) -> Result<Swap, ApiError> {
        self.settled(self.registry().remove(key, known, beside).await?).await
    }

    async fn settled(&self, swap: Swap) -> Result<Swap, ApiError> {
        if let Swap::Done(revision) = swap {
            definitions::served(self, revision).await;
        }
        Ok(swap)
    }

    /// What was just written, as readers of the resource get it.
    pub(crate) async fn written(&self, value: Bytes, revision: Revision) -> Result<Stored, ApiError> {
        self.server.converter.written(&self.resource, value, revision).await
    }

    /// The namespace of namespaced resources, empty for others.
    pub(crate) fn namespace(&self) -> &str {
        match self.resource.scope {
            Scope::Namespaced => &self.info.namespace,
            Scope::Cluster => "",
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.info.name
    }

    /// The same call for objects of another resource, in the same namespace.
    pub(crate) fn on(&self, resource: impl Into<ResourceRef>) -> Call {
        Call {
            server: self.server.clone(),
            resource: resource.into(),
            subresource: None,
            info: self.info.clone(),
            attributes: self.attributes.clone(),
            query: self.query.clone(),
            representation: self.representation,
            content_type: self.content_type.clone(),
            manager: self.manager.clone(),
            warnings: self.warnings.clone(),
            annotations: self.annotations.clone(),
            deletion: self.deletion.clone(),
            origin: self.origin,
        }
    }

    /// Whether the body is a configuration for server-side apply.
    pub(crate) fn is_apply(&self) -> bool {
        self.info.verb == "patch" && self.content_type == carrack_api::apply::MEDIA_TYPE
    }

    /// 404 for the object that the request names.
    pub(crate) fn not_found(&self) -> ApiError {
        status::not_found(&self.resource, self.name()).into()
    }

    /// The body as text that the codec reads, with its form; protobuf becomes JSON. 415 for other media types.
    pub(crate) fn text_of(&self, body: &Body, of: &TypeRef) -> Result<(Body, codec::Media), ApiError> {
        match self.content_type.as_str() {
            "" | "*/*" | "application/json" | "text/json" => Ok((body.clone(), codec::Media::Json)),
            "application/yaml" | "application/x-yaml" | "text/yaml" => Ok((body.clone(), codec::Media::Yaml)),
            protobuf::MEDIA_TYPE => {
                let text = protobuf::to_json(body, of)
                    .map_err(|e| ApiError::bad_request(format!("the body cannot be decoded: {e}")))?;
                Ok((text, codec::Media::Json))
            }
            _ => Err(status::unsupported_media_type(OBJECT_MEDIA).into()),
        }
    }

    /// Decodes a body that is an object of the resource, in the served form.
    pub(crate) fn decode(&self, body: &Body, options: &WriteOptions) -> Result<Value, ApiError> {
        if self.content_type == protobuf::MEDIA_TYPE && !self.resource.has_protobuf() {
            return Err(status::unsupported_media_type(TEXT).into());
        }
        let (text, media) = self.text_of(body, &self.resource.schema)?;
        let decoded = codec::decode_object(&text, media, &self.resource)
            .map_err(|e| e.into_status(&self.resource, &text))?;
        self.settle_strict(decoded, options.field_validation)
    }

    /// Decodes a body of another type, such as a Scale or Binding.
    pub(crate) fn decode_as(
        &self,
        body: &Body,
        of: &TypeRef,
        (api_version, kind): (&str, &str),
        options: &WriteOptions,
    ) -> Result<Value, ApiError> {
        let refuse = |why: codec::DecodeError| match why {
            codec::DecodeError::TooLarge => ApiError::too_large(codec::MAX_BODY),
            other => ApiError::bad_request(format!("{kind} cannot be decoded: {other}")),
        };
        let (text, media) = self.text_of(body, of)?;
        let mut decoded = codec::decode_type(&text, media, of).map_err(refuse)?;
        codec::identify(&mut decoded.value, api_version, kind).map_err(refuse)?;
        self.settle_strict(decoded, options.field_validation)
    }

    /// Does what `fieldValidation` says about unknown and repeated fields.
    pub(crate) fn settle_strict(&self, decoded: Decoded, mode: FieldValidation) -> Result<Value, ApiError> {
        match (mode, decoded.strict_error()) {
            (FieldValidation::Strict, Some(why)) => {
                Err(status::cannot_be_handled(&self.resource, &why).into())
            }
            (FieldValidation::Warn, Some(_)) => {
                self.warnings.add(decoded.strict.iter().map(ToString::to_string));
                Ok(decoded.value)
            }
            _ => Ok(decoded.value),
        }
    }

    /// Takes out owner references that are there twice, and warns of them, in upstream's words; `late` where admission may
    /// have added them.
    pub(crate) fn dedup_owners(&self, object: &mut Value, late: bool) {
        let twice = meta::dedup_owners(object);
        if twice.is_empty() {
            return;
        }
        let when = if late { " after mutating admission happens" } else { "" };
        self.warnings.add([format!(
            ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            twice.join(", ")
        )]);
    }

    /// The rules of the form that is stored, which is the form that writes work on.
    pub(crate) fn strategy(&self) -> &dyn carrack_api::strategy::Strategy {
        self.resource.stored_strategy()
    }

    /// What admission sees of this call.
    pub(crate) fn admission<'a>(
        &'a self,
        operation: Operation,
        kind: &'a str,
        old: Option<&'a Value>,
        dry_run: bool,
    ) -> AdmissionRequest<'a> {
        AdmissionRequest { attributes: &self.attributes, operation, kind, old, dry_run }
    }

    /// Runs mutating admission; says whether the object may have changed.
    pub(crate) async fn mutate(
        &self,
        request: &AdmissionRequest<'_>,
        object: &mut Value,
    ) -> Result<bool, ApiError> {
        let steps = self.server.admission_steps();
        if steps.runs(auto_provision::NAME) {
            auto_provision::provide(self, request, object).await?;
        }
        let mut policies = match steps.runs("MutatingAdmissionPolicy") {
            true => policy::mutation(self, request).await?,
            false => None,
        };
        let mut hooks = match steps.runs(MUTATING) {
            true => webhook::mutation(self, request).await?,
            false => None,
        };
        if self.server.config.admission.is_empty() && hooks.is_none() && policies.is_none() {
            return Ok(false);
        }
        let mut touched = self.complete(request, object).await?;
        let mut changed = false;
        if let Some(policies) = &mut policies {
            changed |= policies.run(object).await?;
        }
        if let Some(hooks) = &mut hooks {
            changed |= hooks.run(object).await?;
        }
        // Who wants to see what others changed after it does so once.
        if changed {
            touched |= self.complete(request, object).await?;
            if let Some(policies) = &mut policies {
                policies.run_again(object).await?;
            }
            if let Some(hooks) = &mut hooks {
                hooks.run_again(object).await?;
            }
        }
        Ok(touched || changed)
    }

    /// Runs the plugins that change objects; says whether one may have.
    async fn complete(&self, request: &AdmissionRequest<'_>, object: &mut Value) -> Result<bool, ApiError> {
        let mut draft = Draft::new(object);
        for admission in &self.server.config.admission {
            admission.mutate(request, &mut draft).await?;
        }
        Ok(draft.is_touched())
    }

    /// Runs validating admission; its warnings go to the client.
    pub(crate) async fn judge(
        &self,
        request: &AdmissionRequest<'_>,
        object: Option<&Value>,
    ) -> Result<(), ApiError> {
        for admission in &self.server.config.admission {
            self.warnings.add(admission.validate(request, object).await?);
        }
        // Deletions change nothing; mutating webhooks that want to know of them are asked all the same.
        let steps = self.server.admission_steps();
        if request.operation == Operation::Delete
            && steps.runs(MUTATING)
            && let Some(mut hooks) = webhook::mutation(self, request).await?
        {
            hooks.run_without_object().await?;
        }
        let judged = match steps.runs("ValidatingAdmissionPolicy") {
            true => policy::validate(self, request, object).await,
            false => Ok(()),
        };
        for (key, value) in self.annotations.take() {
            audit::annotate(&key, &value);
        }
        judged?;
        match steps.runs("ValidatingAdmissionWebhook") {
            true => webhook::validate(self, request, object).await,
            false => Ok(()),
        }
    }
}

/// What a verb answers.
pub(crate) enum Answer {
    /// A stored object, with the HTTP status.
    Stored(u16, Stored),
    /// An object of the resource in the served form that is not stored this way (a dry run).
    Object(u16, Value),
    /// Any other object: `Status`, `Scale`, a review.
    Other(u16, Value),
    /// A response that is ready, such as a stream.
    Ready(http::Response<crate::ResponseBody>),
}

impl Answer {
    /// 200 `Status: Success`, as deletions answer.
    pub(crate) fn success(resource: &Resource, name: &str, uid: &str) -> Self {
        Answer::Other(200, status::success(resource, name, uid).to_value())
    }
}

/// A request body that was read completely.
pub(crate) type Body = Bytes;
