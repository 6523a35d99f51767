//! The shapes of all served types, as data: what fields a type has, of what type each is, and how lists merge.
//!
//! Types and descriptions come from `k8s-openapi`'s schemas; what those leave out (merge keys, list kinds) is the table
//! in `lists.rs`. Strict decoding, strategic merge and OpenAPI all read this one registry, which is built once.

pub mod always;
mod atomic;
mod enums;
mod lists;
mod more_lists;
mod shape;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use k8s_openapi::schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::Value;

pub use enums::Allowed;
pub use lists::{ListKind, ListRule, RULES, rules};
pub use shape::{Field, ObjectType, Shape, TypeId};

/// A type of the API by its OpenAPI name, with the means to describe it.
#[derive(Clone, Copy)]
pub struct TypeRef {
    /// Name such as `io.k8s.api.core.v1.Pod`.
    pub name: &'static str,
    define: fn(&mut SchemaGenerator) -> Schema,
}

impl TypeRef {
    /// The type `T`, whose OpenAPI name is `name`.
    pub const fn of<T: JsonSchema>(name: &'static str) -> Self {
        TypeRef { name, define: SchemaGenerator::subschema_for::<T> }
    }

    /// The type of a custom resource: the name alone, for OpenAPI. Its schema is with the row.
    pub(crate) const fn custom(name: &'static str) -> Self {
        TypeRef { name, define: SchemaGenerator::subschema_for::<serde_json::Value> }
    }

    /// The type's shape. Every type that this crate names is registered; [`Shape::Any`] answers for others.
    pub fn shape(&self) -> Shape {
        registry().find(self.name).map_or(Shape::Any, Shape::Object)
    }
}

impl std::fmt::Debug for TypeRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Bodies that are not rows of the table themselves.
pub mod bodies {
    use super::TypeRef;
    use k8s_openapi::api::{authentication, autoscaling, core, policy};
    use k8s_openapi::apimachinery::pkg::apis::meta;

    /// Body of `pods/binding`.
    pub const BINDING: TypeRef = TypeRef::of::<core::v1::Binding>("io.k8s.api.core.v1.Binding");
    /// Body of `pods/eviction`.
    pub const EVICTION: TypeRef = TypeRef::of::<policy::v1::Eviction>("io.k8s.api.policy.v1.Eviction");
    /// Body of `*/scale`.
    pub const SCALE: TypeRef = TypeRef::of::<autoscaling::v1::Scale>("io.k8s.api.autoscaling.v1.Scale");
    /// Body of `serviceaccounts/token`.
    pub const TOKEN_REQUEST: TypeRef =
        TypeRef::of::<authentication::v1::TokenRequest>("io.k8s.api.authentication.v1.TokenRequest");
    /// Body of a DELETE.
    pub const DELETE_OPTIONS: TypeRef =
        TypeRef::of::<meta::v1::DeleteOptions>("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions");
    /// A refusal.
    pub const STATUS: TypeRef =
        TypeRef::of::<meta::v1::Status>("io.k8s.apimachinery.pkg.apis.meta.v1.Status");
    /// Metadata of lists.
    pub const LIST_META: TypeRef =
        TypeRef::of::<meta::v1::ListMeta>("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta");

    /// All of them.
    pub const ALL: &[TypeRef] = &[BINDING, EVICTION, SCALE, TOKEN_REQUEST, DELETE_OPTIONS, STATUS, LIST_META];
}

/// Every known type.
pub struct Registry {
    types: Vec<ObjectType>,
    names: BTreeMap<String, TypeId>,
    raw: BTreeMap<String, Value>,
    plans: always::Plans,
}

impl Registry {
    /// The type of that OpenAPI name.
    pub fn find(&self, name: &str) -> Option<TypeId> {
        self.names.get(name).copied()
    }

    /// A type by its id.
    pub fn get(&self, id: TypeId) -> &ObjectType {
        &self.types[id.index()]
    }

    /// The JSON schema of each type by OpenAPI name, as `k8s-openapi` gives it; references are `#/$defs/<name>`.
    pub fn raw(&self) -> &BTreeMap<String, Value> {
        &self.raw
    }

    /// All types with their OpenAPI names.
    pub fn types(&self) -> impl Iterator<Item = (&str, &ObjectType)> {
        self.names.iter().map(|(name, id)| (name.as_str(), self.get(*id)))
    }
}

/// The registry, built at the first call from all rows of the table (some milliseconds).
pub fn registry() -> &'static Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(build)
}

fn build() -> Registry {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    for resource in crate::resources() {
        (resource.schema.define)(&mut generator);
    }
    for body in bodies::ALL {
        (body.define)(&mut generator);
    }
    let raw: BTreeMap<String, Value> = generator.take_definitions(false).into_iter().collect();
    let names: BTreeMap<String, TypeId> =
        raw.keys().enumerate().map(|(at, name)| (name.clone(), TypeId::new(at))).collect();
    let types = raw.iter().map(|(name, schema)| shape::object_type(name, schema, &names)).collect();
    let mut registry = Registry { types, names, raw, plans: always::Plans::default() };
    registry.plans = always::Plans::new(&registry);
    registry
}

/// A type's name without what all of them start with: `core.v1.PodSpec`.
fn short(name: &str) -> &str {
    name.strip_prefix("io.k8s.api.")
        .or_else(|| name.strip_prefix("io.k8s.apimachinery.pkg.apis."))
        .unwrap_or(name)
}
