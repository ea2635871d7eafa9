//! Anthropic's Messages and Message Batches APIs: routes, and what the two share.

mod batches;
mod content;
mod error;
mod hints;
mod job;
mod messages;
mod models;
mod requests;
mod results;
mod schema_subset;
mod tools;
mod validate;
mod values;

use std::sync::{Arc, Mutex};

use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use serde_json::{Map, Value, json};

use super::Shared;
use super::faults::Kind;
use super::http::{self, Reply, header, query};
use super::store::Shelf;
use error::ApiError;

/// What the sandbox remembers of Anthropic.
#[derive(Debug, Default)]
pub struct Anthropic {
    batches: Mutex<Shelf<batches::Batch>>,
}

type Answer = Result<Reply, ApiError>;

/// The versions of the API, by the date in `anthropic-version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `2023-06-01`
    June2023,
    /// `2026-10-21`: no sampling parameters.
    October2026,
}

/// Answers one request; `path` is what follows the mount, such as `v1/messages/batches`.
pub async fn route(shared: &Arc<Shared>, request: Request<Incoming>, path: &str) -> Reply {
    let (parts, body) = request.into_parts();
    let path = path.trim_end_matches('/');
    let segments: Vec<String> = path.split('/').map(http::decode).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let answer = match authorize(&parts).and_then(|()| version(&parts)) {
        Ok(version) => dispatch(shared, &parts, body, &segments, version).await,
        Err(error) => {
            http::drain(body).await;
            Err(error)
        }
    };
    let request_id = shared.ids.next("req_");
    with_id(answer.unwrap_or_else(|error| error.reply(&request_id)), &request_id)
}

/// The reply of a request fault that is an error of Anthropic's.
pub fn fault(shared: &Shared, kind: Kind) -> Reply {
    let request_id = shared.ids.next("req_");
    with_id(error::fault(kind, &request_id), &request_id)
}

fn with_id(mut reply: Reply, request_id: &str) -> Reply {
    http::set_header(&mut reply, "request-id", request_id);
    reply
}

async fn dispatch(shared: &Arc<Shared>, parts: &Parts, body: Incoming, path: &[&str], version: Version) -> Answer {
    let get = parts.method == Method::GET;
    let post = parts.method == Method::POST;
    let delete = parts.method == Method::DELETE;
    match path {
        ["v1", "messages"] if post => messages::create(shared, parts, &read_json(body).await?, version),
        ["v1", "messages", "count_tokens"] if post => {
            let input_tokens = validate::count(&read_json(body).await?, version)?;
            Ok(http::json(StatusCode::OK, &json!({"input_tokens": input_tokens})))
        }
        ["v1", "messages", "batches"] if post => batches::create(shared, parts, body, version).await,
        _ => {
            http::drain(body).await;
            match path {
                ["v1", "messages", "batches"] if get => batches::list(shared, parts),
                ["v1", "messages", "batches", id] if get => batches::retrieve(shared, id),
                ["v1", "messages", "batches", id] if delete => batches::delete(shared, id),
                ["v1", "messages", "batches", id, "cancel"] if post => batches::cancel(shared, id),
                ["v1", "messages", "batches", id, "results"] if get => batches::results(shared, parts, id).await,
                ["v1", "models"] if get => models::list(parts),
                ["v1", "models", id] if get => models::retrieve(id),
                _ => Err(no_route(parts, path)),
            }
        }
    }
}

fn no_route(parts: &Parts, path: &[&str]) -> ApiError {
    let known = matches!(
        path,
        ["v1", "messages" | "models"]
            | ["v1", "messages", "batches" | "count_tokens"]
            | ["v1", "messages", "batches", _]
            | ["v1", "messages", "batches", _, "cancel" | "results"]
            | ["v1", "models", _]
    );
    if known { ApiError::new(405, "invalid_request_error", "Method Not Allowed") } else { not_found(parts.uri.path()) }
}

fn not_found(path: &str) -> ApiError {
    ApiError::not_found(format!("Not Found: {path}"))
}

/// Any key will do, in either header, but there must be one.
fn authorize(parts: &Parts) -> Result<(), ApiError> {
    let key = header(parts, "x-api-key").trim();
    let token = header(parts, AUTHORIZATION.as_str()).strip_prefix("Bearer ").unwrap_or("").trim();
    if key.is_empty() && token.is_empty() {
        return Err(ApiError::new(401, "authentication_error", "x-api-key header is required"));
    }
    Ok(())
}

fn version(parts: &Parts) -> Result<Version, ApiError> {
    match header(parts, "anthropic-version") {
        "2023-06-01" => Ok(Version::June2023),
        "2026-10-21" => Ok(Version::October2026),
        "" => Err(ApiError::at("anthropic-version", "header is required")),
        other => Err(ApiError::at("anthropic-version", format!("\"{other}\" is not a valid version"))),
    }
}

/// Messages guide: a request of at most 32 MB.
const JSON_LIMIT: usize = 32 * 1024 * 1024;

async fn read_json(body: Incoming) -> Result<Map<String, Value>, ApiError> {
    let bytes = match http::read_all(body, JSON_LIMIT).await {
        Ok(bytes) => bytes,
        Err(http::Unreadable::TooLarge) => return Err(ApiError::too_large("Request exceeds the maximum size")),
        Err(http::Unreadable::Broken) => {
            return Err(ApiError::invalid("The request body ended before its announced length."));
        }
    };
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(ApiError::invalid("Input should be a valid dictionary")),
        Err(error) => Err(ApiError::invalid(format!("The request body is not valid JSON: {error}"))),
    }
}

/// The `limit` of a list: 1 to 1000, by default 20.
fn limit(parts: &Parts) -> Result<usize, ApiError> {
    let Some(text) = query(parts, "limit") else {
        return Ok(20);
    };
    let Ok(limit) = text.parse::<i64>() else {
        return Err(ApiError::at("limit", "Input should be a valid integer"));
    };
    match usize::try_from(limit) {
        Ok(limit @ 1..=1000) => Ok(limit),
        Ok(1001..) => Err(ApiError::at("limit", "Input should be less than or equal to 1000")),
        _ => Err(ApiError::at("limit", "Input should be greater than or equal to 1")),
    }
}

/// A page of a list in Anthropic's form.
fn list_page(data: Vec<Value>, has_more: bool) -> Value {
    let id = |item: Option<&Value>| item.and_then(|item| item.get("id")).cloned();
    let (first, last) = (id(data.first()), id(data.last()));
    json!({"data": data, "has_more": has_more, "first_id": first, "last_id": last})
}
