//! One row of the table of kinds: what a resource is called, where it is served and stored, and who decides for it.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::custom::Custom;
use crate::schema::TypeRef;
use crate::strategy::Strategy;
use crate::table::Printer;

/// Whether objects of a resource live in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Names are unique in a namespace; paths carry `/namespaces/{namespace}/`.
    Namespaced,
    /// Names are unique in the cluster.
    Cluster,
}

/// What can be asked of a resource, in the words of discovery and RBAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// POST to the collection.
    Create,
    /// DELETE of one object.
    Delete,
    /// DELETE of the collection.
    DeleteCollection,
    /// GET of one object.
    Get,
    /// GET of the collection.
    List,
    /// PATCH of one object.
    Patch,
    /// PUT of one object.
    Update,
    /// GET with `watch=true`.
    Watch,
}

impl Verb {
    /// The eight verbs of an ordinary resource.
    pub const ALL: &'static [Verb] = &[
        Verb::Create,
        Verb::Delete,
        Verb::DeleteCollection,
        Verb::Get,
        Verb::List,
        Verb::Patch,
        Verb::Update,
        Verb::Watch,
    ];

    /// The verb as discovery and RBAC write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Create => "create",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Patch => "patch",
            Verb::Update => "update",
            Verb::Watch => "watch",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Group, version and kind; the core group is the empty string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupVersionKind {
    /// API group, empty for core.
    pub group: &'static str,
    /// API version such as `v1`.
    pub version: &'static str,
    /// Kind such as `Pod`.
    pub kind: &'static str,
}

/// A path below an object, such as `status` or `log`.
#[derive(Clone, Copy, Debug)]
pub struct Subresource {
    /// Last path segment: `status`, `scale`, `log`, …
    pub name: &'static str,
    /// What a request's body or an answer is.
    pub kind: GroupVersionKind,
    /// Verbs answered.
    pub verbs: &'static [Verb],
}

/// How a version that is not the stored one is translated. Both directions must keep every field.
#[derive(Clone, Copy)]
pub struct Conversion {
    /// From the served form to the stored form, `apiVersion` and `kind` included.
    pub to_storage: fn(&mut Value),
    /// From the stored form to the served form.
    pub from_storage: fn(&mut Value),
    /// The rules of writes in this version, about the stored form.
    pub(crate) rules: &'static dyn Strategy,
}

/// A resource in one served version. All that the machinery knows about a kind hangs on this row.
pub struct Resource {
    /// API group, empty for core.
    pub group: &'static str,
    /// Served version.
    pub version: &'static str,
    /// `group/version`, or the version alone for core, as objects carry it.
    pub api_version: &'static str,
    /// Kind in CamelCase.
    pub kind: &'static str,
    /// Kind of a list.
    pub list_kind: &'static str,
    /// Name in paths, lower case plural.
    pub plural: &'static str,
    /// Lower case singular.
    pub singular: &'static str,
    /// Abbreviations that kubectl accepts.
    pub(crate) short_names: &'static [&'static str],
    /// Groups of resources such as `all`.
    pub(crate) categories: &'static [&'static str],
    /// Namespaced or not.
    pub scope: Scope,
    /// Verbs answered, in alphabetical order.
    pub verbs: &'static [Verb],
    /// Paths below an object.
    pub(crate) subresources: &'static [Subresource],
    /// Key prefix in the store, with both slashes: `/registry/pods/`. Empty for resources that are answered and never
    /// stored (reviews).
    pub storage_prefix: &'static str,
    /// The form in which objects are stored; differs from this row's own kind only when `conversion` is there.
    pub storage: GroupVersionKind,
    /// Translation from and to `storage`, absent when this row is the stored form.
    pub conversion: Option<Conversion>,
    /// Defaults, validation and rules of update.
    pub(crate) strategy: &'static dyn Strategy,
    /// The shape of an object.
    pub schema: TypeRef,
    /// Columns of Table output.
    pub(crate) printer: Printer,
    /// What a custom resource has in place of the fields above that only this package reads; `None` for built-in kinds.
    pub(crate) custom: Option<Arc<Custom>>,
}

impl Resource {
    /// `deployments.apps`, or `pods` for the core group: how messages name the resource.
    pub fn group_resource(&self) -> String {
        qualified(self.plural, self.group)
    }

    /// `Deployment.apps`, or `Pod` for the core group.
    pub fn group_kind(&self) -> String {
        qualified(self.kind, self.group)
    }

    /// This row's group, version and kind.
    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind { group: self.group, version: self.version, kind: self.kind }
    }

    /// What a custom resource has of its own; `None` for built-in kinds.
    pub fn custom(&self) -> Option<&Arc<Custom>> {
        self.custom.as_ref()
    }

    /// Abbreviations that kubectl accepts.
    pub fn short_names(&self) -> Vec<&str> {
        self.custom.as_ref().map_or_else(|| self.short_names.to_vec(), |custom| custom.short_names())
    }

    /// Groups of resources such as `all`.
    pub fn categories(&self) -> Vec<&str> {
        self.custom.as_ref().map_or_else(|| self.categories.to_vec(), |custom| custom.categories())
    }

    /// Paths below an object, in the order of their names.
    pub fn subresources(&self) -> &[Subresource] {
        self.custom.as_ref().map_or(self.subresources, |custom| custom.subresources())
    }

    /// Defaults, validation and rules of update.
    pub fn strategy(&self) -> &dyn Strategy {
        match &self.custom {
            Some(custom) => &**custom,
            None => self.strategy,
        }
    }

    /// The rules of the form that is stored, which is the form that writes work on.
    pub fn stored_strategy(&self) -> &dyn Strategy {
        self.conversion.map_or_else(|| self.strategy(), |conversion| conversion.rules)
    }

    /// Whether objects have a form in protobuf: custom resources have none, nor has what is used here.
    pub fn has_protobuf(&self) -> bool {
        self.custom.is_none() && self.group != crate::kinds::METRICS_GROUP
    }

    /// The subresource of that name, if there is one.
    pub fn subresource(&self, name: &str) -> Option<Subresource> {
        self.subresources().iter().find(|s| s.name == name).copied()
    }

    /// Whether `verb` is answered for the resource itself.
    pub fn allows(&self, verb: Verb) -> bool {
        self.verbs.contains(&verb)
    }

    /// Whether objects have a `status` subresource.
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    /// `/api/v1` or `/apis/apps/v1`.
    pub fn root_path(&self) -> String {
        if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        }
    }

    /// The store's key of one object. `namespace` is ignored for cluster-scoped resources.
    pub fn key(&self, namespace: &str, name: &str) -> String {
        match self.scope {
            Scope::Namespaced => [self.storage_prefix, namespace, "/", name].concat(),
            Scope::Cluster => [self.storage_prefix, name].concat(),
        }
    }

    /// The prefix of all keys of a namespace, or of the resource when `namespace` is empty.
    pub fn list_prefix(&self, namespace: &str) -> String {
        if namespace.is_empty() || self.scope == Scope::Cluster {
            self.storage_prefix.to_owned()
        } else {
            format!("{}{namespace}/", self.storage_prefix)
        }
    }

    /// Whether this row's form is the one that is stored, so that stored bytes can be sent as they are. What is stored
    /// of custom resources is completed by their schema when it is read.
    pub fn is_storage_version(&self) -> bool {
        self.conversion.is_none() && self.custom.is_none()
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.api_version, self.plural)
    }
}

/// `name.group`, or `name` alone for the core group.
pub(crate) fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}
