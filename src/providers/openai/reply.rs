//! Reads a response object of the Responses API. Every field may be null or absent; unknown item types are skipped.

use super::NAME;
use crate::error::{Error, OutputErrorKind, Result, quote, quote_list};
use crate::generation::{FinishReason, Generation, Usage, alternatives, cut_at_stop};
use crate::providers::{Reading, errors};
use serde_json::Value;
use std::collections::HashMap;

/// How many messages with the same id are compared with one: bounds the work that a strange reply can cause.
const MAX_REPEATS: usize = 100;

pub fn read(body: &Value, reading: &Reading) -> Result<Generation> {
    let is_response =
        body["object"] == "response" || ["output", "output_text", "status"].iter().any(|field| !body[*field].is_null());
    let status = body["status"].as_str().unwrap_or("completed").to_ascii_lowercase();
    if status == "failed" || errors::is_error(&body["error"]) || body["output"].is_null() {
        if let Some(error) = errors::find(body) {
            return Err(Error::Api(Box::new(super::errors::in_reply(error))));
        }
    }
    if status == "failed" {
        return Err(not_an_answer("the response failed, and no reason is given".into()));
    }
    if !is_response {
        return Err(not_an_answer("the reply is JSON, but no response object: it has no \"output\"".into()));
    }
    let parts = OutputParts::gather(body);
    if !is_done(&status, &parts) {
        return Err(not_an_answer(format!("the response is '{}', not completed", quote(&status))));
    }
    let (mut finish_reason, usage) = (finish_reason(&status, &body["incomplete_details"]), usage(&body["usage"]));
    let answer = parts.answer(&finish_reason, reading);
    let Answer { mut text, alternatives, refusal } =
        answer.map_err(|error| error.came_with(Some(finish_reason.clone()), usage))?;
    let was_stopped = cut_at_stop(&mut text, &reading.stop);
    if was_stopped && finish_reason == FinishReason::Length {
        finish_reason = FinishReason::Stop;
    } else if finish_reason == FinishReason::Stop && !was_stopped && reached_limit(body, usage.as_ref(), reading) {
        finish_reason = FinishReason::Length;
    }
    let string = |field: &str| body[field].as_str().map(str::to_owned);
    let (model, id) = (string("model"), string("id"));
    Ok(Generation { text, alternatives, refusal, finish_reason, usage, model, id, raw: Default::default() })
}

/// Whether a response has come to an end. A word that is in no version of the API says so if the answer is there.
fn is_done(status: &str, parts: &OutputParts) -> bool {
    match status {
        "completed" | "incomplete" => true,
        "queued" | "in_progress" | "cancelled" | "canceled" => false,
        _ => !parts.is_unfinished && (!parts.text().is_empty() || parts.refusal.is_some()),
    }
}

/// What the messages of a response say.
#[derive(Default)]
struct OutputParts {
    /// The ids and the texts of the messages that have any text, which may be an empty one.
    messages: Vec<(Option<String>, Vec<String>)>,
    refusal: Option<String>,
    /// A message says that it is not complete.
    is_unfinished: bool,
    /// The types of the items that are no messages, and of the parts of messages that are no text.
    other_types: Vec<String>,
}

struct Answer {
    text: String,
    alternatives: Vec<String>,
    refusal: Option<String>,
}

impl OutputParts {
    fn gather(body: &Value) -> Self {
        let mut gathered = Self::default();
        let empty = Vec::new();
        let items = body["output"].as_array().unwrap_or(&empty);
        let messages = || items.iter().filter(|item| is_answer(item));
        // Newer models think aloud in messages of phase "commentary" before the "final_answer".
        let has_final = messages().any(|message| message["phase"] == "final_answer");
        for message in messages() {
            if !has_final || message["phase"].is_null() || message["phase"] == "final_answer" {
                gathered.add(message);
            }
        }
        if items.is_empty() {
            gathered.messages.extend(body["output_text"].as_str().map(|text| (None, vec![text.to_owned()])));
        }
        for item in items.iter().filter(|item| !is_answer(item)) {
            gathered.other_types.push(item["type"].as_str().unwrap_or("an item without a type").to_owned());
        }
        gathered
    }

    fn add(&mut self, message: &Value) {
        self.is_unfinished |= matches!(message["status"].as_str(), Some("in_progress" | "incomplete"));
        let mut texts = Vec::new();
        match &message["content"] {
            // Other servers' short form.
            Value::String(text) => texts.push(text.clone()),
            Value::Array(parts) => {
                for part in parts {
                    match (part["type"].as_str(), part["text"].as_str(), part["refusal"].as_str()) {
                        (Some("output_text" | "text"), Some(text), _) => texts.push(text.to_owned()),
                        (Some("refusal"), _, Some(refusal)) => self.add_refusal(refusal),
                        (Some(other), ..) => self.other_types.push(format!("a part of type {other} without text")),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        if !texts.is_empty() {
            self.messages.push((message["id"].as_str().map(str::to_owned), texts));
        }
    }

    fn add_refusal(&mut self, refusal: &str) {
        let known = self.refusal.get_or_insert_default();
        if known != refusal {
            known.push_str(refusal);
        }
    }

    /// The texts of all messages. A message that comes again counts once, and so does one whose beginning came before, under
    /// the same id: models of OpenAI repeat themselves now and then.
    fn text(&self) -> String {
        let mut texts: Vec<String> = Vec::new();
        let mut places: HashMap<Option<&str>, Vec<usize>> = HashMap::new();
        for (id, parts) in &self.messages {
            let text = parts.concat();
            let known = places.entry(id.as_deref()).or_default();
            let is_same = |place: &&usize| texts[**place] == text;
            if known.iter().rev().take(MAX_REPEATS).any(|place| is_same(&place)) {
                continue;
            }
            match known.last().filter(|_| id.is_some()) {
                Some(last) if texts[*last].starts_with(&text) => {}
                Some(last) if text.starts_with(&texts[*last]) => texts[*last] = text,
                _ => {
                    known.push(texts.len());
                    texts.push(text);
                }
            }
        }
        texts.concat()
    }

    /// The text, if it is one that the caller can use.
    fn answer(self, finish_reason: &FinishReason, reading: &Reading) -> Result<Answer> {
        let text = self.text();
        // A model that says nothing but why it will not speak has refused, whatever cut it short.
        if let Some(refusal) = self.refusal.as_ref().filter(|_| text.is_empty()) {
            let message = format!("the model refused: {}", quote(refusal));
            return Err(Error::output(OutputErrorKind::Refusal, message, Some(refusal.clone())));
        }
        let parts = || self.messages.iter().flat_map(|(_, parts)| parts).filter(|part| !part.is_empty()).cloned();
        let no_use = |kind, message: String| {
            Err(Error::output(kind, message, Some(text.clone()).filter(|text| !text.is_empty())))
        };
        let is_usable = !text.is_empty() && reading.schema.is_none();
        let mut texts: Vec<String> = parts().collect();
        match finish_reason {
            FinishReason::Other(reason) if reason == "content_filter" => {
                return no_use(
                    OutputErrorKind::ContentFilter,
                    "the provider's content filter stopped the answer".into(),
                );
            }
            FinishReason::Length if !is_usable && !reading.drop_cut(&mut texts) => {
                let spent = if text.is_empty() && self.other_types.iter().any(|kind| kind == "reasoning") {
                    "all of max_tokens went into reasoning, before any text"
                } else {
                    "max_tokens was reached before the answer was complete"
                };
                return no_use(OutputErrorKind::Truncated, format!("{spent}; raise max_tokens"));
            }
            FinishReason::Other(reason) if !is_usable => {
                return no_use(OutputErrorKind::Truncated, format!("the answer is incomplete: {}", quote(reason)));
            }
            _ if !self.messages.is_empty() => {}
            // It wanted to begin with a stop string.
            _ if reading.may_be_stopped_at_once() && self.other_types.iter().all(|kind| kind == "reasoning") => {}
            _ => return no_use(OutputErrorKind::NoText, format!("the reply holds no text, but {}", self.others())),
        }
        let alternatives = if *finish_reason == FinishReason::Length { texts } else { alternatives(texts) };
        Ok(Answer { text, alternatives, refusal: self.refusal })
    }

    fn others(&self) -> String {
        if self.other_types.is_empty() { "is empty".into() } else { quote_list(&self.other_types, ", ") }
    }
}

fn is_answer(item: &Value) -> bool {
    match (item["type"].as_str(), item["role"].as_str()) {
        (Some("message"), role) => role.is_none_or(|role| role == "assistant"),
        (None, role) => role == Some("assistant"),
        _ => false,
    }
}

fn finish_reason(status: &str, details: &Value) -> FinishReason {
    match (status, details["reason"].as_str()) {
        ("incomplete", Some("max_output_tokens") | None) => FinishReason::Length,
        ("incomplete", Some(other)) => FinishReason::Other(other.to_owned()),
        _ => FinishReason::Stop,
    }
}

/// Whether the limit of tokens ended a "completed" response: `transformers serve` and llama.cpp's server never call one
/// incomplete. They lack the field that would say why, too.
fn reached_limit(body: &Value, usage: Option<&Usage>, reading: &Reading) -> bool {
    let spent = usage.zip(reading.max_tokens).is_some_and(|(usage, most)| usage.output_tokens >= most);
    spent && body.get("incomplete_details").is_none()
}

fn not_an_answer(message: String) -> Error {
    Error::Api(Box::new(errors::in_reply(NAME, message)))
}

fn usage(usage: &Value) -> Option<Usage> {
    // Some servers count in floats; what is no number, or negative, is no count.
    let count = |value: &Value| value.as_u64().or_else(|| value.as_f64().map(|count| count as u64)).unwrap_or(0);
    (usage["input_tokens"].is_number() || usage["output_tokens"].is_number()).then(|| Usage {
        input_tokens: count(&usage["input_tokens"]),
        cached_tokens: count(&usage["input_tokens_details"]["cached_tokens"]),
        output_tokens: count(&usage["output_tokens"]),
        reasoning_tokens: count(&usage["output_tokens_details"]["reasoning_tokens"]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(text: &str, phase: Value) -> Value {
        json!({"type": "message", "role": "assistant", "phase": phase, "content": [{"type": "output_text", "text": text}]})
    }

    fn text(output: Value) -> String {
        read(&json!({"status": "completed", "output": output}), &Reading::default()).unwrap().text
    }

    #[test]
    fn the_answer_is_all_final_text_and_nothing_else() {
        assert_eq!(
            text(json!([{"type": "reasoning", "summary": []}, message("a", Value::Null), message("b", Value::Null)])),
            "ab"
        );
        assert_eq!(text(json!([message("hm", json!("commentary")), message("a", json!("final_answer"))])), "a");
        assert_eq!(
            text(json!([{"type": "message", "content": null}, message("", Value::Null), 7, {"type": "new"}])),
            ""
        );
    }

    fn kind(body: Value) -> OutputErrorKind {
        match read(&body, &Reading::default()) {
            Err(Error::Output(error)) => error.kind,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_reply_without_text_says_why() {
        let refusal = json!([{"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}]);
        assert_eq!(kind(json!({"status": "completed", "output": refusal})), OutputErrorKind::Refusal);
        assert_eq!(kind(json!({"status": "completed", "output": null})), OutputErrorKind::NoText);
        let cut = json!({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": [{"type": "reasoning"}]});
        assert_eq!(kind(cut), OutputErrorKind::Truncated);
        let filtered = json!({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}, "output": [message("x", Value::Null)]});
        assert_eq!(kind(filtered), OutputErrorKind::ContentFilter);
    }

    #[test]
    fn an_answer_of_no_use_is_paid_for() {
        let refusal = json!([{"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}]);
        let body = json!({"status": "completed", "output": refusal, "usage": {"input_tokens": 3, "output_tokens": 2}});
        let Err(Error::Output(error)) = read(&body, &Reading::default()) else { panic!() };
        assert_eq!((error.text.as_deref(), error.finish_reason), (Some("No."), Some(FinishReason::Stop)));
        assert_eq!(error.usage.map(|usage| usage.total_tokens()), Some(5));
    }

    #[test]
    fn a_limit_that_nobody_mentions_is_seen_in_the_usage() {
        let finish = |body: Value, stop: &[&str]| {
            let stop = stop.iter().map(ToString::to_string).collect();
            read(&body, &Reading { max_tokens: Some(3), stop, ..Reading::default() }).unwrap().finish_reason
        };
        let spent = |tokens| {
            let output = json!([message("one two three", Value::Null)]);
            json!({"status": "completed", "output": output, "usage": {"output_tokens": tokens}})
        };
        assert_eq!(finish(spent(3), &[]), FinishReason::Length);
        assert_eq!(finish(spent(2), &[]), FinishReason::Stop);
        assert_eq!(finish(spent(3), &["two"]), FinishReason::Stop);
        // Whoever has a field for it says it there.
        let mut silent = spent(3);
        silent["incomplete_details"] = Value::Null;
        assert_eq!(finish(silent, &[]), FinishReason::Stop);
    }

    #[test]
    fn a_cut_text_is_a_value_and_a_failed_200_is_an_error() {
        let cut = json!({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": [message("half", Value::Null)]});
        assert_eq!(read(&cut, &Reading::default()).unwrap().finish_reason, FinishReason::Length);
        for body in [
            json!({"status": "failed", "error": {"code": "server_error", "message": "boom"}, "output": []}),
            json!({"status": "queued"}),
            json!({}),
            json!([1]),
        ] {
            assert!(matches!(read(&body, &Reading::default()), Err(Error::Api(_))), "{body}");
        }
    }
}
