//! `list`: a consistent page of a collection, made of the stored bytes while it is sent.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use carrack_api::select::Selection;
use carrack_api::table::{self, Include, Version};
use carrack_api::{Resource, ResourceRef, Scope, codec, status};
use carrack_store::{KeyRange, Range, ReadError, Revision};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::call::{Answer, Call};
use crate::conversion::Found;
use crate::negotiate::{Media, Transform};
use crate::options::{Consistency, ListOptions};
use crate::respond::{self, Pieces};
use crate::{ApiError, BoxError, protobuf};

/// About how many bytes are put together before they are sent.
const PIECE: usize = 64 * 1024;
/// How many objects a selective list reads at once for a page: at least this many, so that a rare match does not
/// need a read for each.
const LEAST_STEP: usize = 1000;

/// What a `continue` token holds; upstream's form, so that it may be read by those who look into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContinueToken {
    v: String,
    /// The revision of the list; -1 to go on with the newest.
    rv: Revision,
    /// The first key of the page, without the resource's prefix.
    start: String,
}

impl ContinueToken {
    fn new(revision: Revision, start: String) -> Self {
        ContinueToken { v: "meta.k8s.io/v1".to_owned(), rv: revision, start }
    }

    pub(crate) fn encode(&self) -> Result<String, ApiError> {
        Ok(URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).map_err(ApiError::internal)?))
    }

    pub(crate) fn decode(text: &str) -> Result<Self, ApiError> {
        let wrong = |why: &str| {
            let why = format!("invalid continue token: continue key is not valid: {why}");
            ApiError::bad_request(why)
        };
        let text = text.trim_end_matches('=');
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .or_else(|_| STANDARD_NO_PAD.decode(text))
            .map_err(|_| wrong("not a token of this server"))?;
        let token: ContinueToken =
            serde_json::from_slice(&bytes).map_err(|_| wrong("not a token of this server"))?;
        if token.v != "meta.k8s.io/v1" || token.start.is_empty() || !(token.rv == -1 || token.rv > 0) {
            return Err(wrong("unsupported content"));
        }
        Ok(token)
    }
}

/// A page of a collection.
pub(crate) struct Page {
    pub(crate) objects: Vec<Found>,
    /// The revision that the page shows.
    pub(crate) revision: Revision,
    pub(crate) continue_token: Option<String>,
    pub(crate) remaining: Option<u64>,
}

/// Answers the list that the call asks for.
pub(super) async fn list(call: &Call) -> Result<Answer, ApiError> {
    let options = ListOptions::parse(&call.query)?;
    let page = page(call, &options).await?;
    let metadata = metadata(&page);
    let representation = &call.representation;
    let pieces = match representation.transform {
        Transform::None if representation.is_verbatim() => {
            verbatim(call.resource.clone(), page.objects, metadata)?
        }
        Transform::None if representation.media == Media::Protobuf => {
            match messages(&call.resource, &page.objects, &metadata).await? {
                Some(parts) => parts,
                None => return whole(call, page.objects, metadata),
            }
        }
        Transform::Table(version) if !needs_whole(call) => {
            tables(call.resource.clone(), page.objects, metadata, version, respond::include(&call.query)?)?
        }
        _ => return whole(call, page.objects, metadata),
    };
    Ok(Answer::Ready(pieces.into_response(200, representation)))
}

/// A list in protobuf; `None` when the kind has no message.
async fn messages(
    resource: &ResourceRef,
    objects: &[Found],
    metadata: &Value,
) -> Result<Option<Pieces>, ApiError> {
    let mut list = protobuf::encode::List::new(resource.clone());
    for object in objects {
        tokio::task::consume_budget().await;
        let stored = object.stored();
        let added = if resource.conversion.is_none() {
            list.add(&stored)
        } else {
            list.add_value(&stored.served(resource)?)
        };
        if added.is_none() {
            return Ok(None);
        }
    }
    Ok(list.finish(metadata).map(Pieces::ready))
}

/// Whether the text form needs the whole answer as one value.
fn needs_whole(call: &Call) -> bool {
    call.representation.pretty || call.representation.media != Media::Json
}

/// The selectors of a request, checked.
pub(crate) fn selection(call: &Call, options: &ListOptions) -> Result<Selection, ApiError> {
    Selection::parse(&call.resource, &options.label_selector, &options.field_selector)
        .map_err(|e| ApiError::bad_request(e.to_string()))
}

/// The keys that a list or watch is about. A selector for one name in a known place needs only that key.
pub(crate) fn keys(call: &Call, selection: &Selection) -> KeyRange {
    let namespace = call.namespace();
    match selection.fields.required_value("metadata.name") {
        Some(name) if call.resource.scope == Scope::Cluster || !namespace.is_empty() => {
            KeyRange::key(call.resource.key(namespace, name))
        }
        _ => KeyRange::prefix(call.resource.list_prefix(namespace)),
    }
}

/// Reads the page that the options ask for.
pub(crate) async fn page(call: &Call, options: &ListOptions) -> Result<Page, ApiError> {
    let selection = selection(call, options)?;
    let token = options.continue_token.as_deref().map(ContinueToken::decode).transpose()?;
    let mut range = Range::of(keys(call, &selection));
    if let Some(token) = &token {
        range.keys = continued(call, token, &range.keys)?;
    }
    match (&token, options.consistency) {
        (Some(token), _) if token.rv > 0 => range.revision = Some(token.rv),
        (None, Consistency::Exact(revision)) => range.revision = Some(revision),
        (None, Consistency::NotOlderThan(least)) => reach(call, least).await?,
        _ => {}
    }
    // What is new enough here needs no question to the store's leader.
    let any = matches!(options.consistency, Consistency::Any | Consistency::NotOlderThan(_));
    range.serializable = any && token.is_none();
    match collect(call, range, options.limit, &selection).await {
        Err(Collect::Read(ReadError::Compacted { .. })) => Err(expired(token)?),
        Err(Collect::Read(error)) => Err(error.into()),
        Err(Collect::Other(error)) => Err(error),
        Ok(page) => Ok(page),
    }
}

/// The rest of the keys, from where the token says.
fn continued(call: &Call, token: &ContinueToken, keys: &KeyRange) -> Result<KeyRange, ApiError> {
    let start = format!("{}{}", call.resource.storage_prefix, token.start);
    match keys {
        KeyRange::Span { start: first, end }
            if first.as_ref() <= start.as_bytes() && start.as_bytes() < end.as_ref() =>
        {
            Ok(KeyRange::span(start, end.clone()))
        }
        _ => Err(ApiError::bad_request(
            "invalid continue token: continue key is not valid: it belongs to another list",
        )),
    }
}

/// Waits until this server has seen a revision that another one may have told of; refuses one that nobody has reached.
pub(crate) async fn reach(call: &Call, least: Revision) -> Result<(), ApiError> {
    let store = call.registry().store();
    if least > store.revision() {
        store.ready().await?;
    }
    let newest = store.revision();
    if least > newest { Err(crate::error::too_new(least, newest)) } else { Ok(()) }
}

/// 410: with a token to go on inconsistently when the list was being continued.
fn expired(token: Option<ContinueToken>) -> Result<ApiError, ApiError> {
    Ok(match token {
        Some(token) => status::expired_continue(ContinueToken::new(-1, token.start).encode()?).into(),
        None => ApiError::expired("The resourceVersion for the provided list is too old."),
    })
}

/// Why a page could not be read.
enum Collect {
    Read(ReadError),
    Other(ApiError),
}

impl From<ReadError> for Collect {
    fn from(error: ReadError) -> Self {
        Collect::Read(error)
    }
}

/// Reads until the page is full or the range ends.
async fn collect(
    call: &Call,
    mut range: Range,
    limit: usize,
    selection: &Selection,
) -> Result<Page, Collect> {
    let everything = selection.is_everything();
    let store = call.registry().store();
    let mut objects: Vec<Found> = Vec::new();
    let converter = &call.server.converter;
    range.limit = match (limit, everything) {
        (0, _) => 0,
        (limit, true) => limit,
        (limit, false) => limit.saturating_add(1).max(LEAST_STEP),
    };
    loop {
        let response = store.range(range.clone()).await?;
        let revision = range.revision.unwrap_or(response.revision);
        // All further reads see the same state.
        range.revision = Some(revision);
        let Some(last) = response.kvs.last() else {
            return Ok(Page { objects, revision, continue_token: None, remaining: None });
        };
        let next = after(&last.key);
        if everything {
            let token = if response.more { Some(token(call, revision, &next)?) } else { None };
            let remaining = response.more.then(|| response.count.saturating_sub(response.kvs.len() as u64));
            let objects = converter.found(&call.resource, response.kvs).await.map_err(Collect::Other)?;
            return Ok(Page { objects, revision, continue_token: token, remaining });
        }
        let found = converter.found(&call.resource, response.kvs).await.map_err(Collect::Other)?;
        for object in found {
            // The first look at an object parses it, so that a long list takes a while.
            tokio::task::consume_budget().await;
            if !selection.matches(&object.view(&call.resource)) {
                continue;
            }
            // One match more than the page holds: only now it is sure that there is another page.
            if limit > 0 && objects.len() == limit {
                let start = objects.last().map(|last| after(last.key())).unwrap_or_default();
                let token = token(call, revision, &start)?;
                return Ok(Page { objects, revision, continue_token: Some(token), remaining: None });
            }
            objects.push(object);
        }
        let KeyRange::Span { end, .. } = range.keys else {
            return Ok(Page { objects, revision, continue_token: None, remaining: None });
        };
        if !response.more {
            return Ok(Page { objects, revision, continue_token: None, remaining: None });
        }
        range.keys = KeyRange::span(next, end);
    }
}

/// The first key behind `key`.
fn after(key: &[u8]) -> Vec<u8> {
    let mut next = key.to_vec();
    next.push(0);
    next
}

/// The token for a page that starts at `start`.
fn token(call: &Call, revision: Revision, start: &[u8]) -> Result<String, Collect> {
    let relative = start.strip_prefix(call.resource.storage_prefix.as_bytes()).unwrap_or(start);
    let relative = String::from_utf8_lossy(relative).into_owned();
    ContinueToken::new(revision, relative).encode().map_err(Collect::Other)
}

/// The list's metadata.
fn metadata(page: &Page) -> Value {
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".into(), page.revision.to_string().into());
    if let Some(token) = &page.continue_token {
        metadata.insert("continue".into(), token.as_str().into());
    }
    if let Some(remaining) = page.remaining {
        metadata.insert("remainingItemCount".into(), remaining.into());
    }
    metadata.into()
}

/// What stands before the items of a list.
fn opening(kind: &str, api_version: &str, metadata: &Value) -> Result<Vec<u8>, ApiError> {
    let mut out = Vec::with_capacity(256);
    for (key, value) in [
        ("{\"kind\":", &json!(kind)),
        (",\"apiVersion\":", &json!(api_version)),
        (",\"metadata\":", metadata),
    ] {
        out.extend_from_slice(key.as_bytes());
        serde_json::to_writer(&mut out, value).map_err(ApiError::internal)?;
    }
    Ok(out)
}

/// A list made of the stored bytes. As upstream has it, items do not repeat kind and apiVersion.
fn verbatim(resource: ResourceRef, objects: Vec<Found>, metadata: Value) -> Result<Pieces, ApiError> {
    let mut opening = opening(resource.list_kind, resource.api_version, &metadata)?;
    opening.extend_from_slice(b",\"items\":[");
    if resource.conversion.is_some() {
        let item = move |object: &Found, out: &mut Vec<u8>| {
            let served = object.stored().served(&resource)?;
            serde_json::to_writer(out, &served).map_err(BoxError::from)
        };
        return Ok(Pieces { pieces: Box::new(Joined::new(opening, objects, b"]}\n", item)), length: None });
    }
    let skip = codec::head_length(&resource);
    let item = move |object: &Found, out: &mut Vec<u8>| -> Result<(), BoxError> {
        let tail = object.value().get(skip..).ok_or("a stored object is damaged: it is too short")?;
        out.extend_from_slice(ITEM_HEAD);
        write_decimal(out, object.revision());
        out.extend_from_slice(b"\",");
        out.extend_from_slice(tail);
        Ok(())
    };
    let items: u64 = objects
        .iter()
        .map(|object| {
            (ITEM_HEAD.len()
                + decimal_length(object.revision())
                + 2
                + object.value().len().saturating_sub(skip)) as u64
        })
        .sum();
    let commas = objects.len().saturating_sub(1) as u64;
    let length = opening.len() as u64 + items + commas + 3;
    Ok(Pieces { pieces: Box::new(Joined::new(opening, objects, b"]}\n", item)), length: Some(length) })
}

/// What stands before an item's resourceVersion.
const ITEM_HEAD: &[u8] = b"{\"metadata\":{\"resourceVersion\":\"";

/// Appends a number.
fn write_decimal(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(number.to_string().as_bytes());
}

/// How many bytes [`write_decimal`] appends.
fn decimal_length(number: i64) -> usize {
    number.checked_ilog10().map_or(1, |digits| digits as usize + 1)
}

/// A list as a Table, row by row.
fn tables(
    resource: ResourceRef,
    mut objects: Vec<Found>,
    metadata: Value,
    version: Version,
    include: Include,
) -> Result<Pieces, ApiError> {
    order(&resource, &mut objects);
    let mut opening = opening("Table", version.api_version(), &metadata)?;
    opening.extend_from_slice(b",\"columnDefinitions\":");
    serde_json::to_writer(&mut opening, &table::column_definitions(&resource)).map_err(ApiError::internal)?;
    opening.extend_from_slice(b",\"rows\":[");
    let now = Timestamp::now();
    let row = move |object: &Found, out: &mut Vec<u8>| -> Result<(), BoxError> {
        if resource.conversion.is_none() && resource.custom().is_none() {
            let revision = object.revision().unsigned_abs();
            return Ok(table::write_row(out, &resource, object.value(), revision, (include, version), now)?);
        }
        let served = object.stored().served(&resource)?;
        Ok(serde_json::to_writer(out, &table::row(&resource, &served, include, version, now))?)
    };
    Ok(Pieces { pieces: Box::new(Joined::new(opening, objects, b"]}\n", row)), length: None })
}

/// Brings a page into the order in which its rows are printed.
fn order(resource: &Resource, objects: &mut [Found]) {
    if let Some(place) = table::places(resource) {
        // What is damaged is reported where its row is made.
        objects.sort_by_cached_key(|object| place(&object.stored().served(resource).unwrap_or_default()));
    }
}

/// A list as one value: for YAML, indented JSON and metadata alone.
fn whole(call: &Call, mut objects: Vec<Found>, metadata: Value) -> Result<Answer, ApiError> {
    let resource = &call.resource;
    if matches!(call.representation.transform, Transform::Table(_)) {
        order(resource, &mut objects);
    }
    let served = objects.iter().map(|object| object.stored().served(resource));
    let value = match call.representation.transform {
        Transform::None => {
            let items: Vec<Value> = served.collect::<Result<_, _>>()?;
            json!({"kind": resource.list_kind, "apiVersion": resource.api_version, "metadata": metadata, "items": items})
        }
        Transform::Metadata(version) => {
            let items: Vec<Value> =
                served.map(|o| o.map(|o| table::partial_metadata(&o, version))).collect::<Result<_, _>>()?;
            json!({
                "kind": "PartialObjectMetadataList", "apiVersion": version.api_version(),
                "metadata": metadata, "items": items,
            })
        }
        Transform::Table(version) => {
            let (include, now) = (respond::include(&call.query)?, Timestamp::now());
            let rows: Vec<Value> = served
                .map(|o| o.map(|o| table::row(resource, &o, include, version, now)))
                .collect::<Result<_, _>>()?;
            table::table(resource, version, metadata, rows, true)
        }
    };
    Ok(Answer::Ready(respond::value(200, &value, &call.representation)))
}

/// Items with commas between them, in pieces of about [`PIECE`] bytes.
struct Joined<F> {
    buffer: Vec<u8>,
    objects: std::vec::IntoIter<Found>,
    closing: Option<&'static [u8]>,
    first: bool,
    item: F,
}

impl<F> Joined<F> {
    fn new(opening: Vec<u8>, objects: Vec<Found>, closing: &'static [u8], item: F) -> Self {
        Joined { buffer: opening, objects: objects.into_iter(), closing: Some(closing), first: true, item }
    }
}

impl<F> Iterator for Joined<F>
where
    F: FnMut(&Found, &mut Vec<u8>) -> Result<(), BoxError>,
{
    type Item = Result<Bytes, BoxError>;

    fn next(&mut self) -> Option<Self::Item> {
        let closing = self.closing?;
        let mut out = std::mem::take(&mut self.buffer);
        while out.len() < PIECE {
            let Some(object) = self.objects.next() else {
                out.extend_from_slice(closing);
                self.closing = None;
                break;
            };
            if !std::mem::take(&mut self.first) {
                out.push(b',');
            }
            if let Err(error) = (self.item)(&object, &mut out) {
                self.closing = None;
                return Some(Err(error));
            }
        }
        Some(Ok(out.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_foreign_ones_are_refused() {
        let token = ContinueToken::new(42, "default/web\u{0}".to_owned());
        assert_eq!(ContinueToken::decode(&token.encode().unwrap()).unwrap(), token);
        let forged = [
            URL_SAFE_NO_PAD.encode(r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a"}"#),
            URL_SAFE_NO_PAD.encode(r#"{"v":"meta.k8s.io/v9","rv":1,"start":"a"}"#),
            URL_SAFE_NO_PAD.encode(r#"{"v":"meta.k8s.io/v1","rv":1,"start":""}"#),
            "%%%".to_owned(),
            String::new(),
        ];
        for text in forged {
            assert_eq!(ContinueToken::decode(&text).unwrap_err().code, 400, "{text}");
        }
    }

    #[test]
    fn lengths_of_numbers() {
        for number in [0, 1, 9, 10, 99, 100, 12345] {
            assert_eq!(decimal_length(number), number.to_string().len());
        }
    }
}
