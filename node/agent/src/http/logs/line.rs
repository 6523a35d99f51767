//! One line of a log file, in the format of CRI:
//! `2016-10-06T00:17:09.669794202Z stdout F the content`, the tag being `F` for the end of a line of the container
//! and `P` for a piece that the next line continues. Tags may be followed by others, after colons.

use jiff::Timestamp;

/// A line taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// When it was written, as it is written.
    pub(super) time: &'a [u8],
    /// Whether the next line continues it.
    pub(super) is_partial: bool,
    /// What the container wrote, without the line's end.
    pub(super) content: &'a [u8],
}

impl<'a> Line<'a> {
    /// Takes a line apart; `None` if it is not one.
    pub(super) fn parse(raw: &'a [u8]) -> Option<Line<'a>> {
        let raw = raw.strip_suffix(b"\n").unwrap_or(raw);
        let (time, rest) = split(raw)?;
        let (stream, rest) = split(rest)?;
        // An empty line ends after the tag.
        let (tags, content) = split(rest).unwrap_or((rest, b""));
        let tag = tags.split(|byte| *byte == b':').next()?;
        if !matches!(stream, b"stdout" | b"stderr") || time.is_empty() {
            return None;
        }
        let is_partial = match tag {
            b"P" => true,
            b"F" => false,
            _ => return None,
        };
        Some(Line { time, is_partial, content })
    }

    /// When it was written; `None` if that is not a time.
    pub(super) fn timestamp(&self) -> Option<Timestamp> {
        std::str::from_utf8(self.time).ok()?.parse().ok()
    }
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let blank = bytes.iter().position(|byte| *byte == b' ')?;
    Some((&bytes[..blank], &bytes[blank + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_lines_apart() {
        let line = Line::parse(b"2016-10-06T00:17:09.669794202Z stdout F log  content \n").unwrap();
        assert_eq!((line.content, line.is_partial), (&b"log  content "[..], false));
        assert_eq!(line.timestamp().unwrap().to_string(), "2016-10-06T00:17:09.669794202Z");
        assert!(Line::parse(b"2016-10-06T00:17:09Z stderr P:x piece").unwrap().is_partial);
        assert_eq!(Line::parse(b"2016-10-06T00:17:09Z stderr F \n").unwrap().content, b"");
        assert_eq!(Line::parse(b"2016-10-06T00:17:09Z stderr F\n").unwrap().content, b"");
        for nonsense in
            [&b""[..], b"\n", b"time stdout\n", b"time nowhere F x", b"time stdout X x", b" stdout F x"]
        {
            assert_eq!(Line::parse(nonsense), None);
        }
    }
}
