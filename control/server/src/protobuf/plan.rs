//! What writing a message needs of its type: for each field by name, its number and its shape, looked up once.

use std::collections::HashMap;
use std::sync::OnceLock;

use carrack_api::schema::{ObjectType, Shape, registry};

use super::numbers::{self, Entry, Numbers};

/// The numbers that lead to a field: its own, behind those of the messages that are inlined in JSON; 0 fills up.
pub(super) type Path = [u32; 3];

/// A field.
pub(super) struct Field {
    name: &'static str,
    /// Where it goes.
    pub(super) path: Path,
    /// What it holds.
    pub(super) shape: &'static Shape,
    /// Whether that stands in field 1 of a message around it.
    pub(super) wrapped: bool,
}

/// The fields of a type, sorted by name.
pub(super) struct Plan(Box<[Field]>);

impl Plan {
    fn new(kind: &'static ObjectType, numbers: &Numbers) -> Option<Plan> {
        let mut fields = Vec::new();
        collect(kind, numbers, [0; 3], 0, &mut fields)?;
        fields.sort_unstable_by_key(|field| field.name);
        Some(Plan(fields.into()))
    }

    /// The field of that name.
    pub(super) fn field(&self, name: &str) -> Option<&Field> {
        self.0.binary_search_by(|field| field.name.cmp(name)).ok().map(|at| &self.0[at])
    }
}

/// Adds the fields of a type, and those of messages that are inlined in it; `None` when these nest too deeply.
fn collect(
    kind: &'static ObjectType,
    numbers: &Numbers,
    outer: Path,
    depth: usize,
    out: &mut Vec<Field>,
) -> Option<()> {
    for (number, entry) in numbers {
        let mut path = outer;
        *path.get_mut(depth)? = *number;
        match entry {
            Entry::Inline(inner) => collect(kind, inner, path, depth + 1, out)?,
            Entry::Field { name, wrapped, .. } => {
                if let Some(field) = kind.field(name) {
                    out.push(Field { name, path, shape: &field.shape, wrapped: *wrapped });
                }
            }
        }
    }
    Some(())
}

/// The plan of a type of the registry; `None` when it has no message.
pub(super) fn of(kind: &'static ObjectType) -> Option<&'static Plan> {
    // Types live in the one registry for good, so that their addresses are their identities.
    static BY_ADDRESS: OnceLock<HashMap<usize, Plan>> = OnceLock::new();
    let all = BY_ADDRESS.get_or_init(|| {
        let known = |(_, kind): (&str, &'static ObjectType)| {
            let plan = match numbers::of(kind) {
                Some(numbers) => Plan::new(kind, numbers)?,
                // A type without fields needs no row.
                None if kind.fields.is_empty() => Plan(Box::default()),
                None => return None,
            };
            Some((std::ptr::from_ref(kind).addr(), plan))
        };
        registry().types().filter_map(known).collect()
    });
    all.get(&std::ptr::from_ref(kind).addr())
}
