//! The OpenAPI v2 document as protobuf, which kubectl up to 1.28 and older clients ask for.
//!
//! The messages are those of `gnostic`'s OpenAPIv2.proto; the tables name the fields that these documents use, with
//! their numbers. Values of any type (vendor extensions, defaults) are text that is YAML, as JSON is.

use serde_json::{Map, Value};

use crate::wire;

/// What a field is.
enum Form {
    Text,
    Texts,
    Bool,
    Integer,
    Any,
    Anys,
    /// A message.
    One(&'static Message),
    /// A list of messages.
    Many(&'static Message),
    /// A message whose field of that number is the value.
    Inside(u32, &'static Form),
    /// A map: a message whose field of that number holds messages of a name (1) and a value (2).
    Named(u32, &'static Form),
    /// A schema (1) or a switch (2).
    SchemaOrBool,
    /// Items that are parameters.
    Parameters,
}

/// The fields of a message by their names in JSON, and the number under which extensions (`x-…`) go.
struct Message {
    fields: &'static [(&'static str, u32, Form)],
    extensions: u32,
}

static DOCUMENT: Message = Message {
    fields: &[
        ("swagger", 1, Form::Text),
        ("info", 2, Form::One(&INFO)),
        ("paths", 8, Form::Named(2, &Form::One(&PATH_ITEM))),
        ("definitions", 9, Form::Named(1, &Form::One(&SCHEMA))),
    ],
    extensions: 16,
};

static INFO: Message =
    Message { fields: &[("title", 1, Form::Text), ("version", 2, Form::Text)], extensions: 7 };

static PATH_ITEM: Message = Message {
    fields: &[
        ("get", 2, Form::One(&OPERATION)),
        ("put", 3, Form::One(&OPERATION)),
        ("post", 4, Form::One(&OPERATION)),
        ("delete", 5, Form::One(&OPERATION)),
        ("options", 6, Form::One(&OPERATION)),
        ("head", 7, Form::One(&OPERATION)),
        ("patch", 8, Form::One(&OPERATION)),
        ("parameters", 9, Form::Parameters),
    ],
    extensions: 10,
};

static OPERATION: Message = Message {
    fields: &[
        ("tags", 1, Form::Texts),
        ("summary", 2, Form::Text),
        ("description", 3, Form::Text),
        ("operationId", 5, Form::Text),
        ("produces", 6, Form::Texts),
        ("consumes", 7, Form::Texts),
        ("parameters", 8, Form::Parameters),
        ("responses", 9, Form::Named(1, &Form::Inside(1, &Form::One(&RESPONSE)))),
        ("schemes", 10, Form::Texts),
    ],
    extensions: 13,
};

static RESPONSE: Message = Message {
    fields: &[("description", 1, Form::Text), ("schema", 2, Form::Inside(1, &Form::One(&SCHEMA)))],
    extensions: 5,
};

static BODY_PARAMETER: Message = Message {
    fields: &[
        ("description", 1, Form::Text),
        ("name", 2, Form::Text),
        ("in", 3, Form::Text),
        ("required", 4, Form::Bool),
        ("schema", 5, Form::One(&SCHEMA)),
    ],
    extensions: 6,
};

static QUERY_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Form::Bool),
        ("in", 2, Form::Text),
        ("description", 3, Form::Text),
        ("name", 4, Form::Text),
        ("type", 6, Form::Text),
        ("format", 7, Form::Text),
        ("uniqueItems", 20, Form::Bool),
    ],
    extensions: 23,
};

static PATH_PARAMETER: Message = Message {
    fields: &[
        ("required", 1, Form::Bool),
        ("in", 2, Form::Text),
        ("description", 3, Form::Text),
        ("name", 4, Form::Text),
        ("type", 5, Form::Text),
        ("format", 6, Form::Text),
        ("uniqueItems", 19, Form::Bool),
    ],
    extensions: 22,
};

static SCHEMA: Message = Message {
    fields: &[
        ("$ref", 1, Form::Text),
        ("format", 2, Form::Text),
        ("title", 3, Form::Text),
        ("description", 4, Form::Text),
        ("default", 5, Form::Any),
        ("maxLength", 11, Form::Integer),
        ("minLength", 12, Form::Integer),
        ("pattern", 13, Form::Text),
        ("maxItems", 14, Form::Integer),
        ("minItems", 15, Form::Integer),
        ("uniqueItems", 16, Form::Bool),
        ("required", 19, Form::Texts),
        ("enum", 20, Form::Anys),
        ("additionalProperties", 21, Form::SchemaOrBool),
        ("type", 22, Form::Inside(1, &Form::Text)),
        ("items", 23, Form::Inside(1, &Form::One(&SCHEMA))),
        ("allOf", 24, Form::Many(&SCHEMA)),
        ("properties", 25, Form::Named(1, &Form::One(&SCHEMA))),
        ("readOnly", 27, Form::Bool),
        ("example", 30, Form::Any),
    ],
    extensions: 31,
};

/// The document as a protobuf message.
pub(super) fn document(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    write_message(&mut out, value, &DOCUMENT);
    out
}

fn write_message(out: &mut Vec<u8>, value: &Value, message: &Message) {
    let Some(fields) = value.as_object() else { return };
    for (name, number, form) in message.fields {
        if let Some(value) = fields.get(*name) {
            write(out, *number, value, form);
        }
    }
    write_extensions(out, fields, message.extensions);
}

fn write_extensions(out: &mut Vec<u8>, fields: &Map<String, Value>, number: u32) {
    for (name, value) in fields.iter().filter(|(name, _)| name.starts_with("x-")) {
        wire::message(out, number, |out| {
            wire::bytes(out, 1, name.as_bytes());
            write(out, 2, value, &Form::Any);
        });
    }
}

fn write(out: &mut Vec<u8>, number: u32, value: &Value, form: &Form) {
    match form {
        Form::Text => wire::bytes(out, number, value.as_str().unwrap_or_default().as_bytes()),
        Form::Texts => items(value).for_each(|item| write(out, number, item, &Form::Text)),
        Form::Bool => wire::number(out, number, u64::from(value.as_bool().unwrap_or_default())),
        Form::Integer => wire::number(out, number, value.as_u64().unwrap_or_default()),
        Form::Any => wire::message(out, number, |out| wire::bytes(out, 2, value.to_string().as_bytes())),
        Form::Anys => items(value).for_each(|item| write(out, number, item, &Form::Any)),
        Form::One(message) => wire::message(out, number, |out| write_message(out, value, message)),
        Form::Many(message) => items(value).for_each(|item| write(out, number, item, &Form::One(message))),
        Form::Inside(inner, form) => wire::message(out, number, |out| write(out, *inner, value, form)),
        Form::Named(inner, form) => wire::message(out, number, |out| {
            for (name, value) in value.as_object().into_iter().flatten() {
                wire::message(out, *inner, |out| {
                    wire::bytes(out, 1, name.as_bytes());
                    write(out, 2, value, form);
                });
            }
        }),
        Form::SchemaOrBool => wire::message(out, number, |out| match value.as_bool() {
            Some(switch) => wire::number(out, 2, u64::from(switch)),
            None => write(out, 1, value, &Form::One(&SCHEMA)),
        }),
        Form::Parameters => items(value).for_each(|item| parameter(out, number, item)),
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// `ParametersItem` around `Parameter` around a body's parameter or one of the others.
fn parameter(out: &mut Vec<u8>, number: u32, value: &Value) {
    wire::message(out, number, |out| {
        wire::message(out, 1, |out| match value.get("in").and_then(Value::as_str) {
            Some("body") => write(out, 1, value, &Form::One(&BODY_PARAMETER)),
            Some("path") => wire::message(out, 2, |out| write(out, 4, value, &Form::One(&PATH_PARAMETER))),
            _ => wire::message(out, 2, |out| write(out, 3, value, &Form::One(&QUERY_PARAMETER))),
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeSet;

    #[test]
    fn a_small_document_byte_by_byte() {
        let value = json!({"swagger": "2.0", "definitions": {"T": {"type": "object", "x-y": 1}}});
        let type_item = b"\xb2\x01\x08\x0a\x06object";
        let extension = b"\xfa\x01\x0a\x0a\x03x-y\x12\x03\x12\x011";
        let schema = [&type_item[..], extension].concat();
        let named = [b"\x0a\x01T\x12", &[schema.len() as u8][..], &schema].concat();
        let inner = [b"\x0a", &[named.len() as u8][..], &named].concat();
        let expected = [b"\x0a\x032.0\x4a", &[inner.len() as u8][..], &inner].concat();
        assert_eq!(document(&value), expected);
    }

    /// Every field that the documents use has a number: nothing is lost on the way.
    #[test]
    fn no_field_is_left_out() {
        fn check(value: &Value, message: &'static Message, lost: &mut BTreeSet<String>) {
            for (name, value) in value.as_object().into_iter().flatten() {
                match message.fields.iter().find(|(known, ..)| known == name) {
                    Some((_, _, form)) => inside(value, form, lost),
                    None if name.starts_with("x-") => {}
                    None => drop(lost.insert(name.clone())),
                }
            }
        }
        fn inside(value: &Value, form: &'static Form, lost: &mut BTreeSet<String>) {
            match form {
                Form::One(message) => check(value, message, lost),
                Form::Many(message) => items(value).for_each(|item| check(item, message, lost)),
                Form::Inside(_, form) => inside(value, form, lost),
                Form::Named(_, form) => {
                    value.as_object().into_iter().flatten().for_each(|(_, value)| inside(value, form, lost));
                }
                Form::SchemaOrBool => check(value, &SCHEMA, lost),
                Form::Parameters => items(value).for_each(|item| match item["in"].as_str() {
                    Some("body") => check(item, &BODY_PARAMETER, lost),
                    Some("path") => check(item, &PATH_PARAMETER, lost),
                    _ => check(item, &QUERY_PARAMETER, lost),
                }),
                _ => {}
            }
        }
        let value: Value =
            serde_json::from_slice(&super::super::v2(crate::Catalogue::builtin()).bytes).unwrap();
        let mut lost = BTreeSet::new();
        check(&value, &DOCUMENT, &mut lost);
        assert_eq!(lost, BTreeSet::new());
    }
}
