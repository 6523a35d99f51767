//! Kubernetes' library of named formats.

use carrack_api::names;

use super::{Cost, Row, T, text};
use crate::error::EvalError;
use crate::meter::Meter;
use crate::opaque::{Opaque, OpaqueKind};
use crate::value::Value;

const FORMAT: T = T::Op(OpaqueKind::Format);

/// A form of text that has a name.
#[derive(Debug)]
pub struct NamedFormat {
    /// The name.
    pub name: &'static str,
    /// What is wrong with a text.
    check: fn(&str) -> Vec<String>,
    /// How long upstream's regular expression for it is, which costs are by.
    pub(crate) expression: u64,
}

/// A name may end in a dash when it is generated.
fn prefix(text: &str) -> String {
    match text.strip_suffix('-') {
        Some(stem) if !stem.is_empty() => format!("{stem}a"),
        _ => text.to_owned(),
    }
}

fn unless(valid: bool, message: &str) -> Vec<String> {
    if valid { Vec::new() } else { vec![message.to_owned()] }
}

macro_rules! formats {
    ($(($name:literal, $qualified:literal, $expression:literal, $check:expr)),* $(,)?) => {
        const FORMATS: &[NamedFormat] = &[$(NamedFormat { name: $name, check: $check, expression: $expression }),*];
        pub(super) const ROWS: &[Row] = &[
            Row::global("format.named", &[T::Str], T::Opt(&FORMAT), |_, args| {
                let name = text(args, 0)?;
                let found = FORMATS.iter().find(|format| format.name == &**name);
                Ok(Value::Optional(found.map(|format| Value::Opaque(Opaque::Format(format)).into())))
            }),
            Row::member("validate", &[FORMAT, T::Str], T::Opt(&T::List(&T::Str)), validate)
                .costs(Cost::Format),
            $(Row::global($qualified, &[], FORMAT, |_, _| constant($name))),*
        ];
    };
}

formats![
    ("dns1123Label", "format.dns1123Label", 30, names::dns1123_label),
    ("dns1123Subdomain", "format.dns1123Subdomain", 60, names::dns1123_subdomain),
    ("dns1035Label", "format.dns1035Label", 30, names::dns1035_label),
    ("qualifiedName", "format.qualifiedName", 60, names::qualified_name),
    ("dns1123LabelPrefix", "format.dns1123LabelPrefix", 30, |text| names::dns1123_label(&prefix(text))),
    ("dns1123SubdomainPrefix", "format.dns1123SubdomainPrefix", 60, |text| {
        names::dns1123_subdomain(&prefix(text))
    }),
    ("dns1035LabelPrefix", "format.dns1035LabelPrefix", 30, |text| names::dns1035_label(&prefix(text))),
    ("labelValue", "format.labelValue", 40, names::label_value),
    ("uri", "format.uri", 1300, |text| unless(
        crate::url::Url::parse(text).is_some(),
        "invalid URI for request"
    )),
    ("uuid", "format.uuid", 80, |text| unless(is_uuid(text), "does not match the UUID format")),
    ("byte", "format.byte", 88, |text| unless(is_base64(text), "invalid base64")),
    ("date", "format.date", 76, |text| {
        unless(text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(), "invalid date")
    }),
    ("datetime", "format.datetime", 76, |text| {
        unless(crate::times::parse_timestamp(text).is_some(), "invalid datetime")
    }),
];

fn is_uuid(text: &str) -> bool {
    let digits: Vec<usize> = text.split('-').map(str::len).collect();
    let hex = text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    hex && (digits == [8, 4, 4, 4, 12] || digits == [32])
}

fn is_base64(text: &str) -> bool {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).is_ok()
}

fn constant<'a>(name: &str) -> Result<Value<'a>, EvalError> {
    let found = FORMATS.iter().find(|format| format.name == name);
    found.map(|format| Value::Opaque(Opaque::Format(format))).ok_or(EvalError::NoSuchOverload)
}

fn validate<'a>(meter: &mut Meter, args: &[Value<'a>]) -> Result<Value<'a>, EvalError> {
    let Some(Value::Opaque(Opaque::Format(format))) = args.first() else {
        return Err(EvalError::NoSuchOverload);
    };
    let wrong = (format.check)(text(args, 1)?);
    if wrong.is_empty() {
        return Ok(Value::Optional(None));
    }
    meter.allocate(wrong.iter().map(String::len).sum())?;
    Ok(Value::some(Value::list(wrong.into_iter().map(Value::text).collect())))
}
