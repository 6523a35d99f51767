//! Frames of SPDY/3.1: reading them off a connection and writing them.

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::SpdyError;
use super::headers::{HeaderReader, HeaderWriter, Headers};

/// The largest frame that is read. Clients send data in pieces of 32 KiB.
pub(super) const MAX_FRAME: usize = 1 << 20;
/// The flag of a frame that is the last of its stream in its direction.
const FIN: u8 = 1;
/// The first two bytes of a control frame: its mark and the version.
const CONTROL: u16 = 0x8003;

/// What a client sends, as far as it means something here.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A new stream.
    Open { id: u32, headers: Headers, last: bool },
    /// Bytes of a stream.
    Data { id: u32, data: Bytes, last: bool },
    /// The end of a stream in both directions.
    Reset { id: u32 },
    /// Is to be sent back.
    Ping { id: u32 },
    /// No streams are opened any more.
    GoAway,
    /// Settings, windows (which clients of Kubernetes do not keep) and what is not known.
    Other,
}

/// Reads frames.
pub(super) struct FrameReader<R> {
    from: R,
    headers: HeaderReader,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(from: R) -> Self {
        FrameReader { from, headers: HeaderReader::new() }
    }

    /// The next frame; `None` at the end of the connection.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, SpdyError> {
        let mut head = [0; 8];
        match self.from.read_exact(&mut head).await {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(SpdyError::Io(error.kind())),
        }
        let [a, b, c, d, flags, l1, l2, l3] = head;
        let length = u32::from_be_bytes([0, l1, l2, l3]) as usize;
        if length > MAX_FRAME {
            return Err(SpdyError::TooLarge);
        }
        let mut body = BytesMut::zeroed(length);
        self.from.read_exact(&mut body).await.map_err(|error| SpdyError::Io(error.kind()))?;
        let body = body.freeze();
        let last = flags & FIN != 0;
        if a & 0x80 == 0 {
            return Ok(Some(Frame::Data { id: u32::from_be_bytes([a, b, c, d]), data: body, last }));
        }
        if u16::from_be_bytes([a, b]) != CONTROL {
            return Err(SpdyError::Version);
        }
        self.control(u16::from_be_bytes([c, d]), &body, last).map(Some)
    }

    fn control(&mut self, kind: u16, body: &[u8], last: bool) -> Result<Frame, SpdyError> {
        let id = || {
            let first = body.first_chunk::<4>().ok_or(SpdyError::Malformed)?;
            Ok(u32::from_be_bytes(*first) & 0x7fff_ffff)
        };
        let block = |skip: usize| body.get(skip..).ok_or(SpdyError::Malformed);
        Ok(match kind {
            // The stream, the one it belongs to, priority and slot.
            1 => Frame::Open { id: id()?, headers: self.headers.read(block(10)?)?, last },
            // Replies and further headers mean nothing, but their blocks are parts of the compressed stream.
            2 | 8 => {
                self.headers.read(block(4)?)?;
                Frame::Other
            }
            3 => Frame::Reset { id: id()? },
            6 => Frame::Ping { id: id()? },
            7 => Frame::GoAway,
            _ => Frame::Other,
        })
    }
}

/// Writes frames.
#[derive(Default)]
pub(super) struct FrameWriter {
    headers: HeaderWriter,
}

impl FrameWriter {
    /// The answer to a new stream.
    pub(super) fn reply(&mut self, out: &mut BytesMut, id: u32) {
        let block = self.headers.empty();
        control(out, 2, 4 + block.len());
        out.put_u32(id);
        out.put_slice(&block);
    }
}

/// Bytes of a stream; at most 16 MiB.
pub(super) fn data(out: &mut BytesMut, id: u32, data: &[u8], last: bool) {
    out.put_u32(id);
    out.put_u8(if last { FIN } else { 0 });
    length(out, data.len());
    out.put_slice(data);
}

/// The refusal or end of a stream.
pub(super) fn reset(out: &mut BytesMut, id: u32, status: u32) {
    control(out, 3, 8);
    out.put_u32(id);
    out.put_u32(status);
}

/// The answer to a ping.
pub(super) fn pong(out: &mut BytesMut, id: u32) {
    control(out, 6, 4);
    out.put_u32(id);
}

/// The end of the connection, all being well.
pub(super) fn go_away(out: &mut BytesMut, last_stream: u32) {
    control(out, 7, 8);
    out.put_u32(last_stream);
    out.put_u32(0);
}

fn control(out: &mut BytesMut, kind: u16, bytes: usize) {
    out.put_u16(CONTROL);
    out.put_u16(kind);
    out.put_u8(0);
    length(out, bytes);
}

/// The low three bytes of a length.
fn length(out: &mut BytesMut, bytes: usize) {
    out.put_slice(&(bytes as u64).to_be_bytes()[5..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Result<Vec<Frame>, SpdyError> {
        let mut reader = FrameReader::new(bytes);
        let mut frames = Vec::new();
        while let Some(frame) = reader.next().await? {
            frames.push(frame);
        }
        Ok(frames)
    }

    #[tokio::test]
    async fn what_is_written_is_read() {
        let mut out = BytesMut::new();
        data(&mut out, 5, b"hi", true);
        reset(&mut out, 7, 3);
        pong(&mut out, 9);
        go_away(&mut out, 1);
        let expected = [
            Frame::Data { id: 5, data: Bytes::from_static(b"hi"), last: true },
            Frame::Reset { id: 7 },
            Frame::Ping { id: 9 },
            Frame::GoAway,
        ];
        assert_eq!(read(&out).await.unwrap(), expected);
    }

    #[tokio::test]
    async fn no_bytes_make_it_panic_or_hang() {
        use crate::http::spdy::headers::samples::FIRST;
        use rand::{Rng, SeedableRng, rngs::StdRng};
        for seed in 0..2000 {
            let mut random = StdRng::seed_from_u64(seed);
            // A control frame with a block that begins well and goes on at random.
            let mut body = vec![0; 10];
            body.extend_from_slice(&FIRST[..random.random_range(0..FIRST.len())]);
            body.extend((0..random.random_range(0..80)).map(|_| random.random::<u8>()));
            let mut bytes = vec![0x80, 3, 0, random.random_range(0..10), random.random()];
            bytes.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
            bytes.extend(body);
            bytes.extend((0..random.random_range(0..40)).map(|_| random.random::<u8>()));
            let _ = read(&bytes).await;
        }
    }

    #[tokio::test]
    async fn frames_that_make_no_sense_end_the_connection() {
        let cases: [(&[u8], SpdyError); 4] = [
            (b"\x80\x02\0\x06\0\0\0\x04\0\0\0\x01", SpdyError::Version),
            (b"\x80\x03\0\x06\0\0\0\x02\0\0", SpdyError::Malformed),
            (b"\0\0\0\x01\0\xff\xff\xff", SpdyError::TooLarge),
            (b"\x80\x03\0\x01\0\0\0\x04\0\0\0\x01", SpdyError::Malformed),
        ];
        for (bytes, expected) in cases {
            assert_eq!(read(bytes).await, Err(expected), "{bytes:?}");
        }
        assert!(matches!(read(b"\0\0\0\x01\0\0\0\x05ab").await, Err(SpdyError::Io(_))));
        assert_eq!(read(b"\x80\x03\0\x04\0\0\0\0").await, Ok(vec![Frame::Other]));
    }
}
