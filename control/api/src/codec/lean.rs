//! Reading stored objects without what nobody looks at who only prints, selects or counts them.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::parts::Key;

/// An object without `metadata.managedFields`, which is often most of it, and the text of its metadata.
pub struct Lean<'a> {
    /// The object.
    pub object: Value,
    /// The text of its metadata, whole.
    pub metadata: &'a str,
}

/// Reads the text of a stored object; fails when it is damaged.
pub fn read_lean(text: &[u8]) -> Result<Lean<'_>, serde_json::Error> {
    let mut source = serde_json::Deserializer::from_slice(text);
    let lean = source.deserialize_map(Reader)?;
    source.end()?;
    Ok(lean)
}

/// Reads an object, the text of its metadata beside it.
struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Lean<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut source: A) -> Result<Lean<'de>, A::Error> {
        let (mut object, mut metadata) = (Map::new(), "{}");
        while let Some(key) = source.next_key::<Key<'de>>()? {
            let value = if key.0 == "metadata" {
                let raw: &RawValue = source.next_value()?;
                metadata = raw.get();
                let mut inner = serde_json::Deserializer::from_str(metadata);
                Metadata.deserialize(&mut inner).map_err(serde::de::Error::custom)?
            } else {
                source.next_value()?
            };
            object.insert(key.0.into_owned(), value);
        }
        Ok(Lean { object: object.into(), metadata })
    }
}

/// Reads metadata without the fields' managers.
struct Metadata;

impl<'de> DeserializeSeed<'de> for Metadata {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Value, D::Error> {
        source.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Metadata {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the metadata of an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut source: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = source.next_key::<Key<'de>>()? {
            if key.0 == "managedFields" {
                source.next_value::<IgnoredAny>()?;
            } else {
                out.insert(key.0.into_owned(), source.next_value()?);
            }
        }
        Ok(out.into())
    }
}
