//! Errors in OpenAI's form and words. Pure.

use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde_json::{Value, json};

use crate::sandbox::faults::Kind;
use crate::sandbox::http::{self, Reply};

/// An error as OpenAI words it: `{"error": {"message", "type", "param", "code"}}`.
#[derive(Debug, Clone)]
pub struct ApiError {
    pub status: StatusCode,
    pub message: String,
    kind: &'static str,
    param: Option<String>,
    pub code: Option<&'static str>,
}

impl ApiError {
    /// A 400 `invalid_request_error`.
    pub fn invalid(
        code: impl Into<Option<&'static str>>,
        param: impl Into<String>,
        message: impl Into<String>,
    ) -> ApiError {
        ApiError {
            status: StatusCode::BAD_REQUEST,
            message: message.into(),
            kind: "invalid_request_error",
            param: Some(param.into()).filter(|param| !param.is_empty()),
            code: code.into(),
        }
    }

    pub fn with_status(self, status: StatusCode) -> ApiError {
        ApiError { status, ..self }
    }

    pub fn not_found(param: &str, message: impl Into<String>) -> ApiError {
        ApiError::invalid(None, param, message).with_status(StatusCode::NOT_FOUND)
    }

    pub fn missing(param: &str) -> ApiError {
        let message = format!("Missing required parameter: '{param}'.");
        ApiError::invalid("missing_required_parameter", param, message)
    }

    pub fn server(message: impl Into<String>) -> ApiError {
        ApiError {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            message: message.into(),
            kind: "server_error",
            param: None,
            code: Some("server_error"),
        }
    }

    /// The body.
    pub fn body(&self) -> Value {
        let ApiError { message, kind, param, code, .. } = self;
        json!({"error": {"message": message, "type": kind, "param": param, "code": code}})
    }

    pub fn reply(&self) -> Reply {
        http::json(self.status, &self.body())
    }
}

impl From<std::io::Error> for ApiError {
    fn from(error: std::io::Error) -> ApiError {
        ApiError::server(format!("The sandbox could not use its folder: {error}"))
    }
}

/// A 404 for a model that does not exist.
pub fn no_model(id: &str) -> ApiError {
    let message = format!("The model '{id}' does not exist or you do not have access to it.");
    ApiError { code: Some("model_not_found"), ..ApiError::not_found("model", message) }
}

/// The reply of a request fault that is an error of OpenAI's.
pub fn fault(kind: Kind) -> Reply {
    let error =
        |status, kind, code, message: &str| ApiError { status, message: message.to_owned(), kind, param: None, code };
    let error = match kind {
        Kind::RateLimit => {
            let message =
                "Rate limit reached for requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again in 1s.";
            error(StatusCode::TOO_MANY_REQUESTS, "requests", Some("rate_limit_exceeded"), message)
        }
        Kind::Quota | Kind::SpendLimit => {
            let message = "You exceeded your current quota, please check your plan and billing details.";
            error(StatusCode::TOO_MANY_REQUESTS, "insufficient_quota", Some("insufficient_quota"), message)
        }
        Kind::Overloaded => {
            let message = "Our servers are currently overloaded. Please try again later.";
            error(StatusCode::SERVICE_UNAVAILABLE, "service_unavailable_error", Some("server_is_overloaded"), message)
        }
        Kind::Auth => {
            let message = "Incorrect API key provided. You can find your API key at https://platform.openai.com/account/api-keys.";
            error(StatusCode::UNAUTHORIZED, "invalid_request_error", Some("invalid_api_key"), message)
        }
        Kind::Forbidden => {
            let message = "Country, region, or territory not supported";
            error(StatusCode::FORBIDDEN, "request_forbidden", Some("unsupported_country_region_territory"), message)
        }
        Kind::ModelNotFound => no_model("the-model"),
        Kind::RequestTimeout => error(StatusCode::REQUEST_TIMEOUT, "timeout", None, "The request timed out."),
        Kind::Conflict => {
            let message = "The resource was changed by another request.";
            error(StatusCode::CONFLICT, "invalid_request_error", None, message)
        }
        Kind::GatewayTimeout => error(StatusCode::GATEWAY_TIMEOUT, "server_error", None, "The gateway timed out."),
        _ => ApiError::server("The server had an error while processing your request. Sorry about that!"),
    };
    let mut reply = error.reply();
    if kind == Kind::RateLimit {
        reply.headers_mut().insert("retry-after", HeaderValue::from_static("1"));
    }
    reply
}
