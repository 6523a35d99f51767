//! The messages of a KMS plugin, by the numbers of `k8s.io/kms/apis/v2/api.proto`, and what is kept in the store, by
//! those of `k8s.io/apiserver/pkg/storage/value/encrypt/envelope/kmsv2/v2/api.proto`.

use std::collections::BTreeMap;

use bytes::Bytes;

/// How the plugin's key is used: [`EncryptedObject::source_type`].
pub(super) const AES_GCM_KEY: i32 = 0;
pub(super) const HKDF_SEED: i32 = 1;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StatusResponse {
    /// Of the plugin's API: `v2` or `v2beta1`.
    #[prost(string, tag = "1")]
    pub(super) version: String,
    /// `ok`, or what is wrong.
    #[prost(string, tag = "2")]
    pub(super) healthz: String,
    /// The key that writes today.
    #[prost(string, tag = "3")]
    pub(super) key_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct EncryptRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) plaintext: Bytes,
    /// Names the request in logs.
    #[prost(string, tag = "2")]
    pub(super) uid: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct EncryptResponse {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) ciphertext: Bytes,
    #[prost(string, tag = "2")]
    pub(super) key_id: String,
    /// Kept beside the data, in plain text.
    #[prost(btree_map = "string, bytes", tag = "3")]
    pub(super) annotations: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DecryptRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) ciphertext: Bytes,
    #[prost(string, tag = "2")]
    pub(super) uid: String,
    #[prost(string, tag = "3")]
    pub(super) key_id: String,
    #[prost(btree_map = "string, bytes", tag = "4")]
    pub(super) annotations: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DecryptResponse {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) plaintext: Bytes,
}

/// What is kept behind the prefix.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct EncryptedObject {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) data: Bytes,
    /// The plugin's key.
    #[prost(string, tag = "2")]
    pub(super) key_id: String,
    /// Our key or seed, as the plugin encrypted it.
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) source: Bytes,
    #[prost(btree_map = "string, bytes", tag = "4")]
    pub(super) annotations: BTreeMap<String, Vec<u8>>,
    /// [`AES_GCM_KEY`] or [`HKDF_SEED`].
    #[prost(int32, tag = "5")]
    pub(super) source_type: i32,
}
