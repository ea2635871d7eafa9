//! What keywords mean: their types, the types that they speak of, and which only describe.

use super::SchemaError;
use super::refs::{join, walk};
use serde_json::{Map, Value};
use std::cmp::Ordering;

const TYPES: [&str; 7] = ["string", "number", "integer", "boolean", "object", "array", "null"];

/// Keywords that describe and never decide whether a value is valid.
pub const ANNOTATIONS: [&str; 12] = [
    "title",
    "description",
    "default",
    "examples",
    "example",
    "deprecated",
    "readOnly",
    "writeOnly",
    "discriminator",
    "$comment",
    "$schema",
    "$id",
];

pub fn is_annotation(key: &str) -> bool {
    ANNOTATIONS.contains(&key) || key.starts_with("x-")
}

/// Refuses keywords whose value is of the wrong kind, before anything is built on them.
///
/// # Errors
/// Names the keyword.
pub fn check_keywords(node: &Map<String, Value>, path: &str) -> Result<(), SchemaError> {
    let wrong = |key: &str, want: &str| Err(SchemaError::new(&join(path, key), format!("'{key}' must be {want}")));
    for (key, value) in node {
        match key.as_str() {
            "properties" | "$defs" | "definitions" if !value.is_object() => {
                return wrong(key, "an object of schemas");
            }
            "anyOf" | "oneOf" | "allOf" if value.as_array().is_none_or(Vec::is_empty) => {
                return wrong(key, "a list of at least one schema");
            }
            "enum" if value.as_array().is_none_or(Vec::is_empty) => {
                return wrong(key, "a list of at least one value");
            }
            "required" if !value.as_array().is_some_and(|list| list.iter().all(Value::is_string)) => {
                return wrong(key, "a list of property names");
            }
            "type" => {
                let known = |t: &Value| TYPES.iter().any(|known| t == known);
                if !(known(value) || value.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(known))) {
                    return wrong(key, &format!("one of {} or a list of these, not {value}", TYPES.join(", ")));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Refuses a schema of which some part has a keyword of the wrong kind, wherever it stands.
///
/// # Errors
/// Names the first one's place.
pub fn check_all(root: &Value) -> Result<(), SchemaError> {
    let mut failed = Ok(());
    walk(root, "", &mut |path, node| {
        if failed.is_ok() {
            failed = check_keywords(node, path);
        }
    });
    failed
}

/// Which of two numbers is greater. Integers are compared digit by digit: a float holds 53 bits of them.
pub fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (integer(a), integer(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

/// A number that is written as an integer.
pub fn integer(value: &Value) -> Option<i128> {
    value.as_number()?.to_string().parse().ok()
}

/// The types that a `type` keyword lists.
pub fn types(value: &Value) -> impl Iterator<Item = &str> {
    let one = value.as_str().into_iter();
    one.chain(value.as_array().into_iter().flatten().filter_map(Value::as_str))
}

/// The JSON Schema type of a value.
pub fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Whether a value is of a type, or of one in a list of types. A whole number is an integer, however it is written.
pub fn has_type(value: &Value, kind: &Value) -> bool {
    let whole = is_whole(value);
    types(kind).any(|kind| match kind {
        "number" => value.is_number(),
        "integer" => value.is_number() && whole,
        other => type_of(value) == other,
    })
}

fn is_whole(value: &Value) -> bool {
    // An integer of more digits than a double takes is no double at all.
    let is_written_whole = |number: &str| number.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit());
    value.as_number().is_some_and(|number| is_written_whole(number.as_str()))
        || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

/// The type that a node without `type` must mean: the one that its keywords speak of. Keywords of other types do not
/// bind other values, so this narrows. `None` for a node that allows anything.
pub fn implied_type(node: &Map<String, Value>) -> Option<&'static str> {
    let any = |keys: &[&str]| keys.iter().any(|k| node.contains_key(*k));
    if any(&["properties", "additionalProperties", "patternProperties", "required", "propertyNames"]) {
        Some("object")
    } else if any(&["items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"]) {
        Some("array")
    } else if any(&["pattern", "format", "minLength", "maxLength", "contentEncoding"]) {
        Some("string")
    } else if any(&["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]) {
        Some("number")
    } else {
        None
    }
}

/// Whether a node lists a type.
pub fn allows(node: &Map<String, Value>, kind: &str) -> bool {
    match node.get("type") {
        Some(Value::String(text)) => text == kind,
        Some(Value::Array(list)) => list.iter().any(|t| t == kind),
        _ => false,
    }
}

/// The keywords that bind only values of one type.
fn keywords_of(kind: &str) -> &'static [&'static str] {
    match kind {
        "string" => {
            &["pattern", "format", "minLength", "maxLength", "contentEncoding", "contentMediaType", "contentSchema"]
        }
        "number" | "integer" => &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"],
        "array" => &[
            "items",
            "prefixItems",
            "additionalItems",
            "unevaluatedItems",
            "minItems",
            "maxItems",
            "uniqueItems",
            "contains",
            "minContains",
            "maxContains",
        ],
        "object" => &[
            "properties",
            "required",
            "additionalProperties",
            "unevaluatedProperties",
            "patternProperties",
            "propertyNames",
            "minProperties",
            "maxProperties",
            "dependentRequired",
            "dependentSchemas",
            "dependencies",
        ],
        _ => &[],
    }
}

/// `type: [a, b]` as `anyOf`, each branch with the keywords of its type; the rest stays beside it. `None` if the node has
/// no such list, or an `anyOf` of its own. A list of one type becomes that type.
pub fn split_types(node: &Map<String, Value>) -> Option<Map<String, Value>> {
    let kinds: Vec<&str> = node.get("type")?.as_array()?.iter().filter_map(Value::as_str).collect();
    if let [only] = kinds[..] {
        let mut node = node.clone();
        node.insert("type".to_owned(), only.into());
        return Some(node);
    }
    if node.contains_key("anyOf") {
        return None;
    }
    let branch = |kind: &&str| {
        let mut branch = Map::from_iter([("type".to_owned(), Value::from(*kind))]);
        let own = node.iter().filter(|(key, _)| keywords_of(kind).contains(&key.as_str()));
        branch.extend(own.map(|(key, value)| (key.clone(), value.clone())));
        Value::Object(branch)
    };
    let branches: Value = kinds.iter().map(branch).collect();
    let claimed = |key: &str| kinds.iter().any(|kind| keywords_of(kind).contains(&key));
    let mut split = Map::new();
    for (key, value) in node.iter().filter(|(key, _)| !claimed(key)) {
        if key == "type" {
            split.insert("anyOf".to_owned(), branches.clone());
        } else {
            split.insert(key.clone(), value.clone());
        }
    }
    Some(split)
}

/// Whether a regular expression looks around or back: `(?=`, `(?!`, `(?<=`, `(?<!`, `\1`. OpenAI answers 400, "regex
/// lookaround is not supported"; pydantic writes such a pattern for every Decimal.
pub fn looks_around(pattern: &str) -> bool {
    let bytes = pattern.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        match bytes[i] {
            b'\\' if bytes.get(i + 1).is_some_and(|c| (b'1'..=b'9').contains(c)) => return true,
            b'\\' => i += 1,
            b'(' if ["(?=", "(?!", "(?<=", "(?<!"].iter().any(|look| bytes[i..].starts_with(look.as_bytes())) => {
                return true;
            }
            _ => {}
        }
        i += 1;
    }
    false
}
