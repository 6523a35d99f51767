//! Custom resources between the form that they are stored in and the one that is asked for.
//!
//! What is stored is in the storage version of its time. Who reads gets it completed by the schema of that version and
//! converted: by changing `apiVersion`, or by the webhook of the definition (`spec.conversion`). A page of a list is
//! one question to the webhook (several when it is large), an event of a watch is one, and each object is asked about
//! once for each version while it is in memory ([`slot`]). Behind this module the bytes of a custom resource are like
//! those of a built-in kind: in the form of the row that is asked for.

mod ask;
mod batch;
mod forms;
mod found;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod review;
mod slot;

use std::sync::Arc;

use bytes::Bytes;
use carrack_api::custom::{Custom, is_in};
use carrack_api::{Resource, ResourceRef, codec, meta};
use carrack_store::{Event, EventKind, KeyValue, Revision};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::ApiError;
use crate::object::{Stored, to_served};
use crate::outbound::Outbound;

pub(crate) use forms::Forms;
pub(crate) use found::{Change, Found};

/// Brings custom resources into the form that is asked for, and back.
#[derive(Clone)]
pub(crate) struct Converter {
    outbound: Outbound,
    /// Ends questions that are open.
    end: CancellationToken,
}

impl Converter {
    pub(crate) fn new(outbound: Outbound, end: CancellationToken) -> Self {
        Converter { outbound, end }
    }

    /// Stored objects as readers of `row` see them, in the same order.
    pub(crate) async fn found(
        &self,
        row: &ResourceRef,
        kvs: Vec<Arc<KeyValue>>,
    ) -> Result<Vec<Found>, ApiError> {
        let Some(custom) = row.custom() else {
            return Ok(kvs.into_iter().map(|kv| Found { kv, ready: None }).collect());
        };
        let ready = self.ready(row, custom, &kvs).await?;
        Ok(kvs.into_iter().zip(ready).map(|(kv, ready)| Found { kv, ready: Some(ready) }).collect())
    }

    /// One stored object as readers of `row` see it.
    pub(crate) async fn one(&self, row: &ResourceRef, kv: &Arc<KeyValue>) -> Result<Found, ApiError> {
        let ready = match row.custom() {
            Some(custom) => self.ready(row, custom, std::slice::from_ref(kv)).await?.pop(),
            None => None,
        };
        Ok(Found { kv: kv.clone(), ready })
    }

    /// A change as watchers of `row` see it. Those who watch `everything` see what was there before only at its end.
    pub(crate) async fn change(
        &self,
        row: &ResourceRef,
        event: Event,
        everything: bool,
    ) -> Result<Change, ApiError> {
        let gone = event.kind == EventKind::Delete;
        let now = if gone { None } else { Some(self.one(row, &event.kv).await?) };
        let before = match &event.prev {
            Some(prev) if gone || !everything => Some(self.one(row, prev).await?),
            _ => None,
        };
        Ok(Change { event, now, before })
    }

    /// What was just written, as readers of `row` see it.
    pub(crate) async fn written(
        &self,
        row: &ResourceRef,
        value: Bytes,
        revision: Revision,
    ) -> Result<Stored, ApiError> {
        let Some(custom) = row.custom() else { return Ok(Stored { value, revision }) };
        // What was written in the version of the row went through its rules.
        if custom.storage().api_version == row.api_version {
            return Ok(Stored { value, revision });
        }
        let kv = KeyValue::new(Bytes::new(), value, revision, revision, 1, 0);
        Ok(self.one(row, &Arc::new(kv)).await?.stored())
    }

    /// The bytes that are stored for an object in the form that writes work on: the stored one of built-in kinds, that
    /// of the row of custom resources.
    pub(crate) async fn encode(&self, row: &ResourceRef, object: &Value) -> Result<Bytes, ApiError> {
        let stored = match row.custom() {
            Some(custom) if custom.storage().api_version != row.api_version => {
                Some(self.convert(custom, object, custom.storage().api_version).await?)
            }
            _ => None,
        };
        codec::encode_storage(stored.as_ref().unwrap_or(object)).map_err(ApiError::internal)
    }

    /// An object in the form that writes work on, as readers of `row` see it, which is of the same resource.
    pub(crate) async fn shown(&self, row: &Resource, object: &Value) -> Result<Value, ApiError> {
        if let Some(custom) = row.custom() {
            return self.convert(custom, object, row.api_version).await;
        }
        let mut shown = object.clone();
        to_served(row, &mut shown);
        Ok(shown)
    }

    /// An object of a custom resource in the form of another of its versions, which need not be served.
    pub(crate) async fn convert(
        &self,
        custom: &Custom,
        object: &Value,
        api_version: &str,
    ) -> Result<Value, ApiError> {
        let mut object = object.clone();
        let webhook = match custom.webhook() {
            // Nothing is what it is in every version.
            Some(webhook) if !is_in(&object, api_version) && object.get("kind").is_some() => webhook,
            _ => {
                custom.rename(&mut object, api_version);
                return Ok(object);
            }
        };
        let revision = meta::resource_version(&object).to_owned();
        if let Some(metadata) = meta::metadata_mut(&mut object) {
            metadata.remove("resourceVersion");
        }
        let converted = self.ask(webhook, api_version, std::slice::from_ref(&object)).await;
        let mut converted = converted.map_err(refused)?.pop().unwrap_or_default();
        custom.arrived(&mut converted);
        if !revision.is_empty() {
            meta::set(&mut converted, "resourceVersion", revision);
        }
        Ok(converted)
    }
}

/// 500 with the message alone, as upstream has it.
fn refused(message: String) -> ApiError {
    ApiError::new(500, "", message)
}
