//! What all API servers of a cluster have in common on disk: authorities and the keys of ServiceAccount tokens. Every server
//! issues its own certificates.

use std::collections::BTreeMap;
use std::path::Path;

use super::{PkiError, files};

/// The files. Private keys are among them.
const FILES: [&str; 8] = [
    "ca.crt",
    "ca.key",
    "front-proxy-ca.crt",
    "front-proxy-ca.key",
    "store-ca.crt",
    "store-ca.key",
    "sa.key",
    "sa.pub",
];

/// The texts of the files by name.
pub type SharedKeys = BTreeMap<String, String>;

/// Reads them from the directory of a server that runs.
pub(crate) fn export(dir: &Path) -> Result<SharedKeys, PkiError> {
    let file = |name: &str| {
        let path = dir.join(name);
        let text = files::read(&path)?.ok_or_else(|| PkiError::malformed(&path, "it is missing"))?;
        Ok((name.to_owned(), text))
    };
    FILES.into_iter().map(file).collect()
}

/// Writes them to `dir`, for a server that joins: before [`super::Pki::open_or_create`], which then makes no others. Certificates
/// of an authority that was there before are replaced when they are opened.
pub fn import(dir: &Path, keys: &SharedKeys) -> Result<(), PkiError> {
    files::secure_dir(dir)?;
    for name in FILES {
        let path = dir.join(name);
        let text = keys.get(name).ok_or_else(|| PkiError::malformed(&path, "the cluster did not send it"))?;
        files::write(&path, text)?;
    }
    Ok(())
}
