//! Calls of a KMS plugin: gRPC over a socket of this host, each within the configured time.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::UnixStream;
use tonic::Request;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::proto::{
    DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, EncryptedObject, StatusRequest,
    StatusResponse,
};

/// The largest answer: annotations have 32 KiB at most, a key 1 KiB.
const LARGEST: usize = 128 << 10;

/// The way to a plugin. A connection is made when it is needed, and anew after it broke.
pub(super) struct Plugin {
    socket: PathBuf,
    timeout: Duration,
    channel: OnceLock<Channel>,
}

impl Plugin {
    /// `socket` is a path, or begins with a zero byte if it is abstract.
    pub(super) fn new(socket: PathBuf, timeout: Duration) -> Self {
        Plugin { socket, timeout, channel: OnceLock::new() }
    }

    pub(super) async fn status(&self) -> Result<StatusResponse, String> {
        self.call("/v2.KeyManagementService/Status", StatusRequest {}).await
    }

    /// Encrypts a key of ours.
    pub(super) async fn encrypt(&self, plaintext: Bytes) -> Result<EncryptResponse, String> {
        self.call("/v2.KeyManagementService/Encrypt", EncryptRequest { plaintext, uid: uid() }).await
    }

    /// Decrypts the key that an object was encrypted with.
    pub(super) async fn decrypt(&self, object: &EncryptedObject) -> Result<Bytes, String> {
        let request = DecryptRequest {
            ciphertext: object.source.clone(),
            uid: uid(),
            key_id: object.key_id.clone(),
            annotations: object.annotations.clone(),
        };
        let answer: DecryptResponse = self.call("/v2.KeyManagementService/Decrypt", request).await?;
        Ok(answer.plaintext)
    }

    async fn call<Q, A>(&self, method: &'static str, request: Q) -> Result<A, String>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let unary = async {
            let mut grpc = Grpc::new(self.channel()).max_decoding_message_size(LARGEST);
            grpc.ready().await.map_err(|error| words(&error))?;
            let codec = ProstCodec::<Q, A>::default();
            let path = PathAndQuery::from_static(method);
            let answer = grpc.unary(Request::new(request), path, codec).await;
            answer.map(tonic::Response::into_inner).map_err(|status| words(&status))
        };
        match tokio::time::timeout(self.timeout, unary).await {
            Ok(answer) => answer.map_err(|why| format!("{}: {why}", self.shown())),
            Err(_) => Err(format!(
                "{}: the plugin did not answer within {:?} (context deadline exceeded)",
                self.shown(),
                self.timeout
            )),
        }
    }

    fn shown(&self) -> String {
        let path = self.socket.to_string_lossy();
        format!("unix://{}", path.replacen('\0', "/@", 1))
    }

    fn channel(&self) -> Channel {
        let make = || {
            let socket = self.socket.clone();
            let dial = tower::service_fn(move |_: Uri| {
                let socket = socket.clone();
                async move { UnixStream::connect(socket).await.map(TokioIo::new) }
            });
            // The name matters to nobody; it is the one that upstream sends.
            Endpoint::from_static("http://localhost").connect_with_connector_lazy(dial)
        };
        self.channel.get_or_init(make).clone()
    }
}

fn uid() -> String {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string()
}

/// The error with what it came from, since the outermost says little more than "transport error".
fn words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_words = inner.to_string();
        if !words.contains(&inner_words) {
            words = format!("{words}: {inner_words}");
        }
        source = inner.source();
    }
    words
}
