//! The types of objects as expressions see them, from the schemas that OpenAPI tells of.

use std::collections::BTreeMap;
use std::sync::Arc;

use carrack_api::Resource;
use carrack_api::schema::{Shape, TypeId, registry};
use carrack_cel::{DYN, Max, ObjectType, STRING, Type, escape, schema_type};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The type of a resource's objects. What its schema leaves open is `dyn`: quantities, and numbers that may be texts.
pub(super) fn object_type(row: &Resource) -> Type {
    let Some(custom) = row.custom() else {
        return of_shape(&row.schema.shape(), row.kind, &mut Vec::new());
    };
    let own = schema_type(&custom.version().source, true).unwrap_or(DYN);
    let Type::Object(object) = own else { return own };
    let mut fields = object.fields.clone();
    // Definitions do not spell out the metadata that every object has.
    if let Some(id) = registry().find(OBJECT_META) {
        let path = format!("{}.metadata", row.kind);
        fields.insert("metadata".to_owned(), of_object(id, &path, &mut Vec::new()));
    }
    Type::Object(Arc::new(ObjectType { name: row.kind.to_owned(), fields, plain: false }))
}

fn of_shape(shape: &Shape, path: &str, above: &mut Vec<TypeId>) -> Type {
    match shape {
        Shape::Object(id) => of_object(*id, path, above),
        Shape::List(element) => Type::list(of_shape(element, path, above)),
        Shape::Map(value) => Type::map(STRING, of_shape(value, path, above)),
        Shape::Text => STRING,
        Shape::Bytes => Type::Bytes(Max::UNKNOWN),
        Shape::Int32 | Shape::Int64 => Type::Int,
        Shape::Number => Type::Double,
        Shape::Bool => Type::Bool,
        Shape::Time | Shape::MicroTime => Type::Timestamp,
        Shape::ObjectOrBool(_) | Shape::Quantity | Shape::IntOrString | Shape::Any => DYN,
    }
}

/// `above` are the types that this one is inside of: one that holds itself has no end, and is left open.
fn of_object(id: TypeId, path: &str, above: &mut Vec<TypeId>) -> Type {
    if above.contains(&id) {
        return DYN;
    }
    above.push(id);
    let fields: BTreeMap<String, Type> = registry()
        .get(id)
        .fields
        .iter()
        .filter(|field| escape(&field.name).is_some())
        .map(|field| {
            let below = format!("{path}.{}", field.name);
            (field.name.to_string(), of_shape(&field.shape, &below, above))
        })
        .collect();
    above.pop();
    Type::Object(Arc::new(ObjectType { name: path.to_owned(), fields, plain: false }))
}
