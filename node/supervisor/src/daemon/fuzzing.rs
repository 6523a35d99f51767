//! What containers write to their output.

use super::logs::Lines;

pub(crate) fn outputs() -> Vec<Vec<u8>> {
    vec![b"\x03one\ntwo\n\nthree".to_vec(), [&[255], vec![b'x'; 40_000].as_slice(), b"\n"].concat()]
}

/// Output that comes in pieces as long as the first byte says becomes lines that hold all of it, and nothing else.
pub(crate) fn output(data: &[u8]) {
    let [size, text @ ..] = data else { return };
    let (mut lines, mut log) = (Lines::new("stdout"), Vec::new());
    text.chunks(usize::from(*size).max(1)).for_each(|piece| lines.feed(piece, 0, &mut log));
    lines.finish(0, &mut log);
    let mut found = Vec::new();
    for line in log.split_inclusive(|byte| *byte == b'\n') {
        let mut words = line.splitn(4, |byte| *byte == b' ').skip(2);
        let (tag, content) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let end = if tag == b"F" { content.len() } else { content.len().saturating_sub(1) };
        found.extend_from_slice(&content[..end]);
    }
    assert!(found == text, "{} bytes became {}", text.len(), found.len());
}
