//! Reads the logs of containers: from where a client wants, in its format, and on as they grow.

mod files;
#[cfg(any(test, fuzzing))]
pub(in crate::http) mod fuzzing;
mod line;
mod tail;
#[cfg(test)]
mod tests;

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use inotify::{EventStream, Inotify, WatchMask};
use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::watch;

use super::api::LogSource;
pub(crate) use files::log_files;
use line::Line;

/// How much is read at a time, and so the largest piece that is sent.
const CHUNK: usize = 64 << 10;
/// The longest line. Lines are written in pieces of 16 KiB; a longer one is not a line of a log.
const MAX_LINE: usize = 1 << 20;
/// Room for the names of files in notices from the kernel.
const NOTICES: usize = 4096;

/// What a client wants of a log.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct LogOptions {
    /// Go on until the container ends.
    pub(super) follow: bool,
    /// The run before the present one.
    pub(super) previous: bool,
    /// Put the time before each line.
    pub(super) timestamps: bool,
    /// So many lines at the end.
    pub(super) tail_lines: Option<u64>,
    /// Nothing older.
    pub(super) since: Option<Timestamp>,
    /// So many bytes and no more.
    pub(super) limit_bytes: Option<u64>,
}

/// A log being read.
pub(super) struct LogReader {
    path: PathBuf,
    options: LogOptions,
    /// Bytes that may still be sent.
    budget: u64,
    /// What is read now; `None` while there is no file yet.
    file: Option<File>,
    /// The beginning of a line whose end has not been read.
    pending: Vec<u8>,
    /// Whether the next line begins a line of the container, rather than continuing one.
    at_line_start: bool,
    following: Option<Following>,
    /// Nobody is left who could tell that the container has ended.
    abandoned: bool,
    finished: bool,
}

/// What tells a follower to look again.
struct Following {
    events: EventStream<Vec<u8>>,
    ended: watch::Receiver<bool>,
}

impl LogReader {
    /// Finds the place to begin at. A log that has no file yet is empty.
    pub(super) async fn open(source: LogSource, options: LogOptions) -> io::Result<LogReader> {
        let following = match options.follow {
            // Before the files are looked at, so that nothing falls between.
            true => Some(Following { events: watch_folder(&source.path)?, ended: source.ended }),
            false => None,
        };
        let (path, tail, since) = (source.path.clone(), options.tail_lines, options.since);
        let start = tokio::task::spawn_blocking(move || files::start(&path, tail, since)).await;
        let file = match start.map_err(io::Error::other)?? {
            Some((path, offset)) => {
                let mut file = File::open(path).await?;
                file.seek(io::SeekFrom::Start(offset)).await?;
                Some(file)
            }
            None => None,
        };
        Ok(LogReader {
            path: source.path,
            budget: options.limit_bytes.unwrap_or(u64::MAX),
            options,
            file,
            pending: Vec::new(),
            at_line_start: true,
            following,
            abandoned: false,
            finished: false,
        })
    }

    /// Pieces of whole lines, as soon as they are there.
    pub(super) fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send {
        futures::stream::unfold(self, |mut reader| async move {
            let piece = reader.next_piece().await.transpose()?;
            // An error ends the stream.
            reader.finished |= piece.is_err();
            Some((piece, reader))
        })
    }

    async fn next_piece(&mut self) -> io::Result<Option<Bytes>> {
        while !self.finished {
            // Asked before reading: what was written before the end is then read after it.
            let told = self.following.as_ref().is_none_or(|following| *following.ended.borrow());
            let over = told || self.abandoned;
            let read = self.read_more().await?;
            let at_end = read == 0;
            if at_end && self.next_file().await? {
                continue;
            }
            self.finished = at_end && over;
            let piece = self.take_lines(self.finished)?;
            self.finished |= self.budget == 0;
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
            if at_end && !self.finished {
                self.wait().await?;
            }
        }
        Ok(None)
    }

    async fn read_more(&mut self) -> io::Result<usize> {
        let Some(file) = &mut self.file else { return Ok(0) };
        let before = self.pending.len();
        self.pending.resize(before + CHUNK, 0);
        let read = file.read(&mut self.pending[before..]).await;
        self.pending.truncate(before + *read.as_ref().unwrap_or(&0));
        read
    }

    /// Goes on to the file that was begun after the present one, if there is one. The end of a file is only final
    /// when there is: it is renamed before the next one is made, and not written to any more.
    async fn next_file(&mut self) -> io::Result<bool> {
        let present = match &self.file {
            Some(file) => Some(file.metadata().await?.ino()),
            None => None,
        };
        let path = self.path.clone();
        let next = tokio::task::spawn_blocking(move || files::after(&log_files(&path)?, present)).await;
        let Some(next) = next.map_err(io::Error::other)?? else { return Ok(false) };
        // Written between the last read and the renaming.
        if self.file.is_some() && self.read_more().await? > 0 {
            return Ok(true);
        }
        self.file = Some(File::open(next).await?);
        Ok(true)
    }

    /// Takes the whole lines out of what was read; at the very end also one that lacks its end.
    fn take_lines(&mut self, is_end: bool) -> io::Result<Bytes> {
        let end = match self.pending.iter().rposition(|byte| *byte == b'\n') {
            _ if is_end => self.pending.len(),
            Some(last) => last + 1,
            None if self.pending.len() > MAX_LINE => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line of the log has no end"));
            }
            None => return Ok(Bytes::new()),
        };
        let rest = self.pending.split_off(end);
        let lines = std::mem::replace(&mut self.pending, rest);
        let mut out = Vec::with_capacity(lines.len());
        for raw in lines.split_inclusive(|byte| *byte == b'\n') {
            // What is not in the log's format was not written by the supervisor (a disk ran full in mid-line).
            if let Some(line) = Line::parse(raw) {
                self.put(&mut out, &line);
            }
        }
        out.truncate(usize::try_from(self.budget).unwrap_or(usize::MAX));
        self.budget -= out.len() as u64;
        Ok(out.into())
    }

    fn put(&mut self, out: &mut Vec<u8>, line: &Line<'_>) {
        let at_start = std::mem::replace(&mut self.at_line_start, !line.is_partial);
        let is_old = |since: Timestamp| line.timestamp().is_some_and(|time| time < since);
        if self.options.since.is_some_and(is_old) {
            return;
        }
        if self.options.timestamps && at_start {
            out.extend(line.time);
            out.push(b' ');
        }
        out.extend(line.content);
        if !line.is_partial {
            out.push(b'\n');
        }
    }

    /// Waits until the folder changes or the container ends.
    async fn wait(&mut self) -> io::Result<()> {
        let Some(following) = &mut self.following else { return Ok(()) };
        tokio::select! {
            event = following.events.next() => match event {
                Some(event) => event.map(drop),
                None => Err(io::Error::other("the kernel no longer tells of changes")),
            },
            // An error means that nobody will tell the end any more.
            changed = following.ended.wait_for(|ended| *ended) => {
                self.abandoned = changed.is_err();
                Ok(())
            }
        }
    }
}

fn watch_folder(path: &std::path::Path) -> io::Result<EventStream<Vec<u8>>> {
    let folder = path.parent().ok_or_else(|| io::Error::other("a log without a folder"))?;
    let inotify = Inotify::init()?;
    let mask = WatchMask::MODIFY | WatchMask::CREATE | WatchMask::MOVED_FROM | WatchMask::MOVED_TO;
    inotify.watches().add(folder, mask)?;
    inotify.into_event_stream(vec![0; NOTICES])
}
