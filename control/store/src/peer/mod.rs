//! Members of a cluster: what they say to each other, the way there ([`Transport`]) and the receiving side
//! ([`PeerHandler`]).
//!
//! The store needs only that a message gets to a member and its answer back. [`grpc`] does it over TLS; a simulation
//! does it in memory, and loses, delays, repeats and reorders messages as it likes.

pub mod grpc;
mod handler;
pub mod message;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;

pub use handler::PeerHandler;
use message::{Envelope, Refused, Response};

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The member; 0 if only its address is known.
    pub id: u64,
    /// Its addresses for peers, such as `https://10.0.0.7:2380`, tried in order.
    pub urls: Vec<String>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The message has certainly not arrived.
    #[error("cannot reach the peer: {0}")]
    Undelivered(String),
    /// No answer came. The message may have arrived.
    #[error("no answer from the peer: {0}")]
    NoAnswer(String),
    /// The peer answered that it does not take the message; nothing has happened.
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Refuses what is no address of a peer: `http` or `https`, a host, a port.
pub(crate) fn check_url(url: &str) -> Result<(), String> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let port = rest.and_then(|rest| rest.rsplit_once(':')).filter(|(host, _)| !host.is_empty());
    match port.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(_)) => Ok(()),
        _ => Err(format!("{url:?} is no peer address: it has to be like https://10.0.0.7:2380")),
    }
}

/// The way to other members.
///
/// It may lose messages and answers, and delay them. Messages of [`Transport::call`] may overtake each other and arrive
/// twice, apart from [`message::Request::Write`] and [`message::Request::Change`], which take effect each time they arrive.
/// Those of [`Transport::appends`] are handed over in their order, and none after one that was lost.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Sends a message and waits for the answer, at most for `timeout`.
    async fn call(&self, to: &Peer, message: Envelope, timeout: Duration)
    -> Result<Response, TransportError>;

    /// Sends messages with entries and gives their answers in the same order; ends after the first error. Each
    /// answer may take up to `timeout`. Unless the transport has a better way, each waits for the answer before it.
    fn appends(
        self: Arc<Self>,
        to: Peer,
        messages: BoxStream<'static, Envelope>,
        timeout: Duration,
    ) -> BoxStream<'static, Result<Response, TransportError>> {
        let send = move |message| {
            let (transport, to) = (Arc::clone(&self), to.clone());
            async move { transport.call(&to, message, timeout).await }
        };
        Box::pin(messages.then(send))
    }
}
