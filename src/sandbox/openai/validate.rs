//! What `POST /v1/responses` accepts, and the words in which it refuses the rest. Pure.

use serde_json::{Map, Value};

use super::error::ApiError;
use super::format::{Format, SchemaCache, check_text};
use super::input::{Texts, check_input};
use super::values::{Type, check_keys, check_metadata, check_type, choice, unknown};
use crate::sandbox::answer::tokens;

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

const MOST: i64 = i64::MAX;

const TIERS: &[&str] = &["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"];

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
    ("prompt_cache_retention", Type::OneOf(&["in_memory", "24h"]), true),
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
        return Err(unsupported("stream", "the sandbox does not stream yet; leave 'stream' out or set it to false"));
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
        None if ["prompt", "previous_response_id", "conversation"].iter().any(|key| present(body, key).is_some()) => {}
        None => return Err(ApiError::missing("input")),
    }
    let instructions = body.get("instructions").and_then(Value::as_str).unwrap_or("");
    let format = check_text(body, &model, instructions, &texts, cache)?;
    let instruction_tokens = if instructions.is_empty() { 0 } else { tokens(instructions) };
    Ok(Ask {
        input_tokens: instruction_tokens + texts.tokens,
        prompt: texts.user.or(texts.last).unwrap_or_default(),
        format,
        max_output_tokens: body.get("max_output_tokens").and_then(Value::as_u64),
        thinks,
        model,
    })
}

/// A value that is there and not null.
pub fn present<'a>(body: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    body.get(key).filter(|value| !value.is_null())
}

fn unsupported(param: &str, why: &str) -> ApiError {
    ApiError::invalid("unsupported_parameter", param, format!("Unsupported parameter: {why}."))
}

fn check_parameter(name: &str, value: &Value) -> Result<(), ApiError> {
    if let Some((_, kind, nullable)) = PARAMETERS.iter().find(|(known, ..)| *known == name) {
        return if *nullable && value.is_null() { Ok(()) } else { check_type(name, kind, value) };
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

fn check_reasoning(body: &Map<String, Value>) -> Result<Option<&str>, ApiError> {
    let Some(Value::Object(reasoning)) = body.get("reasoning") else {
        return Ok(None);
    };
    check_keys("reasoning", reasoning, &["effort", "summary", "generate_summary", "mode", "context"])?;
    if let Some(effort) = present(reasoning, "effort") {
        choice("reasoning.effort", effort, &["none", "minimal", "low", "medium", "high", "xhigh", "max"])?;
    }
    if let Some(summary) = present(reasoning, "summary") {
        choice("reasoning.summary", summary, &["auto", "concise", "detailed"])?;
    }
    Ok(reasoning.get("effort").and_then(Value::as_str))
}

/// Whether the model thinks; a thinking model takes neither temperature nor top_p.
fn check_sampling(body: &Map<String, Value>, model: &str, effort: Option<&str>) -> Result<bool, ApiError> {
    let digit_after_o = model.strip_prefix('o').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    // From gpt-5.1 on the default effort may be none; a sandbox that guessed wrong would refuse what the provider takes.
    let point_release = model.strip_prefix("gpt-5.").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let thinks = match effort {
        Some("none") => false,
        Some(_) => digit_after_o || model.starts_with("gpt-5"),
        None => digit_after_o || (model.starts_with("gpt-5") && !point_release),
    };
    for name in ["temperature", "top_p"] {
        if thinks && present(body, name).is_some() {
            let message = format!("Unsupported parameter: '{name}' is not supported with this model.");
            return Err(ApiError::invalid("unsupported_parameter", name, message));
        }
    }
    Ok(thinks)
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
        assert_eq!(stop, ("Unknown parameter: 'stop'. Did you mean 'store'?".into(), Some("unknown_parameter")));
        let seed = refuse(json!({"model": "m", "input": "x", "seed": 1}));
        assert_eq!(seed.0, "Unknown parameter: 'seed'.");
        assert_eq!(refuse(json!({"input": "x"})).1, Some("missing_required_parameter"));
        assert_eq!(
            refuse(json!({"model": "m", "input": "x", "max_output_tokens": 5})).1,
            Some("integer_below_min_value")
        );
        assert_eq!(refuse(json!({"model": "m", "input": "x", "temperature": 2.5})).1, Some("decimal_above_max_value"));
        assert_eq!(refuse(json!({"model": "o4-mini", "input": "x", "top_p": 0.5})).1, Some("unsupported_parameter"));
        assert_eq!(refuse(json!({"model": "m", "input": "x", "text": {"format": {"type": "json_object"}}})).1, None);
        assert!(refuse(json!({"model": "m", "input": [{"role": "user"}]})).0.contains("input[0].content"));
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
