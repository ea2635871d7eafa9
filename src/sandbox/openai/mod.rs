//! OpenAI's Responses, Files and Batches APIs: routes, and what the three share.

mod batches;
mod error;
mod files;
mod format;
mod input;
mod job;
mod lines;
mod responses;
mod results;
mod strict_schema;
mod validate;
mod values;

use std::sync::{Arc, Mutex};

use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use serde_json::{Map, Value, json};

use super::Shared;
use super::http::{self, Reply, header, query};
use super::store::Shelf;
pub use error::fault;
use error::{ApiError, no_model};

/// What the sandbox remembers of OpenAI besides files.
#[derive(Debug, Default)]
pub struct OpenAi {
    batches: Mutex<Shelf<batches::Batch>>,
    /// The newest stored responses.
    responses: Mutex<Shelf<Value>>,
}

type Answer = Result<Reply, ApiError>;

/// Answers one request; `path` is what follows the mount, such as `v1/batches/batch_1`.
pub async fn route(shared: &Arc<Shared>, request: Request<Incoming>, path: &str) -> Reply {
    let (parts, body) = request.into_parts();
    if let Err(error) = authorize(&parts) {
        http::drain(body).await;
        return error.reply();
    }
    let path = path.trim_end_matches('/');
    let segments: Vec<String> = path.split('/').map(http::decode).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let answer = dispatch(shared, &parts, body, &segments).await;
    answer.unwrap_or_else(|error| error.reply())
}

async fn dispatch(shared: &Arc<Shared>, parts: &Parts, body: Incoming, path: &[&str]) -> Answer {
    let get = parts.method == Method::GET;
    let post = parts.method == Method::POST;
    let delete = parts.method == Method::DELETE;
    match path {
        ["v1", "responses"] if post => responses::create(shared, parts, &read_json(parts, body).await?),
        ["v1", "files"] if post => files::upload(shared, parts, body).await,
        ["v1", "batches"] if post => batches::create(shared, parts, &read_json(parts, body).await?),
        _ => {
            http::drain(body).await;
            match path {
                ["v1", "responses", id] if get => responses::retrieve(shared, id),
                ["v1", "responses", id] if delete => responses::delete(shared, id),
                ["v1", "files"] if get => files::list(shared, parts),
                ["v1", "files", id] if get => files::retrieve(shared, id),
                ["v1", "files", id] if delete => files::delete(shared, id),
                ["v1", "files", id, "content"] if get => files::content(shared, parts, id).await,
                ["v1", "batches"] if get => batches::list(shared, parts),
                ["v1", "batches", id] if get => batches::retrieve(shared, id),
                ["v1", "batches", id, "cancel"] if post => batches::cancel(shared, id),
                ["v1", "models"] if get => Ok(http::json(StatusCode::OK, &models())),
                ["v1", "models", id] if get => model(id),
                _ => Err(no_route(parts, path)),
            }
        }
    }
}

fn no_route(parts: &Parts, path: &[&str]) -> ApiError {
    let known = matches!(
        path,
        ["v1", "responses" | "files" | "batches" | "models"]
            | ["v1", "responses" | "files" | "batches" | "models", _]
            | ["v1", "files", _, "content"]
            | ["v1", "batches", _, "cancel"]
    );
    let (method, url) = (&parts.method, parts.uri.path());
    if known {
        let message = format!("Not allowed to {method} on {url} .");
        return ApiError::invalid("method_not_supported", "", message).with_status(StatusCode::METHOD_NOT_ALLOWED);
    }
    ApiError::invalid(
        "unknown_url",
        "",
        format!("Unknown request URL: {method} {url}. Please check the URL for typos."),
    )
    .with_status(StatusCode::NOT_FOUND)
}

/// Any bearer key will do, but there must be one.
fn authorize(parts: &Parts) -> Result<(), ApiError> {
    let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let key = header.and_then(|value| value.strip_prefix("Bearer ")).map(str::trim);
    if key.is_some_and(|key| !key.is_empty()) {
        return Ok(());
    }
    let message = "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth \
                   (i.e. Authorization: Bearer YOUR_KEY).";
    Err(ApiError::invalid(None, "", message).with_status(StatusCode::UNAUTHORIZED))
}

const JSON_LIMIT: usize = 64 * 1024 * 1024;

async fn read_json(parts: &Parts, body: Incoming) -> Result<Map<String, Value>, ApiError> {
    let content_type = header(parts, CONTENT_TYPE.as_str());
    let bytes = http::read_all(body, JSON_LIMIT).await.map_err(|error| match error {
        http::Unreadable::TooLarge => {
            ApiError::invalid(None, "", "The request body is too large.").with_status(StatusCode::PAYLOAD_TOO_LARGE)
        }
        http::Unreadable::Broken => ApiError::invalid(None, "", "The request body ended before its announced length."),
    })?;
    if !content_type.to_ascii_lowercase().starts_with("application/json") {
        let message = format!(
            "Unsupported content type: '{content_type}'. This API method only accepts 'application/json' requests, but you \
             specified the header 'Content-Type: {content_type}'. Please try again with a supported content type."
        );
        return Err(ApiError::invalid("unsupported_content_type", "", message));
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(ApiError::invalid(None, "", "The JSON body of your request must be an object.")),
        Err(error) => {
            let message = format!(
                "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library \
                 correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON: {error}.)"
            );
            Err(ApiError::invalid(None, "", message))
        }
    }
}

/// The `limit` of a list.
fn limit(parts: &Parts, default: usize, most: usize) -> Result<usize, ApiError> {
    let Some(text) = query(parts, "limit") else {
        return Ok(default);
    };
    let Ok(limit) = text.parse::<i64>() else {
        let message = format!("Invalid type for 'limit': expected an integer, but got '{text}' instead.");
        return Err(ApiError::invalid("invalid_type", "limit", message));
    };
    match usize::try_from(limit) {
        Ok(limit) if (1..=most).contains(&limit) => Ok(limit),
        Ok(limit) if limit > most => {
            let message = format!(
                "Invalid 'limit': integer above maximum value. Expected a value <= {most}, but got {limit} instead."
            );
            Err(ApiError::invalid("integer_above_max_value", "limit", message))
        }
        _ => {
            let message = format!(
                "Invalid 'limit': integer below minimum value. Expected a value >= 1, but got {limit} instead."
            );
            Err(ApiError::invalid("integer_below_min_value", "limit", message))
        }
    }
}

/// A page of a list in OpenAI's form.
fn list_page(data: Vec<Value>, has_more: bool) -> Value {
    let id = |item: Option<&Value>| item.and_then(|item| item.get("id")).cloned();
    let (first, last) = (id(data.first()), id(data.last()));
    json!({"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": has_more})
}

const MODELS: [&str; 6] = ["gpt-4.1", "gpt-4.1-mini", "gpt-4o", "gpt-4o-mini", "gpt-5-mini", "o4-mini"];

fn model_object(id: &str) -> Value {
    json!({"id": id, "object": "model", "created": 1_715_367_049, "owned_by": "system"})
}

fn models() -> Value {
    let data: Vec<Value> = MODELS.iter().map(|id| model_object(id)).collect();
    json!({"object": "list", "data": data})
}

fn model(id: &str) -> Answer {
    if MODELS.contains(&id) {
        return Ok(http::json(StatusCode::OK, &model_object(id)));
    }
    Err(no_model(id))
}
