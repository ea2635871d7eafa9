//! What error replies have in common, on all providers and the servers that imitate them.

use crate::error::{ApiError, ApiErrorKind, kind_of_status};
use crate::exchange::Response;
use crate::json;
use serde_json::Value;

/// An error reply, as far as any HTTP API's can be read. The provider's own file refines it.
pub fn read(provider: &'static str, response: &Response) -> (ApiError, Value) {
    // A long one is not read to its end.
    let parsed = json::parse(&response.body).ok().or_else(|| json::parse_beginning(&response.body));
    let mut body = parsed.unwrap_or(Value::Null);
    if let Value::Array(list) = &mut body {
        // Google wraps an error into a list now and then.
        if list.len() == 1 && list[0].is_object() {
            body = list.remove(0);
        }
    }
    let text = String::from_utf8_lossy(&response.body);
    let mut error = from_body(provider, response.status, &body, &text);
    error.request_id =
        ["x-request-id", "request-id"].iter().find_map(|name| response.headers.get(name)).map(str::to_owned);
    if error.is_redirect() {
        let target = response.headers.get("location").unwrap_or("nowhere");
        error.message = format!(
            "the server redirects to {target}; redirects are not followed. base_url is likely wrong: set it to the final address"
        );
    }
    (error, body)
}

/// The error in a reply's body: `{"error": {...}}` from the providers; `{"error": "..."}`, `{"message": ...}` or FastAPI's
/// `{"detail": ...}` from others; failing all, the text itself.
pub fn from_body(provider: &'static str, status: u16, body: &Value, text: &str) -> ApiError {
    let error = if body["error"].is_object() { &body["error"] } else { body };
    let message = word(&error["message"])
        .or_else(|| word(&body["error"]))
        .or_else(|| word(&body["message"]))
        .or_else(|| detail(&body["detail"]))
        .unwrap_or_else(|| excerpt(text));
    ApiError {
        kind: kind_of_status(status),
        provider: provider.into(),
        status: Some(status),
        code: word(&error["code"]),
        message,
        request_id: None,
        retry_after: None,
        body: Some(text.chars().take(4000).collect()),
    }
}

/// An error found inside a reply that said 200.
pub fn in_reply(provider: &'static str, message: impl Into<String>) -> ApiError {
    ApiError {
        kind: ApiErrorKind::Other,
        provider: provider.into(),
        status: Some(200),
        code: None,
        message: message.into(),
        request_id: None,
        retry_after: None,
        body: None,
    }
}

/// Whether an `error` field says that there is one: more than null, an empty form, or the code of a success.
pub fn is_error(error: &Value) -> bool {
    let says_something = |(name, value): (&String, &Value)| !(value.is_null() || (name == "code" && *value == 0));
    match error {
        Value::Object(fields) => fields.iter().any(says_something),
        other => word(other).is_some(),
    }
}

/// A text or a number, as text; None if empty.
pub fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(word) if !word.is_empty() => Some(word.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// FastAPI's detail: a text, or a list of `{"loc": ["body", "x"], "msg": ...}`.
fn detail(detail: &Value) -> Option<String> {
    match detail {
        Value::String(text) => Some(text.clone()),
        Value::Array(items) if !items.is_empty() => Some(items.iter().map(detail_item).collect::<Vec<_>>().join("; ")),
        _ => None,
    }
}

fn detail_item(item: &Value) -> String {
    let Some(message) = item["msg"].as_str() else { return item.to_string() };
    let Some(place) = item["loc"].as_array() else { return message.to_owned() };
    let place: Vec<String> =
        place.iter().map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned)).collect();
    format!("{}: {message}", place.join("."))
}

fn excerpt(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() {
        return "the reply has no body".into();
    }
    format!("the reply is no error message of this API, but: {}", text.chars().take(500).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn message(body: Value) -> String {
        from_body("p", 400, &body, &body.to_string()).message
    }

    #[test]
    fn every_dialect_gives_its_message() {
        assert_eq!(message(json!({"error": {"message": "m", "type": "t", "param": null, "code": null}})), "m");
        assert_eq!(message(json!({"error": "just text"})), "just text");
        assert_eq!(message(json!({"message": "top"})), "top");
        assert_eq!(message(json!({"detail": "d"})), "d");
        assert_eq!(message(json!({"detail": [{"loc": ["body", "x", 0], "msg": "bad"}]})), "body.x.0: bad");
        assert!(message(json!([1, 2])).ends_with("but: [1,2]"));
        assert_eq!(from_body("p", 500, &Value::Null, " ").message, "the reply has no body");
        assert_eq!(from_body("p", 400, &json!({"error": {"code": 400}}), "").code.as_deref(), Some("400"));
    }
}
