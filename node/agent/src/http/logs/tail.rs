//! Finds the last lines of a log from its end, without reading the rest.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::line::Line;

/// How much is read at a time.
const BLOCK: u64 = 64 << 10;
/// A line's time, stream and tag are within so many bytes of its beginning.
const HEAD: usize = 128;

/// Where the last `lines` lines of the container begin: the file and the offset in it. A line that was written in
/// pieces, perhaps into two files, is one line.
pub(super) fn tail_start(files: &[PathBuf], lines: u64) -> io::Result<Option<(PathBuf, u64)>> {
    let Some(last) = files.last() else { return Ok(None) };
    let mut place = (last.clone(), File::open(last)?.metadata()?.len());
    let mut count = Count { wanted: lines, found: 0, at_end: true };
    for path in files.iter().rev() {
        let file = File::open(path)?;
        let (start, is_done) = scan(&file, &mut count)?;
        if let Some(start) = start {
            place = (path.clone(), start);
        }
        if is_done {
            break;
        }
    }
    Ok(Some(place))
}

/// Counts lines of the container, from the end.
struct Count {
    wanted: u64,
    found: u64,
    /// Nothing has been seen yet: the last piece ends a line, whatever its tag.
    at_end: bool,
}

impl Count {
    /// Takes in the line before those that were taken in; false if it is one too many.
    fn take(&mut self, head: &[u8]) -> bool {
        // What is not a line is not shown either.
        let Some(line) = Line::parse(head) else { return true };
        let ends = self.at_end || !line.is_partial;
        if ends && self.found == self.wanted {
            return false;
        }
        self.found += u64::from(ends);
        self.at_end = false;
        true
    }
}

/// Goes backwards through a file. Gives where the earliest line begins that was taken, and whether the next one was
/// one too many.
fn scan(file: &File, count: &mut Count) -> io::Result<(Option<u64>, bool)> {
    let mut start = None;
    let mut end = file.metadata()?.len();
    // The beginning of what follows the block that is looked at, since a line's head may reach over its end.
    let mut after: Vec<u8> = Vec::new();
    let mut block = Vec::new();
    let length = end;
    while end > 0 {
        let begin = end.saturating_sub(BLOCK);
        block.resize((end - begin) as usize, 0);
        file.read_exact_at(&mut block, begin)?;
        let own = block.len();
        block.extend(&after);
        for index in (0..own).rev() {
            let offset = begin + index as u64;
            // Lines begin after a line's end (unless that is the file's) and at the file's beginning.
            let candidate = match (block[index], offset) {
                (b'\n', offset) if offset + 1 < length => Some(index + 1),
                _ => None,
            };
            for line in candidate.into_iter().chain((offset == 0).then_some(0)) {
                let head = &block[line..block.len().min(line + HEAD)];
                let head = head.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
                if !count.take(head) {
                    return Ok((start, true));
                }
                start = Some(begin + line as u64);
            }
        }
        after = block[..block.len().min(HEAD)].to_owned();
        end = begin;
    }
    Ok((start, false))
}
