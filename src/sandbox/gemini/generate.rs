//! `:generateContent` and `:countTokens`: one answer, composed as Google composes it.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::http::request::Parts;
use serde_json::{Map, Value, json};

use super::error::ApiError;
use super::messages::{COUNT_TOKENS_REQUEST, GENERATE_CONTENT_REQUEST};
use super::proto::{self, Names};
use super::validate::{self, Ask, Format, SchemaCache};
use super::{Answer, pretty};
use crate::sandbox::answer::{first_chars, tokens};
use crate::sandbox::faults::Kind;
use crate::sandbox::{Ids, Shared, lock};

/// Tokens that a thinking model spends before it answers.
const THINKING_TOKENS: u64 = 64;

pub fn create(shared: &Arc<Shared>, parts: &Parts, model: &str, body: Value) -> Answer {
    let request = proto::read(&GENERATE_CONTENT_REQUEST, body, Names::Both).map_err(|wrong| proto::refused(&wrong))?;
    let ask = validate::check(model, &request, &mut SchemaCache::default())?;
    let fault = lock(&shared.faults).take_answer(parts.method.as_str(), parts.uri.path());
    Ok(pretty(StatusCode::OK, &compose(&shared.ids, &ask, fault)))
}

pub fn count_tokens(body: Value) -> Answer {
    let mut request = proto::read(&COUNT_TOKENS_REQUEST, body, Names::Both).map_err(|wrong| proto::refused(&wrong))?;
    let (plain, whole) = (request.remove("contents"), request.remove("generateContentRequest"));
    let contents = match (plain, whole) {
        (Some(_), Some(_)) => {
            let message = "Only one of contents and generate_content_request may be set in a CountTokensRequest.";
            return Err(ApiError::invalid(message));
        }
        (Some(Value::Array(contents)), None) => contents,
        (None, Some(Value::Object(mut whole))) => {
            if whole.get("model").is_none() {
                let message = "* CountTokensRequest.generate_content_request.model: model is not specified\n";
                return Err(ApiError::invalid(message));
            }
            let system = whole.remove("systemInstruction");
            let contents = whole.remove("contents").and_then(|contents| contents.as_array().cloned());
            system.into_iter().chain(contents.unwrap_or_default()).collect()
        }
        _ => Vec::new(),
    };
    if contents.is_empty() {
        return Err(ApiError::invalid("* CountTokensRequest.contents: contents is not specified\n"));
    }
    let total = validate::count(&contents);
    Ok(pretty(StatusCode::OK, &json!({"totalTokens": total, "promptTokensDetails": of_text(total)})))
}

fn of_text(tokens: u64) -> Value {
    json!([{"modality": "TEXT", "tokenCount": tokens}])
}

/// What becomes of an answer.
struct Outcome {
    /// Parts of the candidate; `None` if its content has none.
    parts: Option<Vec<Value>>,
    finish_reason: &'static str,
    answer_tokens: u64,
    thought_tokens: u64,
}

/// The response to a request that was found valid.
pub fn compose(ids: &Ids, ask: &Ask, fault: Option<Kind>) -> Value {
    let mut response = Map::new();
    let mut usage = json!({"promptTokenCount": ask.prompt_tokens});
    let mut total = ask.prompt_tokens;
    match fault {
        // The prompt was blocked: no candidates, and still HTTP 200.
        Some(Kind::Refusal) => {
            response.insert("promptFeedback".into(), json!({"blockReason": "PROHIBITED_CONTENT"}));
        }
        Some(Kind::EmptyCandidates) => {
            response.insert("candidates".into(), json!([]));
        }
        _ => {
            let Outcome { parts, finish_reason, answer_tokens, thought_tokens } = outcome(ask, fault);
            let mut candidate = json!({"content": {"role": "model"}, "finishReason": finish_reason, "index": 0});
            match parts {
                Some(parts) => candidate["content"] = json!({"parts": parts, "role": "model"}),
                None if fault == Some(Kind::NullOutput) => {
                    drop(candidate.as_object_mut().map(|it| it.remove("content")))
                }
                None => {}
            }
            response.insert("candidates".into(), json!([candidate]));
            for (key, count) in [("candidatesTokenCount", answer_tokens), ("thoughtsTokenCount", thought_tokens)] {
                if count > 0 {
                    usage[key] = json!(count);
                    total += count;
                }
            }
        }
    }
    usage["totalTokenCount"] = json!(total);
    usage["promptTokensDetails"] = of_text(ask.prompt_tokens);
    usage["serviceTier"] = json!("standard");
    response.insert("usageMetadata".into(), usage);
    response.insert("modelVersion".into(), json!(ask.model));
    response.insert("responseId".into(), json!(ids.next("")));
    Value::Object(response)
}

fn outcome(ask: &Ask, fault: Option<Kind>) -> Outcome {
    let thought_tokens = if ask.thinks { THINKING_TOKENS } else { 0 };
    let budget = ask.max_output_tokens.unwrap_or(u64::MAX);
    let nothing = Outcome { parts: None, finish_reason: "STOP", answer_tokens: 0, thought_tokens };
    if fault == Some(Kind::ReasoningOnly) || budget <= thought_tokens {
        let spent = ask.max_output_tokens.unwrap_or(THINKING_TOKENS);
        return Outcome { finish_reason: "MAX_TOKENS", thought_tokens: spent, ..nothing };
    }
    match fault {
        Some(Kind::Failed200) => return Outcome { finish_reason: "OTHER", ..nothing },
        Some(Kind::NullOutput) => return nothing,
        _ => {}
    }
    let full = text(ask, fault);
    let half = || first_chars(&full, full.chars().count() / 2);
    let room = usize::try_from((budget - thought_tokens).saturating_mul(4)).unwrap_or(usize::MAX);
    let (said, finish_reason) = match fault {
        Some(Kind::Truncated) => (half(), "MAX_TOKENS"),
        Some(Kind::ContentFilter) => (half(), "SAFETY"),
        _ if full.chars().count() > room => (first_chars(&full, room), "MAX_TOKENS"),
        _ => (full.as_str(), "STOP"),
    };
    let mut parts = Vec::new();
    if fault == Some(Kind::Commentary) || (ask.thinks && ask.shows_thoughts) {
        parts.push(json!({"text": "**Reading the request**\n\nLet me see what was asked.", "thought": true}));
    }
    if fault == Some(Kind::Commentary) {
        let (first, second) = said.split_at(half().len().min(said.len()));
        parts.push(json!({"text": first, "thoughtSignature": "EoMiCoAi"}));
        parts.push(json!({"text": second}));
        parts.push(json!({"text": "", "thoughtSignature": "El4K"}));
    } else {
        parts.push(json!({"text": said}));
    }
    Outcome { parts: Some(parts), finish_reason, answer_tokens: tokens(said), thought_tokens }
}

/// The whole answer, cut at the first stop sequence.
fn text(ask: &Ask, fault: Option<Kind>) -> String {
    let wants_json = matches!(ask.format, Format::Json | Format::Schema(_));
    let mut text = match (&ask.format, fault) {
        (_, Some(Kind::InvalidJson)) if wants_json => {
            format!("Here is the JSON that you asked for: {{\"echo\": {}", ask.prompt)
        }
        (_, Some(Kind::UnfitJson)) if wants_json => json!({"unexpected": ask.prompt}).to_string(),
        (Format::Text, _) => ask.prompt.clone(),
        (Format::Json, _) => json!({"echo": ask.prompt}).to_string(),
        (Format::Schema(sampler), _) => sampler.sample(&ask.prompt).to_string(),
        (Format::Enum(sampler), _) => match sampler.sample(&ask.prompt) {
            Value::String(value) => value,
            other => other.to_string(),
        },
    };
    if let Some(end) = ask.stop_sequences.iter().filter_map(|stop| text.find(stop.as_str())).min() {
        text.truncate(end);
    }
    text
}
