//! What is wrong with one field, in the kinds and words of upstream's `field.Error`.

use std::fmt;

use serde_json::Value;

use super::Cause;

/// The kinds of field errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorType {
    /// Something that is named does not exist.
    NotFound,
    /// A value is missing.
    Required,
    /// A value is there twice.
    Duplicate,
    /// A value breaks a rule.
    Invalid,
    /// A value is not one of those allowed.
    NotSupported,
    /// A value may not be set or changed here.
    Forbidden,
    /// A value is too long; the value itself is not repeated.
    TooLong,
    /// A list or map has too many entries.
    TooMany,
    /// A value is of the wrong type.
    TypeInvalid,
    /// A fault of the server.
    Internal,
}

impl ErrorType {
    /// As it appears in `causes[].reason`.
    pub fn reason(self) -> &'static str {
        match self {
            ErrorType::NotFound => "FieldValueNotFound",
            ErrorType::Required => "FieldValueRequired",
            ErrorType::Duplicate => "FieldValueDuplicate",
            ErrorType::Invalid => "FieldValueInvalid",
            ErrorType::NotSupported => "FieldValueNotSupported",
            ErrorType::Forbidden => "FieldValueForbidden",
            ErrorType::TooLong => "FieldValueTooLong",
            ErrorType::TooMany => "FieldValueTooMany",
            ErrorType::TypeInvalid => "FieldValueTypeInvalid",
            ErrorType::Internal => "InternalError",
        }
    }

    /// As it appears in messages.
    pub fn words(self) -> &'static str {
        match self {
            ErrorType::NotFound => "Not found",
            ErrorType::Required => "Required value",
            ErrorType::Duplicate => "Duplicate value",
            ErrorType::Invalid => "Invalid value",
            ErrorType::NotSupported => "Unsupported value",
            ErrorType::Forbidden => "Forbidden",
            ErrorType::TooLong => "Too long",
            ErrorType::TooMany => "Too many",
            ErrorType::TypeInvalid => "Invalid value",
            ErrorType::Internal => "Internal error",
        }
    }
}

/// The path of a field: `spec.template.spec.containers[0].image`, `metadata.annotations[key]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldPath(String);

impl FieldPath {
    /// The path of a field at the top.
    pub fn root(name: &str) -> Self {
        FieldPath(name.to_owned())
    }

    /// The path of a field of what this path names.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        // Put together, here and below, without the machinery of formatting: validation makes a hundred paths for a pod.
        if self.0.is_empty() { FieldPath(name.to_owned()) } else { FieldPath([&self.0, ".", name].concat()) }
    }

    /// The path of an element of the list that this path names.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        FieldPath([&self.0, "[", &index.to_string(), "]"].concat())
    }

    /// The path of an entry of the map that this path names.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        FieldPath([&self.0, "[", key, "]"].concat())
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One field that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldError {
    /// The kind of wrong.
    pub kind: ErrorType,
    /// Where.
    pub field: String,
    /// The value found, where the kind repeats it.
    pub value: Option<Value>,
    /// Why, for people.
    pub detail: String,
}

impl FieldError {
    fn new(kind: ErrorType, path: &FieldPath, value: Option<Value>, detail: impl Into<String>) -> Self {
        FieldError { kind, field: path.as_str().to_owned(), value, detail: detail.into() }
    }

    /// A value is missing.
    pub fn required(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Required, path, None, detail)
    }

    /// A value breaks a rule.
    pub fn invalid(path: &FieldPath, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Invalid, path, Some(value.into()), detail)
    }

    /// A value breaks a rule, and is too large to be shown.
    pub fn invalid_whole(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Invalid, path, None, detail)
    }

    /// A value may not be set or changed here.
    pub fn forbidden(path: &FieldPath, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Forbidden, path, None, detail)
    }

    /// A value is there twice.
    pub fn duplicate(path: &FieldPath, value: impl Into<Value>) -> Self {
        Self::new(ErrorType::Duplicate, path, Some(value.into()), "")
    }

    /// What a value names does not exist.
    pub fn not_found(path: &FieldPath, value: impl Into<Value>) -> Self {
        Self::new(ErrorType::NotFound, path, Some(value.into()), "")
    }

    /// A value is none of `allowed`.
    pub fn not_supported(path: &FieldPath, value: impl Into<Value>, allowed: &[&str]) -> Self {
        let mut sorted = allowed.to_vec();
        sorted.sort_unstable();
        Self::not_supported_in_order(path, value, &sorted)
    }

    /// A value is none of `allowed`, which upstream tells in this order.
    pub fn not_supported_in_order(path: &FieldPath, value: impl Into<Value>, allowed: &[&str]) -> Self {
        let mut detail = String::new();
        if !allowed.is_empty() {
            let quoted: Vec<String> = allowed.iter().map(|a| format!("{a:?}")).collect();
            detail = format!("supported values: {}", quoted.join(", "));
        }
        Self::new(ErrorType::NotSupported, path, Some(value.into()), detail)
    }

    /// A value has more than `limit` bytes.
    pub fn too_long(path: &FieldPath, limit: usize) -> Self {
        Self::new(ErrorType::TooLong, path, None, format!("may not be more than {limit} bytes"))
    }

    /// A list or map has more than `limit` entries.
    pub fn too_many(path: &FieldPath, found: usize, limit: usize) -> Self {
        let detail = format!("must have at most {limit} items");
        Self::new(ErrorType::TooMany, path, Some(found.into()), detail)
    }

    /// A value is of the wrong type.
    pub fn type_invalid(path: &FieldPath, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::TypeInvalid, path, Some(value.into()), detail)
    }

    /// The server cannot judge the field.
    pub fn internal(path: &FieldPath, why: impl fmt::Display) -> Self {
        Self::new(ErrorType::Internal, path, None, why.to_string())
    }

    /// The message without the field's path, as in `causes[].message`.
    pub fn body(&self) -> String {
        let words = self.kind.words();
        let head = match (&self.value, self.kind) {
            (None, _)
            | (_, ErrorType::Required | ErrorType::Forbidden | ErrorType::TooLong | ErrorType::Internal) => {
                words.to_owned()
            }
            (Some(value), _) => format!("{words}: {}", quoted(value)),
        };
        if self.detail.is_empty() { head } else { format!("{head}: {}", self.detail) }
    }

    pub(super) fn to_cause(&self) -> Cause {
        Cause { reason: self.kind.reason().to_owned(), message: self.body(), field: self.field.clone() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// A value as messages show it: text in Go's quotes, everything else as compact JSON.
fn quoted(value: &Value) -> String {
    match value {
        Value::String(text) => go_quoted(text),
        other => other.to_string(),
    }
}

/// A text in quotes, as Go's `%q` writes it.
pub fn go_quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{b}' => out.push_str("\\v"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if !is_hidden(letter) => out.push(letter),
            _ if letter.is_ascii() => out.push_str(&format!("\\x{:02x}", u32::from(letter))),
            _ if u32::from(letter) <= 0xffff => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            _ => out.push_str(&format!("\\U{:08x}", u32::from(letter))),
        }
    }
    out.push('"');
    out
}

/// Whether a letter is not shown as it is: controls, what Rust would escape for being invisible, and spaces but the one.
pub fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || (letter.is_whitespace() && letter != ' ')
        || (!letter.is_ascii() && letter.escape_debug().len() > 1 && !is_mark(letter))
}

/// Marks that combine with the letter before them, which Rust escapes and Go shows.
fn is_mark(letter: char) -> bool {
    matches!(u32::from(letter), 0x300..=0x36f | 0x1ab0..=0x1aff | 0x1dc0..=0x1dff | 0x20d0..=0x20ff | 0xfe20..=0xfe2f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_as_go_does() {
        let cases = [
            ("a'b\"c\\", r#""a'b\"c\\""#),
            ("\u{7}\u{0}\n\u{7f}", r#""\a\x00\n\x7f""#),
            ("\u{200b}\u{a0}é", r#""\u200b\u00a0é""#),
            ("\u{e0001}", r#""\U000e0001""#),
            ("e\u{301}", "\"e\u{301}\""),
        ];
        for (text, expected) in cases {
            assert_eq!(go_quoted(text), expected);
        }
    }
}
