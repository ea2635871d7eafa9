//! Bounds that a schema cannot say to Anthropic. Clients (the SDK among them) tell them to the model at the end of a
//! description, as `{minimum: 0, maximum: 1}`, and the model mostly keeps to them. Pure.

use serde_json::{Map, Number, Value};

const BOUNDS: [&str; 9] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
];

/// The schema with the bounds of its descriptions as keywords.
pub fn heeded(schema: &Value) -> Value {
    match schema {
        Value::Object(node) => {
            let mut heeded: Map<String, Value> =
                node.iter().map(|(key, value)| (key.clone(), self::heeded(value))).collect();
            let told = node.get("description").and_then(Value::as_str).map(bounds).unwrap_or_default();
            for (key, bound) in told {
                heeded.entry(key).or_insert(bound.into());
            }
            heeded.into()
        }
        Value::Array(list) => list.iter().map(heeded).collect(),
        other => other.clone(),
    }
}

fn bounds(description: &str) -> Vec<(&'static str, Number)> {
    let last = description.rsplit_once("\n\n").map_or(description, |(_, last)| last);
    let inside = last.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
    let pairs = inside.unwrap_or("").split(", ").filter_map(|pair| pair.split_once(": "));
    let bound = |(key, value): (&str, &str)| {
        let key = BOUNDS.into_iter().find(|known| *known == key)?;
        Some((key, serde_json::from_str(value).ok()?))
    };
    pairs.filter_map(bound).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bounds_are_read_where_they_end_a_description() {
        let schema = json!({"properties": {
            "a": {"type": "number", "description": "{minimum: 0, maximum: 1.5}"},
            "b": {"type": "string", "description": "A name.\n\n{default: \"x, y\", maxLength: 3}"},
            "c": {"type": "integer", "description": "Not {minimum: 7} here."},
            "description": {"type": "string"},
        }});
        let heeded = heeded(&schema);
        assert_eq!(
            (&heeded["properties"]["a"]["minimum"], &heeded["properties"]["a"]["maximum"]),
            (&json!(0), &json!(1.5))
        );
        assert_eq!(heeded["properties"]["b"]["maxLength"], 3);
        assert_eq!(heeded["properties"]["c"], schema["properties"]["c"]);
    }
}
