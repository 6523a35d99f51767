//! Golden tests: every file under `tests/golden/` is a list of cases, text in and text out.
//!
//! A case is `=== <command> <arguments>`, the input, `--->`, and what is expected up to the next case. Run with
//! `UPDATE_GOLDEN=1` to write what comes out as what is expected, and read the difference.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at what it does not understand"
)]

use std::fmt::Write as _;
use std::path::Path;

use carrack_api::codec::{self, Decoded, Media};
use carrack_api::patch::{self, PatchKind};
use carrack_api::schema::{self, Allowed, Shape};
use carrack_api::table::{self, Include, Version};
use carrack_api::{FieldError, Resource, meta, resources, status};
use jiff::Timestamp;
use serde_json::Value;

const NOW: &str = "2026-01-01T12:00:00Z";

#[test]
fn golden() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = String::new();
    let mut count = 0;
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut fresh = String::new();
        for case in Case::all(&text) {
            count += 1;
            let found = case.run();
            let found = found.trim_end();
            if found != case.expected.trim_end() {
                let name = file.file_name().unwrap().to_string_lossy();
                writeln!(
                    wrong,
                    "{name}: {}\n--- expected\n{}\n--- found\n{found}\n",
                    case.head, case.expected
                )
                .unwrap();
            }
            write!(fresh, "=== {}\n{}--->\n{found}\n\n", case.head, case.input).unwrap();
        }
        if update {
            std::fs::write(&file, fresh.trim_end().to_owned() + "\n").unwrap();
        }
    }
    assert!(count > 0, "no case was found");
    assert!(update || wrong.is_empty(), "{wrong}");
}

struct Case<'a> {
    head: &'a str,
    input: &'a str,
    expected: &'a str,
}

impl<'a> Case<'a> {
    fn all(text: &'a str) -> Vec<Self> {
        let body = text.strip_prefix("=== ").expect("a file starts with a case");
        body.split("\n=== ")
            .map(|case| {
                let (head, rest) = case.split_once('\n').expect("a case has a body");
                let (input, expected) = rest.split_once("--->\n").unwrap_or((rest, ""));
                Case { head, input, expected }
            })
            .collect()
    }

    fn run(&self) -> String {
        let words: Vec<&str> = self.head.split_whitespace().collect();
        let resource = |at: usize| find(words[at]);
        match words[0] {
            "create" => create(resource(1), self.input),
            "update" => update(resource(1), self.input),
            "status" => status_update(resource(1), self.input),
            "part" => part_update(words[1], resource(2), self.input),
            "warn" => warn(resource(1), self.input),
            "decode" => decode(resource(1), self.input),
            "json" => decode_json(resource(1), self.input),
            "patch" => apply_patch(words[1], resource(2), self.input),
            "table" => print_table(resource(1), self.input),
            "fields" => fields(resource(1), self.input),
            other => panic!("unknown command {other}"),
        }
    }
}

fn find(name: &str) -> &'static Resource {
    resources().iter().find(|r| r.group_resource() == name).unwrap_or_else(|| panic!("no resource {name}"))
}

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn documents(input: &str) -> Vec<&str> {
    input.split("---\n").collect()
}

fn yaml(value: &Value) -> String {
    serde_saphyr::to_string(value).unwrap()
}

fn read(resource: &Resource, text: &str) -> Result<Decoded, String> {
    codec::decode_object(text.as_bytes(), Media::Yaml, resource)
        .map_err(|why| why.into_status(resource, text.as_bytes()).message)
}

fn refusal(resource: &Resource, object: &Value, errors: &[FieldError]) -> String {
    status::invalid_object(resource, meta::name(object), errors).message
}

/// An object as the server stores it, which is what rules are about.
fn stored(resource: &Resource, mut object: Value) -> Value {
    if let Some(conversion) = resource.conversion {
        (conversion.to_storage)(&mut object);
    }
    object
}

/// What a create does, as the server would: a valid object or a refusal.
fn made(resource: &Resource, text: &str) -> Result<Value, String> {
    let decoded = read(resource, text)?;
    if let Some(why) = decoded.strict_error() {
        return Err(why);
    }
    let mut object = stored(resource, decoded.value);
    let strategy = resource.stored_strategy();
    strategy.default(&mut object);
    let namespace = match meta::namespace(&object) {
        "" => "default".to_owned(),
        given => given.to_owned(),
    };
    meta::stamp_new(&mut object, resource.scope, &namespace, "u-1", now());
    strategy.prepare_create(&mut object);
    let errors = strategy.validate_create(&object);
    if !errors.is_empty() {
        return Err(refusal(resource, &object, &errors));
    }
    let mut again = object.clone();
    strategy.default(&mut again);
    assert_eq!(again, object, "defaults are to change nothing the second time");
    if resource.is_storage_version() {
        published(&resource.schema.shape(), None, &object, resource.kind);
    }
    Ok(object)
}

/// What is stored has no other values than those that OpenAPI tells of.
fn published(shape: &Shape, allowed: Option<Allowed>, value: &Value, path: &str) {
    match (shape, value) {
        (Shape::Object(id) | Shape::ObjectOrBool(id), Value::Object(fields)) => {
            let definition = schema::registry().get(*id);
            for (name, value) in fields {
                if let Some(field) = definition.field(name) {
                    published(&field.shape, field.allowed, value, &format!("{path}.{name}"));
                }
            }
        }
        (Shape::List(inner), Value::Array(items)) => {
            items.iter().for_each(|item| published(inner, allowed, item, path));
        }
        (Shape::Map(inner), Value::Object(entries)) => {
            entries.values().for_each(|entry| published(inner, allowed, entry, path));
        }
        (_, Value::String(text)) => {
            assert!(
                allowed.is_none_or(|allowed| allowed.names().contains(&text.as_str())),
                "{path} is {text:?}"
            );
        }
        _ => {}
    }
}

fn create(resource: &Resource, input: &str) -> String {
    match made(resource, input) {
        Ok(object) => yaml(&object),
        Err(why) => why,
    }
}

fn update(resource: &Resource, input: &str) -> String {
    let [old, new] = documents(input)[..] else { panic!("an update has two documents") };
    let old = made(resource, old).unwrap();
    let mut new = match read(resource, new) {
        Ok(decoded) => stored(resource, decoded.value),
        Err(why) => return why,
    };
    let strategy = resource.stored_strategy();
    strategy.default(&mut new);
    meta::stamp_update(&mut new, &old);
    strategy.prepare_update(&mut new, &old);
    let errors = strategy.validate_update(&new, &old);
    if errors.is_empty() { yaml(&new) } else { refusal(resource, &new, &errors) }
}

/// Advice about a new object, or about the second of two that replaces the first.
fn warn(resource: &Resource, input: &str) -> String {
    let strategy = resource.stored_strategy();
    let (first, second) = match documents(input)[..] {
        [only] => (only, None),
        [first, second] => (first, Some(second)),
        _ => panic!("advice is about one document or two"),
    };
    let old = match made(resource, first) {
        Ok(old) => old,
        Err(why) => return why,
    };
    let Some(second) = second else { return strategy.warnings(&old).join("\n") };
    let mut new = stored(resource, read(resource, second).unwrap().value);
    strategy.default(&mut new);
    meta::stamp_update(&mut new, &old);
    strategy.prepare_update(&mut new, &old);
    strategy.review(&new, Some(&old)).1.join("\n")
}

fn status_update(resource: &Resource, input: &str) -> String {
    // Of three, the second is what the status was before.
    let (old, new) = match documents(input)[..] {
        [old, new] => (made(resource, old).unwrap(), new),
        [object, before, new] => {
            let mut old = made(resource, object).unwrap();
            old["status"] = read(resource, before).unwrap().value["status"].take();
            (old, new)
        }
        _ => panic!("an update of status has two documents or three"),
    };
    let mut new = read(resource, new).unwrap().value;
    let strategy = resource.strategy();
    meta::stamp_update(&mut new, &old);
    strategy.prepare_status_update(&mut new, &old);
    let errors = strategy.validate_status_update(&new, &old);
    if errors.is_empty() { yaml(&new) } else { refusal(resource, &new, &errors) }
}

fn part_update(part: &str, resource: &Resource, input: &str) -> String {
    let [old, new] = documents(input)[..] else { panic!("an update of a part has two documents") };
    let old = made(resource, old).unwrap();
    let mut new = read(resource, new).unwrap().value;
    let strategy = resource.strategy();
    strategy.default(&mut new);
    meta::stamp_update(&mut new, &old);
    assert!(strategy.prepare_part_update(part, &mut new, &old), "{part} is no part");
    let errors = strategy.validate_part_update(part, &new, &old);
    if errors.is_empty() { yaml(&new) } else { refusal(resource, &new, &errors) }
}

fn decoded_text(resource: &Resource, input: &str, media: Media) -> String {
    match codec::decode_object(input.as_bytes(), media, resource) {
        Ok(decoded) => match decoded.strict_error() {
            Some(why) => why,
            None => yaml(&decoded.value),
        },
        Err(why) => why.into_status(resource, input.as_bytes()).message,
    }
}

fn decode(resource: &Resource, input: &str) -> String {
    decoded_text(resource, input, Media::Yaml)
}

fn decode_json(resource: &Resource, input: &str) -> String {
    decoded_text(resource, input, Media::Json)
}

fn apply_patch(kind: &str, resource: &Resource, input: &str) -> String {
    let kind = match kind {
        "json" => PatchKind::Json,
        "merge" => PatchKind::Merge,
        _ => PatchKind::Strategic,
    };
    let [object, patch] = documents(input)[..] else { panic!("a patch has two documents") };
    let object = read(resource, object).unwrap().value;
    let body = codec::decode(patch.as_bytes(), Media::Yaml).unwrap().value.to_string();
    match patch::apply(kind, resource, object.clone(), body.as_bytes()) {
        Ok(decoded) => match decoded.strict_error() {
            Some(why) => format!("{}{why}", yaml(&decoded.value)),
            None => yaml(&decoded.value),
        },
        Err(why) => {
            let told = || patch::wrong_result(kind, resource, object, body.as_bytes());
            let status = why.into_status(told);
            format!("{} {}: {}", status.code, status.reason, status.to_value())
        }
    }
}

fn print_table(resource: &Resource, input: &str) -> String {
    let columns = table::column_definitions(resource);
    let columns = columns.as_array().unwrap();
    let wide_from = columns.iter().position(|c| c["priority"] == 1).unwrap_or(columns.len());
    let mut rows =
        vec![columns.iter().map(|c| c["name"].as_str().unwrap().to_uppercase()).collect::<Vec<_>>()];
    for document in documents(input) {
        let object = read(resource, document).unwrap().value;
        let row = table::row(resource, &object, Include::None, Version::V1, now());
        let cells = row["cells"].as_array().unwrap();
        // Upstream has one cell too many, which clients leave out.
        let more = usize::from(resource.plural == "ipaddresses");
        assert_eq!(cells.len(), columns.len() + more, "a row has a cell for each column");
        let text = |cell: &Value| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
        rows.push(cells[..columns.len()].iter().map(text).collect());
    }
    let widths: Vec<usize> =
        (0..columns.len()).map(|at| rows.iter().map(|row| row[at].len()).max().unwrap_or_default()).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            let bar = if at == wide_from { "| " } else { "" };
            write!(line, "{bar}{cell:<width$}  ", width = widths[at]).unwrap();
        }
        writeln!(out, "{}", line.trim_end()).unwrap();
    }
    out
}

fn fields(resource: &Resource, input: &str) -> String {
    let object = read(resource, input).unwrap().value;
    let strategy = resource.strategy();
    strategy
        .selectable_fields()
        .iter()
        .map(|field| format!("{field}={}\n", strategy.selectable(&object, field).unwrap()))
        .collect()
}
