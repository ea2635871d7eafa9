//! The subset of JSON Schema that `strict: true` accepts, from OpenAI's structured-outputs guide. Pure.
//!
//! Two keywords are accepted although the guide does not list them, because OpenAI's own SDK sends them: `default` and the
//! string lengths.

use serde_json::{Map, Value};

const TYPES: [&str; 7] = ["string", "number", "integer", "boolean", "object", "array", "null"];
const FORMATS: [&str; 9] = ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"];
const KEYWORDS: [&str; 32] = [
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "anyOf",
    "enum",
    "const",
    "$ref",
    "$defs",
    "definitions",
    "title",
    "description",
    "pattern",
    "format",
    "multipleOf",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "default",
    "examples",
    "$schema",
    "$id",
    "$comment",
    "deprecated",
    "readOnly",
    "writeOnly",
];

const PROPERTY_LIMIT: usize = 5_000;
const DEPTH_LIMIT: usize = 10;
const ENUM_LIMIT: usize = 1_000;
const NAME_CHARS_LIMIT: usize = 120_000;
const LONG_ENUM: usize = 250;
const LONG_ENUM_CHARS_LIMIT: usize = 15_000;
/// Deeper than the rules allow, and shallow enough for any stack.
const WALK_LIMIT: usize = 100;

/// Checks a schema; the error is the second half of OpenAI's message.
pub fn check(schema: &Value, strict: bool) -> Result<(), String> {
    let kind = match schema.get("type") {
        Some(Value::String(kind)) => kind.as_str(),
        Some(Value::Array(_)) => "array of types",
        _ => "None",
    };
    if kind != "object" {
        return Err(format!("schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{kind}\"'."));
    }
    if !strict {
        return Ok(());
    }
    let mut walk = Walk { root: schema, properties: 0, enum_values: 0, name_chars: 0 };
    walk.node(schema, &mut Vec::new(), 0)?;
    walk.limits()
}

struct Walk<'a> {
    root: &'a Value,
    properties: usize,
    enum_values: usize,
    name_chars: usize,
}

fn at(path: &[String], what: impl std::fmt::Display) -> String {
    let keys: Vec<String> = path.iter().map(|key| format!("'{key}'")).collect();
    let comma = if keys.len() == 1 { "," } else { "" };
    format!("In context=({}{comma}), {what}", keys.join(", "))
}

impl Walk<'_> {
    fn node(&mut self, node: &Value, path: &mut Vec<String>, depth: usize) -> Result<(), String> {
        let Value::Object(map) = node else {
            return Err(at(path, "schema must be an object."));
        };
        if path.len() > 2 * WALK_LIMIT {
            return Err(at(&[], "schema is nested too deeply."));
        }
        if let Some(reference) = map.get("$ref") {
            self.reference(map, reference, path)?;
        } else {
            self.keywords(map, path)?;
            self.types(map, path, depth)?;
        }
        for group in ["$defs", "definitions"] {
            for (name, definition) in map.get(group).and_then(Value::as_object).into_iter().flatten() {
                self.name_chars += name.chars().count();
                self.child(definition, path, &[group, name], 0)?;
            }
        }
        Ok(())
    }

    fn child(&mut self, node: &Value, path: &mut Vec<String>, keys: &[&str], depth: usize) -> Result<(), String> {
        let length = path.len();
        path.extend(keys.iter().map(|key| (*key).to_owned()));
        self.node(node, path, depth)?;
        path.truncate(length);
        Ok(())
    }

    fn reference(&self, map: &Map<String, Value>, reference: &Value, path: &[String]) -> Result<(), String> {
        let siblings: Vec<String> = map
            .keys()
            .filter(|key| *key != "$ref" && *key != "$defs" && *key != "definitions")
            .map(|key| format!("'{key}'"))
            .collect();
        if !siblings.is_empty() {
            return Err(at(path, format!("$ref cannot have keywords {{{}}}.", siblings.join(", "))));
        }
        let pointer = reference.as_str().and_then(|reference| reference.strip_prefix('#'));
        match pointer.and_then(|pointer| self.root.pointer(pointer)) {
            Some(_) => Ok(()),
            None => Err(at(path, format!("reference {reference} can only point to a definition in the same schema."))),
        }
    }

    fn keywords(&self, map: &Map<String, Value>, path: &[String]) -> Result<(), String> {
        match map.keys().find(|key| !KEYWORDS.contains(&key.as_str())) {
            Some(key) => Err(at(path, format!("'{key}' is not permitted."))),
            None => Ok(()),
        }
    }

    fn types(&mut self, map: &Map<String, Value>, path: &mut Vec<String>, depth: usize) -> Result<(), String> {
        self.values(map, path)?;
        if let Some(branches) = map.get("anyOf") {
            let branches = branches.as_array().filter(|branches| !branches.is_empty());
            let branches = branches.ok_or_else(|| at(path, "'anyOf' must be an array of at least one schema."))?;
            for (place, branch) in branches.iter().enumerate() {
                self.child(branch, path, &["anyOf", &place.to_string()], depth)?;
            }
        }
        let kinds: Vec<&str> = match map.get("type") {
            Some(Value::String(kind)) => vec![kind],
            Some(Value::Array(kinds)) => kinds.iter().map(|kind| kind.as_str().unwrap_or("?")).collect(),
            Some(other) => {
                return Err(at(path, format!("{other} is not valid under any of the given schemas.")));
            }
            None if ["anyOf", "enum", "const"].iter().any(|key| map.contains_key(*key)) => Vec::new(),
            None => return Err(at(path, "schema must have a 'type' key.")),
        };
        if let Some(kind) = kinds.iter().find(|kind| !TYPES.contains(kind)) {
            return Err(at(path, format!("'{kind}' is not a valid type.")));
        }
        if kinds.contains(&"object") || map.contains_key("properties") {
            self.object(map, path, depth)?;
        }
        if kinds.contains(&"array") {
            let items = map.get("items").ok_or_else(|| at(path, "array schema missing items."))?;
            self.child(items, path, &["items"], depth)?;
        }
        match map.get("format").map(|format| format.as_str().unwrap_or("?")) {
            Some(format) if !FORMATS.contains(&format) => Err(at(path, format!("'{format}' is not a valid format."))),
            _ => Ok(()),
        }
    }

    fn values(&mut self, map: &Map<String, Value>, path: &[String]) -> Result<(), String> {
        if let Some(constant) = map.get("const") {
            self.name_chars += chars(constant);
        }
        let Some(values) = map.get("enum") else {
            return Ok(());
        };
        let values = values.as_array().filter(|values| !values.is_empty());
        let values = values.ok_or_else(|| at(path, "'enum' must be an array of at least one value."))?;
        let length: usize = values.iter().map(chars).sum();
        if values.len() > LONG_ENUM && values.iter().all(Value::is_string) && length > LONG_ENUM_CHARS_LIMIT {
            let what =
                format!("enum of {} strings has {length} characters, more than {LONG_ENUM_CHARS_LIMIT}.", values.len());
            return Err(at(path, what));
        }
        self.enum_values += values.len();
        self.name_chars += length;
        Ok(())
    }

    fn object(&mut self, map: &Map<String, Value>, path: &mut Vec<String>, depth: usize) -> Result<(), String> {
        if depth >= DEPTH_LIMIT {
            return Err(at(path, format!("schema exceeds maximum nesting depth of {DEPTH_LIMIT}.")));
        }
        if map.get("additionalProperties") != Some(&Value::Bool(false)) {
            return Err(at(path, "'additionalProperties' is required to be supplied and to be false."));
        }
        let none = Map::new();
        let properties = match map.get("properties") {
            None => &none,
            Some(properties) => properties.as_object().ok_or_else(|| at(path, "'properties' must be an object."))?,
        };
        let required: Vec<&str> = map
            .get("required")
            .and_then(Value::as_array)
            .map_or_else(Vec::new, |names| names.iter().filter_map(Value::as_str).collect());
        let names: std::collections::HashSet<&str> = required.iter().copied().collect();
        if let Some(missing) = properties.keys().find(|name| !names.contains(name.as_str())) {
            let rule = "'required' is required to be supplied and to be an array including every key in properties.";
            return Err(at(path, format!("{rule} Missing '{missing}'.")));
        }
        if let Some(extra) = required.iter().find(|name| !properties.contains_key(**name)) {
            return Err(at(path, format!("'required' names '{extra}', which is not in properties.")));
        }
        for (name, property) in properties {
            self.properties += 1;
            self.name_chars += name.chars().count();
            self.child(property, path, &["properties", name], depth + 1)?;
        }
        Ok(())
    }

    fn limits(&self) -> Result<(), String> {
        let limits = [
            (self.properties, PROPERTY_LIMIT, "object properties"),
            (self.enum_values, ENUM_LIMIT, "enum values"),
            (
                self.name_chars,
                NAME_CHARS_LIMIT,
                "characters in property names, definition names, enum and const values",
            ),
        ];
        match limits.iter().find(|(count, limit, _)| count > limit) {
            Some((count, limit, what)) => Err(format!("schema exceeds the limit of {limit} {what}: it has {count}.")),
            None => Ok(()),
        }
    }
}

fn chars(value: &Value) -> usize {
    value.as_str().map_or_else(|| value.to_string().chars().count(), |text| text.chars().count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn property(schema: Value) -> Result<(), String> {
        let root = json!({"type": "object", "properties": {"a": schema}, "required": ["a"], "additionalProperties": false,
                          "$defs": {"X": {"type": "string"}}});
        check(&root, true)
    }

    #[test]
    fn accepts_the_subset() {
        let inner = json!({"type": ["object", "null"], "properties": {"b": {"$ref": "#"}}, "required": ["b"], "additionalProperties": false});
        for schema in [
            json!({"$ref": "#/$defs/X"}),
            json!({"anyOf": [{"type": "string", "format": "uuid"}, {"type": "null"}]}),
            json!({"type": "array", "items": {"enum": ["a", 1, null]}, "minItems": 1}),
            json!({"const": 3}),
            inner,
        ] {
            property(schema.clone()).unwrap_or_else(|why| panic!("{schema}: {why}"));
        }
    }

    #[test]
    fn refuses_the_rest() {
        let cases = [
            (json!({"oneOf": [{"type": "string"}]}), "'oneOf' is not permitted"),
            (json!({"allOf": [{"type": "string"}]}), "'allOf' is not permitted"),
            (json!({"type": "string", "format": "uri"}), "'uri' is not a valid format"),
            (json!({"$ref": "#/$defs/X", "description": "d"}), "$ref cannot have keywords {'description'}"),
            (json!({"$ref": "#/$defs/Y"}), "can only point"),
            (
                json!({"type": "object", "additionalProperties": {"type": "string"}}),
                "'additionalProperties' is required",
            ),
            (
                json!({"type": "object", "properties": {"b": {"type": "null"}}, "additionalProperties": false}),
                "Missing 'b'",
            ),
            (json!({}), "must have a 'type' key"),
            (json!(true), "must be an object"),
            (json!({"type": "array"}), "missing items"),
            (json!({"enum": (0..1001).collect::<Vec<i32>>()}), "1000 enum values"),
            (json!({"enum": (0..300).map(|n| format!("{n:060}")).collect::<Vec<_>>()}), "15000"),
        ];
        for (schema, why) in cases {
            let said = property(schema.clone()).unwrap_err();
            assert!(said.contains(why), "{schema}: {said}");
        }
        assert!(check(&json!({"type": "array"}), false).unwrap_err().contains("got 'type: \"array\"'"));
        let mut deep = json!({"type": "string"});
        for _ in 0..11 {
            deep =
                json!({"type": "object", "properties": {"a": deep}, "required": ["a"], "additionalProperties": false});
        }
        assert!(check(&deep, true).unwrap_err().contains("nesting depth"));
    }
}
