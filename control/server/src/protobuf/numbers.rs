//! The field numbers of each type, from `fields.txt`.

use std::collections::HashMap;
use std::sync::OnceLock;

use carrack_api::schema::{ObjectType, registry};

/// What a field number stands for.
#[derive(Debug)]
pub(super) enum Entry {
    /// A field.
    Field {
        /// Its name in JSON.
        name: &'static str,
        /// Whether a zero is a value, and not the absence of one.
        zero_counts: bool,
        /// Whether the value stands in field 1 of a message around it.
        wrapped: bool,
    },
    /// A message whose fields are the outer type's own in JSON.
    Inline(&'static Numbers),
}

/// The fields of a type by their numbers.
pub(super) type Numbers = HashMap<u32, Entry>;

/// The file's text.
pub(super) const TABLE: &str = include_str!("fields.txt");

/// A row of the table: the type's short name, and its fields.
fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    TABLE.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.split_once(' '))
}

/// The OpenAPI name of a short one.
pub(super) fn full_name(short: &str) -> String {
    let package = match short.split('.').next() {
        Some("meta") => "io.k8s.apimachinery.pkg.apis.",
        Some("apiextensions") => "io.k8s.apiextensions-apiserver.pkg.apis.",
        Some("apiregistration") => "io.k8s.kube-aggregator.pkg.apis.",
        _ => "io.k8s.api.",
    };
    format!("{package}{short}")
}

/// The fields of one row.
fn parse(fields: &'static str) -> Numbers {
    let mut numbers = Numbers::new();
    for field in fields.split(' ') {
        let Some((number, name)) = field.split_once(':') else { continue };
        let Ok(number) = number.parse() else { continue };
        let entry = match name.strip_prefix('+') {
            Some(inner) => {
                let Some(inner) = inline(inner) else { continue };
                Entry::Inline(inner)
            }
            None => {
                let (name, wrapped) = name.strip_suffix("/1").map_or((name, false), |name| (name, true));
                Entry::Field { name: name.trim_end_matches('?'), zero_counts: name.ends_with('?'), wrapped }
            }
        };
        numbers.insert(number, entry);
    }
    numbers
}

/// The fields of a type that is only ever part of another. There are a dozen, each parsed once and kept.
fn inline(short: &'static str) -> Option<&'static Numbers> {
    static KEPT: parking_lot::Mutex<Vec<(&str, &Numbers)>> = parking_lot::Mutex::new(Vec::new());
    if let Some((_, known)) = KEPT.lock().iter().find(|(name, _)| *name == short) {
        return Some(*known);
    }
    let (_, fields) = rows().find(|(name, _)| *name == short)?;
    let numbers: &'static Numbers = Box::leak(Box::new(parse(fields)));
    KEPT.lock().push((short, numbers));
    Some(numbers)
}

/// The fields of a type of the registry; `None` when the table does not know it.
pub(super) fn of(kind: &'static ObjectType) -> Option<&'static Numbers> {
    // Types live in the one registry for good, so that their addresses are their identities.
    static BY_ADDRESS: OnceLock<HashMap<usize, Numbers>> = OnceLock::new();
    let all = BY_ADDRESS.get_or_init(|| {
        let known = |(short, fields)| {
            let kind = registry().get(registry().find(&full_name(short))?);
            Some((std::ptr::from_ref(kind).addr(), parse(fields)))
        };
        rows().filter_map(known).collect()
    });
    all.get(&std::ptr::from_ref(kind).addr())
}
