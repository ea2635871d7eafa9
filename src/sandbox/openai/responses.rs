//! The Responses API: one answer, composed as OpenAI composes it.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::http::request::Parts;
use serde_json::{Map, Value, json};

use super::Answer;
use super::error::ApiError;
use super::format::{Format, SchemaCache};
use super::validate::{self, Ask};
use crate::sandbox::answer::{first_chars, tokens};
use crate::sandbox::faults::Kind;
use crate::sandbox::{Ids, Shared, http, lock};

/// So many stored responses can be fetched again.
const STORED_LIMIT: usize = 1_000;
/// Tokens that a thinking model spends before it answers.
const THINKING_TOKENS: u64 = 64;

pub fn create(shared: &Arc<Shared>, parts: &Parts, body: &Map<String, Value>) -> Answer {
    let ask = validate::check(body, &mut SchemaCache::default())?;
    if let Some(Value::String(id)) = body.get("previous_response_id")
        && lock(&shared.openai.responses).get(id).is_none()
    {
        let message = format!("Previous response with id '{id}' not found.");
        return Err(ApiError::invalid("previous_response_not_found", "previous_response_id", message));
    }
    let fault = lock(&shared.faults).take_answer(parts.method.as_str(), parts.uri.path());
    let response = compose(&shared.ids, shared.clock.now() as i64, &ask, body, fault);
    let reply = http::json(StatusCode::OK, &response);
    if body.get("store") != Some(&Value::Bool(false))
        && let Some(id) = response.get("id").and_then(Value::as_str).map(str::to_owned)
    {
        let mut stored = lock(&shared.openai.responses);
        stored.put(&id, Arc::new(response));
        stored.keep_newest(STORED_LIMIT);
    }
    Ok(reply)
}

pub fn retrieve(shared: &Shared, id: &str) -> Answer {
    let stored = lock(&shared.openai.responses).get(id).ok_or_else(|| no_response(id))?;
    Ok(http::json(StatusCode::OK, &stored))
}

pub fn delete(shared: &Shared, id: &str) -> Answer {
    lock(&shared.openai.responses).remove(id).ok_or_else(|| no_response(id))?;
    Ok(http::json(StatusCode::OK, &json!({"id": id, "object": "response", "deleted": true})))
}

fn no_response(id: &str) -> ApiError {
    ApiError::not_found("", format!("Response with id '{id}' not found."))
}

/// What becomes of an answer.
struct Outcome {
    status: &'static str,
    error: Value,
    incomplete: Value,
    output: Value,
    answer_tokens: u64,
    thinking_tokens: u64,
}

/// The response to a request that was found valid.
pub fn compose(ids: &Ids, now: i64, ask: &Ask, body: &Map<String, Value>, fault: Option<Kind>) -> Value {
    let Outcome { status, error, incomplete, output, answer_tokens, thinking_tokens } = outcome(ids, ask, fault);
    let given = |key: &str, default: Value| body.get(key).filter(|value| !value.is_null()).cloned().unwrap_or(default);
    let output_tokens = answer_tokens + thinking_tokens;
    let reasoning = |key: &str| body.get("reasoning").and_then(|reasoning| reasoning.get(key)).cloned();
    let mut response = json!({
        "id": ids.next("resp_"),
        "object": "response",
        "created_at": now,
        "status": status,
        "background": false,
        "completed_at": if status == "completed" { json!(now) } else { Value::Null },
        "error": error,
        "incomplete_details": incomplete,
        "instructions": given("instructions", Value::Null),
        "max_output_tokens": given("max_output_tokens", Value::Null),
        "max_tool_calls": given("max_tool_calls", Value::Null),
        "model": ask.model,
        "output": null,
        "parallel_tool_calls": given("parallel_tool_calls", json!(true)),
        "previous_response_id": given("previous_response_id", Value::Null),
        "prompt_cache_key": given("prompt_cache_key", Value::Null),
        "reasoning": {"effort": reasoning("effort"), "summary": reasoning("summary")},
        "safety_identifier": given("safety_identifier", Value::Null),
        "service_tier": "default",
        "store": given("store", json!(true)),
        "temperature": given("temperature", json!(1.0)),
        "text": null,
        "tool_choice": given("tool_choice", json!("auto")),
        "tools": given("tools", json!([])),
        "top_logprobs": given("top_logprobs", json!(0)),
        "top_p": given("top_p", json!(1.0)),
        "truncation": given("truncation", json!("disabled")),
        "usage": {
            "input_tokens": ask.input_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": output_tokens,
            "output_tokens_details": {"reasoning_tokens": thinking_tokens},
            "total_tokens": ask.input_tokens + output_tokens,
        },
        "user": given("user", Value::Null),
        "metadata": given("metadata", json!({})),
    });
    // The large ones are moved in: `json!` would copy them.
    response["output"] = output;
    response["text"] = text_config(body);
    response
}

fn text_config(body: &Map<String, Value>) -> Value {
    let given = |key: &str| body.get("text").and_then(|text| text.get(key)).filter(|value| !value.is_null()).cloned();
    let mut format = given("format").unwrap_or_else(|| json!({"type": "text"}));
    if let Some(format) = format.as_object_mut().filter(|format| format.get("type") == Some(&json!("json_schema"))) {
        format.entry("description").or_insert(Value::Null);
        format.entry("strict").or_insert(json!(false));
    }
    let mut config = json!({"format": null, "verbosity": given("verbosity").unwrap_or_else(|| json!("medium"))});
    config["format"] = format;
    config
}

fn outcome(ids: &Ids, ask: &Ask, fault: Option<Kind>) -> Outcome {
    let wants_json = !matches!(ask.format, Format::Text);
    let thinking_tokens = if ask.thinks { THINKING_TOKENS } else { 0 };
    let thinking = || json!({"id": ids.next("rs_"), "type": "reasoning", "summary": []});
    let budget = ask.max_output_tokens.unwrap_or(u64::MAX);
    if fault == Some(Kind::ReasoningOnly) || budget <= thinking_tokens {
        let spent = ask.max_output_tokens.unwrap_or(THINKING_TOKENS);
        let output = json!([thinking()]);
        return Outcome { answer_tokens: 0, thinking_tokens: spent, ..incomplete("max_output_tokens", output) };
    }
    let mut items: Vec<Value> = ask.thinks.then(thinking).into_iter().collect();
    let full = match fault {
        Some(Kind::InvalidJson) if wants_json => {
            format!("Here is the JSON that you asked for: {{\"echo\": {}", ask.prompt)
        }
        Some(Kind::UnfitJson) if wants_json => json!({"unexpected": ask.prompt}).to_string(),
        _ => answer_text(ask),
    };
    let half = || first_chars(&full, full.chars().count() / 2).to_owned();
    let room = usize::try_from(budget.saturating_sub(thinking_tokens).saturating_mul(4)).unwrap_or(usize::MAX);
    let (status, text, reason) = match fault {
        Some(Kind::Truncated) => ("incomplete", half(), "max_output_tokens"),
        Some(Kind::ContentFilter) => ("incomplete", half(), "content_filter"),
        _ if full.chars().count() > room => ("incomplete", first_chars(&full, room).to_owned(), "max_output_tokens"),
        _ => ("completed", full, ""),
    };
    let message = |status: &str, part: Value| {
        let id = ids.next("msg_");
        json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": [part]})
    };
    let said = |text: &str| json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text});
    let mut answer_tokens = tokens(&text);
    match fault {
        Some(Kind::Refusal) => {
            let refusal = "I'm sorry, I can't help with that.";
            answer_tokens = tokens(refusal);
            items.push(message("completed", json!({"type": "refusal", "refusal": refusal})));
            return Outcome { answer_tokens, thinking_tokens, ..completed(Value::Array(items)) };
        }
        Some(Kind::Failed200) => {
            let error = json!({"code": "server_error", "message": "The model failed to generate a response."});
            return Outcome { status: "failed", error, thinking_tokens, ..completed(json!([])) };
        }
        Some(Kind::NullOutput) => {
            return Outcome { answer_tokens, thinking_tokens, ..completed(Value::Null) };
        }
        Some(Kind::Commentary) => {
            for (phase, text) in [("commentary", "Let me see what was asked."), ("final_answer", text.as_str())] {
                let mut item = message("completed", said(text));
                item["phase"] = json!(phase);
                items.push(item);
            }
        }
        _ => items.push(message(status, said(&text))),
    }
    let outcome =
        if status == "completed" { completed(Value::Array(items)) } else { incomplete(reason, Value::Array(items)) };
    Outcome { answer_tokens, thinking_tokens, ..outcome }
}

fn completed(output: Value) -> Outcome {
    Outcome {
        status: "completed",
        error: Value::Null,
        incomplete: Value::Null,
        output,
        answer_tokens: 0,
        thinking_tokens: 0,
    }
}

fn incomplete(reason: &str, output: Value) -> Outcome {
    Outcome { status: "incomplete", incomplete: json!({"reason": reason}), ..completed(output) }
}

fn answer_text(ask: &Ask) -> String {
    match &ask.format {
        Format::Text => ask.prompt.clone(),
        Format::JsonObject => json!({"echo": ask.prompt}).to_string(),
        Format::Schema(sampler) => sampler.sample(&ask.prompt).to_string(),
    }
}
