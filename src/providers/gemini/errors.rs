//! Reads error replies of Gemini: google.rpc.Status, with details.

use super::NAME;
use crate::error::{ApiError, ApiErrorKind, quote_up_to};
use crate::exchange::Response;
use crate::json;
use crate::providers::errors::{self, code, word};
use serde_json::Value;
use std::time::Duration;

pub fn read(response: &Response) -> ApiError {
    let (error, body) = errors::read(NAME, response);
    refine(error, &body["error"])
}

/// The error in a reply that said 200; `body` holds it, or is it.
pub fn in_reply(body: &Value) -> ApiError {
    ApiError { status: Some(200), ..in_row(body) }
}

/// The error of a result row, whose `code` is a google.rpc code; or, since servers differ, an HTTP status.
pub fn in_row(body: &Value) -> ApiError {
    let error = errors::inner(body);
    let text = word(&body["error"]).unwrap_or_else(|| error.to_string());
    let mut read = errors::from_body(NAME, 200, body, &text);
    read.status = None;
    let named = || error["status"].as_str().and_then(|name| CODES.iter().position(|known| *known == name));
    let code = Some(json::count(&error["code"])).filter(|code| *code > 0).or_else(|| named().map(|at| at as u64));
    read.kind = match code {
        Some(3 | 9 | 11) => ApiErrorKind::InvalidRequest,
        Some(5) => ApiErrorKind::NotFound,
        Some(7) => ApiErrorKind::PermissionDenied,
        Some(16) => ApiErrorKind::Authentication,
        Some(8) => ApiErrorKind::RateLimit,
        Some(1 | 2 | 4 | 10 | 12..=15) => ApiErrorKind::Server,
        Some(status @ 400..=599) => crate::error::kind_of_status(status as u16),
        _ => errors::kind(body).unwrap_or(ApiErrorKind::Other),
    };
    refine(read, error)
}

/// The names of google.rpc.Code, by number.
const CODES: &[&str] = &[
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

fn refine(mut error: ApiError, inner: &Value) -> ApiError {
    // The canonical name says more than the number, which repeats the HTTP status.
    error.code = code(&inner["status"]).or(error.code);
    if error.kind == ApiErrorKind::InvalidRequest && WRONG_KEY.iter().any(|text| error.message.starts_with(text)) {
        error.kind = ApiErrorKind::Authentication;
    }
    for detail in inner["details"].as_array().into_iter().flatten() {
        match detail["reason"].as_str() {
            // A wrong key is a 400 here.
            Some("API_KEY_INVALID" | "API_KEY_EXPIRED") => error.kind = ApiErrorKind::Authentication,
            Some("BILLING_DISABLED") => error.kind = ApiErrorKind::QuotaExceeded,
            _ => {}
        }
        if let Some(wait) = detail["retryDelay"].as_str().and_then(seconds) {
            // The delay is cut to whole seconds: waiting just that long is too short.
            error.retry_after = Some(wait + Duration::from_secs(1));
        }
        let quotas = detail["violations"].as_array().into_iter().flatten();
        let mut daily = quotas.filter_map(|quota| quota["quotaId"].as_str()).filter(|id| id.contains("PerDay"));
        if let Some(quota) = daily.next() {
            error.kind = ApiErrorKind::QuotaExceeded;
            error.message.push_str(&format!(" [daily quota {}]", quote_up_to(quota, 100)));
        }
    }
    error
}

/// What is said of a wrong key, where the details that say so too were left out.
const WRONG_KEY: &[&str] = &["API key not valid", "API key expired", "API Key not found"];

/// A protobuf duration: `"48s"`, `"2.5s"`.
fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.strip_suffix('s')?.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read_json(status: u16, error: Value) -> ApiError {
        let body = json!({"error": error}).to_string();
        read(&Response { status, headers: Default::default(), body: body.into() })
    }

    #[test]
    fn details_tell_keys_and_quotas_apart() {
        let bad_key = json!({"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]});
        assert_eq!(read_json(400, bad_key).kind, ApiErrorKind::Authentication);
        let busy = json!({"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [{"retryDelay": "48s"}]});
        let busy = read_json(429, busy);
        assert_eq!((busy.kind, busy.retry_after), (ApiErrorKind::RateLimit, Some(Duration::from_secs(49))));
        let daily =
            json!({"code": 429, "details": [{"violations": [{"quotaId": "GenerateRequestsPerDayPerProject"}]}]});
        assert_eq!(read_json(429, daily).kind, ApiErrorKind::QuotaExceeded);
    }
}
