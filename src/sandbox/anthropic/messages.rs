//! The Messages API: one answer, composed as Anthropic composes it.

use hyper::StatusCode;
use hyper::http::request::Parts;
use serde_json::{Map, Value, json};

use super::error::ApiError;
use super::tools::{Form, SchemaCache};
use super::validate::{self, Ask};
use super::values::present;
use super::{Answer, Version};
use crate::sandbox::answer::{first_chars, tokens};
use crate::sandbox::faults::Kind;
use crate::sandbox::{Ids, Shared, http, lock};

/// Tokens that a thinking model spends before it answers.
const THINKING_TOKENS: u64 = 64;

pub fn create(shared: &Shared, parts: &Parts, body: &Map<String, Value>, version: Version) -> Answer {
    let ask = validate::check(body, version, &mut SchemaCache::default())?;
    let (method, path) = (parts.method.as_str(), parts.uri.path());
    if present(body, "output_config").is_some() && lock(&shared.faults).take_kind(Kind::NoOutputConfig, method, path) {
        return Err(no_output_config());
    }
    let fault = lock(&shared.faults).take_answer(method, path);
    if fault == Some(Kind::Failed200) {
        let error = ApiError::server("Internal server error");
        return Ok(http::json(StatusCode::OK, &error.body(&shared.ids.next("req_"))));
    }
    Ok(http::json(StatusCode::OK, &compose(&shared.ids, &ask, fault, "standard")))
}

/// The words of a server that does not know structured outputs.
pub fn no_output_config() -> ApiError {
    ApiError::extra("output_config")
}

/// What becomes of an answer.
#[derive(Default)]
struct Outcome {
    content: Vec<Value>,
    stop_reason: &'static str,
    stop_sequence: Option<String>,
    stop_details: Value,
    answer_tokens: u64,
}

impl Outcome {
    fn new(stop_reason: &'static str) -> Outcome {
        Outcome { stop_reason, ..Outcome::default() }
    }
}

/// The message that answers a request that was found valid.
pub fn compose(ids: &Ids, ask: &Ask, fault: Option<Kind>, tier: &str) -> Value {
    let thinking_only = fault == Some(Kind::ReasoningOnly) || (ask.thinks && ask.max_tokens <= THINKING_TOKENS);
    let thinks = ask.thinks || thinking_only;
    let thinking_tokens = match () {
        () if thinking_only => ask.max_tokens,
        () if thinks => THINKING_TOKENS,
        () => 0,
    };
    let mut outcome = if thinking_only { Outcome::new("max_tokens") } else { outcome(ids, ask, fault) };
    if thinks && outcome.stop_reason != "refusal" {
        let thought = if ask.shows_thinking { "Let me see what was asked." } else { "" };
        let block = json!({"type": "thinking", "thinking": thought, "signature": "EosnCkYICxIMc2FuZGJveA=="});
        outcome.content.insert(0, block);
    }
    let usage = json!({
        "input_tokens": ask.input_tokens - ask.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": ask.cached_tokens,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": outcome.answer_tokens + thinking_tokens,
        "output_tokens_details": {"thinking_tokens": thinking_tokens},
        "server_tool_use": null,
        "service_tier": tier,
        "inference_geo": "global",
    });
    let mut message = json!({
        "id": ids.next("msg_"),
        "type": "message",
        "role": "assistant",
        "model": ask.model,
        "content": null,
        "stop_reason": outcome.stop_reason,
        "stop_sequence": outcome.stop_sequence,
        "stop_details": outcome.stop_details,
        "container": null,
        "usage": usage,
    });
    // Moved in: `json!` would copy it.
    message["content"] = Value::Array(outcome.content);
    message
}

fn outcome(ids: &Ids, ask: &Ask, fault: Option<Kind>) -> Outcome {
    if fault == Some(Kind::Refusal) {
        let category =
            json!({"type": "refusal", "category": "cyber", "explanation": "Declined: could enable cyber harm."});
        return Outcome { stop_details: category, ..Outcome::new("refusal") };
    }
    if fault == Some(Kind::NullOutput) {
        return Outcome::new("end_turn");
    }
    if let Form::Tool(name, sampler) = &ask.form {
        let input = match fault {
            Some(Kind::UnfitJson | Kind::InvalidJson) => json!({"unexpected": ask.prompt}),
            _ => sampler.sample(&ask.prompt),
        };
        return tool_use(ids, ask, name, input, fault);
    }
    let wants_json = matches!(ask.form, Form::Json(_));
    let full = match (fault, &ask.form) {
        (Some(Kind::InvalidJson), _) if wants_json => {
            format!("Here is the JSON that you asked for: {{\"echo\": {}", ask.prompt)
        }
        (Some(Kind::UnfitJson), _) if wants_json => json!({"unexpected": ask.prompt}).to_string(),
        (_, Form::Json(sampler)) => sampler.sample(&ask.prompt).to_string(),
        _ => ask.prompt.clone(),
    };
    let half = first_chars(&full, full.chars().count() / 2);
    let cut = |text: &str, stop_reason| Outcome {
        content: said(text),
        answer_tokens: tokens(text),
        ..Outcome::new(stop_reason)
    };
    match fault {
        Some(Kind::Truncated) => return cut(half, "max_tokens"),
        Some(Kind::ContextWindow) => return cut(half, "model_context_window_exceeded"),
        Some(Kind::PauseTurn) => return cut(half, "pause_turn"),
        Some(Kind::ContentFilter) => {
            let details = json!({"type": "refusal", "category": null, "explanation": null});
            return Outcome { stop_details: details, ..cut(half, "refusal") };
        }
        _ => {}
    }
    let mut outcome = limited(ask, &full);
    if fault == Some(Kind::SplitText) {
        let text = outcome.content.first().and_then(|block| block["text"].as_str()).unwrap_or("").to_owned();
        let (head, tail) = text.split_at(first_chars(&text, text.chars().count() / 2).len());
        outcome.content = [said(head), said(tail)].concat();
    }
    outcome
}

/// The text up to the first stop sequence, or as far as `max_tokens` goes.
fn limited(ask: &Ask, full: &str) -> Outcome {
    let spent = if ask.thinks { THINKING_TOKENS } else { 0 };
    let room = usize::try_from((ask.max_tokens - spent).saturating_mul(4)).unwrap_or(usize::MAX);
    let within = first_chars(full, room);
    let first = ask.stop.iter().filter_map(|stop| Some((within.find(stop.as_str())?, stop))).min();
    let (text, stop_reason, stop_sequence) = match first {
        Some((at, stop)) => (&within[..at], "stop_sequence", Some(stop.clone())),
        None if within.len() < full.len() => (within, "max_tokens", None),
        None => (within, "end_turn", None),
    };
    Outcome { content: said(text), answer_tokens: tokens(text), stop_sequence, ..Outcome::new(stop_reason) }
}

/// A text as content; an empty one is no block.
fn said(text: &str) -> Vec<Value> {
    if text.is_empty() { Vec::new() } else { vec![json!({"type": "text", "text": text, "citations": null})] }
}

fn tool_use(ids: &Ids, ask: &Ask, name: &str, input: Value, fault: Option<Kind>) -> Outcome {
    let cost = tokens(&input.to_string());
    let spent = if ask.thinks { THINKING_TOKENS } else { 0 };
    let room = ask.max_tokens - spent;
    let is_cut = fault == Some(Kind::Truncated) || cost > room;
    let mut block =
        json!({"type": "tool_use", "id": ids.next("toolu_"), "name": name, "input": {}, "caller": {"type": "direct"}});
    if !is_cut {
        block["input"] = input;
    }
    let stop_reason = match fault {
        Some(Kind::PauseTurn) => "pause_turn",
        Some(Kind::ContextWindow) => "model_context_window_exceeded",
        _ if is_cut => "max_tokens",
        _ => "tool_use",
    };
    Outcome { content: vec![block], answer_tokens: cost.min(room), ..Outcome::new(stop_reason) }
}
