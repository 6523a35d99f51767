//! What the server writes for definitions: what their status says, and the steps towards the end of those that are
//! being deleted.

use std::sync::Arc;

use carrack_api::Resource;
use http::Method;
use serde_json::Value;

use super::{COLLECTION, cleanup};
use crate::server::ApiServer;

/// What is to be written, each with the definition's name.
#[derive(Default)]
pub(super) struct Todo {
    /// Definitions with the status that was decided.
    pub(super) statuses: Vec<(String, Value)>,
    /// Definitions that are being deleted, and what they serve.
    pub(super) ends: Vec<(String, Value, Vec<Arc<Resource>>)>,
}

/// What came of it.
pub(super) struct Done {
    /// The definitions whose status was written, or could not be.
    pub(super) statuses: Vec<String>,
    /// Something is left for later.
    pub(super) left: bool,
}

impl Todo {
    pub(super) fn is_empty(&self) -> bool {
        self.statuses.is_empty() && self.ends.is_empty()
    }

    /// Writes it all.
    pub(super) async fn write(self, server: ApiServer) -> Done {
        let mut done = Done { statuses: Vec::new(), left: false };
        for (name, definition) in self.statuses {
            done.left |= !store_status(&server, &name, &definition).await;
            done.statuses.push(name);
        }
        for (name, definition, rows) in self.ends {
            match cleanup::step(&server, &name, &definition, &rows).await {
                Ok(ended) => done.left |= !ended,
                Err(error) => {
                    tracing::warn!(definition = name, message = %error.message, "cannot end a definition");
                    done.left = true;
                }
            }
        }
        done
    }
}

/// Writes the status that was decided; false when it has to be decided anew.
pub(super) async fn store_status(server: &ApiServer, name: &str, definition: &Value) -> bool {
    let path = format!("{COLLECTION}/{name}/status");
    let (code, answer) = server.request(Method::PUT, &path, Some(definition)).await;
    if code >= 400 && code != 409 && code != 404 {
        tracing::warn!(definition = name, message = %answer["message"], "cannot write the status of a definition");
    }
    code < 400
}
