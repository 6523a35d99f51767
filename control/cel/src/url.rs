//! URLs as Go's `url.ParseRequestURI` reads them: with a scheme, or an absolute path; never normalised.

use std::collections::BTreeMap;

/// The parts of a URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Url {
    /// The scheme, in lower case; empty for a path alone.
    pub scheme: String,
    /// The host with its port.
    pub host: String,
    /// The path, escaped.
    pub path: String,
    /// What follows the question mark.
    pub query: String,
}

impl Url {
    /// Reads a URL; `None` when it is none, or neither absolute nor an absolute path.
    pub fn parse(text: &str) -> Option<Url> {
        if text.is_empty() || text.chars().any(|c| c.is_ascii_control()) {
            return None;
        }
        if text == "*" {
            return Some(Url { path: "*".to_owned(), ..Url::default() });
        }
        let (scheme, rest) = split_scheme(text)?;
        // A fragment is no part of what is asked for.
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
        if !before.starts_with('/') {
            // As in `mailto:me`: what follows has no parts.
            return Some(Url { scheme, query: query.to_owned(), ..Url::default() });
        }
        let (host, path) = match before.strip_prefix("//").filter(|_| !scheme.is_empty()) {
            Some(authority) => {
                let end = authority.find('/').unwrap_or(authority.len());
                (host(&authority[..end])?, &authority[end..])
            }
            None => (String::new(), before),
        };
        decode(path, false)?;
        Some(Url { scheme, host, path: escaped(path), query: query.to_owned() })
    }

    /// The host without port and brackets.
    pub fn hostname(&self) -> &str {
        let host = split_port(&self.host).0;
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// The port; empty when there is none.
    pub fn port(&self) -> &str {
        split_port(&self.host).1
    }

    /// The values of each key of the query; what cannot be read is left out.
    pub fn values(&self) -> BTreeMap<String, Vec<String>> {
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in self.query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if let (Some(key), Some(value)) = (decode(key, true), decode(value, true)) {
                values.entry(key).or_default().push(value);
            }
        }
        values
    }
}

/// The scheme in lower case and the rest.
fn split_scheme(text: &str) -> Option<(String, &str)> {
    if text.starts_with('/') {
        return Some((String::new(), text));
    }
    let (scheme, rest) = text.split_once(':')?;
    let valid = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    valid.then(|| (scheme.to_ascii_lowercase(), rest))
}

/// The host of an authority, without a user.
fn host(authority: &str) -> Option<String> {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (name, port) = split_port(host);
    let bracketed = name.starts_with('[');
    if bracketed != name.ends_with(']') || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if !bracketed && (name.contains(':') || name.contains(' ')) {
        return None;
    }
    decode(host, false)
}

fn split_port(host: &str) -> (&str, &str) {
    let after_brackets = host.rfind(']').map_or(0, |at| at + 1);
    match host[after_brackets..].rfind(':') {
        Some(at) => (&host[..after_brackets + at], &host[after_brackets + at + 1..]),
        None => (host, ""),
    }
}

/// Without percent signs; `None` when one is not followed by two digits.
fn decode(text: &str, plus: bool) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'%' => {
                let digits = text.get(at + 1..at + 3)?;
                out.push(u8::from_str_radix(digits, 16).ok()?);
                at += 2;
            }
            b'+' if plus => out.push(b' '),
            other => out.push(*other),
        }
        at += 1;
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

/// With percent signs for what a path may not have.
fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/%$&+,:;=@!'()*[]".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
