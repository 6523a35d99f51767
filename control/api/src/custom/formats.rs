//! Formats of text that upstream's validator knows (`k8s.io/kube-openapi/pkg/validation/strfmt`); it takes any text
//! for a format that it does not know.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use regex::Regex;

/// Formats that are a regular expression.
static PATTERNS: LazyLock<Vec<(&str, Regex)>> = LazyLock::new(|| {
    const HEX: &str = "[0-9a-f]";
    let uuid = |version: &str, variant: &str| {
        format!("(?i)^{HEX}{{8}}-?{HEX}{{4}}-?{version}{HEX}{{3}}-?{variant}{HEX}{{3}}-?{HEX}{{12}}$")
    };
    [
        ("uuid", format!("(?i)^{HEX}{{8}}-?{HEX}{{4}}-?{HEX}{{4}}-?{HEX}{{4}}-?{HEX}{{12}}$")),
        ("uuid3", uuid("3", HEX)),
        ("uuid4", uuid("4", "[89ab]")),
        ("uuid5", uuid("5", "[89ab]")),
        ("hexcolor", "^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$".to_owned()),
        ("ssn", r"^\d{3}[- ]?\d{2}[- ]?\d{4}$".to_owned()),
        ("bsonobjectid", "^[0-9a-fA-F]{24}$".to_owned()),
        ("isbn10", r"^(?:[0-9]{9}X|[0-9]{10})$".to_owned()),
        ("isbn13", r"^(?:[0-9]{13})$".to_owned()),
        ("k8s-short-name", "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$".to_owned()),
        (
            "k8s-long-name",
            r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$".to_owned(),
        ),
        (
            "rgbcolor",
            r"^rgb\(\s*(\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])\s*,\s*(\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])\s*,\s*(\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])\s*\)$".to_owned(),
        ),
        (
            "datetime",
            r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:?\d{2})?$".to_owned(),
        ),
        (
            "hostname",
            r"^([a-zA-Z0-9\p{L}]([-a-zA-Z0-9\p{L}]{0,61}[a-zA-Z0-9\p{L}])?\.)*[a-zA-Z0-9\p{L}]([-a-zA-Z0-9\p{L}]{0,61}[a-zA-Z0-9\p{L}])?\.?$".to_owned(),
        ),
        ("email", r"^[^@\s]+@[^@\s]+$".to_owned()),
        ("mac", r"^([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}$|^([0-9a-fA-F]{4}\.){2}[0-9a-fA-F]{4}$".to_owned()),
        (
            "duration",
            r"^[-+]?(\d+(\.\d*)?|\.\d+)\s*(ns|us|µs|ms|s|m|h|d|w|nanos?|micros?|millis?|sec(ond)?s?|min(ute)?s?|hours?|days?|weeks?)(\s*(\d+(\.\d*)?|\.\d+)\s*(ns|us|µs|ms|s|m|h|d|w))*$|^0$".to_owned(),
        ),
    ]
    .into_iter()
    .filter_map(|(name, pattern)| Some((name, Regex::new(&pattern).ok()?)))
    .collect()
});

/// Whether a text has a format.
pub(super) fn fits(format: &str, text: &str) -> bool {
    match format {
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "date-time" => pattern("datetime", text) && is_time(text),
        "datetime" => pattern("datetime", text) && is_time(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "byte" => is_base64(text),
        "uri" => is_uri(text),
        "creditcard" => is_card(text),
        "isbn" => pattern("isbn10", text) || pattern("isbn13", text),
        "k8s-long-name" => text.len() <= 253 && pattern(format, text),
        // Any text: also for formats that only a newer server checks.
        "password" | "" => true,
        other => pattern(other, text),
    }
}

fn pattern(format: &str, text: &str) -> bool {
    PATTERNS.iter().find(|(name, _)| *name == format).is_none_or(|(_, pattern)| pattern.is_match(text))
}

/// The parts of a time have to be on the calendar and the clock.
fn is_time(text: &str) -> bool {
    let whole: String = text.chars().take(19).collect();
    let whole = whole.to_ascii_uppercase().replace(' ', "T");
    whole.parse::<jiff::civil::DateTime>().is_ok()
}

fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    length.parse::<u8>().is_ok_and(|length| length <= most)
}

fn is_base64(text: &str) -> bool {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.decode(text).is_ok()
}

/// A URI as Go's `ParseRequestURI` takes it: a path, or a scheme and what follows.
fn is_uri(text: &str) -> bool {
    if text.is_empty() || text.chars().any(|c| c.is_control() || c == ' ') {
        return false;
    }
    text.starts_with('/')
        || text.split_once(':').is_some_and(|(scheme, rest)| {
            !rest.is_empty()
                && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
        })
}

/// A number of 13 to 19 digits whose check digit is right.
fn is_card(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    if !(13..=19).contains(&digits.len()) || text.chars().any(|c| !matches!(c, '0'..='9' | ' ' | '-')) {
        return false;
    }
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| if at % 2 == 1 { digit * 2 / 10 + digit * 2 % 10 } else { *digit })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_compiles() {
        assert_eq!(PATTERNS.len(), 17);
    }

    #[test]
    fn formats_as_upstream_has_them() {
        for (format, good, bad) in [
            ("date", "2026-02-28", "2026-02-30"),
            ("date-time", "2026-02-28T10:00:00Z", "2026-02-28T25:00:00Z"),
            ("date-time", "2026-02-28T10:00:00.5+02:00", "yesterday"),
            ("ipv4", "10.0.0.1", "10.0.0.256"),
            ("ipv6", "fe80::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("byte", "aGk=", "aGk"),
            ("uri", "https://example.com/x", "no uri"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123"),
            ("email", "a@b", "a"),
            ("hostname", "a.example.com", "-a"),
            ("duration", "1h30m", "soon"),
            ("mac", "00:11:22:33:44:55", "00:11"),
            ("creditcard", "4111 1111 1111 1111", "4111 1111 1111 1112"),
        ] {
            assert!(fits(format, good), "{format} {good}");
            assert!(!fits(format, bad), "{format} {bad}");
        }
        assert!(fits("nobody-knows-this", "anything"));
    }
}
