//! Regular expressions of Go in the syntax of the `regex` crate: `\d`, `\w`, `\s` and `\b` mean ASCII there, brackets do
//! not nest, and `\Q…\E` quotes.

/// What the classes of one letter mean in Go.
const CLASSES: &[(char, &str)] = &[
    ('d', "[0-9]"),
    ('D', "[^0-9]"),
    ('w', "[0-9A-Za-z_]"),
    ('W', "[^0-9A-Za-z_]"),
    ('s', "[\\t\\n\\f\\r ]"),
    ('S', "[^\\t\\n\\f\\r ]"),
];

/// The pattern in the other syntax; what is no pattern stays none.
pub(super) fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            '\\' => escape(after, in_class, &mut out),
            '[' if !in_class => {
                in_class = true;
                open(after, &mut out)
            }
            // Named classes such as [:alpha:] are the same in both.
            '[' if after.starts_with(':') && after.contains(":]") => {
                let end = after.find(":]").map_or(0, |at| at + 2);
                out.push('[');
                out.push_str(&after[..end]);
                &after[end..]
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
                after
            }
            '[' | '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
                after
            }
            _ => {
                out.push(c);
                after
            }
        };
    }
    out
}

/// The beginning of a class: a bracket that comes first is one of its letters.
fn open<'p>(after: &'p str, out: &mut String) -> &'p str {
    out.push('[');
    let mut rest = after;
    for (first, written) in [('^', "^"), (']', "\\]")] {
        if let Some(next) = rest.strip_prefix(first) {
            out.push_str(written);
            rest = next;
        }
    }
    rest
}

/// What follows a backslash.
fn escape<'p>(after: &'p str, in_class: bool, out: &mut String) -> &'p str {
    let Some(c) = after.chars().next() else {
        out.push('\\');
        return after;
    };
    let rest = &after[c.len_utf8()..];
    match c {
        'b' if !in_class => {
            out.push_str(r"(?-u:\b)");
            rest
        }
        'Q' if !in_class => {
            let end = rest.find("\\E").unwrap_or(rest.len());
            out.push_str(&regex::escape(&rest[..end]));
            rest[end..].strip_prefix("\\E").unwrap_or("")
        }
        _ => {
            match CLASSES.iter().find(|(letter, _)| *letter == c) {
                Some((_, class)) => out.push_str(class),
                None => {
                    out.push('\\');
                    out.push(c);
                }
            }
            rest
        }
    }
}

#[cfg(test)]
mod tests {
    use super::translate;
    use regex::Regex;

    #[test]
    fn patterns_match_what_they_match_in_go() {
        for (pattern, good, bad) in [
            (r"^\d+$", "12", "\u{661}"),
            (r"^\w+$", "a_1", "\u{e9}"),
            (r"^[\w.-]+$", "a.b-c", "a b"),
            (r"^[^\s/]+$", "ab", "a b"),
            (r"^[[]x]$", "[x]", "x"),
            (r"^[]a]+$", "]a", "b"),
            (r"^[a&&b]+$", "a&b", "c"),
            (r"^\Qa.b\E$", "a.b", "axb"),
            (r"^[[:alpha:]]+$", "ab", "a1"),
            (r"\bword\b", "a word", "sword"),
            (r"^(?i)abc$", "ABC", "abd"),
            (r"^\pL+\z", "\u{e9}", "1"),
        ] {
            let compiled = Regex::new(&translate(pattern)).unwrap();
            assert!(compiled.is_match(good), "{pattern} {good}");
            assert!(!compiled.is_match(bad), "{pattern} {bad}");
        }
        assert!(Regex::new(&translate("(")).is_err());
        assert!(Regex::new(&translate(r"a\")).is_err());
    }
}
