//! All kinds that are served at one moment: the rows of the table, and those of custom resources, which come and go.
//!
//! A catalogue never changes: whoever holds one sees one state, and a change of custom resources makes a new one.
//! What is costly to derive of it (OpenAPI documents) is kept with it.

use std::collections::HashSet;
use std::ops::Deref;
use std::sync::{Arc, LazyLock, OnceLock};

use parking_lot::Mutex;

use crate::openapi::Documents;
use crate::resource::Resource;

/// A row: one of the table, or one that lives as long as somebody holds it. Cheap to clone.
#[derive(Clone)]
pub enum ResourceRef {
    /// A built-in kind.
    Builtin(&'static Resource),
    /// A custom resource.
    Custom(Arc<Resource>),
}

impl Deref for ResourceRef {
    type Target = Resource;

    fn deref(&self) -> &Resource {
        match self {
            ResourceRef::Builtin(row) => row,
            ResourceRef::Custom(row) => row,
        }
    }
}

impl From<&'static Resource> for ResourceRef {
    fn from(row: &'static Resource) -> Self {
        ResourceRef::Builtin(row)
    }
}

impl std::fmt::Debug for ResourceRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}

/// The kinds of one moment.
#[derive(Default)]
pub struct Catalogue {
    custom: Vec<Arc<Resource>>,
    terminating: HashSet<&'static str>,
    documents: OnceLock<Documents>,
}

impl Catalogue {
    /// The table alone.
    pub fn builtin() -> &'static Catalogue {
        static BUILTIN: OnceLock<Catalogue> = OnceLock::new();
        BUILTIN.get_or_init(Catalogue::default)
    }

    /// The table and these rows of custom resources, a group's preferred version first; `terminating` are the storage
    /// prefixes of those whose definition is being deleted.
    pub fn with(custom: Vec<Arc<Resource>>, terminating: HashSet<&'static str>) -> Self {
        Catalogue { custom, terminating, documents: OnceLock::new() }
    }

    /// Whether the definition of a resource is being deleted, so that nothing new may be made.
    pub fn is_terminating(&self, resource: &Resource) -> bool {
        self.terminating.contains(resource.storage_prefix)
    }

    /// Whether a row that was taken from a catalogue is in this one, too.
    pub fn still_has(&self, row: &ResourceRef) -> bool {
        match row {
            ResourceRef::Builtin(_) => true,
            ResourceRef::Custom(row) => self.custom.iter().any(|other| Arc::ptr_eq(other, row)),
        }
    }

    /// Whether both serve the same rows in the same state.
    pub fn is_same(&self, other: &Catalogue) -> bool {
        self.terminating == other.terminating
            && self.custom.len() == other.custom.len()
            && self.custom.iter().zip(&other.custom).all(|(a, b)| Arc::ptr_eq(a, b))
    }

    /// The rows of custom resources.
    pub fn custom(&self) -> &[Arc<Resource>] {
        &self.custom
    }

    /// All rows, those of the table first.
    pub fn rows(&self) -> impl Iterator<Item = &Resource> {
        crate::resources().iter().chain(self.custom.iter().map(|row| &**row))
    }

    fn pick(&self, fits: impl Fn(&Resource) -> bool) -> Option<ResourceRef> {
        let builtin = crate::resources().iter().find(|row| fits(row)).map(ResourceRef::Builtin);
        builtin.or_else(|| self.custom.iter().find(|row| fits(row)).cloned().map(ResourceRef::Custom))
    }

    /// The resource of a path.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<ResourceRef> {
        self.pick(|r| r.plural == plural && r.group == group && r.version == version)
    }

    /// The resource of a kind.
    pub fn find_kind(&self, group: &str, version: &str, kind: &str) -> Option<ResourceRef> {
        self.pick(|r| r.kind == kind && r.group == group && r.version == version)
    }

    /// The OpenAPI documents, made when they are asked for.
    pub(crate) fn documents(&self) -> &Documents {
        self.documents.get_or_init(Documents::default)
    }
}

/// The same text with the life of the process. Each distinct text is kept once, for ever: to be used for names of
/// kinds, groups and versions alone, which are short, few, and come back with the same text whenever a definition
/// changes.
pub(crate) fn intern(text: &str) -> &'static str {
    static KNOWN: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock();
    if let Some(found) = known.get(text) {
        return found;
    }
    let kept: &'static str = Box::leak(text.to_owned().into_boxed_str());
    known.insert(kept);
    kept
}
