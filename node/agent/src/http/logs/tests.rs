//! Logs as a runtime writes them: whole, in pieces, renamed under the reader's eyes.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;

use super::*;

/// A log in a folder of its own.
struct Log {
    dir: tempfile::TempDir,
    file: fs::File,
    ended: watch::Sender<bool>,
}

impl Log {
    fn new() -> Log {
        let dir = tempfile::tempdir().unwrap();
        let file = fs::File::create(dir.path().join("0.log")).unwrap();
        Log { dir, file, ended: watch::channel(false).0 }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("0.log")
    }

    fn raw(&mut self, text: &str) {
        self.file.write_all(text.as_bytes()).unwrap();
    }

    /// A line of the container, written `second` seconds after midnight.
    fn line(&mut self, second: u32, content: &str) {
        self.raw(&format!("2026-01-02T00:00:{second:02}.5Z stdout F {content}\n"));
    }

    fn piece(&mut self, second: u32, content: &str) {
        self.raw(&format!("2026-01-02T00:00:{second:02}.5Z stderr P {content}\n"));
    }

    fn rotate(&mut self, stamp: &str) {
        fs::rename(self.path(), self.dir.path().join(format!("0.log.{stamp}"))).unwrap();
        self.file = fs::File::create(self.path()).unwrap();
    }

    async fn open(&self, options: LogOptions) -> LogReader {
        let source = LogSource { path: self.path(), ended: self.ended.subscribe() };
        LogReader::open(source, options).await.unwrap()
    }

    async fn read(&self, options: LogOptions) -> String {
        let pieces: Vec<_> = self.open(options).await.into_stream().collect().await;
        let bytes: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.unwrap().to_vec()).collect();
        String::from_utf8(bytes).unwrap()
    }

    async fn tail(&self, lines: u64) -> String {
        self.read(LogOptions { tail_lines: Some(lines), ..LogOptions::default() }).await
    }
}

/// Five lines: 1 and 2 in a renamed file, 3 across the two, 4 and 5 in the present one.
fn rotated() -> Log {
    let mut log = Log::new();
    log.line(1, "one");
    log.line(2, "two");
    log.piece(3, "th");
    log.rotate("20260102-000003");
    log.line(3, "ree");
    log.line(4, "four");
    log.line(5, "five");
    log
}

#[tokio::test]
async fn reads_all_files_in_order() {
    let log = rotated();
    fs::write(log.dir.path().join("0.log.20260101-000000.gz"), "packed").unwrap();
    fs::write(log.dir.path().join("1.log"), "2026-01-02T00:00:09Z stdout F another run\n").unwrap();
    assert_eq!(log.read(LogOptions::default()).await, "one\ntwo\nthree\nfour\nfive\n");
}

#[tokio::test]
async fn shows_times_once_a_line() {
    let log = rotated();
    let shown = log.read(LogOptions { timestamps: true, tail_lines: Some(3), ..LogOptions::default() }).await;
    let expected = "2026-01-02T00:00:03.5Z three\n2026-01-02T00:00:04.5Z four\n2026-01-02T00:00:05.5Z five\n";
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn counts_lines_from_the_end() {
    let mut log = rotated();
    let all = ["one\n", "two\n", "three\n", "four\n", "five\n"];
    for count in 0..8 {
        let expected = all[5usize.saturating_sub(count)..].concat();
        assert_eq!(log.tail(count as u64).await, expected, "{count}");
    }
    // A line that is not complete yet is one, too.
    log.piece(6, "si");
    assert_eq!(log.tail(1).await, "si");
    assert_eq!(log.tail(2).await, "five\nsi");
}

#[tokio::test]
async fn counts_lines_of_any_length_across_blocks() {
    let mut log = Log::new();
    let lines: Vec<String> = (0..500usize).map(|n| format!("{n}:{}", "x".repeat(n * 7 % 1500))).collect();
    for line in &lines {
        log.line(1, line);
    }
    for count in [1, 2, 99, 100, 250, 499, 500, 501] {
        let shown = log.tail(count).await;
        let shown: Vec<&str> = shown.lines().collect();
        assert_eq!(shown, lines[lines.len().saturating_sub(count as usize)..], "{count}");
    }
}

#[tokio::test]
async fn bounds_time_and_bytes() {
    let log = rotated();
    let since = Some("2026-01-02T00:00:04Z".parse().unwrap());
    assert_eq!(log.read(LogOptions { since, ..LogOptions::default() }).await, "four\nfive\n");
    let tail_lines = Some(4);
    assert_eq!(log.read(LogOptions { since, tail_lines, ..LogOptions::default() }).await, "four\nfive\n");
    for limit in [1, 4, 5, 12, 1000] {
        let shown = log.read(LogOptions { limit_bytes: Some(limit), ..LogOptions::default() }).await;
        let all = "one\ntwo\nthree\nfour\nfive\n";
        assert_eq!(shown, all[..all.len().min(limit as usize)]);
    }
}

#[tokio::test]
async fn passes_over_what_is_not_a_line() {
    let mut log = Log::new();
    log.line(1, "good");
    log.raw("garbage\n\n");
    log.line(2, "");
    log.line(3, "also good");
    assert_eq!(log.read(LogOptions::default()).await, "good\n\nalso good\n");
    assert_eq!(log.tail(3).await, "good\n\nalso good\n");
}

#[tokio::test]
async fn a_log_without_a_file_is_empty() {
    let log = Log::new();
    fs::remove_file(log.path()).unwrap();
    assert_eq!(log.read(LogOptions::default()).await, "");
    assert_eq!(log.tail(3).await, "");
}

type Pieces = std::pin::Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

async fn next(stream: &mut Pieces) -> Option<String> {
    let piece = timeout(Duration::from_secs(30), stream.next()).await.expect("the follower is told");
    piece.map(|piece| String::from_utf8(piece.unwrap().to_vec()).unwrap())
}

async fn follow(log: &Log) -> Pieces {
    let options = LogOptions { follow: true, ..LogOptions::default() };
    Box::pin(log.open(options).await.into_stream())
}

#[tokio::test]
async fn follows_until_the_end_and_no_longer() {
    let mut log = Log::new();
    log.line(1, "before");
    let mut stream = follow(&log).await;
    assert_eq!(next(&mut stream).await.as_deref(), Some("before\n"));
    assert!(timeout(Duration::from_millis(50), stream.next()).await.is_err(), "nothing new, nothing told");
    log.line(2, "after");
    assert_eq!(next(&mut stream).await.as_deref(), Some("after\n"));
    log.raw("2026-01-02T00:00:03Z stdout F hal");
    assert!(timeout(Duration::from_millis(50), stream.next()).await.is_err(), "half a line is kept back");
    log.raw("f\n");
    assert_eq!(next(&mut stream).await.as_deref(), Some("half\n"));
    log.line(4, "last words");
    log.ended.send_replace(true);
    assert_eq!(next(&mut stream).await.as_deref(), Some("last words\n"));
    assert_eq!(next(&mut stream).await, None);
}

#[tokio::test]
async fn follows_over_rotations() {
    let mut log = Log::new();
    let mut stream = follow(&log).await;
    let mut shown = String::new();
    for round in 0..5 {
        log.line(1, &format!("{round} old"));
        log.rotate(&format!("2026010{round}-000000"));
        // Written between two looks: the reader may find several files that it has not seen.
        log.line(2, &format!("{round} new"));
        log.rotate(&format!("2026010{round}-000001"));
        while !shown.ends_with(&format!("{round} new\n")) {
            shown.push_str(&next(&mut stream).await.unwrap());
        }
    }
    log.ended.send_replace(true);
    assert_eq!(next(&mut stream).await, None);
    let expected: String = (0..5).map(|round| format!("{round} old\n{round} new\n")).collect();
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn follows_a_log_that_is_not_there_yet() {
    let mut log = Log::new();
    fs::remove_file(log.path()).unwrap();
    let mut stream = follow(&log).await;
    assert!(timeout(Duration::from_millis(50), stream.next()).await.is_err());
    log.file = fs::File::create(log.path()).unwrap();
    log.line(1, "first");
    assert_eq!(next(&mut stream).await.as_deref(), Some("first\n"));
    drop(log.ended);
    assert_eq!(next(&mut stream).await, None, "nobody will tell the end, so this is it");
}

#[tokio::test]
async fn a_line_without_end_is_an_error() {
    let mut log = Log::new();
    log.raw(&"x".repeat(MAX_LINE + 2 * CHUNK));
    let mut stream = follow(&log).await;
    assert!(timeout(Duration::from_secs(30), stream.next()).await.unwrap().unwrap().is_err());
    assert!(stream.next().await.is_none());
}

#[test]
fn a_folder_that_is_gone_is_an_error() {
    assert!(log_files(Path::new("/does/not/exist/0.log")).is_err());
}
