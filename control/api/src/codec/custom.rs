//! Decoding of custom resources: metadata by its type, everything else by the schema.

use serde_json::Value;

use super::notes::Failure;
use super::{DecodeError, Decoded, Empty, seed};
use crate::codec::StrictProblem;
use crate::custom::structural::Structural;
use crate::custom::{Custom, default, prune};
use crate::resource::Resource;
use crate::schema::{Shape, registry};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// Refuses an object that does not say that it is a `resource`, in the order and words of upstream, where such objects are
/// decoded without a type, then converted, then validated. `body` is where the value comes from.
pub(super) fn check_kind(
    value: &Value,
    resource: &Resource,
    custom: &Custom,
    body: &[u8],
) -> Result<(), DecodeError> {
    // What is no object is refused as such.
    if !value.is_object() {
        return Ok(());
    }
    let text = |name| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let (kind, found) = (text("kind"), text("apiVersion"));
    if kind.is_empty() {
        return Err(DecodeError::NoKind(String::from_utf8_lossy(body).into_owned()));
    }
    let (group, version) = found.rsplit_once('/').unwrap_or(("", found));
    let refuse = |why| Err(DecodeError::Version { version: version.to_owned(), why });
    if group != resource.group {
        return refuse(format!(
            "{group}/{version}, Kind={kind} is unstructured and is not suitable for converting to {:?}",
            resource.api_version
        ));
    }
    if custom.find(found).is_none() {
        return refuse(format!("request to convert CR from an invalid group/version: {found}"));
    }
    if kind != resource.kind && found == resource.api_version {
        let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let (found, expected) = (kind.to_owned(), resource.kind.to_owned());
        return Err(DecodeError::OtherKind { found, expected, name: name.to_owned() });
    }
    Ok(())
}

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
