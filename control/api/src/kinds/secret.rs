//! Secrets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core as core_api;
use serde_json::Value;

use super::config_map::{MAX_DATA, entries, size, stays_immutable, unchanged};
use super::{BASE, core};
use crate::defaults::{make_object, set};
use crate::meta;
use crate::names;
use crate::resource::Resource;
use crate::schema::TypeRef;
use crate::status::{FieldError, FieldPath};
use crate::strategy::{Rules, Typed};
use crate::table::read::{age, text};
use crate::table::{Column, Printer};
use crate::validate::{self, Errors, refuse};

/// The row of secrets.
pub(super) const RESOURCE: Resource = Resource {
    kind: "Secret",
    list_kind: "SecretList",
    plural: "secrets",
    singular: "secret",
    storage_prefix: "/registry/secrets/",
    storage: core("v1", "Secret"),
    strategy: &Typed::<SecretRules>::new(),
    schema: TypeRef::of::<core_api::v1::Secret>("io.k8s.api.core.v1.Secret"),
    printer: Printer {
        columns: &[
            Column::NAME,
            Column::text("Type", "core.v1.Secret#type"),
            Column::text("Data", "core.v1.Secret#data"),
            Column::AGE,
        ],
        cells,
    },
    ..BASE
};

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let count = object.get("data").and_then(Value::as_object).map_or(0, serde_json::Map::len);
    vec![meta::name(object).into(), text(object, "/type").into(), count.into(), age(object, now)]
}

/// Keys that a type of secret needs; in a list with several entries one of them is enough.
const NEEDED: &[(&str, &[&[&str]])] = &[
    ("kubernetes.io/dockercfg", &[&[".dockercfg"]]),
    ("kubernetes.io/dockerconfigjson", &[&[".dockerconfigjson"]]),
    ("kubernetes.io/basic-auth", &[&["username", "password"]]),
    ("kubernetes.io/ssh-auth", &[&[SSH_KEY]]),
    ("kubernetes.io/tls", &[&["tls.crt"], &["tls.key"]]),
];

const SSH_KEY: &str = "ssh-privatekey";
const ACCOUNT_TOKEN: &str = "kubernetes.io/service-account-token";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

/// Reads a docker configuration, an object in JSON; what is wrong is said in Go's words where they differ by kind alone.
fn docker_configuration(text: &[u8]) -> Result<(), String> {
    let word = match serde_json::from_slice::<Value>(text) {
        Ok(Value::Object(_) | Value::Null) => return Ok(()),
        Err(why) if why.is_eof() => return Err("unexpected end of JSON input".to_owned()),
        Err(why) => return Err(why.to_string()),
        Ok(Value::Array(_)) => "array",
        Ok(Value::String(_)) => "string",
        Ok(Value::Number(_)) => "number",
        Ok(Value::Bool(_)) => "bool",
    };
    Err(format!("json: cannot unmarshal {word} into Go value of type map[string]interface {{}}"))
}

/// What is true of secrets.
pub(super) struct SecretRules;

impl Rules for SecretRules {
    type Object = core_api::v1::Secret;

    const SELECTABLE: &'static [&'static str] = &["metadata.name", "metadata.namespace", "type"];

    fn default(secret: &mut Value) {
        let Some(fields) = secret.as_object_mut() else { return };
        set(fields, "type", "Opaque");
        // `stringData` is only ever written: it goes into `data`, over what is there.
        if let Some(Value::Object(plain)) = fields.remove("stringData")
            && let Some(data) = make_object(fields, "data")
        {
            for (key, value) in plain {
                let encoded = STANDARD.encode(value.as_str().unwrap_or_default());
                data.insert(key, encoded.into());
            }
        }
    }

    fn prepare_update(new: &mut Value, old: &Value) {
        if text(new, "/type").is_empty() {
            meta::copy_field(new, old, "type");
        }
    }

    fn validate(secret: &Self::Object, errors: &mut Errors) {
        let path = FieldPath::root("data");
        for key in secret.data.iter().flatten().map(|(key, _)| key) {
            refuse(&path.key(key), key, names::config_key(key), errors);
        }
        if size(&secret.data) > MAX_DATA {
            errors.push(FieldError::too_long(&path, MAX_DATA));
        }
        let kind = validate::text(&secret.type_);
        // A key without anything in it is no key.
        let counts = |key: &str, value: &ByteString| key != SSH_KEY || !value.0.is_empty();
        let has = |key: &str| secret.data.iter().flatten().any(|(name, v)| name == key && counts(key, v));
        for (_, groups) in NEEDED.iter().filter(|(of, _)| *of == kind) {
            for keys in *groups {
                if !keys.iter().any(|key| has(key)) {
                    errors.extend(keys.iter().map(|key| FieldError::required(&path.key(key), "")));
                }
            }
        }
        for key in [".dockercfg", ".dockerconfigjson"] {
            let fits = kind.strip_prefix("kubernetes.io/") == key.strip_prefix('.');
            if let (true, Some(value)) = (fits, secret.data.as_ref().and_then(|d| d.get(key))) {
                // The value is secret, so the message does not repeat it.
                if let Err(why) = docker_configuration(&value.0) {
                    errors.push(FieldError::invalid(&path.key(key), "<secret contents redacted>", why));
                }
            }
        }
        if kind == ACCOUNT_TOKEN {
            let name = secret.metadata.annotations.as_ref().and_then(|a| a.get(ACCOUNT_NAME));
            if name.is_none_or(String::is_empty) {
                let at = FieldPath::root("metadata").child("annotations").key(ACCOUNT_NAME);
                errors.push(FieldError::required(&at, ""));
            }
        }
    }

    fn validate_update(new: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        if new.type_ != old.type_ {
            let kind = validate::text(&new.type_);
            errors.push(FieldError::invalid(&FieldPath::root("type"), kind, names::IMMUTABLE));
        }
        if old.immutable == Some(true) {
            stays_immutable(new.immutable, errors);
            unchanged("data", entries(&new.data), entries(&old.data), errors);
        }
        Self::validate(new, errors);
    }
}
