//! One JSON Schema, four dialects: what the caller wrote becomes what a provider accepts.
//!
//! ```text
//! the caller's schema ── compile ──> what is sent + what the provider cannot enforce
//!                    └── Validator ─> every answer is checked against the caller's own schema
//! ```
//!
//! Providers accept subsets of JSON Schema. A compiled schema may be *narrower* than the caller's (every answer to it
//! still fits), or it may leave something out; then [`Compiled::unenforced`] says so and only the [`Validator`] guards it.
//! What cannot be said at all is a [`SchemaError`] before anything is sent. No file here knows a network or Python.

mod anthropic;
mod casing;
mod gemini;
mod gemini_openapi;
mod keywords;
mod limits;
mod merge;
mod names;
mod openai;
mod openai_strict;
mod refs;
mod report;
mod validate;

pub use casing::{has_words, restore as restore_casing};
pub use validate::{Validator, Violation, is_costly};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::fmt;

/// Which subset of JSON Schema to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI `text.format` of type `json_schema`.
    OpenAi,
    /// Anthropic `output_config.format`.
    Anthropic,
    /// Gemini `responseJsonSchema`.
    GeminiJsonSchema,
    /// Gemini `responseSchema`: OpenAPI's schema object, which is not JSON Schema.
    GeminiOpenApi,
}

/// A schema as one provider wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct Compiled {
    /// What is sent.
    pub schema: Value,
    /// The root had to be an object and became `{"value": ...}`: the answer must be unwrapped ([`unwrap_text`]).
    pub wrapped: bool,
    /// OpenAI: whether to send `"strict": true`. Without it the provider takes the schema as a hint only.
    pub strict: bool,
    /// What only our own validation enforces; empty if every answer that fits the sent schema fits the caller's.
    pub unenforced: Vec<Unenforced>,
    /// A limit on the schema's size, of the provider's own servers, that it does not keep to. Other servers of the same
    /// wire format have no such limit.
    pub over_limit: Option<SchemaError>,
}

/// Something in the caller's schema that the provider does not enforce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unenforced {
    /// JSON pointer into the caller's schema.
    pub path: String,
    /// The keyword there.
    pub keyword: String,
    /// Why.
    pub reason: String,
}

/// A schema that is wrong, or that a provider cannot take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaError {
    /// JSON pointer into the caller's schema.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl SchemaError {
    pub(crate) fn new(path: &str, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), message: message.into() }
    }
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.path.is_empty() { "its root" } else { &self.path };
        write!(f, "schema, at {place}: {}", self.message)
    }
}

impl std::error::Error for SchemaError {}

/// Writes `schema` in a provider's dialect. The caller's object stays as it is, and so does the order of its keys.
///
/// # Errors
/// For a schema that is not one (a reference into the void, a `type` that does not exist), nests without end, or asks for
/// what the provider has no words for.
pub fn compile(schema: &Value, dialect: Dialect) -> Result<Compiled, SchemaError> {
    check(schema)?;
    if schema == &Value::Bool(false) {
        return Err(SchemaError::new("", "the schema 'false' fits no answer at all: give it a type"));
    }
    let schema = &names::decode_references(schema);
    let mut compiled = match dialect {
        Dialect::OpenAi => openai::compile(schema),
        Dialect::Anthropic => anthropic::compile(schema),
        Dialect::GeminiJsonSchema => gemini::compile(schema),
        Dialect::GeminiOpenApi => gemini_openapi::compile(schema),
    }?;
    names::make_plain(&mut compiled.schema);
    Ok(compiled)
}

/// As [`compile`], but for the caller who does not want the provider to enforce it (`strict=False`): OpenAI gets the
/// caller's schema nearly as it is, with `strict: false`. The others have no such mode.
pub fn compile_loosely(schema: &Value, dialect: Dialect) -> Result<Compiled, SchemaError> {
    if dialect != Dialect::OpenAi {
        return compile(schema, dialect);
    }
    check(schema)?;
    let mut compiled = openai::compile_loosely(&names::decode_references(schema))?;
    names::make_plain(&mut compiled.schema);
    Ok(compiled)
}

/// Refuses what is no schema, whoever is to take it.
fn check(schema: &Value) -> Result<(), SchemaError> {
    refs::check_depth(schema)?;
    keywords::check_all(schema)
}

/// A name that providers accept: `^[a-zA-Z0-9_-]{1,64}$` (OpenAI's rule for `text.format.name`, Anthropic's for tools).
pub fn sanitize_name(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let clean: String = name.chars().take(64).map(|c| if allowed(c) { c } else { '_' }).collect();
    if clean.is_empty() { "response".to_owned() } else { clean }
}

/// The JSON text of `"value"` in the answer to a wrapped schema, exactly as the model wrote it.
/// `None` if the text is no such object.
pub fn unwrap_text(text: &str) -> Option<&str> {
    #[derive(Deserialize)]
    struct Wrapped<'a> {
        #[serde(borrow)]
        value: &'a RawValue,
    }
    // Serde would read a list as the fields of a struct, too.
    let object = Some(text).filter(|text| text.trim_start().starts_with('{'))?;
    serde_json::from_str::<Wrapped>(object).ok().map(|wrapped| wrapped.value.get())
}

/// Puts a schema that is no object into one: `{"value": ...}`. Its definitions move to the new root; a schema that refers
/// to places outside its definitions becomes a definition itself, so that it can still be referred to.
fn wrap(mut schema: Value) -> Value {
    let mut moved = serde_json::Map::new();
    if let Value::Object(node) = &mut schema {
        for key in ["$defs", "definitions"] {
            if let Some(defs) = node.shift_remove(key) {
                moved.insert(key.to_owned(), defs);
            }
        }
    }
    let in_definitions = |text: &str| text.starts_with("#/$defs/") || text.starts_with("#/definitions/");
    let mut inward = false;
    let mut notice = |_: &str, node: &serde_json::Map<String, Value>| {
        inward |= matches!(node.get("$ref"), Some(Value::String(text)) if !in_definitions(text));
    };
    refs::walk(&schema, "", &mut notice);
    refs::walk(&Value::Object(moved.clone()), "", &mut notice);
    if inward {
        let taken = moved.get("$defs").and_then(Value::as_object).cloned().unwrap_or_default();
        let name = std::iter::successors(Some("Root".to_owned()), |n| Some(format!("{n}_")))
            .find(|name| !taken.contains_key(name))
            .unwrap_or_default();
        let mut defs = taken;
        defs.insert(name.clone(), schema);
        moved.insert("$defs".to_owned(), defs.into());
        let mut all = Value::Object(moved);
        refs::walk_mut(&mut all, &mut |node| {
            if let Some(Value::String(text)) = node.get_mut("$ref") {
                if !in_definitions(text) {
                    *text = format!("#/$defs/{name}{}", &text[1..]);
                }
            }
        });
        moved = match all {
            Value::Object(moved) => moved,
            _ => serde_json::Map::new(),
        };
        schema = json!({"$ref": format!("#/$defs/{name}")});
    }
    let mut outer = json!({
        "type": "object", "properties": {"value": schema}, "required": ["value"], "additionalProperties": false,
    });
    if let Value::Object(node) = &mut outer {
        node.extend(moved);
    }
    outer
}
