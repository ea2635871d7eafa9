//! The `text` of a request: which form the answer must have. Pure.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::error::ApiError;
use super::input::Texts;
use super::strict_schema;
use super::validate::present;
use super::values::{check_keys, choice, too_long, wrong_type};
use crate::sandbox::answer::Sampler;

/// The form that the answer must have.
#[derive(Debug, Clone)]
pub enum Format {
    Text,
    JsonObject,
    Schema(Arc<Sampler>),
}

/// The schema seen last: the rows of a batch share theirs, and checking it 50,000 times would be most of the work.
#[derive(Debug, Default)]
pub struct SchemaCache {
    last: Option<(bool, Arc<Sampler>)>,
}

/// Checks the `text` of a request.
pub fn check_text(
    body: &Map<String, Value>,
    model: &str,
    instructions: &str,
    texts: &Texts,
    cache: &mut SchemaCache,
) -> Result<Format, ApiError> {
    let Some(Value::Object(text)) = body.get("text") else {
        return Ok(Format::Text);
    };
    check_keys("text", text, &["format", "verbosity"])?;
    if let Some(verbosity) = present(text, "verbosity") {
        choice("text.verbosity", verbosity, &["low", "medium", "high"])?;
    }
    let format = match text.get("format") {
        None | Some(Value::Null) => return Ok(Format::Text),
        Some(Value::Object(format)) => format,
        Some(other) => return Err(wrong_type("text.format", "an object", other)),
    };
    let kind = format.get("type").ok_or_else(|| ApiError::missing("text.format.type"))?;
    choice("text.format.type", kind, &["text", "json_object", "json_schema"])?;
    match kind.as_str() {
        Some("json_schema") => check_json_schema(format, model, cache),
        Some("json_object") => {
            check_keys("text.format", format, &["type"])?;
            if !texts.says_json && !instructions.to_ascii_lowercase().contains("json") {
                let message = "Response input messages must contain the word 'json' in some form to use 'text.format' of type \
                               'json_object'.";
                return Err(ApiError::invalid(None, "input", message));
            }
            Ok(Format::JsonObject)
        }
        _ => check_keys("text.format", format, &["type"]).map(|()| Format::Text),
    }
}

fn check_json_schema(format: &Map<String, Value>, model: &str, cache: &mut SchemaCache) -> Result<Format, ApiError> {
    check_keys("text.format", format, &["type", "name", "schema", "strict", "description"])?;
    let name = match format.get("name") {
        Some(Value::String(name)) => name,
        Some(other) => return Err(wrong_type("text.format.name", "a string", other)),
        None => return Err(ApiError::missing("text.format.name")),
    };
    check_schema_name(name)?;
    if let Some(description) = present(format, "description").filter(|description| !description.is_string()) {
        return Err(wrong_type("text.format.description", "a string", description));
    }
    let strict = match format.get("strict") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(strict)) => *strict,
        Some(other) => return Err(wrong_type("text.format.strict", "a boolean", other)),
    };
    let schema = match format.get("schema") {
        Some(schema @ Value::Object(_)) => schema,
        Some(other) => return Err(wrong_type("text.format.schema", "an object", other)),
        None => return Err(ApiError::missing("text.format.schema")),
    };
    if ["gpt-3.5", "gpt-4-turbo"].iter().any(|old| model.starts_with(old)) {
        let message = "Invalid parameter: 'text.format' of type 'json_schema' is not supported with this model.";
        return Err(ApiError::invalid(None, "text.format", message));
    }
    if let Some((known_strict, sampler)) = &cache.last
        && *known_strict == strict
        && sampler.schema() == schema
    {
        return Ok(Format::Schema(sampler.clone()));
    }
    strict_schema::check(schema, strict).map_err(|why| {
        let message = format!("Invalid schema for response_format '{name}': {why}");
        ApiError::invalid(None, "text.format.schema", message)
    })?;
    let sampler = Arc::new(Sampler::new(schema.clone()));
    cache.last = Some((strict, sampler.clone()));
    Ok(Format::Schema(sampler))
}

fn check_schema_name(name: &str) -> Result<(), ApiError> {
    let param = "text.format.name";
    if name.chars().count() > 64 {
        return Err(too_long(param, "string", 64, name));
    }
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        let message = format!(
            "Invalid '{param}': string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."
        );
        return Err(ApiError::invalid("invalid_value", param, message));
    }
    Ok(())
}
