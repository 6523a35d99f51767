//! Rules for names, labels, ports and addresses, each answering with upstream's messages; no message means valid.

use crate::addresses;

/// What an unchangeable field answers.
pub const IMMUTABLE: &str = "field is immutable";
/// What a number below 0 answers.
pub const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

const LABEL_FORM: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_FORM: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const UNDERSCORE_FORM: &str = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
const LABEL_1035_FORM: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED_FORM: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_VALUE_FORM: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const QUALIFIED_WORDS: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/// Longest DNS label, label value and name part of a qualified name.
pub const MAX_LABEL: usize = 63;
/// Longest DNS subdomain.
pub const MAX_SUBDOMAIN: usize = 253;

/// How a broken pattern is explained; the spacing is upstream's.
fn pattern(words: &str, form: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{words} (regex used for validation is '{form}')");
    }
    let quoted: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!("{words} (e.g. {}regex used for validation is '{form}')", quoted.join(" or "))
}

/// What something longer than `limit` answers.
pub fn max_length(limit: usize) -> String {
    format!("must be no more than {limit} bytes")
}

/// What something outside of `low..=high` answers.
pub fn inclusive_range(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

fn lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    lower_alnum(first) && lower_alnum(last) && bytes.iter().all(|&b| lower_alnum(b) || b == b'-')
}

fn is_qualified_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// DNS-1123 label.
pub fn dns1123_label(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > MAX_LABEL {
        wrong.push(max_length(MAX_LABEL));
    }
    if !is_label(text) && text.split('.').all(is_label) {
        wrong.push("must not contain dots".to_owned());
    } else if !is_label(text) {
        let words = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
                     start and end with an alphanumeric character";
        wrong.push(pattern(words, LABEL_FORM, &["my-name", "123-abc"]));
    }
    wrong
}

/// DNS-1123 subdomain.
pub fn dns1123_subdomain(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > MAX_SUBDOMAIN {
        wrong.push(max_length(MAX_SUBDOMAIN));
    }
    if !text.split('.').all(is_label) {
        let words = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
                     and must start and end with an alphanumeric character";
        wrong.push(pattern(words, SUBDOMAIN_FORM, &["example.com"]));
    }
    wrong
}

/// A domain that names are looked up in, whose labels may have underscores as those of services do.
pub fn search_domain(text: &str) -> Vec<String> {
    let is_label = |label: &str| {
        let rest = label.strip_prefix('_').unwrap_or(label);
        let ends = |b: Option<&u8>| b.is_some_and(|b| lower_alnum(*b));
        ends(rest.as_bytes().first())
            && ends(rest.as_bytes().last())
            && rest.bytes().all(|b| lower_alnum(b) || matches!(b, b'-' | b'_'))
    };
    let mut wrong = Vec::new();
    if text.len() > MAX_SUBDOMAIN {
        wrong.push(max_length(MAX_SUBDOMAIN));
    }
    if !text.split('.').all(is_label) {
        let words = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or \
                     '.', and must start and end with an alphanumeric character";
        let form = format!(r"{UNDERSCORE_FORM}(\.{UNDERSCORE_FORM})*");
        wrong.push(pattern(words, &form, &["example.com"]));
    }
    wrong
}

/// DNS-1035 label.
pub fn dns1035_label(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > MAX_LABEL {
        wrong.push(max_length(MAX_LABEL));
    }
    if !is_label(text) || text.starts_with(|c: char| c.is_ascii_digit()) {
        let words = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
                     alphabetic character, and end with an alphanumeric character";
        wrong.push(pattern(words, LABEL_1035_FORM, &["my-name", "abc-123"]));
    }
    wrong
}

/// `name` or `example.com/name`: label keys, finalizers, condition types, resource names.
pub fn qualified_name(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let examples: &[&str] = &["MyName", "my.name", "123-abc"];
    let mut parts = text.splitn(3, '/');
    let (first, second, third) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    if third.is_some() {
        let message = pattern(&format!("a qualified name {QUALIFIED_WORDS}"), QUALIFIED_FORM, examples);
        return vec![message + " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"];
    }
    let name = match second {
        None => first,
        Some(name) => {
            if first.is_empty() {
                wrong.push("prefix part must be non-empty".to_owned());
            } else {
                wrong.extend(dns1123_subdomain(first).into_iter().map(|m| format!("prefix part {m}")));
            }
            name
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if name.len() > MAX_LABEL {
        wrong.push(format!("name part {}", max_length(MAX_LABEL)));
    }
    if !is_qualified_part(name) {
        wrong.push(format!("name part {}", pattern(QUALIFIED_WORDS, QUALIFIED_FORM, examples)));
    }
    wrong
}

/// The value of a label; empty is allowed.
pub fn label_value(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > MAX_LABEL {
        wrong.push(max_length(MAX_LABEL));
    }
    if !text.is_empty() && !is_qualified_part(text) {
        let words = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
                     and must start and end with an alphanumeric character";
        wrong.push(pattern(words, LABEL_VALUE_FORM, &["MyValue", "my_value", "12345"]));
    }
    wrong
}

/// A name that fits into one segment of a path; a prefix may be `.` or `..`.
pub fn path_segment(text: &str, prefix: bool) -> Vec<String> {
    if !prefix && (text == "." || text == "..") {
        return vec![format!("may not be '{text}'")];
    }
    ['/', '%'].iter().filter(|c| text.contains(**c)).map(|c| format!("may not contain '{c}'")).collect()
}

/// Name of an environment variable.
pub fn environment_name(text: &str) -> Vec<String> {
    if text.is_empty() {
        return vec!["environment variable name must be non-empty".to_owned()];
    }
    if text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        return Vec::new();
    }
    vec![
        "a valid environment variable name must consist only of printable ASCII characters other than '='"
            .to_owned(),
    ]
}

/// Why a condition is as it is, in one word.
pub fn condition_reason(text: &str) -> Vec<String> {
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b',' | b':');
    let ends = bytes.last().is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    let begins = bytes.first().is_some_and(u8::is_ascii_alphabetic);
    // One letter is enough; a longer reason ends as a word does.
    if begins && ends && bytes.iter().all(inner) {
        return Vec::new();
    }
    let words = "a condition reason must start with alphabetic character, optionally followed by a string of \
                 alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'";
    let examples = ["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"];
    vec![pattern(words, "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", &examples)]
}

/// Key of a ConfigMap or Secret.
pub fn config_key(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > MAX_SUBDOMAIN {
        wrong.push(max_length(MAX_SUBDOMAIN));
    }
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    {
        let words = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        wrong.push(pattern(words, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    wrong.extend(no_dot_prefix(text));
    wrong
}

/// `.`, `..` and names that start with `..` would leave the directory that keys are mounted in.
fn no_dot_prefix(text: &str) -> Option<String> {
    match text {
        "." => Some("must not be '.'".to_owned()),
        ".." => Some("must not be '..'".to_owned()),
        _ if text.starts_with("..") => Some("must not start with '..'".to_owned()),
        _ => None,
    }
}

/// A port number other than 0.
pub fn port_number(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) { Vec::new() } else { vec![inclusive_range(1, 65535)] }
}

/// An IANA service name, as ports have it.
pub fn port_name(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > 15 {
        wrong.push(max_length(15));
    }
    if !text.bytes().all(|b| lower_alnum(b) || b == b'-') {
        wrong.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        wrong.push("must not contain consecutive hyphens".to_owned());
    }
    if text.is_empty() || text.starts_with('-') || text.ends_with('-') {
        wrong.push("must not begin or end with a hyphen".to_owned());
    }
    wrong
}

/// An IP address of either family, as fields of old have it.
pub fn ip_address(text: &str) -> Vec<String> {
    if addresses::parse(text).is_some() {
        return Vec::new();
    }
    vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()]
}

/// A network in CIDR form, as fields of old have it.
pub fn cidr(text: &str) -> Vec<String> {
    if addresses::parse_range(text).is_some() {
        return Vec::new();
    }
    vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_owned()]
}

/// A path for an HTTP request or an absolute file.
pub fn is_absolute_path(text: &str) -> bool {
    text.starts_with('/')
}

/// A percentage such as `25%`.
pub fn percent(text: &str) -> Vec<String> {
    let digits = text.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Vec::new();
    }
    let words = "a valid percent string must be a numeric string followed by an ending '%'";
    vec![pattern(words, "[0-9]+%", &["1%", "93%"])]
}

/// `example.com/path`, a domain, a slash and a path: what is wrong with each of the two, or with the whole.
pub fn domain_and_path(text: &str) -> Result<[(&str, Vec<String>); 2], String> {
    let whole = || "must be a domain-prefixed path (such as \"acme.io/foo\")".to_owned();
    let (domain, path) = text.split_once('/').ok_or_else(whole)?;
    if domain.is_empty() || path.is_empty() {
        return Err(whole());
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
    let wrong_path = if path.chars().all(fits) {
        Vec::new()
    } else {
        vec![pattern("Invalid path", r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+", &[])]
    };
    Ok([(domain, dns1123_subdomain(domain)), (path, wrong_path)])
}

/// `*.example.com`, a name of all hosts one below a domain.
pub fn wildcard_subdomain(text: &str) -> Vec<String> {
    if text.strip_prefix("*.").is_some_and(|rest| dns1123_subdomain(rest).is_empty()) {
        return Vec::new();
    }
    let words = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must \
                 consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
    let form = format!(r"\*\.{SUBDOMAIN_FORM}");
    vec![pattern(words, &form, &["*.example.com"])]
}
