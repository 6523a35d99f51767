//! `fieldPath`: `.a.b` or `['a']['b']`, of fields that the schema has.

use serde_json::Value as Json;

/// The path as errors show it, without a dot before it; or what is wrong with it.
pub(super) fn normalized(path: &str, schema: &Json) -> Result<String, String> {
    let mut rest = path;
    let mut schema = schema;
    let mut out = String::new();
    while !rest.is_empty() {
        let (name, tail) = segment(rest)?;
        rest = tail;
        if schema["properties"].is_object() {
            schema = &schema["properties"][&name];
            if schema.is_null() {
                return Err("does not refer to a valid field".to_owned());
            }
            out.push_str(if out.is_empty() { "" } else { "." });
            out.push_str(&name);
        } else if schema["additionalProperties"].is_object() {
            schema = &schema["additionalProperties"];
            out.push_str(&format!("[{name}]"));
        } else {
            return Err("does not refer to a valid field".to_owned());
        }
    }
    Ok(out)
}

/// The first name of a path, and what follows it.
fn segment(path: &str) -> Result<(String, &str), String> {
    if let Some(rest) = path.strip_prefix('.') {
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        return Ok((rest[..end].to_owned(), &rest[end..]));
    }
    let Some(rest) = path.strip_prefix('[') else {
        let end = path.find(['.', '[']).unwrap_or(path.len());
        return Err(format!("expected [ or . but got: {}", &path[..end]));
    };
    let Some(rest) = rest.strip_prefix('\'') else {
        let end = rest.find(']').unwrap_or(rest.len());
        return Err(format!("expected single quoted string but got {}", &rest[..end]));
    };
    let mut name = String::new();
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\'' => {
                let tail = rest[at + 1..].strip_prefix(']');
                return tail.map(|tail| (name, tail)).ok_or_else(|| "unexpected end of JSON path".to_owned());
            }
            '\\' => match chars.next() {
                Some((_, c @ ('\'' | '\\'))) => name.push(c),
                _ => return Err("invalid string literal: invalid escape char".to_owned()),
            },
            c => name.push(c),
        }
    }
    Err("unexpected end of JSON path".to_owned())
}
