//! Binding: the extension points that write to the API, and the default binder.

use std::sync::Arc;

use futures::future::BoxFuture;
use http::Request;
use kube::Client;
use serde_json::json;
use thiserror::Error;

use crate::pod::PodInfo;

/// A pod and the node that it goes to.
#[derive(Clone, Debug)]
pub struct BindTask {
    /// The pod.
    pub pod: Arc<PodInfo>,
    /// The node.
    pub node: Arc<str>,
}

/// Why a pod was not bound.
#[derive(Debug, Error)]
pub enum BindError {
    /// The API refused, or was not reached.
    #[error("binding {pod} to {node}: {source}")]
    Api {
        /// Namespace and name of the pod.
        pod: String,
        /// The node.
        node: String,
        /// The failure.
        source: Box<kube::Error>,
    },
    /// The request could not be built.
    #[error("binding {pod}: {source}")]
    Request {
        /// Namespace and name of the pod.
        pod: String,
        /// What is wrong.
        source: http::Error,
    },
    /// A plugin panicked.
    #[error("a plugin panicked while binding {0}")]
    Panicked(String),
    /// No plugin binds.
    #[error("no plugin binds {0}")]
    NoBinder(String),
}

impl BindError {
    /// Whether the pod is gone, so that there is nothing to try again.
    #[must_use]
    pub fn pod_is_gone(&self) -> bool {
        matches!(self, Self::Api { source, .. } if matches!(&**source, kube::Error::Api(s) if s.code == 404))
    }
}

/// A plugin of the points after the decision.
pub trait BindPlugin: Send + Sync {
    /// Its name.
    fn name(&self) -> &'static str;

    /// PreBind: what must be done before; a failure ends the attempt.
    fn pre_bind<'a>(&'a self, _task: &'a BindTask) -> BoxFuture<'a, Result<(), BindError>> {
        Box::pin(async { Ok(()) })
    }

    /// Bind: `None` leaves it to the next plugin.
    fn bind<'a>(&'a self, _task: &'a BindTask) -> BoxFuture<'a, Option<Result<(), BindError>>> {
        Box::pin(async { None })
    }

    /// PostBind: told that it is bound.
    fn post_bind<'a>(&'a self, _task: &'a BindTask) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }
}

/// Runs PreBind, Bind and PostBind for one pod.
///
/// # Errors
/// The first failure of a plugin.
pub async fn bind(plugins: &[Box<dyn BindPlugin>], task: &BindTask) -> Result<(), BindError> {
    for plugin in plugins {
        plugin.pre_bind(task).await?;
    }
    let mut bound = Err(BindError::NoBinder(task.pod.key.to_string()));
    for plugin in plugins {
        if let Some(answer) = plugin.bind(task).await {
            bound = answer;
            break;
        }
    }
    bound?;
    for plugin in plugins {
        plugin.post_bind(task).await;
    }
    Ok(())
}

/// Binds through the `binding` subresource of the pod.
pub struct DefaultBinder {
    client: Client,
}

impl DefaultBinder {
    /// A binder that writes through `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    async fn post(&self, task: &BindTask) -> Result<(), BindError> {
        let (namespace, name) = (&task.pod.key.namespace, &task.pod.key.name);
        let body = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            // The uid keeps a pod of the same name that came meanwhile from being bound.
            "metadata": { "namespace": namespace, "name": name, "uid": task.pod.uid },
            "target": { "apiVersion": "v1", "kind": "Node", "name": &*task.node },
        });
        let request = Request::post(format!("/api/v1/namespaces/{namespace}/pods/{name}/binding"))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.to_string().into_bytes())
            .map_err(|source| BindError::Request { pod: task.pod.key.to_string(), source })?;
        match self.client.request::<serde::de::IgnoredAny>(request).await {
            Ok(_) => Ok(()),
            Err(source) => Err(BindError::Api {
                pod: task.pod.key.to_string(),
                node: task.node.to_string(),
                source: Box::new(source),
            }),
        }
    }
}

impl BindPlugin for DefaultBinder {
    fn name(&self) -> &'static str {
        "DefaultBinder"
    }

    fn bind<'a>(&'a self, task: &'a BindTask) -> BoxFuture<'a, Option<Result<(), BindError>>> {
        Box::pin(async { Some(self.post(task).await) })
    }
}
