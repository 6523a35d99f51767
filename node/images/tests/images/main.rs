//! The image store as its users see it. Needs root, as the node does.
#![allow(clippy::unwrap_used, clippy::panic)]

mod docker_registry;
mod import;
mod pull;
mod registry;

use carrack_images::ImageStore;

/// A store in a folder of its own.
fn store() -> (tempfile::TempDir, ImageStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path()).unwrap();
    (dir, store)
}
