//! What expressions see of a request, and the types of it. Source: the documentation of `AdmissionRequest` and
//! `apiserver/pkg/admission/plugin/cel/compile.go`.

use std::sync::{Arc, LazyLock};

use carrack_cel::{Check, DYN, Environment, OpaqueKind, Query, STRING, Type};
use serde_json::{Value, json};

use super::super::matching::{Form, operation_name};
use super::super::webhook::Asked as Review;
use super::rights::Rights;
use crate::call::Call;
use crate::{AdmissionRequest, ApiError};

/// The type of `request`.
pub(in crate::admission) static REQUEST: LazyLock<Type> = LazyLock::new(request_type);
/// The type of `namespaceObject`.
pub(super) static NAMESPACE: LazyLock<Type> = LazyLock::new(namespace_type);

/// A request in the form that a policy is about.
pub(super) struct Asked {
    /// Null for deletions.
    pub(super) object: Value,
    /// Null for creations.
    pub(super) old: Value,
    pub(super) request: Value,
    /// What stands behind the next two.
    pub(super) rights: Arc<Rights>,
    pub(super) authorizer: Query,
    /// The same, with the resource of the request named.
    pub(super) resource: Query,
}

impl Asked {
    pub(super) async fn new(
        review: &Review<'_>,
        object: Option<&Value>,
        form: &Form,
    ) -> Result<Self, ApiError> {
        let (rights, [authorizer, resource]) = questions(review.call, review.request);
        Ok(Asked {
            object: review.show_any(form, object).await?.unwrap_or_default(),
            old: review.show_any(form, review.request.old).await?.unwrap_or_default(),
            request: facts(review, object, form),
            rights,
            authorizer,
            resource,
        })
    }
}

/// What the variables `authorizer` and `authorizer.requestResource` ask, and who answers: expressions that use them are to
/// be evaluated by [`Rights::settled`].
pub(in crate::admission) fn questions(
    call: &Call,
    request: &AdmissionRequest<'_>,
) -> (Arc<Rights>, [Query; 2]) {
    let attributes = request.attributes;
    let rights = Arc::new(Rights::new(call.server.config.authorizers.clone(), attributes.user.clone()));
    let query = |check: Check| Query { authorizer: rights.clone(), check: Arc::new(check) };
    let resource = Check {
        group: attributes.api_group.clone(),
        resource: attributes.resource.clone(),
        subresource: attributes.subresource.clone(),
        namespace: attributes.namespace.clone(),
        name: attributes.name.clone(),
        ..Check::default()
    };
    let queries = [query(Check::default()), query(resource)];
    (rights, queries)
}

/// The variable `request`.
fn facts(review: &Review<'_>, object: Option<&Value>, form: &Form) -> Value {
    let request = review.request;
    let attributes = request.attributes;
    let kind = |form: &Form| {
        let kind = review.kind(form);
        json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
    };
    let resource =
        |form: &Form| json!({"group": form.group, "version": form.version, "resource": form.resource});
    let user = &attributes.user;
    json!({
        "kind": kind(form),
        "resource": resource(form),
        "subResource": attributes.subresource,
        "requestKind": kind(review.own_form()),
        "requestResource": resource(review.own_form()),
        "requestSubResource": attributes.subresource,
        "name": super::super::display_name(request, object),
        "namespace": attributes.namespace,
        "operation": operation_name(request.operation),
        "userInfo": {"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra},
        "dryRun": request.dry_run,
        "options": review.options(),
    })
}

/// The type of `request`.
pub(in crate::admission) fn request_type() -> Type {
    let text = || STRING;
    let kind = || {
        Type::object(
            "kubernetes.GroupVersionKind",
            [("group", text()), ("version", text()), ("kind", text())],
        )
    };
    let resource = || {
        Type::object(
            "kubernetes.GroupVersionResource",
            [("group", text()), ("version", text()), ("resource", text())],
        )
    };
    let user = Type::object(
        "kubernetes.UserInfo",
        [
            ("username", text()),
            ("uid", text()),
            ("groups", Type::list(text())),
            ("extra", Type::map(text(), Type::list(text()))),
        ],
    );
    Type::object(
        "kubernetes.AdmissionRequest",
        [
            ("kind", kind()),
            ("resource", resource()),
            ("subResource", text()),
            ("requestKind", kind()),
            ("requestResource", resource()),
            ("requestSubResource", text()),
            ("name", text()),
            ("namespace", text()),
            ("operation", text()),
            ("userInfo", user),
            ("dryRun", Type::Bool),
            ("options", DYN),
        ],
    )
}

/// The type of `namespaceObject`.
pub(super) fn namespace_type() -> Type {
    let texts = || Type::map(STRING, STRING);
    let metadata = Type::object(
        "kubernetes.NamespaceMetadata",
        [
            ("name", STRING),
            ("generateName", STRING),
            ("namespace", STRING),
            ("labels", texts()),
            ("annotations", texts()),
            ("uid", STRING),
            ("creationTimestamp", Type::Timestamp),
            ("deletionGracePeriodSeconds", Type::Int),
            ("deletionTimestamp", Type::Timestamp),
            ("generation", Type::Int),
            ("resourceVersion", STRING),
            ("finalizers", Type::list(STRING)),
        ],
    );
    let spec = Type::object("kubernetes.NamespaceSpec", [("finalizers", Type::list(STRING))]);
    let status = Type::object("kubernetes.NamespaceStatus", [("phase", STRING)]);
    Type::object("kubernetes.Namespace", [("metadata", metadata), ("spec", spec), ("status", status)])
}

/// What expressions of policies and match conditions can name, but for `authorizer` and `variables`.
pub(super) fn environment(params: bool) -> Environment {
    let environment = Environment::new()
        .with("object", DYN)
        .with("oldObject", DYN)
        .with("request", request_type())
        .with("namespaceObject", namespace_type());
    if params { environment.with("params", DYN) } else { environment }
}

/// And the rights of whoever asks.
pub(in crate::admission) fn with_authorizer(environment: Environment) -> Environment {
    environment
        .with("authorizer", Type::Opaque(OpaqueKind::Authorizer))
        .with("authorizer.requestResource", Type::Opaque(OpaqueKind::ResourceCheck))
}
