//! The subset of JSON Schema that structured outputs and strict tools accept, from Anthropic's guide. Pure.

use serde_json::{Map, Value};

const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];
/// Allowed on every node.
const COMMON: [&str; 18] = [
    "type",
    "enum",
    "const",
    "anyOf",
    "allOf",
    "$ref",
    "$defs",
    "definitions",
    "default",
    "title",
    "description",
    "examples",
    "$schema",
    "$id",
    "$comment",
    "deprecated",
    "readOnly",
    "writeOnly",
];
/// Deeper than any grammar that compiles, and shallow enough for any stack.
const DEPTH_LIMIT: usize = 60;

pub const OPTIONAL_LIMIT: usize = 24;
pub const UNION_LIMIT: usize = 16;

/// What counts towards the limits of a request.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Properties that are not required.
    pub optional: usize,
    /// Places with `anyOf` or a list of types.
    pub unions: usize,
}

/// Checks a schema; the error says what is wrong in Anthropic's words.
pub fn check(schema: &Value) -> Result<Size, String> {
    let mut walk = Walk { root: schema, size: Size::default(), open: Vec::new(), closed: Vec::new() };
    walk.node(schema, 0)?;
    Ok(walk.size)
}

/// Checks the sizes of all schemas of a request together.
pub fn check_size(size: Size) -> Result<(), String> {
    let Size { optional, unions } = size;
    if optional > OPTIONAL_LIMIT {
        return Err(format!(
            "Schemas contains too many optional parameters ({optional}), which would make grammar compilation inefficient. Reduce \
             the number of optional parameters in your tool schemas (limit: {OPTIONAL_LIMIT})."
        ));
    }
    if unions > UNION_LIMIT {
        return Err(format!(
            "Schemas contains too many parameters with union types ({unions} parameters with type arrays or anyOf). This would \
             cause exponential compilation cost. Reduce the number of nullable or union-typed parameters (limit: {UNION_LIMIT} \
             parameters with unions)."
        ));
    }
    Ok(())
}

struct Walk<'a> {
    root: &'a Value,
    size: Size,
    /// References being followed: meeting one again is recursion.
    open: Vec<&'a str>,
    /// References followed to their end.
    closed: Vec<&'a str>,
}

impl<'a> Walk<'a> {
    fn node(&mut self, node: &'a Value, depth: usize) -> Result<(), String> {
        if depth > DEPTH_LIMIT {
            return Err("Schema is too complex for compilation.".into());
        }
        let Value::Object(node) = node else {
            return Err(format!("Schema should be an object, not {node}"));
        };
        if let Some(reference) = node.get("$ref") {
            return self.reference(reference, depth);
        }
        let kinds = kinds(node)?;
        self.size.unions += usize::from(node.contains_key("anyOf") || kinds.len() > 1);
        check_values(node)?;
        for key in ["anyOf", "allOf"] {
            let Some(branches) = node.get(key) else {
                continue;
            };
            let Some(branches) = branches.as_array().filter(|branches| !branches.is_empty()) else {
                return Err(format!("'{key}' should be a non-empty list"));
            };
            if key == "allOf" && branches.iter().any(|branch| branch.get("$ref").is_some()) {
                return Err("'allOf' with '$ref' is not supported".into());
            }
            branches.iter().try_for_each(|branch| self.node(branch, depth + 1))?;
        }
        let typed = ["anyOf", "allOf", "enum", "const"].iter().any(|key| node.contains_key(*key));
        if kinds.is_empty() && !typed {
            return Err("Schema must have a 'type', 'anyOf', 'allOf', 'enum', 'const' or '$ref'".into());
        }
        check_keywords(node, &kinds)?;
        if kinds.contains(&"object") && !node.contains_key("enum") && !node.contains_key("const") {
            self.object(node, depth)?;
        }
        match node.get("items") {
            Some(items) if kinds.contains(&"array") => self.node(items, depth + 1),
            _ => Ok(()),
        }
    }

    fn object(&mut self, node: &'a Map<String, Value>, depth: usize) -> Result<(), String> {
        if node.get("additionalProperties") != Some(&Value::Bool(false)) {
            return Err("For 'object' type, 'additionalProperties' must be explicitly set to false".into());
        }
        let none = Map::new();
        let properties = match node.get("properties") {
            None => return self.required(node, &none),
            Some(Value::Object(properties)) => properties,
            Some(_) => return Err("For 'object' type, 'properties' should be an object".into()),
        };
        self.required(node, properties)?;
        properties.values().try_for_each(|property| self.node(property, depth + 1))
    }

    fn required(&mut self, node: &Map<String, Value>, properties: &Map<String, Value>) -> Result<(), String> {
        let required = node.get("required").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for name in required {
            if !name.as_str().is_some_and(|name| properties.contains_key(name)) {
                return Err(format!("For 'object' type, 'required' names {name}, which is not in 'properties'"));
            }
        }
        self.size.optional += properties.keys().filter(|name| !required.iter().any(|known| known == *name)).count();
        Ok(())
    }

    fn reference(&mut self, reference: &'a Value, depth: usize) -> Result<(), String> {
        let Some(name) = reference.as_str() else {
            return Err("'$ref' should be a string".into());
        };
        let Some(pointer) = name.strip_prefix('#') else {
            return Err(format!("External schema references are not supported: '{name}'"));
        };
        if self.open.contains(&name) || pointer.is_empty() {
            return Err(format!("Circular reference detected in schema definitions: '{name}'"));
        }
        if self.closed.contains(&name) {
            return Ok(());
        }
        let Some(target) = self.root.pointer(pointer) else {
            return Err(format!("Reference not found in schema definitions: '{name}'"));
        };
        self.open.push(name);
        self.node(target, depth + 1)?;
        self.open.pop();
        self.closed.push(name);
        Ok(())
    }
}

fn kinds(node: &Map<String, Value>) -> Result<Vec<&str>, String> {
    const TYPES: [&str; 7] = ["object", "array", "string", "integer", "number", "boolean", "null"];
    let kinds: Vec<&Value> = match node.get("type") {
        None => Vec::new(),
        Some(Value::Array(kinds)) => kinds.iter().collect(),
        Some(kind) => vec![kind],
    };
    let known = |kind: &&str| TYPES.contains(kind);
    kinds
        .into_iter()
        .map(|kind| kind.as_str().filter(known).ok_or_else(|| format!("Schema type {kind} is not supported")))
        .collect()
}

/// `enum` and `const` take only plain values.
fn check_values(node: &Map<String, Value>) -> Result<(), String> {
    let is_plain = |value: &Value| !value.is_array() && !value.is_object();
    let values = match node.get("enum") {
        None => &[][..],
        Some(Value::Array(values)) if !values.is_empty() => values.as_slice(),
        Some(_) => return Err("'enum' should be a non-empty list".into()),
    };
    match values.iter().chain(node.get("const")).find(|value| !is_plain(value)) {
        Some(value) => {
            Err(format!("Enum value {value} is not supported: only strings, numbers, booleans and null are"))
        }
        None => Ok(()),
    }
}

fn check_keywords(node: &Map<String, Value>, kinds: &[&str]) -> Result<(), String> {
    for (key, value) in node {
        if COMMON.contains(&key.as_str()) {
            continue;
        }
        let fits = kinds.iter().any(|kind| match *kind {
            "object" => matches!(key.as_str(), "properties" | "required" | "additionalProperties"),
            "array" => matches!(key.as_str(), "items" | "minItems"),
            "string" => matches!(key.as_str(), "format" | "pattern"),
            _ => false,
        });
        if !fits {
            return Err(match kinds.first() {
                Some(kind) => format!("For '{kind}' type, property '{key}' is not supported"),
                None => format!("Schema property '{key}' is not supported"),
            });
        }
        match (key.as_str(), value) {
            ("minItems", value) if value.as_u64().is_none_or(|least| least > 1) => {
                return Err("For 'array' type, 'minItems' values other than 0 or 1 are not supported".into());
            }
            ("format", value) if !FORMATS.iter().any(|known| value == known) => {
                return Err(format!("For 'string' type, format {value} is not supported"));
            }
            ("pattern", value) => check_pattern(value)?,
            _ => {}
        }
    }
    Ok(())
}

fn check_pattern(value: &Value) -> Result<(), String> {
    const UNSUPPORTED: [&str; 6] = ["(?=", "(?!", "(?<", "\\b", "\\B", "(?P="];
    let Some(pattern) = value.as_str() else {
        return Err("For 'string' type, 'pattern' should be a string".into());
    };
    let plain = pattern.replace("\\\\", "");
    let back_reference = (1..=9).any(|number| plain.contains(&format!("\\{number}")));
    match UNSUPPORTED.iter().find(|part| plain.contains(**part)) {
        Some(part) => Err(format!("For 'string' type, pattern with '{part}' is not supported")),
        None if back_reference => Err("For 'string' type, pattern with a back-reference is not supported".into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn words_of_refusal() {
        let closed = |property: Value| json!({"type": "object", "properties": {"a": property}, "required": ["a"], "additionalProperties": false});
        for (schema, words) in [
            (
                closed(json!({"type": "integer", "minimum": 1})),
                "For 'integer' type, property 'minimum' is not supported",
            ),
            (
                closed(json!({"type": "array", "items": {"type": "null"}, "minItems": 2})),
                "'minItems' values other than 0 or 1",
            ),
            (closed(json!({"type": "array", "items": {"type": "null"}, "maxItems": 2})), "property 'maxItems'"),
            (closed(json!({"type": "string", "format": "binary"})), "format \"binary\""),
            (closed(json!({"type": "string", "pattern": "(?=a)"})), "'(?='"),
            (closed(json!({})), "must have a 'type'"),
            (closed(json!({"oneOf": []})), "must have a 'type'"),
            (closed(json!({"$ref": "#"})), "Circular"),
            (closed(json!({"$ref": "other.json"})), "External"),
            (json!({"type": "object", "properties": {}}), "'additionalProperties' must be"),
            (json!({"enum": [[1]]}), "Enum value [1]"),
            (json!({"$ref": "#/$defs/A", "$defs": {"A": closed(json!({"$ref": "#/$defs/A"}))}}), "Circular"),
        ] {
            let why = check(&schema).unwrap_err();
            assert!(why.contains(words), "{schema}: {why}");
        }
        let good = json!({"type": "object", "additionalProperties": false, "required": ["a"], "properties": {
            "a": {"anyOf": [{"$ref": "#/$defs/A"}, {"type": "null"}]}, "b": {"$ref": "#/$defs/A"}, "c": {"type": ["string", "null"]}},
            "$defs": {"A": {"enum": ["x", 1]}}});
        assert_eq!(check(&good).unwrap(), Size { optional: 2, unions: 2 });
    }
}
