//! Errors in Anthropic's form and words. Pure.

use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde_json::{Value, json};

use crate::sandbox::faults::Kind;
use crate::sandbox::http::{self, Reply};

/// An error as Anthropic words it: `{"type": "error", "error": {"type", "message", "details"}, "request_id"}`.
#[derive(Debug, Clone)]
pub struct ApiError {
    pub status: u16,
    kind: &'static str,
    pub message: String,
    /// The machine-readable reason inside `details`.
    code: Option<&'static str>,
}

impl ApiError {
    pub fn new(status: u16, kind: &'static str, message: impl Into<String>) -> ApiError {
        ApiError { status, kind, message: message.into(), code: None }
    }

    /// A 400 `invalid_request_error`.
    pub fn invalid(message: impl Into<String>) -> ApiError {
        ApiError::new(400, "invalid_request_error", message)
    }

    /// A 400 about the value at `path`, worded `PATH: WHAT`.
    pub fn at(path: &str, what: impl std::fmt::Display) -> ApiError {
        ApiError::invalid(format!("{path}: {what}"))
    }

    pub fn missing(path: &str) -> ApiError {
        ApiError::at(path, "Field required")
    }

    pub fn extra(path: &str) -> ApiError {
        ApiError::at(path, "Extra inputs are not permitted")
    }

    pub fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new(404, "not_found_error", message)
    }

    pub fn too_large(message: impl Into<String>) -> ApiError {
        ApiError::new(413, "request_too_large", message)
    }

    pub fn server(message: impl Into<String>) -> ApiError {
        ApiError::new(500, "api_error", message)
    }

    pub fn body(&self, request_id: &str) -> Value {
        let mut error = json!({"type": self.kind, "message": self.message});
        if let Some(code) = self.code {
            error["details"] = json!({"error_code": code});
        }
        json!({"type": "error", "error": error, "request_id": request_id})
    }

    pub fn reply(&self, request_id: &str) -> Reply {
        // 529 has no name, but it is a status like any other.
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        http::json(status, &self.body(request_id))
    }
}

impl From<std::io::Error> for ApiError {
    fn from(error: std::io::Error) -> ApiError {
        ApiError::server(format!("The sandbox could not use its folder: {error}"))
    }
}

/// The reply of a request fault that is an error of Anthropic's.
pub fn fault(kind: Kind, request_id: &str) -> Reply {
    let error = match kind {
        Kind::RateLimit => {
            let message = "This request would exceed your organization's rate limit of 50 requests per minute. Please try again \
                           later.";
            ApiError::new(429, "rate_limit_error", message)
        }
        Kind::SpendLimit => {
            let message = "You have reached the spend limit that is enforced for your organization.";
            let code = Some("enforced_spend_limit_reached");
            ApiError { code, ..ApiError::new(429, "rate_limit_error", message) }
        }
        Kind::Quota => {
            let message = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to purchase credits.";
            ApiError::new(402, "billing_error", message)
        }
        Kind::Overloaded => ApiError::new(529, "overloaded_error", "Overloaded"),
        Kind::GatewayTimeout => ApiError::new(504, "timeout_error", "The request timed out while it was processed."),
        Kind::Auth => ApiError::new(401, "authentication_error", "invalid x-api-key"),
        Kind::Forbidden => {
            let message = "Your API key does not have permission to use the specified resource.";
            ApiError::new(403, "permission_error", message)
        }
        Kind::ModelNotFound => ApiError::not_found("model: the-model"),
        Kind::RequestTimeout => ApiError::new(408, "timeout_error", "The request timed out."),
        Kind::Conflict => ApiError::new(409, "conflict_error", "The resource was changed by another request."),
        _ => ApiError::server("Internal server error"),
    };
    let mut reply = error.reply(request_id);
    if kind == Kind::RateLimit {
        let headers = [
            ("retry-after", "1"),
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "0"),
        ];
        for (name, value) in headers {
            reply.headers_mut().insert(name, HeaderValue::from_static(value));
        }
    }
    reply
}
