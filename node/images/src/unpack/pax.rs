//! PAX extended headers: `<length> <key>=<value>\n` records.

use super::limits::{MAX_PATH, MAX_SPARSE_PIECES};
use super::tar::{Piece, malformed};
use crate::error::LayerError;

/// What the records of one header say about the entry that follows.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Sparse,
}

/// What GNU tar's records say about holes.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    pub(super) major: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    /// The map of forms 0.0 and 0.1.
    pub(super) pieces: Vec<Piece>,
    /// The offset of form 0.0 whose length comes with the next record.
    offset: Option<u64>,
}

/// Parses a header. Keys that mean nothing here are left out.
pub(super) fn parse(mut bytes: &[u8]) -> Result<Pax, LayerError> {
    let mut pax = Pax::default();
    while !bytes.is_empty() {
        let (key, value, rest) = record(bytes).ok_or_else(|| malformed("a PAX record"))?;
        apply(&mut pax, key, value)?;
        bytes = rest;
    }
    Ok(pax)
}

/// Takes one record off: key, value, and the bytes after it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&bytes[..space])?).ok()?;
    let body = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    Some((&body[..equals], &body[equals + 1..], &bytes[length..]))
}

fn apply(pax: &mut Pax, key: &[u8], value: &[u8]) -> Result<(), LayerError> {
    let number = || decimal(value).map(Some).ok_or_else(|| malformed("a PAX record whose number is none"));
    match key {
        // An empty value takes back what a global header said, and those mean nothing here.
        _ if value.is_empty() && !key.starts_with(b"SCHILY.") => {}
        b"path" => pax.path = Some(path(value)?),
        b"linkpath" => pax.link = Some(path(value)?),
        b"size" => pax.size = number()?,
        b"uid" => pax.uid = number()?,
        b"gid" => pax.gid = number()?,
        b"mtime" => {
            pax.mtime = Some(time(value).ok_or_else(|| malformed("a PAX record whose time is none"))?)
        }
        b"GNU.sparse.major" => pax.sparse.major = number()?,
        b"GNU.sparse.name" => pax.sparse.name = Some(path(value)?),
        b"GNU.sparse.realsize" | b"GNU.sparse.size" => pax.sparse.real_size = number()?,
        b"GNU.sparse.map" => pax.sparse.pieces = sparse_map(value)?,
        b"GNU.sparse.offset" => pax.sparse.offset = number()?,
        b"GNU.sparse.numbytes" => {
            let piece = pax.sparse.offset.take().zip(decimal(value));
            pax.sparse.pieces.push(piece.ok_or_else(|| malformed("a sparse map"))?);
        }
        _ => {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                pax.xattrs.push((name.to_owned(), value.to_owned()));
            }
        }
    }
    Ok(())
}

fn path(value: &[u8]) -> Result<Vec<u8>, LayerError> {
    match value.len() <= MAX_PATH {
        true => Ok(value.to_owned()),
        false => Err(LayerError::TooLarge(format!("a path of {} bytes", value.len()))),
    }
}

/// `offset,length,offset,length…`
fn sparse_map(value: &[u8]) -> Result<Vec<Piece>, LayerError> {
    if value.is_empty() {
        return Ok(Vec::new());
    }
    let numbers: Option<Vec<u64>> = value.split(|byte| *byte == b',').map(decimal).collect();
    let numbers =
        numbers.filter(|numbers| numbers.len() % 2 == 0).ok_or_else(|| malformed("a sparse map"))?;
    if numbers.len() / 2 > MAX_SPARSE_PIECES {
        return Err(LayerError::TooLarge(format!("a sparse file of {} pieces", numbers.len() / 2)));
    }
    Ok(numbers.chunks_exact(2).map(|piece| (piece[0], piece[1])).collect())
}

fn decimal(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse().ok(),
        false => None,
    }
}

/// `[-]seconds[.fraction]` to whole seconds (rounded down) and nanoseconds.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds = i64::try_from(decimal(seconds.as_bytes())?).ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{:0<9}", fraction.get(..9).unwrap_or(fraction)).parse().ok()?;
    Some(match (negative, nanos) {
        (false, nanos) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, nanos) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_records() {
        let pax = parse(b"13 path=a/b\xff\n20 mtime=1350244992.5\n").err().map(|error| error.to_string());
        assert_eq!(pax.as_deref(), Some("malformed archive: a PAX record"));
        let pax = parse(b"13 path=a/bc\n22 mtime=1350244992.5\n9 uid=70\n").unwrap();
        assert_eq!(pax.path.as_deref(), Some(&b"a/bc"[..]));
        assert_eq!((pax.mtime, pax.uid), (Some((1_350_244_992, 500_000_000)), Some(70)));
    }

    #[test]
    fn reads_times_before_1970() {
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"-3"), Some((-3, 0)));
        assert_eq!(time(b"0.0000000019"), Some((0, 1)));
        assert_eq!(time(b"1.x"), None);
    }

    #[test]
    fn refuses_lengths_that_lie() {
        for bytes in
            [&b"0 a=b\n"[..], b"99999999999999999999 a=b\n", b"5 a=b\n", b"7 a=b\n", b"a=b\n", b"6 abc\n"]
        {
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
    }
}
