//! NamespaceAutoProvision: what is created in a namespace that is not there makes the namespace. Off unless it is
//! enabled. It is a step of the server and no plugin of the list, since it writes.

use std::sync::Arc;

use futures::future::BoxFuture;
use http::Method;
use serde_json::{Value, json};

use super::display_name;
use crate::authn::Objects;
use crate::call::Call;
use crate::server::{ApiServer, Inner};
use crate::{AdmissionRequest, ApiError, Operation, StoreObjects};

/// Its name among the plugins.
pub(crate) const NAME: &str = "NamespaceAutoProvision";

/// Makes the namespace of a creation, unless nothing is stored. A namespace that cannot be made refuses the request.
pub(crate) async fn provide(
    call: &Call,
    request: &AdmissionRequest<'_>,
    object: &Value,
) -> Result<(), ApiError> {
    let what = request.attributes;
    let is_namespace = what.api_group.is_empty() && what.resource == "namespaces";
    if request.dry_run || request.operation != Operation::Create || is_namespace || what.namespace.is_empty()
    {
        return Ok(());
    }
    let objects = StoreObjects::new(call.server.config.store.clone());
    if objects.get("", "namespaces", "", &what.namespace).await?.is_some() {
        return Ok(());
    }
    let namespace = json!({"metadata": {"name": what.namespace}});
    let (code, answer) = create(Arc::clone(&call.server), namespace).await;
    // Somebody else was quicker.
    if code < 400 || answer["reason"] == "AlreadyExists" {
        return Ok(());
    }
    let why = answer["message"].as_str().unwrap_or("the namespace was not made");
    Err(ApiError::forbidden(&what.api_group, &what.resource, display_name(request, Some(object)), why))
}

/// A type of its own for the compiler: this is a request within a request.
fn create(server: Arc<Inner>, namespace: Value) -> BoxFuture<'static, (u16, Value)> {
    Box::pin(async move {
        let server = ApiServer { inner: server };
        server.request(Method::POST, "/api/v1/namespaces", Some(&namespace)).await
    })
}
