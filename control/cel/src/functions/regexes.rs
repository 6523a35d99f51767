//! Regular expressions: RE2's, in time that grows with the text alone.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use regex::{Regex, RegexBuilder};

use super::{Cost, Grows, Row, T, int, made, text};
use crate::error::EvalError;
use crate::meter::Meter;
use crate::value::Value;

pub(super) const ROWS: &[Row] = &[
    Row::member("matches", &[T::Str, T::Str], T::Bool, matches).costs(Cost::Match),
    Row::global("matches", &[T::Str, T::Str], T::Bool, matches).costs(Cost::Match),
    Row::member("find", &[T::Str, T::Str], T::Str, |meter, args| {
        let regex = compiled(meter, text(args, 1)?)?;
        let found = regex.find(text(args, 0)?).map(|found| found.as_str().to_owned());
        made(meter, found.unwrap_or_default())
    })
    .costs(Cost::Match)
    .grows(Grows::Same),
    Row::member("findAll", &[T::Str, T::Str], T::List(&T::Str), find_all)
        .costs(Cost::Match)
        .grows(Grows::Same),
    Row::member("findAll", &[T::Str, T::Str, T::Int], T::List(&T::Str), find_all)
        .costs(Cost::Match)
        .grows(Grows::Same),
];

/// How many expressions are kept compiled.
const KEPT: usize = 1024;
/// Bytes of a compiled expression at most.
const SIZE: usize = 1 << 20;
/// What compiling one counts as memory, so that an expression cannot make them without end.
const COMPILING: usize = 16 << 10;

static COMPILED: LazyLock<Mutex<HashMap<String, Regex>>> = LazyLock::new(Mutex::default);

fn compiled(meter: &mut Meter, pattern: &str) -> Result<Regex, EvalError> {
    if let Some(regex) = COMPILED.lock().unwrap_or_else(PoisonError::into_inner).get(pattern) {
        return Ok(regex.clone());
    }
    meter.allocate(COMPILING + 64 * pattern.len())?;
    let regex =
        compile(pattern).map_err(|error| EvalError::other(format!("error parsing regexp: {error}")))?;
    let mut kept = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() >= KEPT {
        kept.clear();
    }
    kept.insert(pattern.to_owned(), regex.clone());
    Ok(regex)
}

/// A regular expression of RE2.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(&translated(pattern)).size_limit(SIZE).build();
    built.map_err(|error| error.to_string())
}

/// What differs between RE2 and the library: classes by letter are ASCII, and brackets and signs within a class mean
/// themselves.
fn translated(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars().peekable();
    // How many characters of a class were seen; a bracket that is the first means itself.
    let mut class: Option<usize> = None;
    while let Some(c) = chars.next() {
        match (c, class) {
            ('\\', _) => {
                class = class.map(|seen| seen + 1);
                escaped(&mut out, chars.next(), class.is_some());
            }
            ('[', None) => {
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                class = Some(0);
            }
            (']', Some(0)) => {
                out.push_str("\\]");
                class = Some(1);
            }
            (']', Some(_)) => {
                out.push(']');
                class = None;
            }
            ('[', Some(seen)) if chars.peek() == Some(&':') => {
                out.push('[');
                for c in chars.by_ref() {
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
                class = Some(seen + 1);
            }
            ('[' | '&' | '~', Some(seen)) => {
                out.push('\\');
                out.push(c);
                class = Some(seen + 1);
            }
            (c, seen) => {
                out.push(c);
                class = seen.map(|seen| seen + 1);
            }
        }
    }
    out
}

fn escaped(out: &mut String, c: Option<char>, in_class: bool) {
    let class = match c {
        Some('d') => "[0-9]",
        Some('D') => "[^0-9]",
        Some('w') => "[0-9A-Za-z_]",
        Some('W') => "[^0-9A-Za-z_]",
        Some('s') => r"[\t\n\x0C\r ]",
        Some('S') => r"[^\t\n\x0C\r ]",
        Some('b') if !in_class => r"(?-u:\b)",
        Some(c) => {
            out.push('\\');
            out.push(c);
            return;
        }
        None => "\\",
    };
    out.push_str(class);
}

fn matches<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let regex = compiled(meter, text(args, 1)?)?;
    Ok(Value::Bool(regex.is_match(text(args, 0)?)))
}

fn find_all<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let regex = compiled(meter, text(args, 1)?)?;
    let limit =
        if args.len() > 2 { usize::try_from(int(args, 2)?).unwrap_or(usize::MAX) } else { usize::MAX };
    let mut all = Vec::new();
    for found in regex.find_iter(text(args, 0)?).take(limit) {
        meter.elements(1)?;
        all.push(made(meter, found.as_str().to_owned())?);
    }
    Ok(Value::list(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_of_re2() {
        let cases = [
            (r"^\d+$", "123", true),
            (r"^\d+$", "١٢", false),
            (r"^[\w.-]+$", "a-b.c", true),
            (r"^\w$", "ä", false),
            (r"^[[a]+$", "[a", true),
            (r"^[]a]+$", "]a", true),
            (r"^[a&&b]+$", "a&b", true),
            (r"^[[:alpha:]]+$", "abc", true),
            (r"\bfoo\b", "a foo b", true),
            (r"(?i)ABC", "abc", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(compile(pattern).unwrap().is_match(text), expected, "{pattern} on {text}");
        }
        assert!(compile("(").is_err());
        assert!(compile(r"(?:(?:a{1000}){1000}){1000}").is_err(), "too large to compile");
    }
}
