//! What `POST /v1/responses` accepts, and the words in which it refuses the rest. Pure.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::ApiError;
use super::strict_schema;
use crate::sandbox::answer::{Sampler, tokens};
use crate::sandbox::faults::distance;

/// A request that passed: what the answer depends on.
#[derive(Debug)]
pub struct Ask {
    pub model: String,
    /// The last text of the user.
    pub prompt: String,
    pub input_tokens: u64,
    pub format: Format,
    pub max_output_tokens: Option<u64>,
    /// Whether the model thinks before it answers.
    pub thinks: bool,
}

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

enum Type {
    Text,
    Flag,
    Object,
    List,
    Any,
    Number(f64, f64),
    Integer(i64, i64),
    OneOf(&'static [&'static str]),
}

const MOST: i64 = i64::MAX;
const TIERS: &[&str] = &[
    "auto",
    "default",
    "flex",
    "scale",
    "priority",
    "fast",
    "ultrafast",
];

/// Every parameter, its type, and whether null stands for absent.
const PARAMETERS: [(&str, Type, bool); 34] = [
    ("access_programs", Type::Object, false),
    ("background", Type::Flag, true),
    ("background_options", Type::Object, false),
    ("context_management", Type::List, true),
    ("conversation", Type::Any, true),
    ("image", Type::Object, false),
    ("include", Type::List, true),
    ("input", Type::Any, false),
    ("instructions", Type::Text, true),
    ("max_output_tokens", Type::Integer(16, MOST), true),
    ("max_tool_calls", Type::Integer(1, MOST), true),
    ("metadata", Type::Object, true),
    ("model", Type::Text, false),
    ("moderation", Type::Object, true),
    ("parallel_tool_calls", Type::Flag, true),
    ("previous_response_id", Type::Text, true),
    ("prompt", Type::Object, true),
    ("prompt_cache_key", Type::Text, true),
    ("prompt_cache_options", Type::Object, false),
    (
        "prompt_cache_retention",
        Type::OneOf(&["in_memory", "24h"]),
        true,
    ),
    ("reasoning", Type::Object, true),
    ("safety_identifier", Type::Text, true),
    ("service_tier", Type::OneOf(TIERS), true),
    ("store", Type::Flag, true),
    ("stream", Type::Flag, true),
    ("stream_options", Type::Object, true),
    ("temperature", Type::Number(0.0, 2.0), true),
    ("text", Type::Object, false),
    ("tool_choice", Type::Any, false),
    ("tools", Type::List, false),
    ("top_logprobs", Type::Integer(0, 20), true),
    ("top_p", Type::Number(0.0, 1.0), true),
    ("truncation", Type::OneOf(&["auto", "disabled"]), true),
    ("user", Type::Text, false),
];

/// Parameters of Chat Completions that went elsewhere, and where.
const MOVED: [(&str, &str); 5] = [
    ("messages", "input"),
    ("max_tokens", "max_output_tokens"),
    ("max_completion_tokens", "max_output_tokens"),
    ("response_format", "text.format"),
    ("reasoning_effort", "reasoning.effort"),
];

/// Checks a request body as OpenAI does.
pub fn check(body: &Map<String, Value>, cache: &mut SchemaCache) -> Result<Ask, ApiError> {
    for (name, value) in body {
        check_parameter(name, value)?;
    }
    let model = match body.get("model") {
        Some(Value::String(model)) if !model.is_empty() => model.clone(),
        _ => return Err(ApiError::missing("model")),
    };
    if body.get("stream") == Some(&Value::Bool(true)) {
        return Err(unsupported(
            "stream",
            "the sandbox does not stream yet; leave 'stream' out or set it to false",
        ));
    }
    if body.get("background") == Some(&Value::Bool(true)) {
        return Err(unsupported(
            "background",
            "the sandbox answers at once; leave 'background' out or set it to false",
        ));
    }
    check_metadata(body.get("metadata"))?;
    let effort = check_reasoning(body)?;
    let thinks = check_sampling(body, &model, effort)?;
    let mut texts = Texts::default();
    match body.get("input") {
        Some(input) => check_input(input, &mut texts)?,
        None if ["prompt", "previous_response_id", "conversation"]
            .iter()
            .any(|key| present(body, key).is_some()) => {}
        None => return Err(ApiError::missing("input")),
    }
    let instructions = body
        .get("instructions")
        .and_then(Value::as_str)
        .unwrap_or("");
    let format = check_text(body, &model, instructions, &texts, cache)?;
    let instruction_tokens = if instructions.is_empty() {
        0
    } else {
        tokens(instructions)
    };
    Ok(Ask {
        input_tokens: instruction_tokens + texts.tokens,
        prompt: texts.user.or(texts.last).unwrap_or_default(),
        format,
        max_output_tokens: body.get("max_output_tokens").and_then(Value::as_u64),
        thinks,
        model,
    })
}

fn present<'a>(body: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    body.get(key).filter(|value| !value.is_null())
}

fn unsupported(param: &str, why: &str) -> ApiError {
    ApiError::invalid(
        "unsupported_parameter",
        param,
        format!("Unsupported parameter: {why}."),
    )
}

fn check_parameter(name: &str, value: &Value) -> Result<(), ApiError> {
    if let Some((_, kind, nullable)) = PARAMETERS.iter().find(|(known, ..)| *known == name) {
        return if *nullable && value.is_null() {
            Ok(())
        } else {
            check_type(name, kind, value)
        };
    }
    if let Some((_, new)) = MOVED.iter().find(|(old, _)| *old == name) {
        let message = format!(
            "Unsupported parameter: '{name}'. In the Responses API, this parameter has moved to '{new}'. Try again with the new \
             parameter."
        );
        return Err(ApiError::invalid("unsupported_parameter", name, message));
    }
    Err(unknown(name, PARAMETERS.iter().map(|(known, ..)| *known)))
}

/// A 400 for a key that is not known at `path`, which ends in that key.
pub fn unknown<'a>(path: &str, known: impl Iterator<Item = &'a str>) -> ApiError {
    let (parent, name) = path
        .rsplit_once('.')
        .map_or(("", path), |(parent, name)| (parent, name));
    let nearest = known.map(|known| (distance(name, known), known)).min();
    let hint = match nearest {
        Some((far, known)) if far <= 2 && far < name.len() => {
            let dot = if parent.is_empty() { "" } else { "." };
            format!(" Did you mean '{parent}{dot}{known}'?")
        }
        _ => String::new(),
    };
    ApiError::invalid(
        "unknown_parameter",
        path,
        format!("Unknown parameter: '{path}'.{hint}"),
    )
}

fn check_keys(path: &str, object: &Map<String, Value>, known: &[&str]) -> Result<(), ApiError> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(unknown(&format!("{path}.{key}"), known.iter().copied())),
        None => Ok(()),
    }
}

fn check_type(name: &str, kind: &Type, value: &Value) -> Result<(), ApiError> {
    let expected = match kind {
        Type::Any => return Ok(()),
        Type::Text if value.is_string() => return Ok(()),
        Type::Flag if value.is_boolean() => return Ok(()),
        Type::Object if value.is_object() => return Ok(()),
        Type::List if value.is_array() => return Ok(()),
        Type::Number(low, high) if value.is_number() => return in_range(name, value, *low, *high),
        Type::Integer(low, high) if value.is_i64() || value.is_u64() => {
            return in_integer_range(name, value, *low, *high);
        }
        Type::OneOf(choices) if value.is_string() => return choice(name, value, choices),
        Type::Text => "a string",
        Type::Flag => "a boolean",
        Type::Object => "an object",
        Type::List => "an array",
        Type::Number(..) => "a decimal",
        Type::Integer(..) => "an integer",
        Type::OneOf(choices) => {
            return Err(wrong_type(
                name,
                &format!("one of {}", quoted(choices)),
                value,
            ));
        }
    };
    Err(wrong_type(name, expected, value))
}

/// A 400 for a value of the wrong JSON type.
pub fn wrong_type(name: &str, expected: &str, value: &Value) -> ApiError {
    let got = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal number",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    let message = format!("Invalid type for '{name}': expected {expected}, but got {got} instead.");
    ApiError::invalid("invalid_type", name, message)
}

fn in_range(name: &str, value: &Value, low: f64, high: f64) -> Result<(), ApiError> {
    let number = value.as_f64().unwrap_or(f64::NAN);
    if number < low {
        let message = format!(
            "Invalid '{name}': decimal below minimum value. Expected a value >= {low}, but got {value} instead."
        );
        return Err(ApiError::invalid("decimal_below_min_value", name, message));
    }
    if number > high {
        let message = format!(
            "Invalid '{name}': decimal above maximum value. Expected a value <= {high}, but got {value} instead."
        );
        return Err(ApiError::invalid("decimal_above_max_value", name, message));
    }
    Ok(())
}

/// A 400 for an integer outside `low..=high`.
pub fn in_integer_range(name: &str, value: &Value, low: i64, high: i64) -> Result<(), ApiError> {
    let number = value.as_i64().unwrap_or(i64::MAX);
    if number < low {
        let message = format!(
            "Invalid '{name}': integer below minimum value. Expected a value >= {low}, but got {value} instead."
        );
        return Err(ApiError::invalid("integer_below_min_value", name, message));
    }
    if number > high {
        let message = format!(
            "Invalid '{name}': integer above maximum value. Expected a value <= {high}, but got {value} instead."
        );
        return Err(ApiError::invalid("integer_above_max_value", name, message));
    }
    Ok(())
}

fn quoted(choices: &[&str]) -> String {
    match choices {
        [] => String::new(),
        [only] => format!("'{only}'"),
        [first, second] => format!("'{first}' and '{second}'"),
        [others @ .., last] => {
            let others: Vec<String> = others.iter().map(|choice| format!("'{choice}'")).collect();
            format!("{}, and '{last}'", others.join(", "))
        }
    }
}

/// A 400 for a string that is none of the choices.
pub fn choice(name: &str, value: &Value, choices: &[&str]) -> Result<(), ApiError> {
    match value {
        Value::String(text) if choices.contains(&text.as_str()) => Ok(()),
        Value::String(text) => {
            let message = format!(
                "Invalid value: '{text}'. Supported values are: {}.",
                quoted(choices)
            );
            Err(ApiError::invalid("invalid_value", name, message))
        }
        _ => Err(wrong_type(name, "a string", value)),
    }
}

/// At most 16 pairs, keys of at most 64 characters, values strings of at most 512 (OpenAPI description of `metadata`).
pub fn check_metadata(metadata: Option<&Value>) -> Result<(), ApiError> {
    let pairs = match metadata {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Object(pairs)) => pairs,
        Some(other) => return Err(wrong_type("metadata", "an object", other)),
    };
    if pairs.len() > 16 {
        let message = format!(
            "Invalid 'metadata': too many properties. Expected an object with at most 16 properties, but got an object with {} \
             properties instead.",
            pairs.len()
        );
        return Err(ApiError::invalid(
            "object_above_max_properties",
            "metadata",
            message,
        ));
    }
    for (key, value) in pairs {
        let name = format!("metadata.{key}");
        if key.chars().count() > 64 {
            return Err(too_long("metadata", "property name", 64, key));
        }
        match value {
            Value::String(text) if text.chars().count() > 512 => {
                return Err(too_long(&name, "string", 512, text));
            }
            Value::String(_) => {}
            other => return Err(wrong_type(&name, "a string", other)),
        }
    }
    Ok(())
}

fn too_long(name: &str, what: &str, most: usize, text: &str) -> ApiError {
    let message = format!(
        "Invalid '{name}': {what} too long. Expected a string with maximum length {most}, but got a string with length {} instead.",
        text.chars().count()
    );
    ApiError::invalid("string_above_max_length", name, message)
}

fn check_reasoning(body: &Map<String, Value>) -> Result<Option<&str>, ApiError> {
    let Some(Value::Object(reasoning)) = body.get("reasoning") else {
        return Ok(None);
    };
    check_keys(
        "reasoning",
        reasoning,
        &["effort", "summary", "generate_summary", "mode", "context"],
    )?;
    if let Some(effort) = present(reasoning, "effort") {
        choice(
            "reasoning.effort",
            effort,
            &["none", "minimal", "low", "medium", "high", "xhigh", "max"],
        )?;
    }
    if let Some(summary) = present(reasoning, "summary") {
        choice(
            "reasoning.summary",
            summary,
            &["auto", "concise", "detailed"],
        )?;
    }
    Ok(reasoning.get("effort").and_then(Value::as_str))
}

/// Whether the model thinks; a thinking model takes neither temperature nor top_p.
fn check_sampling(
    body: &Map<String, Value>,
    model: &str,
    effort: Option<&str>,
) -> Result<bool, ApiError> {
    let digit_after_o = model
        .strip_prefix('o')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    // From gpt-5.1 on the default effort may be none; a sandbox that guessed wrong would refuse what the provider takes.
    let point_release = model
        .strip_prefix("gpt-5.")
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let thinks = match effort {
        Some("none") => false,
        Some(_) => digit_after_o || model.starts_with("gpt-5"),
        None => digit_after_o || (model.starts_with("gpt-5") && !point_release),
    };
    for name in ["temperature", "top_p"] {
        if thinks && present(body, name).is_some() {
            let message =
                format!("Unsupported parameter: '{name}' is not supported with this model.");
            return Err(ApiError::invalid("unsupported_parameter", name, message));
        }
    }
    Ok(thinks)
}

/// The texts of an input.
#[derive(Debug, Default)]
struct Texts {
    /// The last one of the user.
    user: Option<String>,
    last: Option<String>,
    tokens: u64,
    says_json: bool,
}

impl Texts {
    fn add(&mut self, role: &str, text: &str) {
        self.tokens += tokens(text);
        self.says_json |= text.to_ascii_lowercase().contains("json");
        if role == "user" {
            self.user = Some(text.to_owned());
        }
        self.last = Some(text.to_owned());
    }
}

fn check_input(input: &Value, texts: &mut Texts) -> Result<(), ApiError> {
    match input {
        Value::String(text) => texts.add("user", text),
        Value::Array(items) if items.is_empty() => {
            let message = "Invalid 'input': empty array. Expected an array with minimum length 1, but got an empty array instead.";
            return Err(ApiError::invalid("empty_array", "input", message));
        }
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                check_item(&format!("input[{place}]"), item, texts)?;
            }
        }
        other => {
            return Err(wrong_type(
                "input",
                "one of a string or array of input items",
                other,
            ));
        }
    }
    Ok(())
}

const MESSAGE_KEYS: &[&str] = &["type", "role", "content", "id", "status", "phase"];
/// Items other than messages: read by the provider, of no matter for an echo.
const OTHER_ITEMS: &[&str] = &[
    "function_call",
    "function_call_output",
    "reasoning",
    "item_reference",
    "message",
];

fn check_item(path: &str, item: &Value, texts: &mut Texts) -> Result<(), ApiError> {
    let Value::Object(item) = item else {
        return Err(wrong_type(path, "an object", item));
    };
    if let Some(kind) = item.get("type") {
        choice(&format!("{path}.type"), kind, OTHER_ITEMS)?;
        if kind != "message" {
            return Ok(());
        }
    }
    check_keys(path, item, MESSAGE_KEYS)?;
    let role = item
        .get("role")
        .ok_or_else(|| ApiError::missing(&format!("{path}.role")))?;
    choice(
        &format!("{path}.role"),
        role,
        &["assistant", "system", "developer", "user"],
    )?;
    let role = role.as_str().unwrap_or("user");
    let content_path = format!("{path}.content");
    match item.get("content") {
        None => Err(ApiError::missing(&content_path)),
        Some(Value::String(text)) => {
            texts.add(role, text);
            Ok(())
        }
        Some(Value::Array(parts)) => check_parts(&content_path, role, parts, texts),
        Some(other) => Err(wrong_type(
            &content_path,
            "one of an array of objects or string",
            other,
        )),
    }
}

fn check_parts(path: &str, role: &str, parts: &[Value], texts: &mut Texts) -> Result<(), ApiError> {
    let (kinds, text_key): (&[&str], _) = match role {
        "assistant" => (&["output_text", "refusal"], "output_text"),
        _ => (&["input_text", "input_image", "input_file"], "input_text"),
    };
    let mut joined = String::new();
    for (place, part) in parts.iter().enumerate() {
        let path = format!("{path}[{place}]");
        let Value::Object(part) = part else {
            return Err(wrong_type(&path, "an object", part));
        };
        let kind = part
            .get("type")
            .ok_or_else(|| ApiError::missing(&format!("{path}.type")))?;
        choice(&format!("{path}.type"), kind, kinds)?;
        if kind == text_key {
            match part.get("text") {
                Some(Value::String(text)) => joined.push_str(text),
                Some(other) => return Err(wrong_type(&format!("{path}.text"), "a string", other)),
                None => return Err(ApiError::missing(&format!("{path}.text"))),
            }
        }
    }
    texts.add(role, &joined);
    Ok(())
}

fn check_text(
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
    let kind = format
        .get("type")
        .ok_or_else(|| ApiError::missing("text.format.type"))?;
    choice(
        "text.format.type",
        kind,
        &["text", "json_object", "json_schema"],
    )?;
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

fn check_json_schema(
    format: &Map<String, Value>,
    model: &str,
    cache: &mut SchemaCache,
) -> Result<Format, ApiError> {
    check_keys(
        "text.format",
        format,
        &["type", "name", "schema", "strict", "description"],
    )?;
    let name = match format.get("name") {
        Some(Value::String(name)) => name,
        Some(other) => return Err(wrong_type("text.format.name", "a string", other)),
        None => return Err(ApiError::missing("text.format.name")),
    };
    check_schema_name(name)?;
    if let Some(description) =
        present(format, "description").filter(|description| !description.is_string())
    {
        return Err(wrong_type(
            "text.format.description",
            "a string",
            description,
        ));
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
    if ["gpt-3.5", "gpt-4-turbo"]
        .iter()
        .any(|old| model.starts_with(old))
    {
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
    if name.is_empty()
        || !name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    {
        let message = format!(
            "Invalid '{param}': string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."
        );
        return Err(ApiError::invalid("invalid_value", param, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refuse(body: Value) -> (String, Option<&'static str>) {
        let error = check(body.as_object().unwrap(), &mut SchemaCache::default()).unwrap_err();
        (error.message, error.code)
    }

    #[test]
    fn words_of_refusal() {
        let stop = refuse(json!({"model": "m", "input": "x", "stop": ["a"]}));
        assert_eq!(
            stop,
            (
                "Unknown parameter: 'stop'. Did you mean 'store'?".into(),
                Some("unknown_parameter")
            )
        );
        let seed = refuse(json!({"model": "m", "input": "x", "seed": 1}));
        assert_eq!(seed.0, "Unknown parameter: 'seed'.");
        assert_eq!(
            refuse(json!({"input": "x"})).1,
            Some("missing_required_parameter")
        );
        assert_eq!(
            refuse(json!({"model": "m", "input": "x", "max_output_tokens": 5})).1,
            Some("integer_below_min_value")
        );
        assert_eq!(
            refuse(json!({"model": "m", "input": "x", "temperature": 2.5})).1,
            Some("decimal_above_max_value")
        );
        assert_eq!(
            refuse(json!({"model": "o4-mini", "input": "x", "top_p": 0.5})).1,
            Some("unsupported_parameter")
        );
        assert_eq!(
            refuse(
                json!({"model": "m", "input": "x", "text": {"format": {"type": "json_object"}}})
            )
            .1,
            None
        );
        assert!(
            refuse(json!({"model": "m", "input": [{"role": "user"}]}))
                .0
                .contains("input[0].content")
        );
    }

    #[test]
    fn finds_the_prompt() {
        let body = json!({"model": "m", "instructions": "Be kind.", "input": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "input_text", "text": "He"}, {"type": "input_text", "text": "llo"}]},
            {"role": "assistant", "content": "a"}]});
        let ask = check(body.as_object().unwrap(), &mut SchemaCache::default()).unwrap();
        assert_eq!((ask.prompt.as_str(), ask.input_tokens), ("Hello", 6));
    }
}
