//! Addresses and ranges as people write them. Fields of old take zeros before the numbers of an IPv4 address
//! (`010.0.0.1` is 10.0.0.1), IPv4 addresses in IPv6 form, and ranges with more bits than their prefix; newer ones do not.

use std::borrow::Cow;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::names::{cidr, ip_address};

/// Reads an address as fields of old have it.
pub fn parse(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| without_zeros(text)?.parse().ok())
}

/// Reads a range as fields of old have it.
pub fn parse_range(text: &str) -> Option<IpNet> {
    let (address, prefix) = text.split_once('/')?;
    // Nothing but digits: a sign is none.
    let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
    let prefix = if digits { shorter(prefix).parse().ok()? } else { return None };
    IpNet::new(parse(address)?, prefix).ok()
}

/// The numbers between the dots, each without the zeros before it; none if there are no such numbers.
fn without_zeros(text: &str) -> Option<String> {
    let (head, numbers) = text.split_at(text.rfind(':').map_or(0, |colon| colon + 1));
    let dotted = numbers.contains('.') && numbers.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let numbers = numbers.split('.').map(shorter);
    dotted.then(|| format!("{head}{}", numbers.collect::<Vec<_>>().join(".")))
}

/// A number without the zeros before it.
fn shorter(number: &str) -> &str {
    match number.trim_start_matches('0') {
        "" if number.is_empty() => "",
        "" => "0",
        rest => rest,
    }
}

/// What is wrong with an address in a field that takes but one way to write it.
pub fn strict_address(text: &str) -> Vec<String> {
    let why: Cow<'_, str> = match (parse(text), text.parse::<IpAddr>()) {
        (None, _) => return ip_address(text),
        (Some(_), Err(_)) => "must not have leading 0s".into(),
        (_, Ok(address)) if mapped(address).is_some() => "must not be an IPv4-mapped IPv6 address".into(),
        (_, Ok(address)) if address.to_string() == text => return Vec::new(),
        (_, Ok(address)) => format!("must be in canonical form (\"{address}\")").into(),
    };
    vec![why.into_owned()]
}

/// What is wrong with a range in a field that takes but one way to write it.
pub fn strict_range(text: &str) -> Vec<String> {
    let why: Cow<'_, str> = match (parse_range(text), strictly(text)) {
        (None, _) => return cidr(text),
        (Some(_), None) => "must not have leading 0s in IP or prefix length".into(),
        (_, Some(range)) if mapped(range.addr()).is_some() => {
            "must not have an IPv4-mapped IPv6 address".into()
        }
        (_, Some(range)) if range.trunc() != range => {
            "must not have bits set beyond the prefix length".into()
        }
        (_, Some(range)) if range.to_string() == text => return Vec::new(),
        (_, Some(range)) => format!("must be in canonical form (\"{range}\")").into(),
    };
    vec![why.into_owned()]
}

/// A range that has no zeros before any number.
fn strictly(text: &str) -> Option<IpNet> {
    let (address, prefix) = text.split_once('/')?;
    let zeros = prefix.len() > 1 && prefix.starts_with('0');
    address.parse::<IpAddr>().ok().filter(|_| !zeros)?;
    parse_range(text)
}

/// The IPv4 address in IPv6 form that this one is.
fn mapped(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V6(six) => six.to_ipv4_mapped().map(IpAddr::V4),
        IpAddr::V4(_) => None,
    }
}

/// Advice about an address that is written in another way than programs write it; `at` is where.
pub fn address_advice(text: &str, at: &str) -> Option<String> {
    let address = parse(text)?;
    let (plain, strict) = (mapped(address).unwrap_or(address), text.parse::<IpAddr>().is_ok());
    if !strict || plain != address {
        return Some(format!(
            "{at}: non-standard IP address {text:?} will be considered invalid in a future Kubernetes release: use \"{plain}\""
        ));
    }
    let odd = address.is_ipv6() && address.to_string() != text;
    odd.then(|| format!("{at}: IPv6 address {text:?} should be in RFC 5952 canonical format (\"{address}\")"))
}

/// Advice about a range that is written in another way than programs write it; `at` is where.
pub fn range_advice(text: &str, at: &str) -> Vec<String> {
    let Some(range) = parse_range(text) else { return Vec::new() };
    let mut advice = Vec::new();
    let whole = plain(range.trunc());
    if range.trunc() != range {
        let one = format!("{}/{}", mapped(range.addr()).unwrap_or(range.addr()), range.max_prefix_len());
        advice.push(format!(
            "{at}: CIDR value {text:?} is ambiguous in this context (should be \"{whole}\" or \"{one}\"?)"
        ));
    }
    let strict = strictly(text).is_some();
    if !strict || mapped(range.addr()).is_some() {
        advice.push(format!(
            "{at}: non-standard CIDR value {text:?} will be considered invalid in a future Kubernetes release: use \"{whole}\""
        ));
    }
    if advice.is_empty() && range.addr().is_ipv6() && range.to_string() != text {
        advice.push(format!(
            "{at}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format (\"{range}\")"
        ));
    }
    advice
}

/// A range as it is told: one of IPv4 addresses in IPv6 form as that of the IPv4 addresses.
fn plain(range: IpNet) -> String {
    match (mapped(range.addr()), range.prefix_len().checked_sub(96)) {
        (Some(address), Some(prefix)) => format!("{address}/{prefix}"),
        _ => range.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_before_numbers_of_ipv4_count_for_nothing() {
        for (text, means) in [
            ("010.000.1.0002", Some("10.0.1.2")),
            ("::ffff:010.0.0.1", Some("::ffff:10.0.0.1")),
            ("fd00::0010", Some("fd00::10")),
            ("fd00::00010", None),
            ("010.0.0", None),
            ("010.0.0.", None),
            ("010.0.0.256", None),
            ("+10.0.0.1", None),
            ("010", None),
            ("", None),
        ] {
            assert_eq!(parse(text), means.map(|means| means.parse().unwrap()), "{text}");
        }
        for (text, means) in [
            ("010.0.0.1/08", Some("10.0.0.1/8")),
            ("10.0.0.0/+8", None),
            ("10.0.0.0/", None),
            ("10.0.0.0/33", None),
            ("10.0.0.0", None),
        ] {
            assert_eq!(parse_range(text), means.map(|means| means.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn newer_fields_take_one_way_to_write_it() {
        for (text, says) in [
            ("10.0.0.1", None),
            ("010.0.0.1", Some("must not have leading 0s")),
            ("::ffff:10.0.0.1", Some("must not be an IPv4-mapped IPv6 address")),
            ("FD00::1", Some("must be in canonical form (\"fd00::1\")")),
            ("x", Some("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")),
        ] {
            assert_eq!(strict_address(text).first().map(String::as_str), says, "{text}");
        }
        for (text, says) in [
            ("10.0.0.0/8", None),
            ("10.0.0.0/08", Some("must not have leading 0s in IP or prefix length")),
            ("::ffff:10.0.0.0/104", Some("must not have an IPv4-mapped IPv6 address")),
            ("10.0.0.1/8", Some("must not have bits set beyond the prefix length")),
            ("FD00::/8", Some("must be in canonical form (\"fd00::/8\")")),
            ("x", Some("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)")),
        ] {
            assert_eq!(strict_range(text).first().map(String::as_str), says, "{text}");
        }
    }

    #[test]
    fn advice_tells_how_it_is_written() {
        let future = "will be considered invalid in a future Kubernetes release: use";
        assert_eq!(address_advice("10.0.0.1", "a"), None);
        let zeros = format!("a: non-standard IP address \"010.0.0.1\" {future} \"10.0.0.1\"");
        assert_eq!(address_advice("010.0.0.1", "a"), Some(zeros));
        assert_eq!(range_advice("10.0.0.0/8", "a"), [""; 0]);
        let both = [
            "a: CIDR value \"010.0.0.1/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.0.0.1/32\"?)"
                .to_owned(),
            format!("a: non-standard CIDR value \"010.0.0.1/8\" {future} \"10.0.0.0/8\""),
        ];
        assert_eq!(range_advice("010.0.0.1/8", "a"), both);
        let six = "a: IPv6 CIDR value \"FD00::/8\" should be in RFC 5952 canonical format (\"fd00::/8\")";
        assert_eq!(range_advice("FD00::/8", "a"), [six]);
    }
}
