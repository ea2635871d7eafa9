//! Reads error replies, of OpenAI and of the servers that imitate it.

use super::NAME;
use crate::error::{ApiError, ApiErrorKind, kind_of_status};
use crate::exchange::Response;
use crate::json;
use serde_json::Value;

/// What waiting does not lift (OpenAI's page of error codes).
const QUOTA_CODES: &[&str] = &[
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "billing_hard_limit_reached",
    "billing_not_active",
];

pub fn read(response: &Response) -> ApiError {
    let body = json::parse(&response.body).unwrap_or(Value::Null);
    let text = String::from_utf8_lossy(&response.body);
    let mut error = from_body(response.status, &body, &text);
    error.request_id = response.headers.get("x-request-id").map(str::to_owned);
    if (300..400).contains(&response.status) {
        let target = response.headers.get("location").unwrap_or("nowhere");
        error.message =
            format!("the server redirects to {target}; redirects are not followed. Set base_url to the final address");
    }
    error
}

/// The error in a reply's body: `{"error": {...}}` from OpenAI; `{"error": "..."}`, `{"message": ...}` or FastAPI's
/// `{"detail": ...}` from others; failing all, the text itself.
pub fn from_body(status: u16, body: &Value, text: &str) -> ApiError {
    let error = if body["error"].is_object() { &body["error"] } else { body };
    let word = |value: &Value| match value {
        Value::String(word) if !word.is_empty() => Some(word.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let code = word(&error["code"]);
    let is_quota = [code.as_deref(), error["type"].as_str()].iter().flatten().any(|code| QUOTA_CODES.contains(code));
    let message = word(&error["message"])
        .or_else(|| word(&body["error"]))
        .or_else(|| word(&body["message"]))
        .or_else(|| detail(&body["detail"]))
        .unwrap_or_else(|| excerpt(text));
    ApiError {
        kind: if is_quota { ApiErrorKind::QuotaExceeded } else { kind_of_status(status) },
        provider: NAME,
        status: Some(status),
        code,
        message,
        request_id: None,
        retry_after: None,
        body: Some(text.chars().take(4000).collect()),
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
        from_body(400, &body, &body.to_string()).message
    }

    #[test]
    fn every_dialect_gives_its_message() {
        assert_eq!(message(json!({"error": {"message": "m", "type": "t", "param": null, "code": null}})), "m");
        assert_eq!(message(json!({"error": "just text"})), "just text");
        assert_eq!(message(json!({"message": "top"})), "top");
        assert_eq!(message(json!({"detail": "d"})), "d");
        assert_eq!(message(json!({"detail": [{"loc": ["body", "x", 0], "msg": "bad"}]})), "body.x.0: bad");
        assert!(message(json!([1, 2])).ends_with("but: [1,2]"));
        assert_eq!(from_body(500, &Value::Null, " ").message, "the reply has no body");
        assert_eq!(from_body(400, &json!({"error": {"code": 400}}), "").code.as_deref(), Some("400"));
    }

    #[test]
    fn billing_is_not_a_rate_limit() {
        let kind = |status, error: Value| from_body(status, &json!({"error": error}), "").kind;
        assert_eq!(kind(429, json!({"code": "rate_limit_exceeded"})), ApiErrorKind::RateLimit);
        assert_eq!(kind(429, json!({"type": "insufficient_quota", "code": null})), ApiErrorKind::QuotaExceeded);
        assert_eq!(kind(429, json!({"code": "credit_balance_exhausted"})), ApiErrorKind::QuotaExceeded);
        assert_eq!(kind(402, json!({})), ApiErrorKind::QuotaExceeded);
    }
}
