//! Field selectors: `status.phase!=Running,spec.nodeName=n1`.

use std::fmt;

use super::SelectorError;
use crate::resource::Resource;

/// One term of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    /// Dotted name of the field.
    pub field: String,
    /// The value, without escapes.
    pub value: String,
    /// Whether the field has to have that value, or must not.
    pub equal: bool,
}

/// Terms that all have to hold. No term matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// Reads the string form; `\\`, `\,` and `\=` in values stand for themselves.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut terms = Vec::new();
        for part in split_terms(text) {
            if part.is_empty() {
                continue;
            }
            let broken = || SelectorError::FieldTerm(text.to_owned(), part.to_owned());
            let (field, sign, value) = split_sign(part).ok_or_else(broken)?;
            terms.push(FieldTerm {
                field: field.to_owned(),
                value: unescape(value).ok_or_else(broken)?,
                equal: sign != "!=",
            });
        }
        Ok(FieldSelector { terms })
    }

    /// The terms.
    pub fn terms(&self) -> &[FieldTerm] {
        &self.terms
    }

    /// Whether everything matches.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// The value that `field` has to have for anything to match; lets the server read one object instead of a list.
    pub fn required_value(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|t| t.equal && t.field == field).map(|t| t.value.as_str())
    }

    /// Refuses fields that `resource` cannot be selected by.
    pub fn check(&self, resource: &Resource) -> Result<(), SelectorError> {
        let allowed = resource.strategy().selectable_fields();
        match self.terms.iter().find(|t| !allowed.contains(&t.field.as_str())) {
            Some(term) => Err(SelectorError::Unsupported(term.field.clone())),
            None => Ok(()),
        }
    }

    /// Whether an object matches, whose fields `field` looks up.
    pub fn matches<'v>(&self, field: impl Fn(&str) -> Option<&'v str>) -> bool {
        self.terms.iter().all(|t| (field(&t.field).unwrap_or_default() == t.value) == t.equal)
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, term) in self.terms.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            let sign = if term.equal { "=" } else { "!=" };
            let value = term.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(f, "{comma}{}{sign}{value}", term.field)?;
        }
        Ok(())
    }
}

/// Splits at commas that no backslash stands before.
fn split_terms(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                out.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out
}

/// Splits at the first `!=`, `==` or `=`.
fn split_sign(part: &str) -> Option<(&str, &str, &str)> {
    (0..part.len()).filter(|at| part.is_char_boundary(*at)).find_map(|at| {
        let rest = &part[at..];
        ["!=", "==", "="]
            .into_iter()
            .find(|sign| rest.starts_with(sign))
            .map(|sign| (&part[..at], sign, &rest[sign.len()..]))
    })
}

fn unescape(value: &str) -> Option<String> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                c @ ('\\' | ',' | '=') => out.push(c),
                _ => return None,
            },
            ',' | '=' => return None,
            c => out.push(c),
        }
    }
    Some(out)
}
