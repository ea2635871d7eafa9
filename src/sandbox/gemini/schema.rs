//! The two schema languages of Gemini's structured outputs, checked, and turned into what the sampler reads. Pure.

use serde_json::{Map, Value, json};

/// Deeper than this no schema is served.
const DEPTH_LIMIT: usize = 32;

const TYPES: [&str; 7] = ["string", "number", "integer", "boolean", "object", "array", "null"];

/// A `responseSchema`, whose names and types are already checked, as JSON Schema; or the rule that it breaks and where.
pub fn from_openapi(schema: &Value, path: &str) -> Result<Value, (String, String)> {
    from_openapi_at(schema, path, 0)
}

fn from_openapi_at(schema: &Value, path: &str, depth: usize) -> Result<Value, (String, String)> {
    check_depth(path, depth)?;
    let Some(given) = schema.as_object() else {
        return Ok(json!({}));
    };
    let kind = given.get("type").and_then(Value::as_str).filter(|kind| *kind != "TYPE_UNSPECIFIED");
    if kind.is_none() && !given.contains_key("anyOf") {
        return Err((format!("{path}.type"), "must be specified".into()));
    }
    match kind {
        Some("ARRAY") if !given.contains_key("items") => {
            return Err((format!("{path}.items"), "missing field.".into()));
        }
        Some("OBJECT") if given.get("properties").and_then(Value::as_object).is_none_or(Map::is_empty) => {
            return Err((format!("{path}.properties"), "should be non-empty for OBJECT type".into()));
        }
        Some("STRING") | None => {}
        Some(_) if given.contains_key("enum") => {
            return Err((format!("{path}.enum"), "only allowed for STRING type".into()));
        }
        Some(_) => {}
    }
    let properties = given.get("properties").and_then(Value::as_object);
    for key in ["required", "propertyOrdering"] {
        let names = given.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        for (place, name) in names.enumerate() {
            if !properties.is_some_and(|properties| properties.contains_key(name)) {
                return Err((
                    format!("{path}.{}[{place}]", super::proto::snake(key)),
                    "property is not defined".into(),
                ));
            }
        }
    }
    let mut out = Map::new();
    for (key, value) in given {
        let value = match (key.as_str(), value) {
            ("type", Value::String(kind)) => json!(kind.to_ascii_lowercase()),
            ("items", value) => from_openapi_at(value, &format!("{path}.items"), depth + 1)?,
            ("anyOf", Value::Array(branches)) => {
                let branch = |(place, branch)| from_openapi_at(branch, &format!("{path}.any_of[{place}]"), depth + 1);
                branches.iter().enumerate().map(branch).collect::<Result<_, _>>()?
            }
            ("properties", Value::Object(properties)) => {
                let mut read = Map::new();
                for (name, property) in properties {
                    let path = format!("{path}.properties[{name}]");
                    read.insert(name.clone(), from_openapi_at(property, &path, depth + 1)?);
                }
                Value::Object(read)
            }
            ("nullable" | "propertyOrdering" | "example" | "default", _) => continue,
            (_, value) => value.clone(),
        };
        out.insert(key.clone(), value);
    }
    let out = Value::Object(out);
    Ok(if given.get("nullable") == Some(&Value::Bool(true)) { json!({"anyOf": [out, {"type": "null"}]}) } else { out })
}

/// Checks a `responseJsonSchema`: a keyword that is not on Google's list is ignored and not refused.
pub fn check_json_schema(schema: &Value, path: &str) -> Result<(), (String, String)> {
    check_node(schema, schema, path, 0)
}

fn check_node(root: &Value, node: &Value, path: &str, depth: usize) -> Result<(), (String, String)> {
    check_depth(path, depth)?;
    let wrong = |key: &str, why: String| Err((format!("{path}.{key}"), why));
    let Some(given) = node.as_object() else {
        return if node.is_boolean() { Ok(()) } else { Err((path.into(), format!("must be an object, not {node}"))) };
    };
    if let Some(reference) = given.get("$ref") {
        let allowed = |key: &str| key.starts_with('$') || matches!(key, "description" | "default");
        if let Some(key) = given.keys().find(|key| !allowed(key)) {
            return wrong(key, "only fields that start with $ are allowed beside $ref".into());
        }
        let target = reference.as_str().and_then(|name| name.strip_prefix('#')).and_then(|at| root.pointer(at));
        if target.is_none() {
            return wrong("$ref", format!("{reference} was not found"));
        }
    }
    let kinds: Vec<&Value> = match given.get("type") {
        None => Vec::new(),
        Some(Value::Array(kinds)) => kinds.iter().collect(),
        Some(kind) => vec![kind],
    };
    if let Some(kind) = kinds.iter().find(|kind| !kind.as_str().is_some_and(|kind| TYPES.contains(&kind))) {
        return wrong("type", format!("{kind} is not one of {}", TYPES.join(", ")));
    }
    if let Some(values) = given.get("enum") {
        let fits = |value: &Value| value.is_string() || value.is_number();
        if !values.as_array().is_some_and(|values| values.iter().all(fits)) {
            return wrong("enum", "only strings and numbers are supported".into());
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(below) = given.get(key) {
            check_node(root, below, &format!("{path}.{key}"), depth + 1)?;
        }
    }
    for key in ["anyOf", "oneOf", "prefixItems"] {
        for (place, below) in given.get(key).and_then(Value::as_array).into_iter().flatten().enumerate() {
            check_node(root, below, &format!("{path}.{key}[{place}]"), depth + 1)?;
        }
    }
    for key in ["properties", "$defs"] {
        for (name, below) in given.get(key).and_then(Value::as_object).into_iter().flatten() {
            check_node(root, below, &format!("{path}.{key}[{name}]"), depth + 1)?;
        }
    }
    Ok(())
}

fn check_depth(path: &str, depth: usize) -> Result<(), (String, String)> {
    if depth <= DEPTH_LIMIT {
        return Ok(());
    }
    let rule = "A schema in GenerationConfig in the request exceeds the maximum allowed nesting depth.";
    Err((path.chars().take(80).collect(), rule.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_openapi() {
        let schema = json!({"type": "OBJECT", "required": ["a"], "propertyOrdering": ["a", "b"], "properties": {
            "a": {"type": "STRING", "enum": ["x"], "nullable": true}, "b": {"type": "ARRAY", "items": {"type": "INTEGER"}, "maxItems": 2}}});
        let expected = json!({"type": "object", "required": ["a"], "properties": {
            "a": {"anyOf": [{"type": "string", "enum": ["x"]}, {"type": "null"}]},
            "b": {"type": "array", "items": {"type": "integer"}, "maxItems": 2}}});
        assert_eq!(from_openapi(&schema, "s").unwrap(), expected);
        let refuse = |schema: Value| from_openapi(&schema, "s").unwrap_err().0;
        assert_eq!(refuse(json!({"type": "OBJECT"})), "s.properties");
        assert_eq!(refuse(json!({"type": "ARRAY"})), "s.items");
        assert_eq!(refuse(json!({"type": "INTEGER", "enum": ["1"]})), "s.enum");
        assert_eq!(
            refuse(json!({"type": "OBJECT", "properties": {"a": {"type": "NULL"}}, "required": ["b"]})),
            "s.required[0]"
        );
    }

    #[test]
    fn checks_json_schemas() {
        let check = |schema: Value| check_json_schema(&schema, "s").map_err(|(path, _)| path);
        let described = json!({"$ref": "#/$defs/A", "description": "An A.", "$defs": {"A": {"type": ["string", "null"], "pattern": "x"}}});
        assert_eq!(check(described), Ok(()));
        assert_eq!(
            check(json!({"properties": {"p": {"$ref": "#/$defs/A", "title": "P"}}, "$defs": {"A": {}}})),
            Err("s.properties[p].title".into())
        );
        assert_eq!(check(json!({"$ref": "#/$defs/B"})), Err("s.$ref".into()));
        assert_eq!(check(json!({"type": "text"})), Err("s.type".into()));
        assert_eq!(check(json!({"enum": [true]})), Err("s.enum".into()));
    }
}
