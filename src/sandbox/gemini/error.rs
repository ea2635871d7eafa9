//! Errors in Google's form and words. Pure.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::pretty;
use crate::sandbox::faults::Kind;
use crate::sandbox::http::Reply;

/// An error as Google words it: `{"error": {"code", "message", "status", "details"}}`.
#[derive(Debug, Clone)]
pub struct ApiError {
    pub http: StatusCode,
    /// The canonical name of the error, such as `INVALID_ARGUMENT`.
    status: &'static str,
    pub message: String,
    details: Vec<Value>,
}

impl ApiError {
    pub fn new(http: StatusCode, status: &'static str, message: impl Into<String>) -> ApiError {
        ApiError { http, status, message: message.into(), details: Vec::new() }
    }

    /// A 400 INVALID_ARGUMENT.
    pub fn invalid(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", message)
    }

    /// A 400 for a rule that a request broke at `field`, such as `generation_config.top_p`.
    pub fn broken_rule(field: &str, rule: &str) -> ApiError {
        ApiError::invalid(format!("* GenerateContentRequest.{field}: {rule}\n"))
    }

    pub fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }

    pub fn denied(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, "PERMISSION_DENIED", message)
    }

    pub fn exhausted(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED", message)
    }

    pub fn internal(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", message)
    }

    /// Adds a detail: a message of `google.rpc` by its name, and its fields.
    pub fn with(mut self, name: &str, fields: Value) -> ApiError {
        let mut detail = json!({"@type": format!("type.googleapis.com/google.rpc.{name}")});
        if let (Some(detail), Value::Object(fields)) = (detail.as_object_mut(), fields) {
            detail.extend(fields);
        }
        self.details.push(detail);
        self
    }

    fn with_reason(self, reason: &str) -> ApiError {
        let service = json!({"service": "generativelanguage.googleapis.com"});
        self.with("ErrorInfo", json!({"reason": reason, "domain": "googleapis.com", "metadata": service}))
    }

    pub fn body(&self) -> Value {
        let mut error = json!({"code": self.http.as_u16(), "message": self.message, "status": self.status});
        if !self.details.is_empty() {
            error["details"] = json!(self.details);
        }
        json!({"error": error})
    }

    /// The same error as a row of a batch tells it: a `google.rpc.Status`.
    pub fn row(&self) -> Value {
        json!({"code": rpc_code(self.status), "message": self.message})
    }

    pub fn reply(&self) -> Reply {
        pretty(self.http, &self.body())
    }
}

impl From<std::io::Error> for ApiError {
    fn from(error: std::io::Error) -> ApiError {
        ApiError::internal(format!("The sandbox could not use its folder: {error}"))
    }
}

/// The number of a canonical name (google.rpc.Code).
fn rpc_code(status: &str) -> u8 {
    match status {
        "INVALID_ARGUMENT" => 3,
        "NOT_FOUND" => 5,
        "PERMISSION_DENIED" => 7,
        "RESOURCE_EXHAUSTED" => 8,
        _ => 13,
    }
}

pub fn no_model(id: &str, version: &str) -> ApiError {
    ApiError::not_found(format!(
        "models/{id} is not found for API version {version}, or is not supported for generateContent. Call ListModels to see the \
         list of available models and their supported methods."
    ))
}

pub fn no_key() -> ApiError {
    ApiError::denied(
        "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or other form of API \
         consumer identity to call this API.",
    )
}

pub fn two_keys() -> ApiError {
    ApiError::invalid("Multiple authentication credentials received. Please pass only one.")
}

pub fn token_instead_of_key() -> ApiError {
    let message = "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid \
                   authentication credential.";
    ApiError::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", message).with_reason("ACCESS_TOKEN_TYPE_UNSUPPORTED")
}

/// The reply of a request fault that is an error of Google's.
pub fn fault(kind: Kind) -> Reply {
    let error = match kind {
        Kind::RateLimit => quota("GenerateRequestsPerMinutePerProjectPerModel", "3", "1.512s", "1s"),
        Kind::Quota => quota("GenerateRequestsPerDayPerProjectPerModel", "250", "36000.25s", "36000s"),
        Kind::Overloaded => {
            let message = "This model is currently experiencing high demand. Spikes in demand are usually temporary. Please try again \
                           later.";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message)
        }
        // A wrong key is a 400 here, and not a 401.
        Kind::Auth => {
            ApiError::invalid("API key not valid. Please pass a valid API key.").with_reason("API_KEY_INVALID")
        }
        Kind::Forbidden => {
            let message = "Generative Language API has not been used in project 1 before or it is disabled.";
            ApiError::denied(message).with_reason("SERVICE_DISABLED")
        }
        Kind::ModelNotFound => no_model("the-model", "v1beta"),
        Kind::RequestTimeout => {
            let message = "Deadline expired before operation could complete.";
            ApiError::new(StatusCode::GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED", message)
        }
        Kind::Conflict => ApiError::new(StatusCode::CONFLICT, "ABORTED", "The operation was aborted."),
        _ => ApiError::internal("An internal error has occurred. Please retry or report it."),
    };
    error.reply()
}

/// A 429. The delay in its details is cut to whole seconds, as Google's is: the message tells it in full.
fn quota(id: &str, value: &str, delay: &str, cut_delay: &str) -> ApiError {
    let metric = "generativelanguage.googleapis.com/generate_content_requests";
    let message = format!(
        "You exceeded your current quota, please check your plan and billing details.\n* Quota exceeded for metric: {metric}, limit: \
         {value}, model: the-model\nPlease retry in {delay}."
    );
    let dimensions = json!({"model": "the-model", "location": "global"});
    let violation = json!({"quotaMetric": metric, "quotaId": id, "quotaDimensions": dimensions, "quotaValue": value});
    let link =
        json!({"description": "Learn more about quotas", "url": "https://ai.google.dev/gemini-api/docs/rate-limits"});
    ApiError::exhausted(message)
        .with("Help", json!({"links": [link]}))
        .with("QuotaFailure", json!({"violations": [violation]}))
        .with("RetryInfo", json!({"retryDelay": cut_delay}))
}
