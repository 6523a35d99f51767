//! OpenAPI documents, v3 by group and v2 as a whole, from the table of kinds and the registry of types.

mod paths;
mod protobuf;
mod schemas;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::discovery::{groups, versions_of};

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
    fn of(bytes: Vec<u8>) -> Self {
        let hash = format!("{:016X}", fingerprint(&bytes));
        Document { bytes: bytes.into(), hash }
    }
}

/// FNV-1a in 64 bits: tells documents apart, keeps no secret.
pub(crate) fn fingerprint(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// All group versions: the group, the version, and the path below `/openapi/v3/` such as `apis/apps/v1`.
fn group_versions() -> Vec<(&'static str, &'static str, String)> {
    let mut out = Vec::new();
    for group in std::iter::once("").chain(groups()) {
        for version in versions_of(group) {
            let path =
                if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
            out.push((group, version, path));
        }
    }
    out
}

fn documents() -> &'static BTreeMap<String, Document> {
    static DOCUMENTS: OnceLock<BTreeMap<String, Document>> = OnceLock::new();
    DOCUMENTS.get_or_init(|| {
        group_versions()
            .into_iter()
            .map(|(group, version, path)| (path, Document::of(v3_value(group, version).to_string().into())))
            .collect()
    })
}

/// The document at `/openapi/v3/{path}`, `path` being `api/v1` or `apis/{group}/{version}`.
pub fn v3(path: &str) -> Option<&'static Document> {
    documents().get(path)
}

/// The answer of `/openapi/v3`: where the documents are.
pub fn v3_index() -> Value {
    let mut paths = Map::new();
    for (path, document) in documents() {
        let url = format!("/openapi/v3/{path}?hash={}", document.hash);
        paths.insert(path.clone(), json!({"serverRelativeURL": url}));
    }
    json!({"paths": paths})
}

/// The answer of `/openapi/v2` as JSON.
pub fn v2() -> &'static Document {
    static DOCUMENT: OnceLock<Document> = OnceLock::new();
    DOCUMENT.get_or_init(|| Document::of(v2_value().to_string().into()))
}

/// The answer of `/openapi/v2` as protobuf.
pub fn v2_protobuf() -> &'static Document {
    static DOCUMENT: OnceLock<Document> = OnceLock::new();
    DOCUMENT.get_or_init(|| Document::of(protobuf::document(&v2_value())))
}

fn v2_value() -> Value {
    let mut paths = Map::new();
    let mut roots = Vec::new();
    for resource in crate::resources() {
        paths::add(&mut paths, resource, Dialect::V2);
        roots.push(resource);
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

fn v3_value(group: &str, version: &str) -> Value {
    let mut paths = Map::new();
    let roots: Vec<_> =
        crate::resources().iter().filter(|r| r.group == group && r.version == version).collect();
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
