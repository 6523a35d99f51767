//! A server that a kubeconfig leads to, and that answers JSON to JSON: webhooks of authentication, authorization and
//! audit.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::failure::{CallError, CallFailure};
use super::kubeconfig::{Kubeconfig, KubeconfigError};
use super::{Answer, Outbound, Target};

/// Such a server. Clones share connections.
#[derive(Clone)]
pub struct Remote {
    outbound: Outbound,
    target: Arc<Target>,
    limit: Duration,
}

impl Remote {
    /// The server of the current context of the kubeconfig at `path`; a request takes `limit` at most.
    pub fn open(path: &Path, limit: Duration) -> Result<Self, KubeconfigError> {
        let target = Arc::new(Kubeconfig::read(path)?.target()?);
        Ok(Self { outbound: Outbound::of_urls(), target, limit })
    }

    /// The JSON that it answers to `body`.
    pub(crate) async fn post(&self, body: &Value) -> Result<Value, CallError> {
        let answer = self.send(body.to_string().into_bytes()).await?;
        answer.json().map_err(|why| self.failed(why))
    }

    /// Hands over a JSON text; what is answered does not matter, as long as it is a success.
    pub(crate) async fn tell(&self, body: Vec<u8>) -> Result<(), CallError> {
        self.send(body).await?.success().map(|_| ()).map_err(|why| self.failed(why))
    }

    async fn send(&self, body: Vec<u8>) -> Result<Answer, CallError> {
        self.outbound.post(&self.target, &self.target.url(), body, self.limit).await
    }

    fn failed(&self, why: CallFailure) -> CallError {
        CallError { method: "Post", url: self.target.url(), why }
    }
}

impl Answer {
    /// The body of a success.
    pub(crate) fn success(&self) -> Result<&[u8], CallFailure> {
        if !self.status.is_success() {
            return Err(CallFailure::Status(self.status.as_u16()));
        }
        Ok(&self.body)
    }

    /// The JSON of a success.
    pub(crate) fn json(&self) -> Result<Value, CallFailure> {
        serde_json::from_slice(self.success()?).map_err(|error| CallFailure::Json(error.to_string()))
    }
}
