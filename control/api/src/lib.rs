//! The kinds of the Kubernetes API and what is true of each: pure functions and tables.
//!
//! The heart is one table, [`resources`]: a row for each kind that is served, naming its REST path, verbs,
//! subresources, storage place, behaviour ([`strategy::Strategy`]), printed columns and schema. Discovery, OpenAPI,
//! Table output, strict decoding and strategic merge all read that table, so that a new kind is one file under
//! `kinds/` and one row in `kinds/mod.rs`.
//!
//! The rows of custom resources, which come and go, stand beside the table in a [`Catalogue`]; [`custom`] makes them.
//!
//! Nothing here reads a clock, opens a socket or a file, or needs a runtime: whoever calls passes the time in.

pub mod addresses;
pub mod apply;
mod catalogue;
pub mod codec;
pub mod custom;
mod defaults;
pub mod discovery;
pub mod footprint;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod kinds;
pub mod meta;
pub mod names;
pub mod openapi;
pub mod patch;
pub mod quantity;
pub mod quota;
mod resource;
pub mod schema;
pub mod select;
pub mod status;
pub mod strategy;
pub mod table;
mod validate;
pub mod wire;

pub use catalogue::{Catalogue, ResourceRef};
pub use kinds::{find, find_kind, resources};
pub use resource::{Conversion, GroupVersionKind, Resource, Scope, Subresource, Verb};
pub use status::{FieldError, Status};
