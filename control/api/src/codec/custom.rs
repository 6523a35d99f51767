//! Decoding of custom resources: metadata by its type, everything else by the schema.

use serde_json::Value;

use super::notes::Failure;
use super::{DecodeError, Decoded, seed};
use crate::codec::StrictProblem;
use crate::custom::{Custom, default, prune};
use crate::schema::{Shape, registry};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Brings a value into the form of a custom resource, with defaults if `fill`; unknown fields are dropped and named.
pub(super) fn accept(mut value: Value, custom: &Custom, fill: bool) -> Result<Decoded, DecodeError> {
    let mut strict = Vec::new();
    if let Some(metadata) = value.get_mut("metadata").filter(|metadata| !metadata.is_null()) {
        let shape = registry().find(OBJECT_META).map_or(Shape::Any, Shape::Object);
        let decoded = seed::run(metadata.take(), &shape).map_err(Failure::into_decode_error)?;
        *metadata = decoded.value;
        strict.extend(decoded.strict.into_iter().map(within_metadata));
    }
    let schema = &custom.version().schema;
    strict.extend(prune(&mut value, schema).into_iter().map(StrictProblem::UnknownField));
    if fill {
        default(&mut value, schema);
    }
    Ok(Decoded { value, strict })
}

fn within_metadata(problem: StrictProblem) -> StrictProblem {
    match problem {
        StrictProblem::UnknownField(path) => StrictProblem::UnknownField(format!("metadata.{path}")),
        StrictProblem::DuplicateField(path) => StrictProblem::DuplicateField(format!("metadata.{path}")),
    }
}
