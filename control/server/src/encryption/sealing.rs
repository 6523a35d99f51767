//! How one value is kept and read, by what the configuration says of its place: the seal of a store's handle.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use carrack_store::Seal;
use futures::future::BoxFuture;

use super::Encryption;
use super::config::Provider;

/// What the data of every provider but `identity` begins with. No object does: objects begin with a brace.
const ENCRYPTED: &[u8] = b"k8s:enc:";

impl Seal for Encryption {
    fn seal(&self, key: &[u8], value: &Bytes) -> Result<Bytes, String> {
        let table = self.table();
        match table.providers(key).first() {
            None | Some(Provider::Identity) => Ok(value.clone()),
            Some(Provider::Kms(kms)) => kms.seal(key, value),
            Some(Provider::Keys { keys, .. }) => {
                let (prefix, cipher) = keys.first().ok_or("there is no key")?;
                let mut out = Vec::with_capacity(prefix.len() + value.len() + 64);
                out.extend_from_slice(prefix.as_bytes());
                cipher.encrypt(key, value, &mut out)?;
                Ok(out.into())
            }
        }
    }

    fn open(&self, key: &[u8], kept: &Bytes) -> Result<Option<Bytes>, String> {
        let encrypted = kept.starts_with(ENCRYPTED);
        if !encrypted && !self.strict.load(Ordering::Acquire) {
            return Ok(None);
        }
        open_with(self.table().providers(key), key, kept, encrypted)
    }

    fn fetch(&self, key: &[u8], kept: &Bytes) -> Option<BoxFuture<'static, Result<(), String>>> {
        let table = self.table();
        table.providers(key).iter().find_map(|provider| match provider {
            Provider::Kms(kms) => kms.fetch(kept.strip_prefix(kms.prefix().as_bytes())?),
            Provider::Identity | Provider::Keys { .. } => None,
        })
    }

    fn is_outdated(&self, key: &[u8], kept: &Bytes) -> bool {
        let table = self.table();
        match table.providers(key).first() {
            None | Some(Provider::Identity) => kept.starts_with(ENCRYPTED),
            Some(Provider::Kms(kms)) => {
                kept.strip_prefix(kms.prefix().as_bytes()).is_none_or(|data| kms.is_outdated(data))
            }
            Some(Provider::Keys { keys, .. }) => {
                keys.first().is_none_or(|(prefix, _)| !kept.starts_with(prefix.as_bytes()))
            }
        }
    }
}

/// Tries the providers in order, as upstream does; the errors are upstream's.
fn open_with(
    providers: &[Provider],
    key: &[u8],
    kept: &[u8],
    encrypted: bool,
) -> Result<Option<Bytes>, String> {
    let mut errors: Vec<String> = Vec::new();
    for provider in providers {
        let opened = match provider {
            Provider::Identity if !encrypted => return Ok(None),
            Provider::Identity => Some(Err("identity transformer tried to read encrypted data".to_owned())),
            Provider::Kms(kms) => kept.strip_prefix(kms.prefix().as_bytes()).map(|data| kms.open(key, data)),
            Provider::Keys { kind, keys }
                if kept.starts_with(format!("k8s:enc:{}:v1:", kind.name()).as_bytes()) =>
            {
                let mut fits =
                    keys.iter().filter_map(|(p, cipher)| Some((cipher, kept.strip_prefix(p.as_bytes())?)));
                Some(match fits.next() {
                    Some((cipher, data)) => cipher.decrypt(key, data),
                    None => {
                        Err(format!("no matching key was found for the provided {} transformer", kind.name()))
                    }
                })
            }
            Provider::Keys { .. } => None,
        };
        match opened {
            Some(Ok(value)) => return Ok(Some(value.into())),
            Some(Err(error)) => errors.push(error),
            None => {}
        }
    }
    Err(if errors.is_empty() { "no matching prefix found".to_owned() } else { errors.join(", ") })
}
