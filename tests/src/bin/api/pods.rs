//! Pods of 4 kB, as controllers make them.

use std::ops::Range;

use anyhow::Result;
use http::Method;
use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::client::JSON;
use crate::server::Server;

pub(crate) const PATH: &str = "/api/v1/namespaces/default/pods";

/// Bytes of JSON of a stored pod, about.
const BYTES: usize = 4_000;

/// Nodes that pods are spread over.
pub(crate) const NODES: usize = 1_000;

/// Who creates many at once.
const CREATORS: usize = 32;

/// A pod that no scheduler and no controller takes up.
pub(crate) fn pod(name: &str, node: usize) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "default",
            "labels": {"app": "bench", "pod-template-hash": "5d59d67564", "tier": "backend"},
            "annotations": {"example.com/turn": "0"}
        },
        "spec": {
            "schedulerName": "none",
            "nodeSelector": {"example.com/node": format!("node-{}", node % NODES)},
            "containers": [{
                "name": "main", "image": "registry.example.com/team/service:v1.2.3",
                "ports": [{"containerPort": 8080, "name": "http"}],
                "env": [{"name": "MODE", "value": "production"}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
                "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}}
            }],
            "tolerations": [{"key": "dedicated", "operator": "Exists"}]
        }
    });
    // What the server adds (defaults, metadata, managedFields, status) is about 2,300 bytes.
    let missing = (BYTES - 2_300).saturating_sub(pod.to_string().len());
    pod["metadata"]["annotations"]["example.com/filling"] = "x".repeat(missing).into();
    pod
}

/// Creates pods `prefix`-n with many connections.
pub(crate) async fn create(server: &Server, prefix: &str, numbers: Range<usize>) -> Result<()> {
    let mut creators = Vec::new();
    for first in 0..CREATORS {
        let (mut client, prefix) = (server.client().await?, prefix.to_owned());
        let numbers = numbers.clone().skip(first).step_by(CREATORS);
        creators.push(tokio::spawn(async move {
            for n in numbers {
                let body = Bytes::from(pod(&format!("{prefix}-{n}"), n).to_string());
                client.done(Method::POST, PATH, JSON, body).await?;
            }
            anyhow::Ok(())
        }));
    }
    for creator in creators {
        creator.await??;
    }
    Ok(())
}
