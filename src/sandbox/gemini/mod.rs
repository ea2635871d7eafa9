//! Gemini's generateContent, Files and batch APIs: routes, and what the three share. `v1` and `v1beta` are the same here.

mod batches;
mod error;
mod files;
mod generate;
mod job;
mod lines;
mod messages;
mod models;
mod proto;
mod results;
mod schema;
mod upload;
mod validate;

use std::sync::{Arc, Mutex};

use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json};

use super::Shared;
use super::http::{self, Reply, header, query};
use super::store::Shelf;
use error::ApiError;
pub use error::fault;

/// What the sandbox remembers of Gemini.
#[derive(Debug, Default)]
pub struct Gemini {
    files: Mutex<Shelf<files::File>>,
    uploads: Mutex<Shelf<upload::Upload>>,
    batches: Mutex<Shelf<batches::Batch>>,
}

type Answer = Result<Reply, ApiError>;

/// JSON as Google writes it.
fn pretty(status: StatusCode, value: &Value) -> Reply {
    // A Value has only string keys and finite numbers: there is nothing that could fail.
    let mut body = serde_json::to_vec_pretty(value).unwrap_or_default();
    body.push(b'\n');
    http::bytes(status, "application/json; charset=UTF-8", body)
}

/// Answers one request; `path` is what follows the mount, such as `v1beta/batches/1`.
pub async fn route(shared: &Arc<Shared>, request: Request<Incoming>, path: &str) -> Reply {
    let (parts, body) = request.into_parts();
    let segments: Vec<String> = path.trim_end_matches('/').split('/').map(http::decode).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let answer = match segments.as_slice() {
        // The upload URL is a secret of its own: Google's SDK sends no key with the chunks.
        ["upload", "v1" | "v1beta", "files"]
            if parts.method == Method::POST && query(&parts, "upload_id").is_some() =>
        {
            return upload::proceed(shared, &parts, body).await;
        }
        path => match authorize(&parts) {
            Ok(()) => dispatch(shared, &parts, body, path).await,
            Err(error) => {
                http::drain(body).await;
                Err(error)
            }
        },
    };
    answer.unwrap_or_else(|error| error.reply())
}

async fn dispatch(shared: &Arc<Shared>, parts: &Parts, body: Incoming, path: &[&str]) -> Answer {
    let get = parts.method == Method::GET;
    let post = parts.method == Method::POST;
    let delete = parts.method == Method::DELETE;
    match path {
        ["upload", "v1" | "v1beta", "files"] if post => upload::start(shared, parts, read_json(body).await?),
        ["v1" | "v1beta", "models", called] if post => {
            let (model, verb) = called.split_once(':').unwrap_or((called, ""));
            let body = read_json(body).await?;
            models::check_name(model)?;
            match verb {
                "generateContent" => generate::create(shared, parts, model, body),
                "countTokens" => generate::count_tokens(body),
                "batchGenerateContent" => batches::create(shared, parts, model, body).await,
                "streamGenerateContent" => {
                    Err(ApiError::invalid("The sandbox does not stream yet; call generateContent instead."))
                }
                _ => Err(no_route(parts)),
            }
        }
        _ => {
            http::drain(body).await;
            match path {
                [version @ ("v1" | "v1beta"), rest @ ..] => match rest {
                    ["models"] if get => models::list(parts),
                    ["models", id] if get => models::retrieve(id, version),
                    ["files"] if get => files::list(shared, parts),
                    ["files", id] if get => match id.strip_suffix(":download") {
                        Some(id) => files::download(shared, parts, id).await,
                        None => files::retrieve(shared, parts, id),
                    },
                    ["files", id] if delete => files::delete(shared, id),
                    ["batches"] if get => batches::list(shared, parts),
                    ["batches", id] if get => batches::retrieve(shared, id).await,
                    ["batches", id] if delete => batches::delete(shared, id),
                    ["batches", called] if post => match called.strip_suffix(":cancel") {
                        Some(id) => batches::cancel(shared, id),
                        None => Err(no_route(parts)),
                    },
                    _ => Err(no_route(parts)),
                },
                ["download", "v1" | "v1beta", "files", id] if get => match id.strip_suffix(":download") {
                    Some(id) => files::download(shared, parts, id).await,
                    None => Err(no_route(parts)),
                },
                _ => Err(no_route(parts)),
            }
        }
    }
}

fn no_route(parts: &Parts) -> ApiError {
    ApiError::not_found(format!(
        "The requested URL {} {} was not found on this server.",
        parts.method,
        parts.uri.path()
    ))
}

/// Any key will do, but there must be exactly one credential.
fn authorize(parts: &Parts) -> Result<(), ApiError> {
    let in_header = !header(parts, "x-goog-api-key").trim().is_empty();
    let in_query = query(parts, "key").is_some();
    let bearer = !header(parts, "authorization").is_empty();
    match [in_header, in_query, bearer].iter().filter(|given| **given).count() {
        0 => Err(error::no_key()),
        1 if bearer => Err(error::token_instead_of_key()),
        1 => Ok(()),
        _ => Err(error::two_keys()),
    }
}

/// 20 MiB, for batches too.
const JSON_LIMIT: usize = 20_971_520;

async fn read_json(body: Incoming) -> Result<Value, ApiError> {
    let bytes = http::read_all(body, JSON_LIMIT).await.map_err(|error| match error {
        http::Unreadable::TooLarge => {
            ApiError::invalid(format!("Request payload size exceeds the limit: {JSON_LIMIT} bytes."))
        }
        http::Unreadable::Broken => ApiError::invalid("The request body ended before its announced length."),
    })?;
    if bytes.is_empty() {
        return Ok(json!({}));
    }
    serde_json::from_slice(&bytes).map_err(|error| ApiError::invalid(format!("Invalid JSON payload received. {error}")))
}

/// `pageSize` and `pageToken` of a list.
fn page(parts: &Parts, default: usize, most: usize) -> Result<(usize, Option<String>), ApiError> {
    let either = |camel, snake| query(parts, camel).or_else(|| query(parts, snake)).map(|text| text.into_owned());
    let size = match either("pageSize", "page_size") {
        None => default,
        Some(text) => match text.parse::<i32>() {
            Ok(0) => default,
            Ok(size @ 1..) => (size as usize).min(most),
            _ => return Err(ApiError::invalid(format!("Invalid value at 'page_size' (TYPE_INT32), \"{text}\""))),
        },
    };
    Ok((size, either("pageToken", "page_token")))
}

fn bad_page_token() -> ApiError {
    ApiError::invalid("The page token is invalid.")
}
