//! Decodes a tree into the types of `api`, through serde. A null field counts as absent, as in the API.

use super::scalar::Scalar;
use super::tree::{YamlNode, YamlValue};
use serde::de::value::{BorrowedStrDeserializer, Error, MapDeserializer, SeqDeserializer};
use serde::de::{Deserializer, IntoDeserializer, Visitor};

impl<'de> IntoDeserializer<'de, Error> for &'de YamlNode<'_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for &'de YamlNode<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.value {
            YamlValue::Scalar(Scalar::Null, _) => visitor.visit_unit(),
            YamlValue::Scalar(Scalar::Bool(value), _) => visitor.visit_bool(*value),
            YamlValue::Scalar(Scalar::Int(value), _) => visitor.visit_i64(*value),
            YamlValue::Scalar(Scalar::Float(value), _) => visitor.visit_f64(*value),
            YamlValue::Scalar(Scalar::Text, text) => visitor.visit_borrowed_str(text),
            YamlValue::List(items) => visitor.visit_seq(SeqDeserializer::new(items.iter())),
            YamlValue::Map(entries) => {
                let written = entries.iter().filter(|entry| !entry.value.is_null());
                let pairs = written.map(|entry| (BorrowedStrDeserializer::new(&entry.key), &entry.value));
                visitor.visit_map(MapDeserializer::new(pairs))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier
    }
}
