//! What expressions see of a request, and the types of it. Source: the documentation of `AdmissionRequest` and
//! `apiserver/pkg/admission/plugin/cel/compile.go`.

use std::sync::Arc;

use carrack_cel::{Check, DYN, Environment, OpaqueKind, Query, STRING, Type};
use serde_json::{Value, json};

use super::super::matching::{Form, operation_name};
use super::rights::Rights;
use crate::call::Call;
use crate::{AdmissionRequest, ApiError, Operation};

/// A request in the form that a policy is about.
pub(super) struct Asked {
    /// Null for deletions.
    pub(super) object: Value,
    /// Null for creations.
    pub(super) old: Value,
    pub(super) request: Value,
    pub(super) authorizer: Query,
    /// The same, with the resource of the request named.
    pub(super) resource: Query,
}

impl Asked {
    pub(super) async fn new(
        call: &Call,
        request: &AdmissionRequest<'_>,
        object: Option<&Value>,
        form: &Form,
    ) -> Result<Self, ApiError> {
        let found = call.server.kinds.now().find(&form.group, &form.version, &form.resource);
        let row = found.unwrap_or_else(|| call.resource.clone());
        let show = async |object: Option<&Value>| match object {
            Some(object) if request.kind == call.resource.kind => {
                call.server.converter.shown(&row, object).await
            }
            Some(object) => Ok(object.clone()),
            None => Ok(Value::Null),
        };
        let attributes = request.attributes;
        let rights = Arc::new(Rights {
            authorizers: call.server.config.authorizers.clone(),
            user: attributes.user.clone(),
        });
        let query = |check: Check| Query { authorizer: rights.clone(), check: Arc::new(check) };
        let resource = Check {
            group: attributes.api_group.clone(),
            resource: attributes.resource.clone(),
            subresource: attributes.subresource.clone(),
            namespace: attributes.namespace.clone(),
            name: attributes.name.clone(),
            ..Check::default()
        };
        Ok(Asked {
            object: show(object).await?,
            old: show(request.old).await?,
            request: facts(call, request, object, form, row.kind),
            authorizer: query(Check::default()),
            resource: query(resource),
        })
    }
}

/// The variable `request`.
fn facts(
    call: &Call,
    request: &AdmissionRequest<'_>,
    object: Option<&Value>,
    form: &Form,
    kind: &str,
) -> Value {
    let attributes = request.attributes;
    let kind = if request.kind == call.resource.kind { kind } else { request.kind };
    let own = &call.resource;
    let options = match (request.operation, attributes.verb.as_str()) {
        (Operation::Connect, _) => Value::Null,
        (_, "patch") => json!({"apiVersion": "meta.k8s.io/v1", "kind": "PatchOptions"}),
        (Operation::Create, _) => json!({"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"}),
        (Operation::Update, _) => json!({"apiVersion": "meta.k8s.io/v1", "kind": "UpdateOptions"}),
        (Operation::Delete, _) => json!({"apiVersion": "meta.k8s.io/v1", "kind": "DeleteOptions"}),
    };
    let user = &attributes.user;
    json!({
        "kind": {"group": form.group, "version": form.version, "kind": kind},
        "resource": {"group": form.group, "version": form.version, "resource": form.resource},
        "subResource": attributes.subresource,
        "requestKind": {"group": own.group, "version": own.version, "kind": request.kind},
        "requestResource": {"group": own.group, "version": own.version, "resource": own.plural},
        "requestSubResource": attributes.subresource,
        "name": super::super::display_name(request, object),
        "namespace": attributes.namespace,
        "operation": operation_name(request.operation),
        "userInfo": {"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra},
        "dryRun": request.dry_run,
        "options": options,
    })
}

/// The type of `request`.
pub(super) fn request_type() -> Type {
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
pub(super) fn with_authorizer(environment: Environment) -> Environment {
    environment
        .with("authorizer", Type::Opaque(OpaqueKind::Authorizer))
        .with("authorizer.requestResource", Type::Opaque(OpaqueKind::ResourceCheck))
}
