//! Reads a message. Every field may be absent; unknown blocks are skipped.

use super::NAME;
use crate::error::{ApiError, Error, OutputErrorKind, Result, quote, quote_list};
use crate::generation::{FinishReason, Generation, Usage, alternatives, cut_at_stop};
use crate::providers::{Reading, errors};
use serde_json::Value;

pub fn read(body: &Value, reading: &Reading) -> Result<Generation> {
    let has_content = body["content"].is_array() || body["content"].is_string();
    if body["type"] == "error" || !has_content {
        if let Some(error) = errors::find(body) {
            return Err(api(super::errors::in_reply(error)));
        }
    }
    if !body.is_object() || (body["type"] != "message" && !has_content) {
        return Err(api(errors::in_reply(NAME, "the reply is JSON, but no message: it has no \"content\"")));
    }
    let empty = Vec::new();
    let blocks = body["content"].as_array().unwrap_or(&empty);
    let tool = reading.schema.as_ref().and_then(|schema| schema.tool.as_deref());
    let mut finish_reason = finish_reason(body["stop_reason"].as_str(), tool.is_some());
    let usage = usage(&body["usage"]);
    let answer = answer(body, blocks, tool, &finish_reason, reading);
    let (mut text, alternatives) = answer.map_err(|error| error.came_with(Some(finish_reason.clone()), usage))?;
    if cut_at_stop(&mut text, &reading.stop) && finish_reason == FinishReason::Length {
        finish_reason = FinishReason::Stop;
    }
    let string = |field: &str| body[field].as_str().map(str::to_owned);
    let (model, id) = (string("model"), string("id"));
    Ok(Generation { text, alternatives, refusal: None, finish_reason, usage, model, id, raw: Default::default() })
}

/// The text, if it is one that the caller can use, and its alternatives. `tool`: whose input is the answer.
fn answer(
    body: &Value,
    blocks: &[Value],
    tool: Option<&str>,
    finish_reason: &FinishReason,
    reading: &Reading,
) -> Result<(String, Vec<String>)> {
    let inputs = tool.map(|name| tool_inputs(blocks, name)).filter(|inputs| !inputs.is_empty());
    // Each input is an answer of its own; text blocks are one text.
    let said = inputs.as_ref().and_then(|inputs| inputs.first().cloned());
    let said = said.or_else(|| text_of(blocks, &body["content"]));
    let mut texts =
        inputs.unwrap_or_else(|| texts_of(blocks).filter(|text| !text.is_empty()).map(str::to_owned).collect());
    let reason = body["stop_reason"].as_str();
    if reason == Some("refusal") {
        return Err(refusal(&body["stop_details"], said));
    }
    let was_cut = *finish_reason == FinishReason::Length;
    let has_text = said.as_ref().is_some_and(|text| !text.is_empty());
    if was_cut && (reading.schema.is_some() || !has_text) && !reading.drop_cut(&mut texts) {
        return Err(truncated(reason, blocks, said));
    }
    let alternatives = if was_cut { texts } else { alternatives(texts) };
    // It wanted to begin with a stop string: nothing is an answer. Some servers call that the end of a turn.
    let may_be_stopped = reason == Some("stop_sequence")
        || (*finish_reason == FinishReason::Stop && reading.may_be_stopped_at_once() && blocks.iter().all(is_thinking));
    let is_empty_answer = tool.is_none() && may_be_stopped;
    said.or_else(|| is_empty_answer.then(String::new)).map(|text| (text, alternatives)).ok_or_else(|| {
        let kinds: Vec<&str> = blocks.iter().map(|block| block["type"].as_str().unwrap_or("untyped")).collect();
        let found = if kinds.is_empty() { "is empty".to_owned() } else { quote_list(kinds, ", ") };
        let message = format!("the reply holds no text, but {found} (stop_reason {})", quote(reason.unwrap_or("none")));
        Error::output(OutputErrorKind::NoText, message, None)
    })
}

fn api(error: ApiError) -> Error {
    Error::Api(Box::new(error))
}

fn texts_of(blocks: &[Value]) -> impl Iterator<Item = &str> {
    blocks.iter().filter(|block| block["type"] == "text").filter_map(|block| block["text"].as_str())
}

/// All text blocks, in order; None if there is none, which is not the same as an empty text.
fn text_of(blocks: &[Value], content: &Value) -> Option<String> {
    let mut texts = texts_of(blocks);
    // Other servers' short form.
    let Some(first) = texts.next() else { return content.as_str().map(str::to_owned) };
    Some(texts.fold(first.to_owned(), |all, text| all + text))
}

fn tool_inputs(blocks: &[Value], name: &str) -> Vec<String> {
    let calls = blocks.iter().filter(|block| block["type"] == "tool_use" && block["name"] == name);
    calls
        .filter_map(|call| call.get("input"))
        .map(|input| input.as_str().map_or_else(|| input.to_string(), str::to_owned))
        .collect()
}

fn is_thinking(block: &Value) -> bool {
    matches!(block["type"].as_str(), Some("thinking" | "redacted_thinking"))
}

fn finish_reason(reason: Option<&str>, asked_for_a_tool: bool) -> FinishReason {
    match reason {
        Some("end_turn" | "stop_sequence") | None => FinishReason::Stop,
        Some("tool_use") if asked_for_a_tool => FinishReason::Stop,
        // The last is the word of gateways in front of other models.
        Some("max_tokens" | "model_context_window_exceeded" | "length") => FinishReason::Length,
        Some(other) => FinishReason::Other(other.to_owned()),
    }
}

fn refusal(details: &Value, said: Option<String>) -> Error {
    let category = details["category"].as_str().map(|category| format!(" ({})", quote(category))).unwrap_or_default();
    let why = details["explanation"].as_str().map(|why| format!(": {}", quote(why))).unwrap_or_default();
    Error::output(OutputErrorKind::Refusal, format!("the model refused{category}{why}"), said)
}

fn truncated(reason: Option<&str>, blocks: &[Value], said: Option<String>) -> Error {
    let thought = blocks.iter().any(is_thinking);
    let what = match reason {
        Some("model_context_window_exceeded") => "the model's context was full before the answer was complete",
        _ if thought && said.as_ref().is_none_or(String::is_empty) => {
            "all of max_tokens went into thinking, before any text; raise max_tokens"
        }
        _ => "max_tokens was reached before the answer was complete; raise max_tokens",
    };
    Error::output(OutputErrorKind::Truncated, what, said.filter(|text| !text.is_empty()))
}

/// Anthropic counts cached input beside the rest; here it is part of the input.
fn usage(usage: &Value) -> Option<Usage> {
    // Some servers count in floats; what is no number, or negative, is no count.
    let number = |value: &Value| value.as_u64().or_else(|| value.as_f64().map(|count| count as u64));
    let count = |field: &str| number(&usage[field]).unwrap_or(0);
    let written =
        || usage["cache_creation"].as_object().into_iter().flat_map(|parts| parts.values()).filter_map(number);
    let written =
        number(&usage["cache_creation_input_tokens"]).unwrap_or_else(|| written().fold(0, u64::saturating_add));
    let cached = count("cache_read_input_tokens");
    (usage["input_tokens"].is_number() || usage["output_tokens"].is_number()).then(|| Usage {
        input_tokens: count("input_tokens").saturating_add(written).saturating_add(cached),
        cached_tokens: cached,
        output_tokens: count("output_tokens"),
        reasoning_tokens: number(&usage["output_tokens_details"]["thinking_tokens"]).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(content: Value, stop_reason: &str) -> Result<Generation> {
        read(&json!({"type": "message", "content": content, "stop_reason": stop_reason}), &Reading::default())
    }

    fn kind(result: Result<Generation>) -> OutputErrorKind {
        match result {
            Err(Error::Output(error)) => error.kind,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_answer_is_all_text_blocks() {
        let content =
            json!([{"type": "thinking", "thinking": ""}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        assert_eq!(message(content, "end_turn").unwrap().text, "ab");
        assert_eq!(
            message(json!([{"type": "text", "text": "half"}]), "max_tokens").unwrap().finish_reason,
            FinishReason::Length
        );
    }

    #[test]
    fn a_reply_without_text_says_why() {
        assert_eq!(kind(message(json!([]), "refusal")), OutputErrorKind::Refusal);
        assert_eq!(
            kind(message(json!([{"type": "thinking", "thinking": ""}]), "max_tokens")),
            OutputErrorKind::Truncated
        );
        assert_eq!(
            kind(message(json!([{"type": "tool_use", "name": "x", "input": {}}]), "tool_use")),
            OutputErrorKind::NoText
        );
    }

    #[test]
    fn an_answer_of_no_use_is_paid_for() {
        let body = json!({
            "type": "message",
            "content": [{"type": "tool_use", "name": "t", "input": {"a": 1}}],
            "stop_reason": "max_tokens",
            "usage": {"input_tokens": 3, "output_tokens": 2},
        });
        let schema = crate::answer::ReadingSchema { tool: Some("t".into()), ..Default::default() };
        let reading = Reading { schema: Some(schema), ..Default::default() };
        let Err(Error::Output(error)) = read(&body, &reading) else { panic!() };
        assert_eq!((error.text.as_deref(), error.finish_reason), (Some("{\"a\":1}"), Some(FinishReason::Length)));
        assert_eq!(error.usage.map(|usage| usage.total_tokens()), Some(5));
    }

    #[test]
    fn input_includes_what_was_cached() {
        let usage = usage(&json!({"input_tokens": 10, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 7, "output_tokens": 3})).unwrap();
        assert_eq!((usage.input_tokens, usage.cached_tokens, usage.total_tokens()), (22, 7, 25));
    }
}
