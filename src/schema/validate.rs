//! Checks answers against the caller's own schema, whatever part of it a provider enforced.

use super::{SchemaError, refs};
use serde_json::Value;

/// At most this many violations are told; a model that misses a schema misses it everywhere.
const MOST_VIOLATIONS: usize = 10;

/// Keywords whose check may take much longer than the answer is long: they look for, compare or come back.
const COSTLY: &[&str] =
    &["pattern", "patternProperties", "uniqueItems", "contains", "$ref", "$dynamicRef", "$recursiveRef"];
/// A schema with more values than this is costly in itself: each part of an answer may be held against many.
const MANY_VALUES: usize = 2_000;

/// Whether checking even a short answer may take long.
pub fn is_costly(schema: &Value) -> bool {
    let mut values = 0;
    let mut has_costly = false;
    let mut open = vec![schema];
    while let Some(value) = open.pop() {
        values += 1;
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(fields) => {
                has_costly |= fields.keys().any(|key| COSTLY.contains(&key.as_str()));
                open.extend(fields.values());
            }
            _ => {}
        }
    }
    has_costly || values > MANY_VALUES
}

/// A caller's schema, ready to check answers. Shared between threads.
#[derive(Debug)]
pub struct Validator {
    inner: jsonschema::Validator,
}

/// One place where an answer does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// JSON pointer into the answer.
    pub path: String,
    /// What is wrong there.
    pub message: String,
}

/// Says no to every address: a schema is complete in itself, and validating must never open a connection or a file.
struct NoFetching;

impl jsonschema::Retrieve for NoFetching {
    fn retrieve(&self, uri: &jsonschema::Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Err(format!("{uri} is outside the schema and nothing is fetched: copy the target into '$defs'").into())
    }
}

impl Validator {
    /// Prepares a schema: draft 2020-12, or the draft that its `$schema` names. Known formats are checked.
    ///
    /// # Errors
    /// For a schema that is invalid, names where; for a reference that leaves it, names the reference.
    pub fn new(schema: &Value) -> Result<Self, SchemaError> {
        super::check(schema)?;
        refs::References::of(schema)?;
        let options = jsonschema::options().with_retriever(NoFetching).should_validate_formats(true);
        let inner = options.build(schema).map_err(|error| {
            // The schema is the instance of its meta-schema, so the path into the instance is the place in the schema.
            let path = error.instance_path().as_str().to_owned();
            SchemaError::new(&path, format!("not a valid JSON Schema: {error}"))
        })?;
        Ok(Self { inner })
    }

    /// Checks one answer.
    ///
    /// # Errors
    /// The first violations, at most ten.
    pub fn validate(&self, answer: &Value) -> Result<(), Vec<Violation>> {
        if self.inner.is_valid(answer) {
            return Ok(());
        }
        let violation = |error: jsonschema::ValidationError| Violation {
            path: error.instance_path().as_str().to_owned(),
            message: error.to_string(),
        };
        Err(self.inner.iter_errors(answer).take(MOST_VIOLATIONS).map(violation).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_may_take_long_to_check_is_known_by_its_keywords_or_its_size() {
        for cheap in [
            json!(true),
            json!({"type": "object", "properties": {"a": {"type": ["string", "null"]}, "b": {"enum": [1, 2]}}}),
            json!({"type": "array", "items": {"anyOf": [{"type": "integer"}, {"maxLength": 5}]}}),
        ] {
            assert!(!is_costly(&cheap), "{cheap}");
        }
        for costly in [
            json!({"properties": {"a": {"pattern": "(a+)+$"}}}),
            json!({"items": {"uniqueItems": true}}),
            json!({"anyOf": [{"$ref": "#"}, {"type": "null"}]}),
            json!({"enum": (0..5000).collect::<Vec<_>>()}),
        ] {
            assert!(is_costly(&costly), "{costly}");
        }
    }
}
