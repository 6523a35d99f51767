//! A layer on its way: fetched by one task, read by another, picked up where it broke off.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::{IDLE, Pauses, Registry};
use crate::digest::Digest;
use crate::error::{LayerError, PullFailure};

/// How many pieces (of 16 to 400 KiB) may wait for the one who unpacks: enough to bridge a pause of either side.
const QUEUE: usize = 32;

/// The bytes of a layer as they arrive, for a thread that may block.
pub(crate) struct BlobReader {
    pieces: mpsc::Receiver<Result<Bytes, LayerError>>,
    current: Bytes,
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(Ok(piece)) => self.current = piece,
                Some(Err(error)) => return Err(io::Error::other(error)),
                // The end, or nobody fetches any more: the size tells.
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// How one connection ended.
enum Piecewise {
    /// All bytes were handed over, or nobody wants them any more.
    Done,
    /// It broke; why.
    Broken(String),
}

impl Registry {
    /// Fetches a blob of known size. Run the future and read the reader at the same time; `progress` is told
    /// how many bytes arrived.
    pub(crate) fn blob(
        &self,
        digest: Digest,
        size: u64,
        progress: impl Fn(u64) + Send + Sync,
    ) -> (BlobReader, impl Future<Output = Result<(), PullFailure>> + Send) {
        let (sender, pieces) = mpsc::channel(QUEUE);
        let reader = BlobReader { pieces, current: Bytes::new() };
        (reader, self.feed(digest, size, sender, progress))
    }

    async fn feed(
        &self,
        digest: Digest,
        size: u64,
        sender: mpsc::Sender<Result<Bytes, LayerError>>,
        progress: impl Fn(u64) + Send + Sync,
    ) -> Result<(), PullFailure> {
        let mut offset = 0;
        let mut pauses = Pauses::default();
        loop {
            let before = offset;
            let broken = match self.connect_blob(digest, offset).await {
                Ok((response, skip)) => {
                    match pump(response, skip, &mut offset, size, &sender, &progress).await {
                        Piecewise::Done => return Ok(()),
                        Piecewise::Broken(message) => message,
                    }
                }
                Err(error) => {
                    // The reader ends for want of bytes; the reason is told here.
                    let told = LayerError::Fetch(error.to_string());
                    _ = sender.send(Err(told)).await;
                    return Err(error);
                }
            };
            if offset > before {
                pauses.reset();
            }
            tracing::debug!(%digest, offset, size, broken, "fetching a layer broke off");
            if !pauses.pause(None).await {
                let told = match offset {
                    // It arrives without an error but always too short: the registry does not have more.
                    _ if broken == SHORT => LayerError::Truncated { found: offset, expected: size },
                    _ => LayerError::Fetch(format!("{broken}, after {offset} of {size} bytes")),
                };
                _ = sender.send(Err(told)).await;
                return Ok(());
            }
        }
    }

    /// Asks for the blob from an offset on. Gives how many bytes of the answer to skip: registries need not
    /// know ranges.
    async fn connect_blob(
        &self,
        digest: Digest,
        offset: u64,
    ) -> Result<(Response<Incoming>, u64), PullFailure> {
        let mut headers = HeaderMap::new();
        if offset > 0 {
            let range = HeaderValue::try_from(format!("bytes={offset}-"));
            headers.extend(range.ok().map(|range| (header::RANGE, range)));
        }
        let response = self.get(&self.blob_url(digest), headers).await?;
        let from = match response.status() {
            StatusCode::PARTIAL_CONTENT => range_start(response.headers()).unwrap_or(offset),
            _ => 0,
        };
        match offset.checked_sub(from) {
            Some(skip) => Ok((response, skip)),
            None => {
                Err(PullFailure::Protocol(format!("asked for bytes from {offset}, got them from {from}")))
            }
        }
    }
}

/// What is said of an answer that ends early without an error.
const SHORT: &str = "the answer ended early";

async fn pump(
    response: Response<Incoming>,
    mut skip: u64,
    offset: &mut u64,
    size: u64,
    sender: &mpsc::Sender<Result<Bytes, LayerError>>,
    progress: &impl Fn(u64),
) -> Piecewise {
    let mut body = response.into_body();
    while *offset < size {
        let frame = match tokio::time::timeout(IDLE, body.frame()).await {
            Err(_) => return Piecewise::Broken(format!("nothing arrived for {} s", IDLE.as_secs())),
            Ok(None) => return Piecewise::Broken(SHORT.to_owned()),
            Ok(Some(Err(error))) => return Piecewise::Broken(error.to_string()),
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(mut data) = frame.into_data() else { continue };
        let skipped = skip.min(data.len() as u64);
        data.advance(skipped as usize);
        skip -= skipped;
        // More than was promised is not read: the digest would be wrong anyhow.
        data.truncate(usize::try_from(size - *offset).unwrap_or(usize::MAX));
        if data.is_empty() {
            continue;
        }
        *offset += data.len() as u64;
        progress(data.len() as u64);
        if sender.send(Ok(data)).await.is_err() {
            return Piecewise::Done;
        }
    }
    Piecewise::Done
}

/// The first byte's position in `Content-Range: bytes 100-199/200`.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}
