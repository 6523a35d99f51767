//! What is in the store, as whoever can write its files may have left it.

use std::sync::OnceLock;

use bytes::Bytes;
use carrack_store::Seal;

use super::Encryption;
use super::kms;

const KEY: &[u8] = b"/registry/secrets/default/a";

/// A provider of each kind that has its keys in the file.
const CONFIG: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers:\n  \
    - aesgcm: &k {keys: [{name: k, secret: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=}]}\n  - aescbc: *k\n  - secretbox: *k\n";

/// Values as each provider keeps them.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let names = ["aesgcm", "aescbc", "secretbox"];
    let sealed = names.iter().filter_map(|name| {
        // The first provider is the one that writes.
        let config = CONFIG.replace("aesgcm", "other").replace(name, "aesgcm").replace("other", name);
        Encryption::parse(&config).ok()?.seal(KEY, &Bytes::from_static(b"{}")).ok()
    });
    sealed.map(|value| value.to_vec()).collect()
}

/// A value that is kept.
pub(crate) fn kept(data: &[u8]) {
    static ENCRYPTION: OnceLock<Option<Encryption>> = OnceLock::new();
    kms::read(data);
    if let Some(encryption) = ENCRYPTION.get_or_init(|| Encryption::parse(CONFIG).ok()) {
        let kept = Bytes::copy_from_slice(data);
        let _ = (encryption.open(KEY, &kept), encryption.is_outdated(KEY, &kept));
    }
}
