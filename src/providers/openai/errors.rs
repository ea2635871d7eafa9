//! Reads error replies of OpenAI.

use super::NAME;
use crate::error::{ApiError, ApiErrorKind};
use crate::exchange::Response;
use crate::providers::errors;
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
    let (error, body) = errors::read(NAME, response);
    refine(error, &body)
}

/// The error in the body of a row's response.
pub fn from_body(status: u16, body: &Value) -> ApiError {
    refine(errors::from_body(NAME, status, body, &body.to_string()), body)
}

/// An error that stands where a response was expected: in a reply that said 200, or in a result row.
pub fn in_reply(body: &Value) -> ApiError {
    let error = from_body(200, body);
    match errors::kind(body) {
        Some(kind) if error.kind == ApiErrorKind::Other => ApiError { kind, ..error },
        _ => error,
    }
}

/// A 429 for want of money is no rate limit. The code may be null and only the type tell, or the other way round.
fn refine(mut error: ApiError, body: &Value) -> ApiError {
    let inner = errors::inner(body);
    let names = [error.code.as_deref(), inner["type"].as_str()];
    if names.iter().flatten().any(|name| QUOTA_CODES.contains(name)) {
        error.kind = ApiErrorKind::QuotaExceeded;
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn billing_is_not_a_rate_limit() {
        let kind = |status, error: Value| from_body(status, &json!({"error": error})).kind;
        assert_eq!(kind(429, json!({"code": "rate_limit_exceeded"})), ApiErrorKind::RateLimit);
        assert_eq!(kind(429, json!({"type": "insufficient_quota", "code": null})), ApiErrorKind::QuotaExceeded);
        assert_eq!(kind(429, json!({"code": "credit_balance_exhausted"})), ApiErrorKind::QuotaExceeded);
        assert_eq!(kind(402, json!({})), ApiErrorKind::QuotaExceeded);
        let in_reply = |error: Value| in_reply(&json!({"error": error})).kind;
        assert_eq!(in_reply(json!({"code": 429, "type": "insufficient_quota"})), ApiErrorKind::QuotaExceeded);
        assert_eq!(in_reply(json!({"code": "server_error"})), ApiErrorKind::Server);
    }
}
