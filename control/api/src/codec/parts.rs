//! Reading a few parts of stored objects: what an index or a selector looks at, without values of all the rest.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Which fields of an object are read, and which of theirs: a tree whose leaves are read whole. Of lists each element is
/// read in the same way.
#[derive(Clone, Debug, Default)]
pub struct Parts(Vec<(Cow<'static, str>, Parts)>);

impl Parts {
    /// The parts at these paths. `*` stands for the elements of a list, and may be left out.
    pub fn at<P: IntoIterator<Item = S>, S: Into<Cow<'static, str>>>(
        paths: impl IntoIterator<Item = P>,
    ) -> Self {
        let mut all = Parts::default();
        for path in paths {
            let mut within = &mut all;
            for name in path {
                let name = name.into();
                if name != "*" {
                    within = within.field(name);
                }
            }
        }
        all
    }

    fn field(&mut self, name: Cow<'static, str>) -> &mut Parts {
        let at = self.0.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            self.0.push((name, Parts::default()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }

    /// Reads the parts of the text of a stored object; fails when it is damaged. What is not there is absent.
    pub fn read(&self, text: &[u8]) -> Result<Value, serde_json::Error> {
        let mut source = serde_json::Deserializer::from_slice(text);
        let value = self.deserialize(&mut source)?;
        source.end()?;
        Ok(value)
    }
}

impl<'de> DeserializeSeed<'de> for &Parts {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Value, D::Error> {
        if self.0.is_empty() { Value::deserialize(source) } else { source.deserialize_any(self) }
    }
}

impl<'de> Visitor<'de> for &Parts {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a part of an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut source: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(Key(key)) = source.next_key::<Key<'de>>()? {
            match self.0.iter().find(|(name, _)| *name == key) {
                Some((_, parts)) => {
                    out.insert(key.into_owned(), source.next_value_seed(parts)?);
                }
                None => {
                    source.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(out.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut source: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while let Some(value) = source.next_element_seed(self)? {
            out.push(value);
        }
        Ok(out.into())
    }

    // Where fields are looked for and none can be, there is nothing.
    fn visit_bool<E: Error>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

/// A key, borrowed where it has no escapes.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Key<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parts_are_read_and_nothing_else() {
        let paths: [&[&str]; 4] = [
            &["metadata", "labels"],
            &["spec", "nodeName"],
            &["spec", "list", "*", "name"],
            &["status", "phase"],
        ];
        let parts = Parts::at(paths.map(|path| path.iter().copied()));
        let object = json!({
            "metadata": {"labels": {"a": "b"}, "name": "n", "managedFields": [{"f": {}}]},
            "spec": {"nodeName": "node", "list": [{"name": "one", "more": [1, 2]}, {"more": {}}, 3], "x": null},
            "status": "of a wrong type"
        });
        let expected = json!({
            "metadata": {"labels": {"a": "b"}},
            "spec": {"nodeName": "node", "list": [{"name": "one"}, {}, null]},
            "status": null
        });
        assert_eq!(parts.read(object.to_string().as_bytes()).unwrap(), expected);
        for damaged in ["", "{", "{\"spec\":{\"x\":}}", "{} {}"] {
            assert!(parts.read(damaged.as_bytes()).is_err(), "{damaged}");
        }
    }

    #[test]
    fn keys_may_be_escaped() {
        let parts = Parts::at([["spec", "nodeName"]]);
        let read = parts.read(br#"{"sp\u0065c":{"node\u004eame":"n"}}"#).unwrap();
        assert_eq!(read, json!({"spec": {"nodeName": "n"}}));
    }
}
