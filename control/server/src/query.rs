//! The query string and percent-encoded paths: decoding without surprises.

use std::num::{IntErrorKind, ParseIntError};

use carrack_api::status::go_quoted;

use crate::ApiError;

/// The decoded parameters of a query string, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes `a=b&c=d`; `+` is a space. Parameters that are not UTF-8 are refused.
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let mut pairs = Vec::new();
        for part in text.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            pairs.push((form_decode(key)?, form_decode(value)?));
        }
        Ok(Query(pairs))
    }

    /// The first value of a parameter.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// The first value of a parameter, an empty one counting as absent.
    pub(crate) fn non_empty(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|v| !v.is_empty())
    }

    /// A switch, read as upstream does: absent, `false` and `0` are false, all else is true.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(is_true)
    }

    /// A switch that may be absent.
    pub(crate) fn optional_flag(&self, key: &str) -> Option<bool> {
        self.get(key).map(is_true)
    }

    /// A whole number; 400 when it is none.
    pub(crate) fn integer(&self, key: &str) -> Result<Option<i64>, ApiError> {
        self.non_empty(key)
            .map(|text| {
                text.parse().map_err(|why: ParseIntError| {
                    let large = matches!(why.kind(), IntErrorKind::PosOverflow | IntErrorKind::NegOverflow);
                    let what = if large { "value out of range" } else { "invalid syntax" };
                    // Go's words.
                    ApiError::bad_request(format!("strconv.ParseInt: parsing {}: {what}", go_quoted(text)))
                })
            })
            .transpose()
    }
}

/// Whether a switch's text means true.
fn is_true(text: &str) -> bool {
    !matches!(text, "false" | "False" | "FALSE" | "0")
}

/// Decodes a part of a query string.
fn form_decode(text: &str) -> Result<String, ApiError> {
    if text.contains('+') { percent_decode(&text.replace('+', " ")) } else { percent_decode(text) }
}

/// Decodes `%xx`; 400 when an escape is broken or the result is not UTF-8.
pub(crate) fn percent_decode(text: &str) -> Result<String, ApiError> {
    if !text.contains('%') {
        return Ok(text.to_owned());
    }
    let broken = || ApiError::bad_request("the URL has a broken percent escape");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = tail;
            continue;
        }
        let (digits, tail) = tail.split_at_checked(2).ok_or_else(broken)?;
        let high = hex_digit(digits[0]).ok_or_else(broken)?;
        let low = hex_digit(digits[1]).ok_or_else(broken)?;
        bytes.push(high << 4 | low);
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| ApiError::bad_request("the URL is not UTF-8"))
}

/// The value of a hexadecimal digit.
fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_escapes_and_refuses_broken_ones() {
        let query = Query::parse("labelSelector=app%3Dweb%2Ctier+in+%28a%29&watch&limit=5").unwrap();
        assert_eq!(query.get("labelSelector"), Some("app=web,tier in (a)"));
        assert!(query.flag("watch"));
        assert_eq!(query.integer("limit").unwrap(), Some(5));
        for broken in ["a=%", "a=%1", "a=%zz", "a=%ff"] {
            assert_eq!(Query::parse(broken).unwrap_err().code, 400, "{broken}");
        }
    }

    #[test]
    fn switches_follow_upstream() {
        for (text, expected) in [("", true), ("1", true), ("true", true), ("0", false), ("false", false)] {
            let query = Query::parse(&format!("watch={text}")).unwrap();
            assert_eq!(query.flag("watch"), expected, "{text:?}");
        }
        assert!(!Query::default().flag("watch"));
        assert_eq!(Query::parse("limit=x").unwrap().integer("limit").unwrap_err().code, 400);
    }
}
