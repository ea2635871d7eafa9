//! Checks answers against the caller's own schema, whatever part of it a provider enforced.

use super::{SchemaError, refs};
use serde_json::Value;

/// At most this many violations are told; a model that misses a schema misses it everywhere.
const MOST_VIOLATIONS: usize = 10;

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
