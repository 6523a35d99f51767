//! The message that a container leaves when it ends.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use k8s_openapi::api::core::v1::Container;

/// Where containers write their message unless they say otherwise.
pub(crate) const DEFAULT_PATH: &str = "/dev/termination-log";
/// How much of the file is taken, in bytes.
const FILE_LIMIT: u64 = 4096;
/// How much of the log stands in for it, in bytes and in lines.
const LOG_LIMIT: u64 = 2048;
const LOG_LINES: usize = 80;

/// The message in `file`; with `FallbackToLogsOnError` and a failed run, the end of `log` where the file is empty.
pub(crate) fn message(container: &Container, code: i32, file: &Path, log: &Path) -> Option<String> {
    let text = head(file, FILE_LIMIT).unwrap_or_default();
    if !text.is_empty() {
        return Some(text);
    }
    let fallback = container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    if !fallback || code == 0 {
        return None;
    }
    let tail = tail(log, 4 * LOG_LIMIT).unwrap_or_default();
    let lines: Vec<&str> = tail.lines().filter_map(log_text).collect();
    let last = lines.len().saturating_sub(LOG_LINES);
    let text = lines[last..].join("\n");
    let from = text
        .char_indices()
        .map(|(i, _)| i)
        .find(|i| text.len() - i <= usize::try_from(LOG_LIMIT).unwrap_or(0));
    let text = text[from.unwrap_or(0)..].to_owned();
    (!text.is_empty()).then_some(text)
}

/// The text of a line of a CRI log: what follows time, stream and tag.
fn log_text(line: &str) -> Option<&str> {
    line.splitn(4, ' ').nth(3)
}

fn head(path: &Path, limit: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn tail(path: &Path, limit: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
