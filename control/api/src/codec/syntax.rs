//! What is wrong with the text of a body, in the words of Go's decoder.

/// What serde's reader says, and what Go's says about the letter that it stopped at.
const WORDS: &[(&str, &str)] = &[
    ("expected value", "looking for beginning of value"),
    ("expected ident", "looking for beginning of value"),
    ("expected `:`", "after object key"),
    ("expected `,` or `]`", "after array element"),
    ("expected `,` or `}`", "after object key:value pair"),
    ("key must be a string", "looking for beginning of object key string"),
    ("trailing characters", "after top-level value"),
    ("control character", "in string literal"),
    ("invalid escape", "in string escape code"),
    ("invalid number", "in numeric literal"),
];
/// How many bytes of a body are shown.
const SHOWN: usize = 30;

/// `found`, which serde says of the JSON in `body`, in Go's words; as it is where Go has none.
pub(super) fn in_go(body: &[u8], found: &str) -> String {
    if found.starts_with("EOF while") {
        return "unexpected end of JSON input".to_owned();
    }
    let Some(letter) = letter_at(body, found) else { return found.to_owned() };
    let trailing_comma = found.starts_with("trailing comma").then_some(match letter {
        b'}' => "looking for beginning of object key string",
        _ => "looking for beginning of value",
    });
    let known = || WORDS.iter().find(|(serde, _)| found.starts_with(serde)).map(|(_, go)| *go);
    let Some(words) = trailing_comma.or_else(known) else { return found.to_owned() };
    let shown = match letter {
        b'\'' => "\\'".to_owned(),
        b'"' => "\"".to_owned(),
        other => char::from(other).escape_debug().to_string(),
    };
    format!("invalid character '{shown}' {words}")
}

/// The byte at `line L column C`, with which serde's messages end.
fn letter_at(body: &[u8], found: &str) -> Option<u8> {
    let (_, place) = found.rsplit_once(" at line ")?;
    let (line, column) = place.split_once(" column ")?;
    let (line, column): (usize, usize) = (line.parse().ok()?, column.parse().ok()?);
    // Behind the end of a line, which is the letter then.
    if column == 0 {
        return Some(b'\n');
    }
    let line = body.split(|byte| *byte == b'\n').nth(line.checked_sub(1)?)?;
    line.get(column.checked_sub(1)?).copied()
}

/// The beginning of a body, as messages show it: JSON as text, all else in hexadecimal digits.
pub(super) fn summary(body: &[u8]) -> String {
    let shown = body.get(..SHOWN).unwrap_or(body);
    let text = match body.first() {
        None => return "<empty>".to_owned(),
        Some(b'{') => String::from_utf8_lossy(shown).into_owned(),
        Some(_) => shown.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    if body.len() > SHOWN { format!("{text} ...") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn go(text: &str) -> String {
        let why = serde_json::from_str::<serde_json::Value>(text).unwrap_err();
        in_go(text.as_bytes(), &why.to_string())
    }

    #[test]
    fn broken_texts_are_told_in_gos_words() {
        let cases = [
            ("", "unexpected end of JSON input"),
            ("{\"a\":", "unexpected end of JSON input"),
            ("x", "invalid character 'x' looking for beginning of value"),
            ("{x", "invalid character 'x' looking for beginning of object key string"),
            ("{\n\"a\" 1}", "invalid character '1' after object key"),
            ("[1 2]", "invalid character '2' after array element"),
            ("{\"a\":1 \"b\"}", "invalid character '\"' after object key:value pair"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("{} {", "invalid character '{' after top-level value"),
            ("\"a\n\"", "invalid character '\\n' in string literal"),
        ];
        for (text, expected) in cases {
            assert_eq!(go(text), expected, "{text:?}");
        }
    }

    #[test]
    fn beginnings_of_bodies() {
        assert_eq!(summary(b""), "<empty>");
        assert_eq!(summary(b"{"), "{");
        assert_eq!(summary(b"[1"), "5b31");
        assert_eq!(summary(&[b'{'; 31]), format!("{} ...", "{".repeat(30)));
    }
}
