//! OpenAPI v2 of the other servers: fetched when they are looked at, put into this server's document when that is asked
//! for. OpenAPI v3 is handed on by group version, see `proxy`.

use std::sync::Arc;

use carrack_api::Catalogue;
use carrack_api::openapi::{self, Document, Part};
use http::{HeaderValue, StatusCode};
use serde_json::Value;

use super::Aggregation;
use super::remote::Remote;
use crate::ApiError;

/// A document of another server.
#[derive(Debug)]
pub(super) struct Described {
    tag: Option<HeaderValue>,
    document: Value,
}

/// A document, and the path of the group version that it is to tell of.
type Rooted = (String, Arc<Described>);

/// This server's document with those of others.
pub(crate) struct Merged {
    /// What it was made of.
    own: Arc<Catalogue>,
    parts: Vec<Rooted>,
    pub(crate) json: Document,
    pub(crate) protobuf: Document,
}

impl Merged {
    fn is_of(&self, own: &Arc<Catalogue>, parts: &[Rooted]) -> bool {
        Arc::ptr_eq(&self.own, own)
            && self.parts.len() == parts.len()
            && self.parts.iter().zip(parts).all(|(one, two)| one.0 == two.0 && Arc::ptr_eq(&one.1, &two.1))
    }
}

impl Aggregation {
    /// The document of a remote server, the known one as long as it says that it is current. Not every server has one.
    pub(super) async fn document_of(&self, remote: &Remote) -> Option<Arc<Described>> {
        let known = self.known.lock().get(&remote.name).and_then(|known| known.openapi_v2.clone());
        let tag = known.as_ref().and_then(|known| known.tag.clone());
        let (url, answer) = match self.request(remote, "/openapi/v2", tag).await {
            Ok(answered) => answered,
            Err(why) => {
                tracing::debug!(why, "an aggregated API server tells no OpenAPI v2");
                return known;
            }
        };
        if answer.status == StatusCode::NOT_MODIFIED {
            return known;
        }
        match answer.json() {
            // One without a tag that is the same needs no new work either.
            Ok(document) => match known {
                Some(known) if known.document == document => Some(known),
                _ => Some(Arc::new(Described { tag: answer.tag, document })),
            },
            Err(why) => {
                tracing::debug!(url, %why, "an aggregated API server tells no OpenAPI v2");
                None
            }
        }
    }

    /// The document with what other servers answer for; `None` when they tell of nothing. It is made once for what it
    /// is made of.
    pub(crate) async fn openapi_v2(&self, own: Arc<Catalogue>) -> Result<Option<Arc<Merged>>, ApiError> {
        let parts: Vec<Rooted> = self
            .described()
            .await?
            .into_iter()
            .filter_map(|(remote, known)| Some((remote.path(), known?.openapi_v2?)))
            .collect();
        if parts.is_empty() {
            return Ok(None);
        }
        if let Some(merged) = self.merged.lock().clone().filter(|merged| merged.is_of(&own, &parts)) {
            return Ok(Some(merged));
        }
        let made = tokio::task::spawn_blocking(move || {
            let all: Vec<Part<'_>> =
                parts.iter().map(|(root, d)| Part { root, document: &d.document }).collect();
            let (json, protobuf) = openapi::v2_with(&own, &all);
            Arc::new(Merged { own, parts, json, protobuf })
        });
        let made = made.await.map_err(ApiError::internal)?;
        *self.merged.lock() = Some(made.clone());
        Ok(Some(made))
    }
}
