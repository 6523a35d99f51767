//! What is true of a kind beyond its shape: defaults, what may be written by whom, and what is valid.
//!
//! The server knows only [`Strategy`], which works on JSON values. Kinds implement [`Rules`], whose validation works
//! on the types of `k8s-openapi`; [`Typed`] makes a `Strategy` of it.

mod lean;
mod typed;

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::Value;

use crate::status::FieldError;

pub use typed::{Rules, Typed};

/// The behaviour of one kind. The order of calls on a write is: decode, [`default`](Strategy::default),
/// [`prepare_create`](Strategy::prepare_create) or [`prepare_update`](Strategy::prepare_update), admission, again
/// `default` if admission changed the object, then validation.
///
/// Server-managed metadata (uid, creationTimestamp, generateName, resourceVersion) is not touched here: see
/// [`crate::meta`].
pub trait Strategy: Send + Sync {
    /// Fills what the user left out. Calling it again changes nothing.
    fn default(&self, object: &mut Value);

    /// Before a create: drops `status` where it has its own subresource, sets `metadata.generation` to 1 where the kind
    /// counts generations.
    fn prepare_create(&self, object: &mut Value);

    /// Before an update of the object itself: keeps the old `status` where it has its own subresource, carries over
    /// what an omitted field keeps (such as a service's address), and raises `metadata.generation` when the
    /// wanted state changed. `old` and `new` are in the stored form with defaults.
    fn prepare_update(&self, new: &mut Value, old: &Value);

    /// Before an update of the `status` subresource: everything but `status` (and what the kind lets pass in
    /// metadata) is taken from `old`.
    fn prepare_status_update(&self, new: &mut Value, old: &Value);

    /// Before an update through another subresource whose body is the kind itself, such as `ephemeralcontainers`:
    /// everything that the part does not own is taken from `old`. False when the kind has no such part.
    fn prepare_part_update(&self, part: &str, new: &mut Value, old: &Value) -> bool;

    /// Before the deletion of an object begins: what has to happen first, as finalizers and conditions.
    fn prepare_delete(&self, _object: &mut Value, _now: Timestamp) {}

    /// What is wrong with a new object, metadata included. Empty means valid.
    fn validate_create(&self, object: &Value) -> Vec<FieldError>;

    /// What is wrong with changing `old` to `new`, metadata included.
    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError>;

    /// What is wrong with changing the status of `old` to that of `new`, metadata included.
    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError>;

    /// What is wrong with changing `old` to `new` through the part that
    /// [`prepare_part_update`](Strategy::prepare_part_update) knows, metadata included.
    fn validate_part_update(&self, part: &str, new: &Value, old: &Value) -> Vec<FieldError>;

    /// What is allowed in a new object and yet unwise, for `Warning` headers.
    fn warnings(&self, object: &Value) -> Vec<String>;

    /// [`validate_create`](Strategy::validate_create) or, with `old`, [`validate_update`](Strategy::validate_update), and
    /// [`warnings`](Strategy::warnings), in one look at the object.
    fn review(&self, new: &Value, old: Option<&Value>) -> (Vec<FieldError>, Vec<String>) {
        let errors = match old {
            None => self.validate_create(new),
            Some(old) => self.validate_update(new, old),
        };
        (errors, self.warnings(new))
    }

    /// Names of the fields that field selectors may use, `metadata.name` (and `metadata.namespace`) first.
    fn selectable_fields(&self) -> &[&'static str];

    /// The value of a selectable field; an absent field is the empty string, as upstream has it. `None` when the field
    /// cannot be selected by.
    fn selectable<'a>(&self, object: &'a Value, field: &str) -> Option<Cow<'a, str>>;

    /// Whether a PUT may create the object.
    fn allows_create_on_update(&self) -> bool;

    /// Whether an update without `metadata.resourceVersion` overwrites what is there.
    fn allows_unconditional_update(&self) -> bool;

    /// Seconds of grace a deletion gets: `None` when the kind has no graceful deletion and goes at once; `Some(0)` when
    /// this object goes at once. `asked` is `gracePeriodSeconds` of the request.
    fn grace_period(&self, object: &Value, asked: Option<i64>) -> Option<i64>;
}
