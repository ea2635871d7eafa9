//! Reads error replies of Anthropic.

use super::NAME;
use crate::error::{ApiError, ApiErrorKind};
use crate::exchange::Response;
use crate::providers::errors::{self, code, word};
use serde_json::Value;

/// What waiting does not lift (Anthropic's page of errors: spend limits come as 429 or 400).
const QUOTA_CODES: &[&str] = &["billing_error", "enforced_spend_limit_reached", "contract_spend_limit_reached"];
const QUOTA_MESSAGES: &[&str] = &["You have reached your specified", "Your credit balance is too low"];

pub fn read(response: &Response) -> ApiError {
    let (mut error, body) = errors::read(NAME, response);
    // A proxy on the way may have a name of its own for the request.
    error.request_id = response.headers.get("request-id").map(str::to_owned).or(error.request_id);
    refine(error, &body)
}

/// An error that stands where a message was expected: in a reply that said 200, or in a result row.
pub fn in_reply(body: &Value) -> ApiError {
    let mut error = errors::from_body(NAME, 200, body, &body.to_string());
    error.kind = errors::kind(body).unwrap_or(ApiErrorKind::Other);
    refine(error, body)
}

fn refine(mut error: ApiError, body: &Value) -> ApiError {
    let inner = errors::inner(body);
    let specific = code(&inner["details"]["error_code"]);
    error.code = specific.or(error.code).or_else(|| code(&inner["type"]).filter(|kind| kind != "error"));
    error.request_id = error.request_id.or_else(|| word(&body["request_id"]));
    let is_quota = error.code.as_deref().is_some_and(|code| QUOTA_CODES.contains(&code));
    if is_quota
        || inner["type"] == "billing_error"
        || QUOTA_MESSAGES.iter().any(|begin| error.message.starts_with(begin))
    {
        error.kind = ApiErrorKind::QuotaExceeded;
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_spend_limit_is_no_rate_limit() {
        let kind = |error: Value| {
            let body = json!({"type": "error", "error": error, "request_id": "req_1"});
            refine(errors::from_body(NAME, 429, &body, ""), &body).kind
        };
        assert_eq!(kind(json!({"type": "rate_limit_error", "message": "slow"})), ApiErrorKind::RateLimit);
        let capped = json!({"type": "rate_limit_error", "message": "m", "details": {"error_code": "enforced_spend_limit_reached"}});
        assert_eq!(kind(capped), ApiErrorKind::QuotaExceeded);
        assert_eq!(
            kind(json!({"type": "x", "message": "You have reached your specified API usage limits."})),
            ApiErrorKind::QuotaExceeded
        );
    }
}
