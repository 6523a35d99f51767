//! The ways in which values are encrypted, byte for byte as upstream's, so that data can move between the two.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use aes::{Aes128, Aes192, Aes256};
use crypto_secretbox::aead::{AeadInPlace, KeyInit};
use crypto_secretbox::{Nonce as SecretboxNonce, Tag, XSalsa20Poly1305};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

const CBC_BLOCK: usize = 16;
const SECRETBOX_NONCE: usize = 24;
const SECRETBOX_TAG: usize = 16;
/// Upstream's words for data that does not fit the key, or was tampered with.
const NOT_AUTHENTIC: &str = "cipher: message authentication failed";

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// AES-GCM with a random nonce before the data, the store's key authenticated.
    AesGcm,
    /// AES-CBC with a random first block, padded as PKCS #7. Nothing is authenticated.
    AesCbc,
    /// XSalsa20 and Poly1305 with a random nonce before the data.
    Secretbox,
}

impl Kind {
    /// Its name in the configuration and in the prefix of the data.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::AesGcm => "aesgcm",
            Kind::AesCbc => "aescbc",
            Kind::Secretbox => "secretbox",
        }
    }

    /// How many bytes a key may have.
    pub(super) fn key_lengths(self) -> &'static [usize] {
        match self {
            Kind::AesGcm => &[16, 32],
            Kind::AesCbc => &[16, 24, 32],
            Kind::Secretbox => &[32],
        }
    }
}

/// A way with a key.
pub(super) enum Cipher {
    Gcm(Box<LessSafeKey>),
    Cbc(Vec<u8>),
    Secretbox(Box<XSalsa20Poly1305>),
}

impl Cipher {
    /// `None` when the key has a length that does not fit.
    pub(super) fn new(kind: Kind, key: &[u8]) -> Option<Self> {
        if !kind.key_lengths().contains(&key.len()) {
            return None;
        }
        match kind {
            Kind::AesGcm => {
                let algorithm = if key.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
                let key = UnboundKey::new(algorithm, key).ok()?;
                Some(Cipher::Gcm(Box::new(LessSafeKey::new(key))))
            }
            Kind::AesCbc => Some(Cipher::Cbc(key.to_vec())),
            Kind::Secretbox => Some(Cipher::Secretbox(Box::new(XSalsa20Poly1305::new_from_slice(key).ok()?))),
        }
    }

    /// Appends the encrypted value to `out`. `context` is the key in the store.
    pub(super) fn encrypt(&self, context: &[u8], value: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Cipher::Gcm(key) => {
                let nonce: [u8; NONCE_LEN] = random()?;
                out.extend_from_slice(&nonce);
                let mut data = value.to_vec();
                key.seal_in_place_append_tag(
                    Nonce::assume_unique_for_key(nonce),
                    Aad::from(context),
                    &mut data,
                )
                .map_err(|_| "the value is too long for AES-GCM".to_owned())?;
                out.extend_from_slice(&data);
            }
            Cipher::Cbc(key) => {
                let first: [u8; CBC_BLOCK] = random()?;
                out.extend_from_slice(&first);
                out.extend_from_slice(&cbc_encrypt(key, &first, value).ok_or(NOT_AUTHENTIC)?);
            }
            Cipher::Secretbox(key) => {
                let nonce: [u8; SECRETBOX_NONCE] = random()?;
                let mut data = value.to_vec();
                let tag = key
                    .encrypt_in_place_detached(SecretboxNonce::from_slice(&nonce), b"", &mut data)
                    .map_err(|_| "the value is too long for secretbox".to_owned())?;
                out.extend_from_slice(&nonce);
                out.extend_from_slice(&tag);
                out.extend_from_slice(&data);
            }
        }
        Ok(())
    }

    /// The value; `Err` in upstream's words.
    pub(super) fn decrypt(&self, context: &[u8], data: &[u8]) -> Result<Vec<u8>, String> {
        let short = || "the stored data was shorter than the required size".to_owned();
        match self {
            Cipher::Gcm(key) => {
                let (nonce, data) = data.split_first_chunk::<NONCE_LEN>().ok_or_else(short)?;
                let mut data = data.to_vec();
                let nonce = Nonce::assume_unique_for_key(*nonce);
                let plain = key.open_in_place(nonce, Aad::from(context), &mut data);
                let length = plain.map_err(|_| NOT_AUTHENTIC.to_owned())?.len();
                data.truncate(length);
                Ok(data)
            }
            Cipher::Cbc(key) => {
                let (first, data) = data.split_first_chunk::<CBC_BLOCK>().ok_or_else(short)?;
                if data.is_empty() || !data.len().is_multiple_of(CBC_BLOCK) {
                    return Err("the stored data is not a multiple of the block size".to_owned());
                }
                cbc_decrypt(key, first, data).ok_or_else(|| "invalid padding on input".to_owned())
            }
            Cipher::Secretbox(key) => {
                let (nonce, data) = data.split_first_chunk::<SECRETBOX_NONCE>().ok_or_else(short)?;
                let (tag, data) = data.split_first_chunk::<SECRETBOX_TAG>().ok_or_else(short)?;
                let mut data = data.to_vec();
                key.decrypt_in_place_detached(
                    SecretboxNonce::from_slice(nonce),
                    b"",
                    &mut data,
                    Tag::from_slice(tag),
                )
                .map_err(|_| "secretbox transformation failed".to_owned())?;
                Ok(data)
            }
        }
    }
}

fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map(|()| bytes).map_err(|_| "the system gives no randomness".to_owned())
}

fn cbc_encrypt(key: &[u8], first: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    fn with<C: BlockEncryptMut + KeyIvInit>(key: &[u8], first: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        Some(C::new_from_slices(key, first).ok()?.encrypt_padded_vec_mut::<Pkcs7>(value))
    }
    match key.len() {
        16 => with::<cbc::Encryptor<Aes128>>(key, first, value),
        24 => with::<cbc::Encryptor<Aes192>>(key, first, value),
        _ => with::<cbc::Encryptor<Aes256>>(key, first, value),
    }
}

fn cbc_decrypt(key: &[u8], first: &[u8], data: &[u8]) -> Option<Vec<u8>> {
    fn with<C: BlockDecryptMut + KeyIvInit>(key: &[u8], first: &[u8], data: &[u8]) -> Option<Vec<u8>> {
        C::new_from_slices(key, first).ok()?.decrypt_padded_vec_mut::<Pkcs7>(data).ok()
    }
    match key.len() {
        16 => with::<cbc::Decryptor<Aes128>>(key, first, data),
        24 => with::<cbc::Decryptor<Aes192>>(key, first, data),
        _ => with::<cbc::Decryptor<Aes256>>(key, first, data),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_gives_back_what_it_took_and_refuses_what_was_changed() {
        for kind in [Kind::AesGcm, Kind::AesCbc, Kind::Secretbox] {
            for length in kind.key_lengths() {
                let cipher = Cipher::new(kind, &vec![7; *length]).unwrap();
                for value in [&b""[..], b"x", b"sixteen bytes!!!", &[9; 1000]] {
                    let mut data = Vec::new();
                    cipher.encrypt(b"/registry/secrets/a/b", value, &mut data).unwrap();
                    assert_eq!(cipher.decrypt(b"/registry/secrets/a/b", &data).unwrap(), value, "{kind:?}");
                    assert!(cipher.decrypt(b"/registry/secrets/a/b", &data[..10]).is_err());
                    if kind != Kind::AesCbc {
                        *data.last_mut().unwrap() ^= 1;
                        assert!(cipher.decrypt(b"/registry/secrets/a/b", &data).is_err(), "{kind:?}");
                    }
                }
            }
            assert!(Cipher::new(kind, &[7; 31]).is_none());
        }
    }

    #[test]
    fn gcm_is_bound_to_its_place() {
        let cipher = Cipher::new(Kind::AesGcm, &[7; 32]).unwrap();
        let mut data = Vec::new();
        cipher.encrypt(b"/registry/secrets/a/b", b"value", &mut data).unwrap();
        assert_eq!(cipher.decrypt(b"/registry/secrets/a/c", &data).unwrap_err(), NOT_AUTHENTIC);
    }

    /// The first test of NaCl's `secretbox`: key, nonce and box as its sources have them, so that the layout (nonce,
    /// authenticator, data) and the algorithm are those that everybody means.
    #[test]
    fn secretbox_is_that_of_nacl() {
        let key = hex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389");
        let nonce = hex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37");
        let boxed = hex(
            "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186ac0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5",
        );
        let cipher = Cipher::new(Kind::Secretbox, &key).unwrap();
        let plain = cipher.decrypt(b"", &[nonce, boxed].concat()).unwrap();
        assert!(plain.starts_with(&hex("be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffc")));
        assert_eq!(plain.len(), 131);
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }
}
