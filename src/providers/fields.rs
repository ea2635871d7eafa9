//! Reads the fields of a result row that an answer is made of, and skips the others: most of a reply repeats its request.

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt;

/// What is read of a value.
#[derive(Debug)]
pub enum Fields {
    All,
    /// Of an object, these.
    Of(&'static [(&'static str, Fields)]),
}

impl Fields {
    /// What is read of `line`; None if it is not JSON, or not of this shape.
    pub fn read(&'static self, line: &[u8]) -> Option<Value> {
        let mut deserializer = serde_json::Deserializer::from_slice(line);
        let value = self.deserialize(&mut deserializer).ok()?;
        deserializer.end().ok()?;
        Some(value)
    }
}

impl<'de> DeserializeSeed<'de> for &'static Fields {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self {
            Fields::All => Value::deserialize(deserializer),
            Fields::Of(fields) => deserializer.deserialize_map(Picker { fields }),
        }
    }
}

struct Picker {
    fields: &'static [(&'static str, Fields)],
}

impl<'de> Visitor<'de> for Picker {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        #[derive(Deserialize)]
        struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
        let mut picked = Map::with_capacity(self.fields.len());
        while let Some(Key(key)) = map.next_key()? {
            match self.fields.iter().find(|(name, _)| *name == key) {
                Some((_, fields)) => drop(picked.insert(key.into_owned(), map.next_value_seed(fields)?)),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Value::Object(picked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    static ROW: Fields = Fields::Of(&[("a", Fields::All), ("b", Fields::Of(&[("c", Fields::All)]))]);

    #[test]
    fn only_what_is_read_is_there() {
        let line =
            br#"{"x": [1, {"y": 2}], "a": {"z": 18446744073709551617}, "b": {"c": "d", "e": null}, "\u0061": 1.50}"#;
        assert_eq!(ROW.read(line).unwrap().to_string(), r#"{"a":1.50,"b":{"c":"d"}}"#);
        assert_eq!(ROW.read(b"{}").unwrap(), json!({}));
        // Another shape is for who reads all of it.
        for other in [
            "",
            "[]",
            "3",
            r#"{"b": null}"#,
            r#"{"b": 3}"#,
            r#"{"b": []}"#,
            r#"{"a": 1"#,
            "{} {}",
            r#"{"a": "\ud83d"}"#,
        ] {
            assert!(ROW.read(other.as_bytes()).is_none(), "{other}");
        }
    }
}
