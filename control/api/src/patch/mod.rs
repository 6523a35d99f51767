//! The ways to change an object by a patch: JSON patch, merge patch and strategic merge.
//!
//! Server-side apply is a fourth way with state of its own: see [`crate::apply`].

mod misfits;
mod strategic;

use serde_json::Value;

pub use misfits::{Misfit, wrong_result};
pub use strategic::strategic_merge;

use crate::codec::{self, DecodeError, Decoded, Media, StrictProblem};
use crate::resource::Resource;
use crate::status::{self, Status};

/// Most operations a JSON patch may have, as upstream.
pub const MAX_OPERATIONS: usize = 10_000;
/// Most bytes that `copy` operations of one JSON patch may make, so that a small patch cannot fill memory.
pub const MAX_COPIED: usize = 3 * 1024 * 1024;

/// The kinds of patches, by their media types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// `application/json-patch+json`, RFC 6902.
    Json,
    /// `application/merge-patch+json`, RFC 7386.
    Merge,
    /// `application/strategic-merge-patch+json`.
    Strategic,
}

impl PatchKind {
    /// All media types of patches, that of server-side apply included, in upstream's order.
    pub const MEDIA_TYPES: &'static [&'static str] = &[
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
        crate::apply::MEDIA_TYPE,
    ];

    /// The media types of patches that objects of `resource` take: custom resources have no merge keys.
    pub fn media_types_of(resource: &Resource) -> &'static [&'static str] {
        const WITHOUT_STRATEGIC: &[&str] =
            &["application/json-patch+json", "application/merge-patch+json", crate::apply::MEDIA_TYPE];
        if resource.custom().is_some() { WITHOUT_STRATEGIC } else { Self::MEDIA_TYPES }
    }

    /// The kind of a media type without parameters.
    pub fn from_media_type(media: &str) -> Option<Self> {
        match media {
            "application/json-patch+json" => Some(PatchKind::Json),
            "application/merge-patch+json" => Some(PatchKind::Merge),
            "application/strategic-merge-patch+json" => Some(PatchKind::Strategic),
            _ => None,
        }
    }
}

/// Why a patch cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// The patch itself cannot be read: 400.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The patch is not of the form its kind wants: 400.
    #[error("{0}")]
    Malformed(String),
    /// The patch has too many operations or copies too much: 413.
    #[error("{0}")]
    TooLarge(String),
    /// A `test` of the patch does not hold: 422.
    #[error("{0}")]
    TestFailed(String),
    /// The patch does not fit to the object (a path that is not there): 422.
    #[error("{0}")]
    DoesNotApply(String),
    /// The patched object is not of the kind's type: 422.
    #[error("{0}")]
    Result(DecodeError),
}

impl PatchError {
    /// The refusal. `shown` says what upstream shows of a patch whose result is not of the type: see [`wrong_result`].
    pub fn into_status(self, shown: impl FnOnce() -> Misfit) -> Status {
        match self {
            PatchError::Decode(why) => match why {
                DecodeError::TooLarge => status::too_large(codec::MAX_BODY),
                DecodeError::Syntax(why) => status::bad_request(format!("error decoding patch: {why}")),
                other => status::bad_request(format!("error decoding patch: {other}")),
            },
            PatchError::Malformed(why) => status::bad_request(why),
            PatchError::TooLarge(why) => status::request_too_large(&why),
            PatchError::DoesNotApply(_) | PatchError::TestFailed(_) => status::unprocessable(),
            PatchError::Result(why) => {
                let Misfit { shown, why: found } = shown();
                status::invalid_patch(&shown, &found.unwrap_or_else(|| why.to_string()))
            }
        }
    }
}

/// Applies the patch in `body` to an object of `resource`. The result has the kind's shape; unknown fields that the
/// patch brought, and fields that are twice in its text, are listed in `strict`.
pub fn apply(
    kind: PatchKind,
    resource: &Resource,
    original: Value,
    body: &[u8],
) -> Result<Decoded, PatchError> {
    let mut patch = codec::decode(body, Media::Json)?;
    if kind == PatchKind::Json {
        note_operations(&mut patch);
    }
    let patched = patched(kind, resource, original, patch.value)?;
    let mut decoded = codec::check(patched, resource).map_err(PatchError::Result)?;
    codec::identify(&mut decoded.value, resource.api_version, resource.kind).map_err(PatchError::Result)?;
    let found = std::mem::replace(&mut decoded.strict, patch.strict);
    decoded.strict.extend(found);
    Ok(decoded)
}

/// What a patch makes of an object, whatever it is then.
fn patched(
    kind: PatchKind,
    resource: &Resource,
    mut original: Value,
    patch: Value,
) -> Result<Value, PatchError> {
    match kind {
        PatchKind::Json => json_patch(&mut original, patch)?,
        PatchKind::Merge => {
            expect_object(&patch).map_err(|why| malformed(&why))?;
            merge_patch(&mut original, patch);
        }
        PatchKind::Strategic => {
            expect_object(&patch).map_err(PatchError::Malformed)?;
            return strategic_merge(resource, original, patch);
        }
    }
    Ok(original)
}

fn malformed(why: &str) -> PatchError {
    PatchError::Malformed(format!("error decoding patch: {why}"))
}

/// Notes which fields of the operations are none, beside those that are there twice.
fn note_operations(patch: &mut Decoded) {
    let is_known = |field: &str| matches!(field, "op" | "from" | "path" | "value");
    let operations = patch.value.as_array().into_iter().flatten().enumerate();
    let unknown = operations.flat_map(|(place, operation)| {
        let fields = operation.as_object().into_iter().flat_map(|fields| fields.keys());
        let unknown = fields.filter(|field| !is_known(field));
        unknown.map(move |field| StrictProblem::UnknownField(format!("[{place}].{field}")))
    });
    let all = unknown.chain(std::mem::take(&mut patch.strict));
    patch.strict = all.map(|problem| StrictProblem::InPatch(Box::new(problem))).collect();
}

/// Refuses a patch that is no object, in the words of Go's decoder.
fn expect_object(patch: &Value) -> Result<(), String> {
    if patch.is_object() {
        return Ok(());
    }
    Err(cannot_unmarshal(patch, "map[string]interface {}"))
}

fn cannot_unmarshal(found: &Value, wanted: &str) -> String {
    let found = match found {
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Object(_) => "object",
        Value::Number(_) | Value::Null => "number",
    };
    format!("json: cannot unmarshal {found} into Go value of type {wanted}")
}

/// Applies a JSON patch. On an error `target` is partly changed and to be thrown away.
pub fn json_patch(target: &mut Value, patch: Value) -> Result<(), PatchError> {
    // To Go, null is an empty list.
    if patch.is_null() {
        return Ok(());
    }
    if !patch.is_array() {
        return Err(malformed(&cannot_unmarshal(&patch, "[]handlers.jsonPatchOp")));
    }
    let count = patch.as_array().map_or(0, Vec::len);
    if count > MAX_OPERATIONS {
        let why = format!("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}");
        return Err(PatchError::TooLarge(why));
    }
    let operations: Vec<json_patch::PatchOperation> =
        serde_json::from_value(patch).map_err(|why| malformed(&why.to_string()))?;
    let mut copied = 0;
    for operation in operations {
        check_depth(target, &operation)?;
        if let json_patch::PatchOperation::Copy(copy) = &operation {
            let source = target.pointer(copy.from.as_str());
            copied += source.map_or(0, |value| value.to_string().len());
            if copied > MAX_COPIED {
                return Err(PatchError::TooLarge(format!(
                    "copy operations of a JSON patch may make at most {MAX_COPIED} bytes"
                )));
            }
        }
        if let json_patch::PatchOperation::Test(test) = &operation
            && test.value.is_null()
            && is_absent(target, &test.path)
        {
            continue;
        }
        json_patch::patch_unsafe(target, std::slice::from_ref(&operation)).map_err(|why| {
            let text = misfit(&operation, &why.kind);
            match why.kind {
                json_patch::PatchErrorKind::TestFailed => PatchError::TestFailed(text),
                _ => PatchError::DoesNotApply(text),
            }
        })?;
    }
    Ok(())
}

/// Refuses an operation whose result would have too many levels. What is made must never be deeper, not even in between: a few
/// copies into themselves nest a hundred thousand levels, and all that walks through a value calls itself for each.
fn check_depth(target: &Value, operation: &json_patch::PatchOperation) -> Result<(), PatchError> {
    use json_patch::PatchOperation;
    let value = match operation {
        PatchOperation::Add(add) => Some(&add.value),
        PatchOperation::Replace(replace) => Some(&replace.value),
        PatchOperation::Copy(copy) => target.pointer(copy.from.as_str()),
        // What is moved up was deeper before.
        PatchOperation::Move(moved) if moved.path.count() > moved.from.count() => {
            target.pointer(moved.from.as_str())
        }
        PatchOperation::Move(_) | PatchOperation::Remove(_) | PatchOperation::Test(_) => None,
    };
    let left = codec::MAX_DEPTH.saturating_sub(operation.path().count());
    match value {
        Some(value) if !fits(value, left) => Err(PatchError::Result(DecodeError::TooDeep)),
        _ => Ok(()),
    }
}

/// Whether a value has at most so many levels of lists and objects.
fn fits(value: &Value, levels: usize) -> bool {
    let fits_below = |value: &Value| levels.checked_sub(1).is_some_and(|levels| fits(value, levels));
    match value {
        Value::Array(items) => levels > 0 && items.iter().all(fits_below),
        Value::Object(fields) => levels > 0 && fields.values().all(fits_below),
        _ => true,
    }
}

/// Whether the object that a path leads into has no such field. Upstream takes that for null in tests, and clients that add
/// a first finalizer build on it.
fn is_absent(target: &Value, path: &json_patch::jsonptr::Pointer) -> bool {
    let Some((parent, field)) = path.split_back() else { return false };
    let fields = target.pointer(parent.as_str()).and_then(Value::as_object);
    fields.is_some_and(|fields| !fields.contains_key(&*field.decoded()))
}

/// Why an operation does not apply, in the words that upstream's clients know.
fn misfit(operation: &json_patch::PatchOperation, why: &json_patch::PatchErrorKind) -> String {
    use json_patch::{PatchErrorKind, PatchOperation};
    let path = operation.path();
    match (operation, why) {
        (_, PatchErrorKind::TestFailed) => format!("testing value {path} failed: test failed"),
        (PatchOperation::Test(_), _) => {
            format!("test operation does not apply: is missing path: {path}: missing value")
        }
        (PatchOperation::Remove(_), PatchErrorKind::InvalidPointer) => {
            let key = path.last().map(|token| token.decoded().into_owned()).unwrap_or_default();
            format!(
                "error in remove for path: '{path}': Unable to remove nonexistent key: {key}: missing value"
            )
        }
        (PatchOperation::Replace(_), PatchErrorKind::InvalidPointer) => {
            format!("replace operation does not apply: doc is missing key: {path}: missing value")
        }
        (other, why) => {
            let name = match other {
                PatchOperation::Move(_) => "move",
                PatchOperation::Copy(_) => "copy",
                _ => "add",
            };
            format!("{name} operation does not apply at path '{path}': {why}")
        }
    }
}

/// Applies a merge patch: objects merge, null deletes, everything else replaces.
pub fn merge_patch(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Some(fields) = target.as_object_mut() else { return };
    for (name, value) in patch {
        if value.is_null() {
            fields.remove(&name);
        } else if let Some(field) = fields.get_mut(&name) {
            merge_patch(field, value);
        } else {
            let mut field = Value::Null;
            merge_patch(&mut field, value);
            fields.insert(name, field);
        }
    }
}
