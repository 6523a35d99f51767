//! OpenAPI documents, v3 by group and v2 as a whole, from the table of kinds and the registry of types.

mod custom;
mod merge;
mod paths;
mod protobuf;
mod schemas;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use bytes::Bytes;
pub use merge::Part;
use serde_json::{Map, Value, json};

use crate::catalogue::Catalogue;
use crate::resource::Resource;

/// The dialect of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Swagger 2.0
    V2,
    /// OpenAPI 3.0
    V3,
}

/// A document, encoded once, with a fingerprint for URLs and ETags.
#[derive(Clone, Debug)]
pub struct Document {
    /// JSON text, or a protobuf message.
    pub bytes: Bytes,
    /// Hex of a hash of the text.
    pub hash: String,
}

impl Document {
    /// The document of these bytes.
    pub fn of(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let hash = format!("{:016X}", fingerprint(&bytes));
        Document { bytes, hash }
    }
}

/// FNV-1a in 64 bits: tells documents apart, keeps no secret.
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The documents of one catalogue, each made when it is asked for first.
#[derive(Default)]
pub(crate) struct Documents {
    groups: OnceLock<BTreeMap<String, Document>>,
    v2: OnceLock<Document>,
    v2_protobuf: OnceLock<Document>,
}

/// The path below `/openapi/v3/` of a group version, such as `apis/apps/v1`.
fn path_of(resource: &Resource) -> String {
    resource.root_path().trim_start_matches('/').to_owned()
}

/// The v3 documents of the group versions that `wanted` picks a row of.
fn make(kinds: &Catalogue, wanted: impl Fn(&Resource) -> bool) -> BTreeMap<String, Document> {
    let mut out = BTreeMap::new();
    for row in kinds.rows().filter(|row| wanted(row)) {
        out.entry(path_of(row))
            .or_insert_with(|| Document::of(v3_value(kinds, row.group, row.version).to_string()));
    }
    out
}

/// The v3 documents of built-in kinds, which all catalogues share.
fn builtin() -> &'static BTreeMap<String, Document> {
    let kinds = Catalogue::builtin();
    kinds.documents().groups.get_or_init(|| make(kinds, |_| true))
}

/// The v3 documents of group versions that have custom resources.
fn custom(kinds: &Catalogue) -> Option<&BTreeMap<String, Document>> {
    if kinds.custom().is_empty() {
        return None;
    }
    Some(kinds.documents().groups.get_or_init(|| make(kinds, |row| row.custom().is_some())))
}

/// The document at `/openapi/v3/{path}`, `path` being `api/v1` or `apis/{group}/{version}`.
pub fn v3<'k>(kinds: &'k Catalogue, path: &str) -> Option<&'k Document> {
    custom(kinds).and_then(|documents| documents.get(path)).or_else(|| builtin().get(path))
}

/// The answer of `/openapi/v3`: where the documents are.
pub fn v3_index(kinds: &Catalogue) -> Value {
    let mut paths = Map::new();
    for (path, document) in builtin().iter().chain(custom(kinds).into_iter().flatten()) {
        let url = format!("/openapi/v3/{path}?hash={}", document.hash);
        paths.insert(path.clone(), json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// The catalogue whose document answers for `kinds`: all without custom resources share one.
fn shared(kinds: &Catalogue) -> &Catalogue {
    if kinds.custom().is_empty() { Catalogue::builtin() } else { kinds }
}

/// The answer of `/openapi/v2` as JSON.
pub fn v2(kinds: &Catalogue) -> &Document {
    let kinds = shared(kinds);
    kinds.documents().v2.get_or_init(|| Document::of(v2_value(kinds).to_string()))
}

/// The answer of `/openapi/v2` as protobuf.
pub fn v2_protobuf(kinds: &Catalogue) -> &Document {
    let kinds = shared(kinds);
    kinds.documents().v2_protobuf.get_or_init(|| Document::of(protobuf::document(&v2_value(kinds))))
}

/// The answers of `/openapi/v2`, as JSON and as protobuf, with what other servers answer for. It takes a while: the whole
/// document is made anew.
pub fn v2_with(kinds: &Catalogue, parts: &[Part<'_>]) -> (Document, Document) {
    let mut value = v2_value(shared(kinds));
    merge::merge(&mut value, parts);
    (Document::of(value.to_string()), Document::of(protobuf::document(&value)))
}

/// A document of another server, put into an empty one.
#[cfg(any(test, fuzzing))]
pub(crate) fn fuzz(data: &[u8]) {
    let Ok(document) = serde_json::from_slice(data) else { return };
    let mut value = json!({"paths": {}, "definitions": {}});
    merge::merge(&mut value, &[Part { root: "/apis/g.example/v1", document: &document }]);
    // The whole document of another server comes from a stranger, too.
    let _ = (protobuf::document(&value), protobuf::document(&document));
}

fn v2_value(kinds: &Catalogue) -> Value {
    let mut paths = Map::new();
    let roots: Vec<&Resource> = kinds.rows().collect();
    for resource in &roots {
        paths::add(&mut paths, resource, Dialect::V2);
    }
    json!({
        "swagger": "2.0",
        "info": info(),
        "paths": paths,
        "definitions": schemas::closure(&roots, Dialect::V2),
    })
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": "v1.35.0"})
}

fn v3_value(kinds: &Catalogue, group: &str, version: &str) -> Value {
    let mut paths = Map::new();
    let roots: Vec<_> = kinds.rows().filter(|r| r.group == group && r.version == version).collect();
    for resource in &roots {
        paths::add(&mut paths, resource, Dialect::V3);
    }
    json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": paths,
        "components": {"schemas": schemas::closure(&roots, Dialect::V3)},
    })
}
