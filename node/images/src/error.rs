//! What can go wrong with images, in words that go into events and statuses.

use std::io;
use std::path::PathBuf;

use crate::digest::{Digest, DigestError};
use crate::reference::ReferenceError;

/// Why the store could not be opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file or folder of the store could not be read or written.
    #[error("image store: {path}: {source}")]
    Io {
        /// What was being worked on.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another process has the store open.
    #[error("image store {0} is in use by another process")]
    InUse(PathBuf),
    /// No image has this id.
    #[error("no image with id \"{0}\"")]
    NotFound(String),
}

/// Why a pull failed.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The reference is not one: the reason `InvalidImageName`.
    #[error("couldn't parse image name \"{reference}\": {cause}")]
    InvalidReference {
        /// The text as it was given.
        reference: String,
        /// What is wrong with it.
        cause: ReferenceError,
    },
    /// Anything later: the reason `ErrImagePull`.
    #[error("failed to pull and unpack image \"{reference}\": {cause}")]
    Failed {
        /// The normalised reference.
        reference: String,
        /// What happened.
        #[source]
        cause: PullFailure,
    },
}

impl PullError {
    /// The reason a container waits with: `InvalidImageName` or `ErrImagePull`.
    pub fn reason(&self) -> &'static str {
        match self {
            PullError::InvalidReference { .. } => "InvalidImageName",
            PullError::Failed { .. } => "ErrImagePull",
        }
    }

    /// What happened, if the reference itself was good.
    pub fn failure(&self) -> Option<&PullFailure> {
        match self {
            PullError::InvalidReference { .. } => None,
            PullError::Failed { cause, .. } => Some(cause),
        }
    }
}

/// What happened to a pull whose reference was good.
#[derive(Debug, thiserror::Error)]
pub enum PullFailure {
    /// The registry knows no such repository, tag or digest.
    #[error("failed to resolve reference \"{0}\": {0}: not found")]
    NotFound(String),
    /// The registry refused the credentials, or wants some.
    #[error(
        "failed to resolve reference \"{reference}\": pull access denied, repository does not exist or may require authorization: {message}"
    )]
    Denied {
        /// The normalised reference.
        reference: String,
        /// The registry's own words.
        message: String,
    },
    /// No connection, a broken one, or no answer in time, after all retries.
    #[error("failed to do request: {method} \"{url}\": {message}")]
    Unreachable {
        /// The HTTP method.
        method: &'static str,
        /// What was asked for.
        url: String,
        /// Why there was no answer.
        message: String,
    },
    /// The registry answered with an error of its own.
    #[error("unexpected status from {method} request to {url}: {status}: {message}")]
    Registry {
        /// The HTTP method.
        method: &'static str,
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The registry's own words.
        message: String,
    },
    /// The registry's answer does not follow the distribution specification.
    #[error("the registry's answer cannot be used: {0}")]
    Protocol(String),
    /// The image has no variant for this machine.
    #[error("no match for platform in manifest: this node is {wanted}, the image is for {found}")]
    UnsupportedPlatform {
        /// Such as `linux/amd64`.
        wanted: String,
        /// What the index lists.
        found: String,
    },
    /// A manifest or configuration has another digest than the one it was asked for by.
    #[error("{what}: content has digest {found}, expected {expected}: digest mismatch")]
    DigestMismatch {
        /// Manifest, configuration.
        what: &'static str,
        /// The digest it was asked for by.
        expected: Digest,
        /// The digest of what arrived.
        found: Digest,
    },
    /// A layer could not be fetched, verified or unpacked.
    #[error("layer {digest}: {cause}")]
    Layer {
        /// The digest of the layer as the manifest names it.
        digest: String,
        /// What is wrong.
        #[source]
        cause: LayerError,
    },
    /// The disk that holds the images is full.
    #[error("no space left on device")]
    NoSpace,
    /// The store itself failed.
    #[error(transparent)]
    Store(ImageError),
}

impl From<DigestError> for PullFailure {
    fn from(error: DigestError) -> PullFailure {
        PullFailure::Protocol(error.to_string())
    }
}

/// Why a layer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The stream ended before its end.
    #[error("truncated: {found} of {expected} bytes")]
    Truncated {
        /// Bytes that arrived.
        found: u64,
        /// Bytes the manifest promised.
        expected: u64,
    },
    /// The bytes are not those that the digest names.
    #[error("content has digest {found}, expected {expected}: digest mismatch")]
    DigestMismatch {
        /// The digest in the manifest or configuration.
        expected: Digest,
        /// The digest of what arrived.
        found: Digest,
    },
    /// Not gzip, zstd or tar, or damaged.
    #[error("malformed archive: {0}")]
    Malformed(String),
    /// An entry that must not be unpacked: it would escape the layer, or is a device.
    #[error("entry \"{path}\" is refused: {reason}")]
    Refused {
        /// The entry's name in the archive.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// More entries, bytes or deeper paths than allowed.
    #[error("too large: {0}")]
    TooLarge(String),
    /// The disk is full.
    #[error("no space left on device")]
    NoSpace,
    /// A file of the layer could not be written.
    #[error("{path}: {source}")]
    Io {
        /// Which entry, or which folder of the store.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The connection broke, after all retries.
    #[error("{0}")]
    Fetch(String),
}

/// Why an archive could not be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The archive could not be read.
    #[error("{path}: {source}")]
    Io {
        /// The archive, or a file of the store.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Neither an OCI layout nor a `docker save` archive.
    #[error("{0} is neither an OCI layout nor a docker archive: it has no index.json and no manifest.json")]
    UnknownFormat(PathBuf),
    /// The archive lacks a file, or a file is not what it should be.
    #[error("the archive cannot be used: {0}")]
    Malformed(String),
    /// The archive names an image by something that is not a reference.
    #[error("couldn't parse image name \"{reference}\": {cause}")]
    InvalidReference {
        /// The name in the archive.
        reference: String,
        /// What is wrong with it.
        cause: ReferenceError,
    },
    /// The archive holds no variant for this machine.
    #[error("no match for platform in manifest: this node is {wanted}, the image is for {found}")]
    UnsupportedPlatform {
        /// Such as `linux/amd64`.
        wanted: String,
        /// What the index lists.
        found: String,
    },
    /// A layer could not be verified or unpacked.
    #[error("layer {digest}: {cause}")]
    Layer {
        /// The layer's digest or its name in the archive.
        digest: String,
        /// What is wrong.
        #[source]
        cause: LayerError,
    },
    /// The disk that holds the images is full.
    #[error("no space left on device")]
    NoSpace,
    /// The store itself failed.
    #[error(transparent)]
    Store(ImageError),
}
