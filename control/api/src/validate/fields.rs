//! Which fields of a typed value are set, without writing their values down.

use serde::ser::{Error as _, Impossible, Serialize, SerializeStruct, Serializer};

/// What a serializer says of a value that is no object: such a value has no fields.
type Failure = serde_json::Error;

/// The names of the fields that `value` would be written with, in the order of its type; none for what is no object.
pub(crate) fn fields_of<T: Serialize + ?Sized>(value: &T) -> Vec<&'static str> {
    value.serialize(Names).unwrap_or_default()
}

/// Takes in the one object.
struct Names;

/// Takes in its fields.
#[derive(Default)]
struct Fields(Vec<&'static str>);

impl SerializeStruct for Fields {
    type Ok = Vec<&'static str>;
    type Error = Failure;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, _: &T) -> Result<(), Failure> {
        self.0.push(key);
        Ok(())
    }

    fn end(self) -> Result<Vec<&'static str>, Failure> {
        Ok(self.0)
    }
}

/// Values that are no objects, each with the type it has.
macro_rules! no_object {
    ($($method:ident($($kind:ty),*);)*) => {
        $(fn $method(self, $(_: $kind),*) -> Result<Self::Ok, Failure> {
            Err(Failure::custom("no object"))
        })*
    };
}

/// Compounds that are no objects of named fields.
macro_rules! no_struct {
    ($($method:ident($($kind:ty),*) -> $compound:ident;)*) => {
        $(fn $method(self, $(_: $kind),*) -> Result<Self::$compound, Failure> {
            Err(Failure::custom("no object of named fields"))
        })*
    };
}

impl Serializer for Names {
    type Ok = Vec<&'static str>;
    type Error = Failure;
    type SerializeSeq = Impossible<Self::Ok, Failure>;
    type SerializeTuple = Impossible<Self::Ok, Failure>;
    type SerializeTupleStruct = Impossible<Self::Ok, Failure>;
    type SerializeTupleVariant = Impossible<Self::Ok, Failure>;
    type SerializeMap = Impossible<Self::Ok, Failure>;
    type SerializeStruct = Fields;
    type SerializeStructVariant = Impossible<Self::Ok, Failure>;

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields, Failure> {
        Ok(Fields::default())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Self::Ok, Failure> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Self::Ok, Failure> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Self::Ok, Failure> {
        Err(Failure::custom("no object"))
    }

    no_object! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_f32(f32);
        serialize_f64(f64);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
    }

    no_struct! {
        serialize_seq(Option<usize>) -> SerializeSeq;
        serialize_tuple(usize) -> SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> SerializeTupleVariant;
        serialize_map(Option<usize>) -> SerializeMap;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> SerializeStructVariant;
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Volume, VolumeProjection};

    use super::*;

    #[test]
    fn fields_are_those_that_are_written() {
        let volume = Volume {
            name: "v".into(),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        };
        assert_eq!(fields_of(&volume), ["emptyDir", "name"]);
        assert!(fields_of(&VolumeProjection::default()).is_empty());
        assert!(fields_of("text").is_empty() && fields_of(&[1, 2]).is_empty());
    }
}
