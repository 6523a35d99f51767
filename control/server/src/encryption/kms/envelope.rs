//! What is kept of a value that is encrypted with a key of a KMS: the data under a key of our own, and that key as the
//! plugin encrypted it. Upstream's layout byte for byte, and its limits.

use bytes::Bytes;
use prost::Message;
use ring::hkdf::{HKDF_SHA256, Prk};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};

use super::proto::{AES_GCM_KEY, EncryptedObject, HKDF_SEED};
use crate::encryption::cipher::{Cipher, Kind};

/// Bytes of a seed, and of the random part that each value's key is derived with.
const SEED: usize = 32;
const INFO: usize = 32;
const LONGEST_KEY_ID: usize = 1 << 10;
const LONGEST_SOURCE: usize = 1 << 10;
const MOST_ANNOTATIONS: usize = 32 << 10;

/// A key of our own, in plain: never kept.
pub(super) enum DataKey {
    /// Each value has a key of its own, derived from this by HKDF-SHA-256 (expand only) and 32 random bytes before the
    /// data: no nonce can repeat under one key.
    Seed(Prk),
    /// Data of versions before 1.28: one key, a random nonce before the data.
    Key(Cipher),
}

impl DataKey {
    /// A new seed; also its bytes, for the plugin to encrypt.
    pub(super) fn generate() -> Result<(Self, Bytes), String> {
        let mut seed = [0; SEED];
        let filled = SystemRandom::new().fill(&mut seed);
        filled.map_err(|_| "the system gives no randomness".to_owned())?;
        Ok((DataKey::Seed(Prk::new_less_safe(HKDF_SHA256, &seed)), Bytes::copy_from_slice(&seed)))
    }

    /// What the plugin decrypted.
    pub(super) fn from_plain(plain: &[u8], source_type: i32) -> Result<Self, String> {
        match source_type {
            HKDF_SEED if plain.len() >= SEED => Ok(DataKey::Seed(Prk::new_less_safe(HKDF_SHA256, plain))),
            HKDF_SEED => Err(format!("invalid seed length {} used for key generation", plain.len())),
            _ => Cipher::new(Kind::AesGcm, plain)
                .map(DataKey::Key)
                .ok_or_else(|| format!("invalid key size {}", plain.len())),
        }
    }

    /// The encrypted value; `context` is the key in the store. Only seeds write.
    pub(super) fn encrypt(&self, context: &[u8], value: &[u8]) -> Result<Vec<u8>, String> {
        let DataKey::Seed(seed) = self else { return Err("only seeds encrypt".to_owned()) };
        let mut info = [0; INFO];
        let filled = SystemRandom::new().fill(&mut info);
        filled.map_err(|_| "the system gives no randomness".to_owned())?;
        let mut out = Vec::with_capacity(INFO + value.len() + 64);
        out.extend_from_slice(&info);
        derived(seed, &info)?.encrypt(context, value, &mut out)?;
        Ok(out)
    }

    /// The value.
    pub(super) fn decrypt(&self, context: &[u8], data: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            DataKey::Key(cipher) => cipher.decrypt(context, data),
            DataKey::Seed(seed) => {
                let (info, data) = data
                    .split_at_checked(INFO)
                    .ok_or_else(|| "the stored data was shorter than the required size".to_owned())?;
                derived(seed, info)?.decrypt(context, data)
            }
        }
    }
}

/// The key of one value.
fn derived(seed: &Prk, info: &[u8]) -> Result<Cipher, String> {
    let cipher = expand(seed, info).and_then(|key| Cipher::new(Kind::AesGcm, &key));
    cipher.ok_or_else(|| "failed to KDF expand seed with info".to_owned())
}

fn expand(seed: &Prk, info: &[u8]) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    seed.expand(&[info], HKDF_SHA256).ok()?.fill(&mut key).ok()?;
    Some(key)
}

/// Reads what is kept behind the prefix.
pub(super) fn decode(kept: &[u8]) -> Result<EncryptedObject, String> {
    let object = EncryptedObject::decode(kept).map_err(|error| error.to_string())?;
    if object.data.is_empty() {
        return Err("encrypted data is empty".to_owned());
    }
    check(&object)?;
    Ok(object)
}

/// Upstream's checks of what a plugin answers, and of what is kept; not of the data.
pub(super) fn check(object: &EncryptedObject) -> Result<(), String> {
    if ![AES_GCM_KEY, HKDF_SEED].contains(&object.source_type) {
        return Err(format!("unknown encryptedDEKSourceType: {}", object.source_type));
    }
    match object.source.len() {
        0 => return Err("failed to validate encrypted DEK source: encrypted DEK source is empty".to_owned()),
        length if length > LONGEST_SOURCE => {
            return Err(format!(
                "failed to validate encrypted DEK source: encrypted DEK source is {length} bytes, which exceeds the \
                 max size of {LONGEST_SOURCE}"
            ));
        }
        _ => {}
    }
    check_key_id(&object.key_id).map_err(|why| format!("failed to validate key id: {why}"))?;
    check_annotations(object).map_err(|why| format!("failed to validate annotations: {why}"))
}

/// The name of a plugin's key.
pub(super) fn check_key_id(key_id: &str) -> Result<(), String> {
    match key_id.len() {
        0 => Err("keyID is empty".to_owned()),
        length if length > LONGEST_KEY_ID => {
            Err(format!("keyID is {length} bytes, which exceeds the max size of {LONGEST_KEY_ID}"))
        }
        _ => Ok(()),
    }
}

fn check_annotations(object: &EncryptedObject) -> Result<(), String> {
    let mut total = 0;
    for (name, value) in &object.annotations {
        if !is_domain(name) {
            return Err(format!(
                "annotations: Invalid value: {name:?}: should be a domain of two segments at least"
            ));
        }
        total += name.len() + value.len();
    }
    if total > MOST_ANNOTATIONS {
        return Err(format!(
            "total size of annotations is {total}, which exceeds the max size of {MOST_ANNOTATIONS}"
        ));
    }
    Ok(())
}

/// Whether a name is fully qualified: labels of RFC 1123, two at least.
fn is_domain(name: &str) -> bool {
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    name.len() <= 253 && name.contains('.') && name.split('.').all(label)
}

/// What names our key in memory: everything that the plugin would be asked with.
pub(super) fn cache_key(object: &EncryptedObject) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    };
    add(&object.source_type.to_be_bytes());
    add(&object.source);
    add(object.key_id.as_bytes());
    for (name, value) in &object.annotations {
        add(name.as_bytes());
        add(value);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first example of RFC 5869: its PRK and info, the first 32 bytes of its output.
    #[test]
    fn keys_are_derived_by_hkdf_expand() {
        let prk = hex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5");
        let DataKey::Seed(seed) = DataKey::from_plain(&prk, HKDF_SEED).unwrap() else { panic!("a seed") };
        let key = expand(&seed, &hex("f0f1f2f3f4f5f6f7f8f9")).unwrap();
        assert_eq!(key, *hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"));
    }

    #[test]
    fn a_value_is_bound_to_its_place_and_has_a_key_of_its_own() {
        let (key, plain) = DataKey::generate().unwrap();
        let one = key.encrypt(b"/registry/secrets/a/b", b"value").unwrap();
        let two = key.encrypt(b"/registry/secrets/a/b", b"value").unwrap();
        assert_ne!(one[..INFO], two[..INFO]);
        // Another process that was told the seed.
        let same = DataKey::from_plain(&plain, HKDF_SEED).unwrap();
        assert_eq!(same.decrypt(b"/registry/secrets/a/b", &one).unwrap(), b"value");
        assert!(same.decrypt(b"/registry/secrets/a/c", &one).is_err());
        assert!(same.decrypt(b"/registry/secrets/a/b", &one[..20]).is_err());
        let mut changed = one.clone();
        changed[0] ^= 1;
        assert!(same.decrypt(b"/registry/secrets/a/b", &changed).is_err());
        assert!(DataKey::from_plain(&plain[1..], HKDF_SEED).is_err());
    }

    #[test]
    fn data_of_the_older_form_is_read_and_not_written() {
        let cipher = Cipher::new(Kind::AesGcm, &[7; 32]).unwrap();
        let mut data = Vec::new();
        cipher.encrypt(b"/k", b"value", &mut data).unwrap();
        let key = DataKey::from_plain(&[7; 32], AES_GCM_KEY).unwrap();
        assert_eq!(key.decrypt(b"/k", &data).unwrap(), b"value");
        assert!(key.encrypt(b"/k", b"value").is_err());
        assert!(DataKey::from_plain(&[7; 31], AES_GCM_KEY).is_err());
    }

    #[test]
    fn what_is_out_of_bounds_is_refused() {
        let good = EncryptedObject {
            data: Bytes::from_static(b"d"),
            key_id: "k".into(),
            source: Bytes::from_static(b"s"),
            source_type: HKDF_SEED,
            ..EncryptedObject::default()
        };
        assert_eq!(decode(&good.encode_to_vec()), Ok(good.clone()));
        let annotated = |name: &str, value: usize| {
            let annotations = [(name.to_owned(), vec![0; value])].into();
            EncryptedObject { annotations, ..good.clone() }
        };
        assert!(check(&annotated("a.example", 10)).is_ok());
        for (object, says) in [
            (EncryptedObject { data: Bytes::new(), ..good.clone() }, "encrypted data is empty"),
            (EncryptedObject { source_type: 2, ..good.clone() }, "unknown encryptedDEKSourceType: 2"),
            (EncryptedObject { source: Bytes::new(), ..good.clone() }, "encrypted DEK source is empty"),
            (EncryptedObject { source: vec![1; 1025].into(), ..good.clone() }, "is 1025 bytes"),
            (EncryptedObject { key_id: String::new(), ..good.clone() }, "keyID is empty"),
            (EncryptedObject { key_id: "k".repeat(1025), ..good.clone() }, "keyID is 1025 bytes"),
            (annotated("plain", 1), "annotations: Invalid value: \"plain\""),
            (annotated("a.example", 32 << 10), "total size of annotations is 32777"),
        ] {
            let error = decode(&object.encode_to_vec()).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        assert!(decode(b"\xff").is_err());
        assert_ne!(cache_key(&good), cache_key(&annotated("a.example", 1)));
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }
}
