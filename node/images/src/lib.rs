//! Images: pull, verify, unpack, share, collect.
//!
//! [`ImageStore`] owns one directory. A layer is unpacked once, under the digest of its uncompressed
//! tar (its *diff id*), in the form overlayfs wants for a lower directory, and is shared by every image
//! that names it. An image is its configuration plus the list of its layers. Nothing appears under its
//! final name before it is complete, verified and on disk, so that a crash or a full disk leaves only
//! temporary folders, which the next [`ImageStore::open`] removes.

mod catalogue;
mod credential;
mod digest;
mod error;
mod files;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod image;
mod import;
mod layers;
mod manifest;
mod merge;
mod pull;
mod reference;
mod registry;
mod store;
mod unpack;

pub use credential::{Credential, CredentialError};
pub use digest::Digest;
pub use error::{ImageError, ImportError, LayerError, PullError, PullFailure};
pub use image::{Image, ImageConfig};
pub use reference::{Reference, ReferenceError};
pub use store::{ImageStore, Progress, ProgressCallback, PullOptions, StoreOptions};
pub use unpack::Limits;
