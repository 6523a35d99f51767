//! How the names of properties are written in expressions: `a-b` is `a__dash__b`, reserved words have underscores around.

use crate::types::{ObjectType, Type};
use crate::words::is_word;

const SIGNS: &[(&str, &str)] =
    &[("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")];

/// A property's name as expressions write it; `None` for names that no expression can reach.
pub fn escape(name: &str) -> Option<String> {
    if is_word(name) {
        return Some(format!("__{name}__"));
    }
    let first = name.chars().next()?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/');
    if first.is_ascii_digit() || !name.chars().all(allowed) {
        return None;
    }
    let mut escaped = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        if let Some((sign, word)) = SIGNS.iter().find(|(sign, _)| rest.starts_with(sign)) {
            escaped.push_str(word);
            rest = &rest[sign.len()..];
        } else {
            escaped.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    Some(escaped)
}

/// The property that an escaped name means; `None` when nothing in it is escaped, or wrongly.
pub fn unescape(name: &str) -> Option<String> {
    if !name.contains("__") {
        return None;
    }
    let word = name.strip_prefix("__").and_then(|name| name.strip_suffix("__"));
    if let Some(word) = word.filter(|word| is_word(word)) {
        return Some(word.to_owned());
    }
    let mut plain = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(at) = rest.find("__") {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let (sign, word) = SIGNS.iter().find(|(_, word)| rest.starts_with(word))?;
        plain.push_str(sign);
        rest = &rest[word.len()..];
    }
    plain.push_str(rest);
    Some(plain)
}

impl ObjectType {
    /// The field that an expression names: its name in JSON, and its type.
    pub fn field(&self, name: &str) -> Option<(&str, &Type)> {
        if self.plain {
            return self.fields.get_key_value(name).map(|(key, ty)| (key.as_str(), ty));
        }
        let plain = unescape(name);
        let wanted = plain.as_deref().unwrap_or(name);
        let (key, ty) = self.fields.get_key_value(wanted)?;
        // Reserved words have to be escaped.
        let reachable = plain.is_some() || (!name.contains("__") && !is_word(name));
        reachable.then_some((key.as_str(), ty))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_there_and_back() {
        let cases = [
            ("namespace", "__namespace__"),
            ("a-b", "a__dash__b"),
            ("a.b/c", "a__dot__b__slash__c"),
            ("a__b", "a__underscores__b"),
            ("_", "_"),
            ("int", "int"),
        ];
        for (plain, escaped) in cases {
            assert_eq!(escape(plain).as_deref(), Some(escaped));
            assert_eq!(unescape(escaped).unwrap_or(escaped.to_owned()), plain);
        }
        for unreachable in ["1a", "a b", "ä", ""] {
            assert_eq!(escape(unreachable), None, "{unreachable}");
        }
        assert_eq!(unescape("a__nothing__b"), None);
    }
}
