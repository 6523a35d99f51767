//! Reading types from objects without `metadata.managedFields`: no rule looks at them (they are checked where they are
//! tracked), and they are often most of an object.

use serde::de::value::MapDeserializer;
use serde::de::{Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Value};

/// An object as a source without its fields' managers.
#[derive(Clone, Copy)]
pub(super) struct Lean<'a> {
    object: &'a Value,
    has_spec: bool,
}

impl<'a> Lean<'a> {
    /// The object.
    pub(super) fn of(object: &'a Value) -> Self {
        Lean { object, has_spec: true }
    }

    /// The object as if it had no `spec`.
    pub(super) fn without_spec(object: &'a Value) -> Self {
        Lean { object, has_spec: false }
    }
}

impl<'de> Deserializer<'de> for Lean<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Value::Object(fields) = self.object else { return self.object.deserialize_any(visitor) };
        let read = fields.iter().filter(|(name, _)| self.has_spec || *name != "spec");
        let parts = read.map(|(name, value)| {
            let part = if name == "metadata" { Part::Metadata(value) } else { Part::Whole(value) };
            (name.as_str(), part)
        });
        MapDeserializer::new(parts).deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// A field of an object.
#[derive(Clone, Copy)]
enum Part<'a> {
    Whole(&'a Value),
    Metadata(&'a Value),
}

impl<'de> IntoDeserializer<'de, Error> for Part<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// Passes a question on to the value.
macro_rules! pass_on {
    ($($method:ident($($argument:ident: $kind:ty),*)),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, $($argument: $kind,)* visitor: V) -> Result<V::Value, Error> {
            match self {
                Part::Whole(value) => value.$method($($argument,)* visitor),
                Part::Metadata(_) => self.deserialize_any(visitor),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Part<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Part::Metadata(Value::Object(fields)) => {
                let kept = fields.iter().filter(|(name, _)| *name != "managedFields");
                MapDeserializer::new(kept.map(|(name, value)| (name.as_str(), value)))
                    .deserialize_any(visitor)
            }
            Part::Whole(value) | Part::Metadata(value) => value.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Part::Metadata(Value::Object(_)) => visitor.visit_some(self),
            Part::Whole(value) | Part::Metadata(value) => value.deserialize_option(visitor),
        }
    }

    pass_on! {
        deserialize_unit_struct(name: &'static str),
        deserialize_newtype_struct(name: &'static str),
        deserialize_tuple_struct(name: &'static str, len: usize),
        deserialize_tuple(len: usize),
        deserialize_struct(name: &'static str, fields: &'static [&'static str]),
        deserialize_enum(name: &'static str, variants: &'static [&'static str]),
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit seq map identifier
        ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{ConfigMap, Pod};
    use serde::Deserialize;
    use serde_json::json;

    #[test]
    fn all_but_the_managers_is_read() {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "labels": {"managedFields": "kept"}, "managedFields": [{"manager": "m"}]},
            "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}], "nodeName": "n"},
            "status": null,
        });
        let lean = Pod::deserialize(Lean::of(&pod)).unwrap();
        let without_spec = Pod::deserialize(Lean::without_spec(&pod)).unwrap();
        pod["metadata"]["managedFields"].take();
        assert_eq!(lean, Pod::deserialize(&pod).unwrap());
        assert_eq!(without_spec, Pod { spec: None, ..lean });
        let map = json!({"metadata": {"name": "a"}, "data": {"k": "v"}, "immutable": true});
        assert_eq!(ConfigMap::deserialize(Lean::of(&map)).unwrap(), ConfigMap::deserialize(&map).unwrap());
        assert_eq!(Value::deserialize(Lean::of(&map)).unwrap(), map);
        for wrong in [json!([]), json!("x"), json!({"metadata": []}), json!({"metadata": {"name": 1}})] {
            assert!(Pod::deserialize(Lean::of(&wrong)).is_err(), "{wrong}");
        }
    }
}
