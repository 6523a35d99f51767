//! The words of the language that cannot be names, by its definition.

/// Words that mean something in expressions.
const KEYWORDS: &[&str] = &["true", "false", "null", "in"];
/// Words that mean nothing yet, and may not be used.
const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Whether an identifier of that name is refused.
pub(crate) fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// Whether a property of that name has to be escaped.
pub(crate) fn is_word(name: &str) -> bool {
    KEYWORDS.contains(&name) || is_reserved(name)
}
