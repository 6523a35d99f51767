//! Log files in the format of the container runtime interface: `<time> <stdout|stderr> <F|P> <text>`, where P marks a
//! line that goes on in the next one.

use super::{clock, rotation};
use crate::types::LogLimits;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Longest text of a log line; longer lines are cut into several marked P.
const MAX_LINE: usize = 16 << 10;

/// Cuts one stream into lines.
#[derive(Debug)]
pub(crate) struct Lines {
    stream: &'static str,
    /// The beginning of a line whose end has not come; at most [`MAX_LINE`].
    pending: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(stream: &'static str) -> Self {
        Self { stream, pending: Vec::new() }
    }

    /// Its name in log lines.
    pub(crate) fn stream(&self) -> &'static str {
        self.stream
    }

    /// Takes what was read at `now` and appends complete log lines to `out`.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], now: u64, out: &mut Vec<u8>) {
        let time = clock::rfc3339(now);
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend(&bytes[..end], &time, out);
            self.emit(&time, 'F', out);
            bytes = &bytes[end + 1..];
        }
        self.extend(bytes, &time, out);
    }

    /// At the end of the stream: what is left is a line without an end.
    pub(crate) fn finish(&mut self, now: u64, out: &mut Vec<u8>) {
        if !self.pending.is_empty() {
            self.emit(&clock::rfc3339(now), 'P', out);
        }
        self.pending = Vec::new();
    }

    fn extend(&mut self, mut bytes: &[u8], time: &str, out: &mut Vec<u8>) {
        while self.pending.len() + bytes.len() > MAX_LINE {
            let (fits, rest) = bytes.split_at(MAX_LINE - self.pending.len());
            self.pending.extend_from_slice(fits);
            self.emit(time, 'P', out);
            bytes = rest;
        }
        self.pending.extend_from_slice(bytes);
    }

    fn emit(&mut self, time: &str, tag: char, out: &mut Vec<u8>) {
        // Writing to memory cannot fail.
        let _ = write!(out, "{time} {} {tag} ", self.stream);
        out.extend_from_slice(&self.pending);
        out.push(b'\n');
        self.pending.clear();
        // One long line must not keep its memory for the life of the container.
        self.pending.shrink_to(256);
    }
}

/// A container's log file.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    limits: LogLimits,
    /// Bytes in the file; none of them after a rotation that failed, so that it is tried again a file later.
    size: u64,
    /// The last write broke off in the middle of a line.
    torn: bool,
    /// Bytes that could not be written, a full disk for one.
    lost: u64,
}

impl LogFile {
    /// Opens it for appending and makes its directories.
    pub(crate) fn open(path: &Path, limits: LogLimits) -> std::io::Result<Self> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let file = open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, limits, size, torn: false, lost: 0 })
    }

    /// Opens it by name again, after somebody renamed it.
    pub(crate) fn reopen(&mut self) -> std::io::Result<()> {
        self.file = open(&self.path)?;
        self.size = self.file.metadata()?.len();
        self.torn = false;
        Ok(())
    }

    /// Writes complete lines. A container must not stop because its log cannot be written: what fails is dropped, and
    /// said in the supervisor's own log when it begins and when it ends.
    pub(crate) fn write(&mut self, lines: &[u8]) {
        // Before and not after, so that the present file always has the last lines.
        if self.size >= self.limits.max_bytes {
            self.rotate();
        }
        if self.torn && self.file.write_all(b"\n").is_ok() {
            self.torn = false;
        }
        let mut written = 0;
        while written < lines.len() {
            match self.file.write(&lines[written..]) {
                Ok(count) if count > 0 => {
                    written += count;
                    self.size += count as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                failed => return self.lose(lines.len() - written, written > 0, failed.err()),
            }
        }
        if self.lost > 0 {
            eprintln!("log {}: writing again, {} bytes were lost", self.path.display(), self.lost);
            self.lost = 0;
        }
    }

    /// Begins a new file. What goes wrong is said, and lines go on into the file that is open: none is lost.
    fn rotate(&mut self) {
        let done = rotation::put_away(&self.path, clock::now()).and_then(|()| self.reopen());
        if let Err(error) = done.and_then(|()| rotation::thin_out(&self.path, self.limits.max_files)) {
            eprintln!("log {}: cannot be rotated: {error}", self.path.display());
            self.size = 0;
        }
    }

    fn lose(&mut self, bytes: usize, torn: bool, error: Option<std::io::Error>) {
        if self.lost == 0 {
            let error = error.map_or_else(|| "nothing written".to_owned(), |error| error.to_string());
            eprintln!("log {}: {error}: lines are dropped", self.path.display());
        }
        self.lost += bytes as u64;
        self.torn |= torn;
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    File::options().append(true).create(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(chunks: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut out) = (Lines::new("stdout"), Vec::new());
        for chunk in chunks {
            lines.feed(chunk, 0, &mut out);
        }
        lines.finish(0, &mut out);
        let text = String::from_utf8(out).unwrap();
        text.lines()
            .map(|line| line.strip_prefix("1970-01-01T00:00:00.000000000Z stdout ").unwrap().into())
            .collect()
    }

    #[test]
    fn lines_are_put_together_and_the_last_may_lack_its_end() {
        assert_eq!(cut(&[b"a\nb", b"c\n\n", b"tail"]), ["F a", "F bc", "F ", "P tail"]);
        assert_eq!(cut(&[b""]), [""; 0]);
    }

    #[test]
    fn long_lines_are_cut_at_16_kib() {
        let long = vec![b'x'; 2 * MAX_LINE + 5];
        for chunk in [1000, MAX_LINE, 3 * MAX_LINE] {
            let mut chunks: Vec<&[u8]> = long.chunks(chunk).collect();
            chunks.push(b"\n");
            let lines = cut(&chunks);
            let shape: Vec<_> = lines.iter().map(|line| (&line[..1], line.len() - 2)).collect();
            assert_eq!(shape, [("P", MAX_LINE), ("P", MAX_LINE), ("F", 5)]);
        }
        let mut exact = vec![b'x'; MAX_LINE];
        exact.push(b'\n');
        assert_eq!(cut(&[&exact]).len(), 1);
    }

    #[test]
    fn a_full_log_is_rotated_and_no_line_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c/0.log");
        let mut log = LogFile::open(&path, LogLimits { max_bytes: 10, max_files: 3 }).unwrap();
        let lines: Vec<String> = (0..12).map(|n| format!("line {n:02}\n")).collect();
        for line in &lines {
            log.write(line.as_bytes());
        }
        let mut files: Vec<_> =
            std::fs::read_dir(dir.path().join("c")).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort_by_key(|file| (file == &path, file.clone()));
        let kept: Vec<String> = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
        // Two lines of eight bytes fill a file.
        assert_eq!(kept, [lines[6..8].concat(), lines[8..10].concat(), lines[10..].concat()]);
        drop(log);
        let mut log = LogFile::open(&path, LogLimits { max_bytes: 10, max_files: 3 }).unwrap();
        log.write(b"next\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "next\n", "what was in the file counts");
    }

    #[test]
    fn a_renamed_log_is_opened_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c/0.log");
        let mut log = LogFile::open(&path, LogLimits::default()).unwrap();
        log.write(b"one\n");
        std::fs::rename(&path, path.with_extension("old")).unwrap();
        log.write(b"two\n");
        log.reopen().unwrap();
        log.write(b"three\n");
        assert_eq!(std::fs::read_to_string(path.with_extension("old")).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(path).unwrap(), "three\n");
    }
}
