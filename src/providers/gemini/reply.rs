//! Reads a GenerateContentResponse. Absent means default; unknown fields and enum values are passed over.

use super::NAME;
use crate::error::{Error, OutputErrorKind, Result, quote, quote_list};
use crate::generation::{FinishReason, Generation, Usage, alternatives, cut_at_stop};
use crate::json::count;
use crate::providers::errors::is_error;
use crate::providers::{Reading, errors};
use serde_json::Value;

/// Finish reasons by which a filter stopped the answer.
const BLOCKED: &[&str] = &[
    "SAFETY",
    "PROHIBITED_CONTENT",
    "BLOCKLIST",
    "SPII",
    "RECITATION",
    "LANGUAGE",
    "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT",
    "IMAGE_RECITATION",
    "ESCALATION",
    "PUP_LIMITED_DISABLED",
    "MODEL_ARMOR",
];

pub fn read(body: &Value, reading: &Reading) -> Result<Generation> {
    if let Value::Array(list) = body
        && let [one] = list.as_slice()
    {
        // Google wraps a reply into a list now and then.
        return read(one, reading);
    }
    let known = ["candidates", "promptFeedback", "usageMetadata", "modelVersion", "responseId"];
    let is_reply = known.iter().any(|field| body.get(field).is_some());
    if is_error(&body["error"]) || !is_reply {
        if let Some(error) = errors::find(body) {
            return Err(Error::Api(Box::new(super::errors::in_reply(error))));
        }
        if !is_reply {
            let message = "the reply is JSON, but no answer of generateContent: it has no \"candidates\"";
            return Err(Error::Api(Box::new(errors::in_reply(NAME, message))));
        }
    }
    let candidate = &body["candidates"][0];
    let (mut finish_reason, usage) = (finish_reason(candidate), usage(&body["usageMetadata"]));
    let came_with = |error: Error| error.came_with((!candidate.is_null()).then(|| finish_reason.clone()), usage);
    let (mut text, alternatives) = answer(body, candidate, &finish_reason, reading).map_err(came_with)?;
    if cut_at_stop(&mut text, &reading.stop) && finish_reason == FinishReason::Length {
        finish_reason = FinishReason::Stop;
    }
    let string = |field: &str| body[field].as_str().map(str::to_owned);
    let (model, id) = (string("modelVersion"), string("responseId"));
    Ok(Generation { text, alternatives, refusal: None, finish_reason, usage, model, id, raw: Default::default() })
}

/// The text, if it is one that the caller can use, and its alternatives.
fn answer(
    body: &Value,
    candidate: &Value,
    finish_reason: &FinishReason,
    reading: &Reading,
) -> Result<(String, Vec<String>)> {
    let said = texts_of(candidate).next().map(|_| texts_of(candidate).collect::<String>());
    let mut texts: Vec<String> = texts_of(candidate).filter(|text| !text.is_empty()).map(str::to_owned).collect();
    if let Some(blocked) = blocked_prompt(&body["promptFeedback"]).filter(|_| said.is_none()) {
        return Err(Error::output(OutputErrorKind::ContentFilter, blocked, None));
    }
    if candidate.is_null() {
        return Err(Error::output(OutputErrorKind::NoText, "the reply holds no candidate, and no reason for it", None));
    }
    let was_cut = *finish_reason == FinishReason::Length;
    let is_usable = was_cut && reading.drop_cut(&mut texts);
    if !is_usable {
        check_end(candidate, finish_reason, &said, reading, &body["usageMetadata"])?;
    }
    let alternatives = if was_cut { texts } else { alternatives(texts) };
    // It wanted to begin with a stop string.
    let is_empty_answer =
        *finish_reason == FinishReason::Stop && reading.may_be_stopped_at_once() && kinds(candidate).all(is_thought);
    said.or_else(|| is_empty_answer.then(String::new)).map(|text| (text, alternatives)).ok_or_else(|| {
        let message = format!("the reply holds no text, but {}", found(candidate));
        Error::output(OutputErrorKind::NoText, message, None)
    })
}

/// What is said of a prompt that was blocked; None if it was not. Some servers give a message alone.
fn blocked_prompt(feedback: &Value) -> Option<String> {
    let text = |field: &str| feedback[field].as_str().filter(|text| !text.is_empty());
    let reason = text("blockReason").map(|reason| format!(" ({})", quote(reason)));
    let message = text("blockReasonMessage").map(|message| format!(": {}", quote(message)));
    if reason.is_none() && message.is_none() {
        return None;
    }
    let (reason, message) = (reason.unwrap_or_default(), message.unwrap_or_default());
    Some(format!("the prompt was blocked by the provider{reason}{message}"))
}

/// The texts of a candidate without its thoughts.
fn texts_of(candidate: &Value) -> impl Iterator<Item = &str> {
    let parts = candidate["content"]["parts"].as_array().into_iter().flatten();
    parts.filter(|part| part["thought"] != true).filter_map(|part| part["text"].as_str())
}

/// What the parts of a candidate are.
fn kinds(candidate: &Value) -> impl Iterator<Item = &str> {
    candidate["content"]["parts"].as_array().into_iter().flatten().filter_map(|part| match part["thought"] == true {
        true => Some("thoughts"),
        false => part.as_object()?.keys().map(String::as_str).find(|key| !key.starts_with("thought")),
    })
}

fn is_thought(kind: &str) -> bool {
    kind == "thoughts"
}

fn found(candidate: &Value) -> String {
    let kinds: Vec<&str> = kinds(candidate).collect();
    let reason = candidate["finishReason"].as_str().unwrap_or("none");
    let what = if kinds.is_empty() { "is empty".to_owned() } else { quote_list(kinds, ", ") };
    let message = finish_message(candidate);
    format!("{what} (finishReason {}){message}", quote(reason))
}

fn finish_message(candidate: &Value) -> String {
    candidate["finishMessage"].as_str().map(|message| format!(": {}", quote(message))).unwrap_or_default()
}

fn finish_reason(candidate: &Value) -> FinishReason {
    match candidate["finishReason"].as_str() {
        Some("STOP") | None => FinishReason::Stop,
        Some("MAX_TOKENS") => FinishReason::Length,
        Some(other) => FinishReason::Other(other.to_owned()),
    }
}

/// Whether what the candidate said before it came to this end is of use.
fn check_end(
    candidate: &Value,
    finish_reason: &FinishReason,
    said: &Option<String>,
    reading: &Reading,
    usage: &Value,
) -> Result<()> {
    let text = said.clone().filter(|text| !text.is_empty());
    let is_whole = reading.schema.is_none() && text.is_some();
    let message = finish_message(candidate);
    match finish_reason {
        FinishReason::Stop => Ok(()),
        FinishReason::Other(blocked) if BLOCKED.contains(&blocked.as_str()) => {
            let said = format!("the answer was blocked by the provider ({blocked}){message}");
            Err(Error::output(OutputErrorKind::ContentFilter, said, text))
        }
        _ if is_whole => Ok(()),
        FinishReason::Length => {
            let thoughts = Some(count(&usage["thoughtsTokenCount"])).filter(|count| *count > 0 && text.is_none());
            let spent = match thoughts {
                Some(count) => format!("all of max_tokens went into thinking ({count} tokens), before any text"),
                None => "max_tokens was reached before the answer was complete".into(),
            };
            Err(Error::output(OutputErrorKind::Truncated, format!("{spent}; raise max_tokens"), text))
        }
        FinishReason::Other(other) => {
            let said = format!("the reply has no usable answer (finishReason {}){message}", quote(other));
            Err(Error::output(OutputErrorKind::NoText, said, text))
        }
    }
}

/// Gemini counts thoughts beside the candidates; here they are part of the output.
fn usage(usage: &Value) -> Option<Usage> {
    let field = |name: &str| count(&usage[name]);
    let is_counted = ["promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount"]
        .iter()
        .any(|name| !usage[name].is_null());
    let thoughts = field("thoughtsTokenCount");
    is_counted.then(|| Usage {
        input_tokens: field("promptTokenCount").saturating_add(field("toolUsePromptTokenCount")),
        cached_tokens: field("cachedContentTokenCount"),
        output_tokens: field("candidatesTokenCount").saturating_add(thoughts),
        reasoning_tokens: thoughts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn candidate(parts: Value, finish_reason: &str) -> Result<Generation> {
        let body = json!({"candidates": [{"content": {"parts": parts}, "finishReason": finish_reason}]});
        read(&body, &Reading::default())
    }

    fn kind(result: Result<Generation>) -> OutputErrorKind {
        match result {
            Err(Error::Output(error)) => error.kind,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_answer_is_all_text_that_is_no_thought() {
        let parts = json!([{"text": "hm", "thought": true}, {"text": "Mountain ", "thoughtSignature": "x"}, {"text": "View"}, {"functionCall": {}}]);
        assert_eq!(candidate(parts, "STOP").unwrap().text, "Mountain View");
        assert_eq!(candidate(json!([{"text": "half"}]), "MAX_TOKENS").unwrap().finish_reason, FinishReason::Length);
    }

    #[test]
    fn an_answer_of_no_use_is_paid_for() {
        let usage = json!({"promptTokenCount": 3, "candidatesTokenCount": 2});
        let blocked = json!({"content": {"parts": [{"text": "part"}]}, "finishReason": "SAFETY"});
        for (candidate, text, finish_reason) in [
            (blocked, Some("part"), Some(FinishReason::Other("SAFETY".into()))),
            // The prompt was blocked: nothing was begun that could have ended.
            (Value::Null, None, None),
        ] {
            let feedback = json!({"blockReason": "SAFETY"});
            let body = json!({"candidates": [candidate], "promptFeedback": feedback, "usageMetadata": usage});
            let Err(Error::Output(error)) = read(&body, &Reading::default()) else { panic!() };
            assert_eq!((error.text.as_deref(), error.finish_reason), (text, finish_reason));
            assert_eq!(error.usage.map(|usage| usage.total_tokens()), Some(5));
        }
    }

    #[test]
    fn a_reply_without_text_says_why() {
        assert_eq!(kind(candidate(Value::Null, "MAX_TOKENS")), OutputErrorKind::Truncated);
        assert_eq!(kind(candidate(json!([{"text": "part"}]), "SAFETY")), OutputErrorKind::ContentFilter);
        assert_eq!(kind(candidate(json!([]), "STOP")), OutputErrorKind::NoText);
        let blocked = json!({"promptFeedback": {"blockReason": "SAFETY"}, "candidates": []});
        assert_eq!(kind(read(&blocked, &Reading::default())), OutputErrorKind::ContentFilter);
        assert!(matches!(read(&json!({}), &Reading::default()), Err(Error::Api(_))));
    }
}
