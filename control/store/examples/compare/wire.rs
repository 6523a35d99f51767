//! HTTP/2 as far as a load generator needs it (RFC 9113 and 7541): many calls on a connection for next to no processor
//! time, so that on a shared machine the time goes to the server. Calls and answers are gRPC messages.

use std::collections::HashMap;

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::Failed;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD: usize = 9;
/// The largest window, for all that a server sends.
const WINDOW: u32 = (1 << 31) - 1;
/// What a server takes before it says more.
const FIRST_WINDOW: i64 = 65_535;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// A connection.
pub(crate) struct Wire {
    stream: TcpStream,
    address: String,
    out: Vec<u8>,
    input: BytesMut,
    next_stream: u32,
    /// What the server still takes, and what waits for it to take more.
    window: i64,
    held: Vec<u8>,
    /// Received since the server was last told that it may send more.
    received: u32,
    partial: HashMap<u32, BytesMut>,
}

/// What came for a call.
pub(crate) enum Came {
    /// A message.
    Message(u32, Bytes),
    /// The end of the answer.
    End(u32),
}

impl Wire {
    pub(crate) async fn connect(address: &str) -> Result<Wire, Failed> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut wire = Wire {
            stream,
            address: address.to_owned(),
            out: PREFACE.to_vec(),
            input: BytesMut::with_capacity(1 << 20),
            next_stream: 1,
            window: FIRST_WINDOW,
            held: Vec::new(),
            received: 0,
            partial: HashMap::new(),
        };
        // SETTINGS_INITIAL_WINDOW_SIZE is 4.
        let mut settings = vec![0, 4];
        settings.extend(WINDOW.to_be_bytes());
        wire.frame(SETTINGS, 0, 0, &settings);
        wire.frame(WINDOW_UPDATE, 0, 0, &(WINDOW - FIRST_WINDOW as u32).to_be_bytes());
        wire.flush().await?;
        Ok(wire)
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        push_frame(&mut self.out, kind, flags, stream, payload);
    }

    /// Begins a call, of one message if `end`; gives the number by which its answer is known.
    pub(crate) fn call(&mut self, path: &str, message: &impl Message, end: bool) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        // `:method: POST` and `:scheme: http` are entries 3 and 6 of the static table.
        let mut block = vec![0x83, 0x86];
        // `:path` is entry 4, here without a place in the dynamic table.
        literal(&mut block, 0x04, path);
        if stream == 1 {
            // `:authority` is entry 1 and `content-type` 31; these take places in the dynamic table.
            literal(&mut block, 0x41, &self.address);
            literal(&mut block, 0x5f, "application/grpc");
            block.push(0x40);
            string(&mut block, "te");
            string(&mut block, "trailers");
        } else {
            block.extend([0xc0, 0xbf, 0xbe]);
        }
        self.frame(HEADERS, END_HEADERS, stream, &block);
        let mut payload = vec![0];
        payload.extend((message.encoded_len() as u32).to_be_bytes());
        payload.extend(message.encode_to_vec());
        let flags = if end { END_STREAM } else { 0 };
        if self.held.is_empty() && self.window >= payload.len() as i64 {
            self.window -= payload.len() as i64;
            self.frame(DATA, flags, stream, &payload);
        } else {
            push_frame(&mut self.held, DATA, flags, stream, &payload);
        }
        stream
    }

    /// Sends what was begun.
    pub(crate) async fn flush(&mut self) -> Result<(), Failed> {
        if !self.out.is_empty() {
            self.stream.write_all(&self.out).await?;
            self.out.clear();
        }
        Ok(())
    }

    /// Waits for the server, and gives all that came into `came`.
    pub(crate) async fn receive(&mut self, came: &mut Vec<Came>) -> Result<(), Failed> {
        self.input.reserve(64 << 10);
        if self.stream.read_buf(&mut self.input).await? == 0 {
            return Err("the server closed the connection".into());
        }
        while self.input.len() >= HEAD {
            let len = u32::from_be_bytes([0, self.input[0], self.input[1], self.input[2]]) as usize;
            if self.input.len() < HEAD + len {
                self.input.reserve(HEAD + len);
                break;
            }
            let head = self.input.split_to(HEAD);
            let payload = self.input.split_to(len).freeze();
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & WINDOW;
            self.take(head[3], head[4], stream, payload, came)?;
        }
        Ok(())
    }

    fn take(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: Bytes,
        came: &mut Vec<Came>,
    ) -> Result<(), Failed> {
        match kind {
            DATA if flags & PADDED != 0 => return Err("padding is not understood".into()),
            DATA => {
                self.account(payload.len() as u32);
                self.messages(stream, payload, came);
            }
            SETTINGS if flags & ACK == 0 => self.frame(SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => self.frame(PING, ACK, 0, &payload),
            WINDOW_UPDATE if stream == 0 => {
                self.window += i64::from(payload.clone().get_u32());
                self.release();
            }
            RESET | GOAWAY => {
                return Err(format!("the server ended a call or the connection: {payload:?}").into());
            }
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            self.partial.remove(&stream);
            came.push(Came::End(stream));
        }
        Ok(())
    }

    /// Lets the server go on sending.
    fn account(&mut self, bytes: u32) {
        self.received += bytes;
        if self.received > WINDOW / 2 {
            let received = std::mem::take(&mut self.received);
            self.frame(WINDOW_UPDATE, 0, 0, &received.to_be_bytes());
        }
    }

    /// Sends what waited for the window; all of it, or as much as fits.
    fn release(&mut self) {
        while let Some(len) = self.held.first_chunk::<3>() {
            let len = u32::from_be_bytes([0, len[0], len[1], len[2]]) as usize;
            if self.window < len as i64 {
                return;
            }
            self.window -= len as i64;
            self.out.extend(self.held.drain(..HEAD + len));
        }
    }

    fn messages(&mut self, stream: u32, payload: Bytes, came: &mut Vec<Came>) {
        let complete = |bytes: &[u8]| {
            let head = bytes.first_chunk::<5>()?;
            let end = 5 + u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            (bytes.len() >= end).then_some(end)
        };
        let mut rest = payload;
        if let Some(before) = self.partial.get_mut(&stream) {
            before.extend_from_slice(&rest);
            if complete(before).is_none() {
                return;
            }
            rest = self.partial.remove(&stream).unwrap_or_default().freeze();
        }
        while let Some(end) = complete(&rest) {
            came.push(Came::Message(stream, rest.split_to(end).split_off(5)));
        }
        if !rest.is_empty() {
            self.partial.insert(stream, BytesMut::from(&rest[..]));
        }
    }
}

fn push_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

/// A value for a name that the first byte tells.
fn literal(block: &mut Vec<u8>, first: u8, value: &str) {
    block.push(first);
    string(block, value);
}

/// Without Huffman's code; all are shorter than 127 bytes.
fn string(block: &mut Vec<u8>, text: &str) {
    block.push(text.len() as u8);
    block.extend(text.as_bytes());
}
