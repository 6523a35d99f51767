//! Messages between members over gRPC, HTTP/2 and mutual TLS.
//!
//! There are two calls, and what is in them is [`super::message`]'s encoding: `Call`, one message and its answer, and
//! `Append`, a stream of messages with entries and a stream of their answers in the same order.

mod client;
mod server;
mod tls;

use bytes::{Buf, BufMut, Bytes};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

pub use client::GrpcTransport;
pub(crate) use server::{Listener, serve};
pub use tls::PeerTls;

/// The version of the encoding is part of the name.
const CALL: &str = "/carrack.peer.v1.Peer/Call";
const APPEND: &str = "/carrack.peer.v1.Peer/Append";

/// Messages go as they are.
#[derive(Clone, Copy, Default)]
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Plain;
    type Decoder = Plain;

    fn encoder(&mut self) -> Plain {
        Plain
    }

    fn decoder(&mut self) -> Plain {
        Plain
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, input: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(input.copy_to_bytes(input.remaining())))
    }
}
