//! The kinds of resource.k8s.io: devices, and claims on them.

mod claim;
mod class;
mod request;
mod slice;
mod status;

use super::prelude::*;

pub(super) use claim::{CLAIM, TEMPLATE};
pub(super) use class::RESOURCE as CLASS;
pub(super) use slice::RESOURCE as SLICE;

/// Longest name of a pool of devices.
const MAX_POOL_NAME: usize = 253;
/// Longest parameters that a driver is handed, as text in bytes.
const MAX_PARAMETERS: usize = 10 * 1024;

fn pool_name(path: &FieldPath, name: &str, errors: &mut Errors) {
    if require(path, name, errors) {
        if name.len() > MAX_POOL_NAME {
            errors.push(FieldError::too_long(path, MAX_POOL_NAME));
        }
        for part in name.split('/') {
            refuse(path, part, names::dns1123_subdomain(part), errors);
        }
    }
}

/// Longest name of an attribute or a capacity behind its domain.
const MAX_ID: usize = 32;

/// The name of an attribute or a capacity: `id` or `example.com/id`. Upstream has no rule for what has more slashes.
fn qualified_name(path: &FieldPath, name: &str, errors: &mut Errors) {
    match name.split('/').collect::<Vec<_>>()[..] {
        [id] => identifier(path, id, errors),
        [domain, id] => {
            if domain.is_empty() {
                errors.push(FieldError::invalid(path, "", "the domain must not be empty"));
            } else {
                validate::csi_driver_name(path, domain, errors);
            }
            if id.is_empty() {
                errors.push(FieldError::invalid(path, "", "the name must not be empty"));
            } else {
                identifier(path, id, errors);
            }
        }
        _ => {}
    }
}

fn identifier(path: &FieldPath, id: &str, errors: &mut Errors) {
    if id.len() > MAX_ID {
        errors.push(FieldError::too_long(path, MAX_ID));
    }
    let fits = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && id.bytes().next().is_some_and(|first| !first.is_ascii_digit());
    if !fits {
        let why = "a valid C identifier must start with alphabetic character or '_', followed by a string of \
                   alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for \
                   validation is '[A-Za-z_][A-Za-z0-9_]*')";
        errors.push(FieldError::invalid(path, id, why));
    }
}

/// A list of at most so many.
fn at_most<T>(path: &FieldPath, list: &[T], limit: usize, errors: &mut Errors) {
    if list.len() > limit {
        errors.push(FieldError::too_many(path, list.len(), limit));
    }
}

/// What a driver is handed, which is an object that this server does not look into.
fn opaque(
    of: Option<&k8s_openapi::api::resource::v1::OpaqueDeviceConfiguration>,
    path: &FieldPath,
    errors: &mut Errors,
) {
    let at = path.child("opaque");
    let Some(of) = of else {
        errors.push(FieldError::required(&at, ""));
        return;
    };
    validate::csi_driver_name(&at.child("driver"), &of.driver, errors);
    let (at, text) = (at.child("parameters"), of.parameters.0.to_string());
    if of.parameters.0.is_null() {
        errors.push(FieldError::required(&at, ""));
    } else if text.len() > MAX_PARAMETERS {
        errors.push(FieldError::too_long(&at, MAX_PARAMETERS));
    } else if !of.parameters.0.is_object() {
        errors.push(FieldError::invalid(&at, "<value omitted>", "must be a valid JSON object"));
    }
}
