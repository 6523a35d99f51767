//! Volumes behind iSCSI.

use serde_json::Value;

use super::Errors;
use super::volume_plugins::{Place, byte};
use crate::status::{FieldError, FieldPath};
use crate::table::read::{integer, text};

const FORM: &str = "must be valid format";
const KINDS: &str = "must be valid format starting with iqn, eui, or naa";
/// Longest name of a volume with its portal behind, where the initiator has a name: the node makes an interface of both.
const MAX_INTERFACE: usize = 64;

/// The source `iscsi` of a volume at `path`.
pub(super) fn check(source: &Value, place: Place<'_>, path: &FieldPath, errors: &mut Errors) {
    let at = path.child("iscsi");
    let portal = text(source, "/targetPortal");
    if portal.is_empty() {
        errors.push(FieldError::required(&at.child("targetPortal"), ""));
    }
    let initiator = source.get("initiatorName").and_then(Value::as_str);
    let too_long = initiator.is_some() && place.volume.len() + 1 + portal.len() > MAX_INTERFACE;
    let why = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if \
               iscsi.initiatorName is specified.";
    if too_long && place.persistent {
        errors.push(FieldError::invalid(&at.child("targetportal"), portal, why));
    }
    let iqn = text(source, "/iqn");
    if iqn.is_empty() {
        errors.push(FieldError::required(&at.child("iqn"), ""));
    } else {
        name(iqn, place, &at.child("iqn"), errors);
    }
    byte(integer(source, "/lun"), 0, &at.child("lun"), errors);
    let asks = |field: &str| source.get(field).and_then(Value::as_bool) == Some(true);
    let secret = source.get("secretRef").filter(|secret| secret.is_object());
    if secret.is_none() && (asks("chapAuthDiscovery") || asks("chapAuthSession")) {
        errors.push(FieldError::required(&at.child("secretRef"), ""));
    }
    if place.persistent && secret.is_some_and(|secret| text(secret, "/name").is_empty()) {
        errors.push(FieldError::required(&at.child("secretRef").child("name"), ""));
    }
    if let Some(initiator) = initiator {
        // The path is upstream's.
        name(initiator, place, &at.child("initiatorname"), errors);
    }
    if too_long && !place.persistent {
        errors.push(FieldError::invalid(&path.child("name"), place.volume, why));
    }
}

/// The name of a target or an initiator, in one of three forms.
fn name(given: &str, place: Place<'_>, path: &FieldPath, errors: &mut Errors) {
    let alphanumeric = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let behind = |prefix: &str| {
        let mut rest = given.strip_prefix(prefix)?.chars();
        rest.next().map(|_| rest.as_str())
    };
    let why = match given.get(..3) {
        Some("iqn") if is_qualified(given) => return,
        Some("eui") if behind("eui").is_some_and(|rest| alphanumeric(rest, 16)) => return,
        Some("naa") if behind("naa").is_some_and(|rest| alphanumeric(rest, 32)) => return,
        Some("iqn" | "eui" | "naa") => FORM,
        _ if place.persistent => FORM,
        _ => KINDS,
    };
    errors.push(FieldError::invalid(path, given, why));
}

/// `iqn.2014-12.com.example:what`.
fn is_qualified(name: &str) -> bool {
    let Some((authority, what)) = name.strip_prefix("iqn.").and_then(|rest| rest.split_once(':')) else {
        return false;
    };
    let mut parts = authority.splitn(2, '.');
    let (date, domain) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    let dated = date.split_once('-').is_some_and(|(year, month)| digits(year, 4) && digits(month, 2));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let printed = |c: char| !matches!(c, ',' | ';' | '*' | '&' | '$' | '|') && !c.is_ascii_whitespace();
    dated && !domain.is_empty() && domain.chars().all(plain) && !what.is_empty() && what.chars().all(printed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told() {
        let wrong = |given: &str| {
            let mut errors = Errors::new();
            let place = Place { volume: "v", persistent: false };
            name(given, place, &FieldPath::root("iqn"), &mut errors);
            errors.pop().map(|error| error.detail)
        };
        let good = ["iqn.2015-02.example.com:test", "iqn.2001-04.com.example:a:b.c", "eui.0123456789ABCDEF"];
        for good in good.into_iter().chain(["naa.60014051234567890123456789012345"]) {
            assert_eq!(wrong(good), None, "{good}");
        }
        for bad in
            ["iqn.a", "iqn.2015-2.example.com:test", "iqn.2015-02.example.com:", "eui.1", "naa.6001405"]
        {
            assert_eq!(wrong(bad).as_deref(), Some(FORM), "{bad}");
        }
        assert_eq!(wrong("abc.2015").as_deref(), Some(KINDS));
    }
}
