//! Decoding of custom resources: metadata by its type, everything else by the schema.

use serde_json::Value;

use super::notes::Failure;
use super::{DecodeError, Decoded, Empty, seed};
use crate::codec::StrictProblem;
use crate::custom::structural::Structural;
use crate::custom::{Custom, default, prune};
use crate::schema::{Shape, registry};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Brings a value into the form of a custom resource, with defaults if `fill`; unknown fields are dropped and named.
pub(super) fn accept(mut value: Value, custom: &Custom, fill: bool) -> Result<Decoded, DecodeError> {
    let mut strict = Vec::new();
    let schema = &custom.version().schema;
    let empty = if fill { Empty::Dropped } else { Empty::Kept };
    metadata(&mut value, "", &mut strict, empty)?;
    embedded(&mut value, schema, "", &mut strict, empty)?;
    strict.extend(prune(&mut value, schema).into_iter().map(StrictProblem::UnknownField));
    if fill {
        default(&mut value, schema);
    }
    Ok(Decoded { value, strict })
}

/// Brings the metadata of a resource at `path` into its form.
fn metadata(
    resource: &mut Value,
    path: &str,
    strict: &mut Vec<StrictProblem>,
    empty: Empty,
) -> Result<(), DecodeError> {
    if let Some(metadata) = resource.get_mut("metadata").filter(|metadata| !metadata.is_null()) {
        let shape = registry().find(OBJECT_META).map_or(Shape::Any, Shape::Object);
        let decoded = seed::run(metadata.take(), &shape, empty).map_err(Failure::into_decode_error)?;
        *metadata = decoded.value;
        let place = below(path, "metadata");
        strict.extend(decoded.strict.into_iter().map(|problem| match problem {
            StrictProblem::UnknownField(at) => StrictProblem::UnknownField(format!("{place}.{at}")),
            StrictProblem::DuplicateField(at) => StrictProblem::DuplicateField(format!("{place}.{at}")),
            of_a_patch @ StrictProblem::InPatch(_) => of_a_patch,
        }));
    }
    Ok(())
}

/// Does the same for resources inside of a value (`x-kubernetes-embedded-resource`). Upstream: `schema/objectmeta`.
fn embedded(
    value: &mut Value,
    schema: &Structural,
    path: &str,
    strict: &mut Vec<StrictProblem>,
    empty: Empty,
) -> Result<(), DecodeError> {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let Some(of) = schema.field(name) else { continue };
                let place = below(path, name);
                if of.embedded {
                    metadata(field, &place, strict, empty)?;
                }
                embedded(field, of, &place, strict, empty)?;
            }
        }
        Value::Array(entries) => {
            let Some(of) = &schema.items else { return Ok(()) };
            for (index, entry) in entries.iter_mut().enumerate() {
                let place = format!("{path}[{index}]");
                if of.embedded {
                    metadata(entry, &place, strict, empty)?;
                }
                embedded(entry, of, &place, strict, empty)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
