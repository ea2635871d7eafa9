//! The Files API: uploads streamed to disk, lists, contents by range.

use std::io;
use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{CONTENT_RANGE, CONTENT_TYPE};
use hyper::http::request::Parts;
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, BufWriter};

use super::error::ApiError;
use super::{Answer, header, limit, list_page, query, values};
use crate::sandbox::Shared;
use crate::sandbox::http;
use crate::sandbox::multipart::{Event, Reader};
use crate::sandbox::store::{self, StoredFile};

const PURPOSES: [&str; 6] = ["assistants", "batch", "fine-tune", "vision", "user_data", "evals"];
/// Whether MB means 10^6 or 2^20 is not documented; what passes here passes both ways.
const BATCH_LIMIT: u64 = 200_000_000;
const FILE_LIMIT: u64 = 512_000_000;
/// A text field of the form is at most so long.
const FIELD_LIMIT: usize = 64 * 1024;
/// Files for and from batches are announced to last 30 days.
pub const DEFAULT_LIFE: i64 = 2_592_000;

/// The fields of an upload form.
#[derive(Default)]
struct Form {
    fields: Vec<(String, String)>,
    /// Name given by the client, and length of the content.
    file: Option<(String, u64)>,
}

impl Form {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn limit(&self) -> u64 {
        if self.field("purpose") == Some("batch") { BATCH_LIMIT } else { FILE_LIMIT }
    }
}

pub async fn upload(shared: &Arc<Shared>, parts: &Parts, mut body: Incoming) -> Answer {
    let content_type = header(parts, CONTENT_TYPE.as_str());
    let Some(mut reader) = Reader::new(content_type) else {
        http::drain(body).await;
        let message =
            format!("Invalid Content-Type header ({content_type}), expected multipart/form-data with a boundary.");
        return Err(ApiError::invalid(None, "", message));
    };
    let id = shared.ids.next("file-");
    let path = shared.store.path(&id);
    let received = match receive(&mut reader, &mut body, &path).await {
        Ok(form) => accept(shared, &id, form),
        Err(error) => Err(error),
    };
    if received.is_err() {
        http::drain(body).await;
        let _ = tokio::fs::remove_file(&path).await;
    }
    Ok(http::json(StatusCode::OK, &object(&*received?)))
}

async fn receive(reader: &mut Reader, body: &mut Incoming, path: &std::path::Path) -> Result<Form, ApiError> {
    let malformed = |why: &str| ApiError::invalid(None, "", format!("Could not parse multipart form: {why}."));
    let mut form = Form::default();
    let mut file = BufWriter::with_capacity(256 * 1024, tokio::fs::File::from_std(store::create(path)?));
    let mut in_file = false;
    loop {
        match reader.next().map_err(|why| malformed(&why))? {
            Event::More => match body.frame().await {
                Some(Ok(frame)) => reader.push(&frame.into_data().unwrap_or_default()),
                Some(Err(_)) => return Err(malformed("the connection broke")),
                None => return Err(malformed("the body ends before its last boundary")),
            },
            Event::Part { name, filename } => {
                in_file = name == "file";
                if in_file && form.file.is_some() {
                    return Err(malformed("there is more than one file"));
                }
                if in_file {
                    form.file = Some((filename.unwrap_or_default(), 0));
                } else {
                    form.fields.push((name, String::new()));
                }
            }
            Event::Data(data) if in_file => {
                let limit = form.limit();
                if let Some((_, length)) = &mut form.file {
                    *length += data.len() as u64;
                    if *length > limit {
                        return Err(too_large());
                    }
                }
                file.write_all(&data).await?;
            }
            Event::Data(data) => {
                if let Some((name, value)) = form.fields.last_mut() {
                    if value.len() + data.len() > FIELD_LIMIT {
                        return Err(malformed(&format!("the field '{name}' is too long")));
                    }
                    value.push_str(&String::from_utf8_lossy(&data));
                }
            }
            Event::End => break,
        }
    }
    file.flush().await?;
    Ok(form)
}

fn too_large() -> ApiError {
    ApiError::invalid(None, "file", "File is too large.")
}

/// Checks the form of a file that is on disk, and takes the file into the store.
fn accept(shared: &Shared, id: &str, form: Form) -> Result<Arc<StoredFile>, ApiError> {
    const FIELDS: [&str; 4] = ["purpose", "file", "expires_after[anchor]", "expires_after[seconds]"];
    if let Some((name, _)) = form.fields.iter().find(|(name, _)| !FIELDS.contains(&name.as_str())) {
        return Err(values::unknown(name, FIELDS.into_iter()));
    }
    let purpose = form.field("purpose").ok_or_else(|| ApiError::missing("purpose"))?.to_owned();
    values::choice("purpose", &json!(purpose), &PURPOSES)?;
    let limit = form.limit();
    let life = expiry(&form)?;
    let (filename, bytes) = form.file.ok_or_else(|| ApiError::missing("file"))?;
    if purpose == "batch" && !filename.ends_with(".jsonl") {
        return Err(ApiError::invalid(None, "file", "Invalid file format for Batch API. Must be .jsonl"));
    }
    if bytes == 0 {
        return Err(ApiError::invalid(None, "file", "File is empty."));
    }
    if bytes > limit {
        return Err(too_large());
    }
    let created_at = shared.clock.now() as i64;
    let default = (purpose == "batch").then_some(DEFAULT_LIFE);
    Ok(shared.store.put(StoredFile {
        id: id.to_owned(),
        filename,
        purpose,
        bytes,
        created_at,
        expires_at: life.or(default).map(|life| created_at + life),
        expires: life.is_some(),
        path: shared.store.path(id),
    }))
}

fn expiry(form: &Form) -> Result<Option<i64>, ApiError> {
    let anchor = form.field("expires_after[anchor]");
    let Some(seconds) = form.field("expires_after[seconds]") else {
        return match anchor {
            Some(_) => Err(ApiError::missing("expires_after.seconds")),
            None => Ok(None),
        };
    };
    let anchor = anchor.ok_or_else(|| ApiError::missing("expires_after.anchor"))?;
    check_expiry(
        "expires_after",
        &json!({"anchor": anchor, "seconds": seconds.parse::<i64>().map_or(json!(seconds), Value::from)}),
    )
    .map(Some)
}

/// Seconds of an `expires_after` object: 3600..2592000 after `created_at` (OpenAPI description).
pub fn check_expiry(name: &str, given: &Value) -> Result<i64, ApiError> {
    let Value::Object(given) = given else {
        return Err(values::wrong_type(name, "an object", given));
    };
    if let Some(key) = given.keys().find(|key| !["anchor", "seconds"].contains(&key.as_str())) {
        return Err(values::unknown(&format!("{name}.{key}"), ["anchor", "seconds"].into_iter()));
    }
    let anchor = given.get("anchor").ok_or_else(|| ApiError::missing(&format!("{name}.anchor")))?;
    values::choice(&format!("{name}.anchor"), anchor, &["created_at"])?;
    let name = format!("{name}.seconds");
    let seconds = given.get("seconds").ok_or_else(|| ApiError::missing(&name))?;
    let Some(number) = seconds.as_i64() else {
        return Err(values::wrong_type(&name, "an integer", seconds));
    };
    values::in_integer_range(&name, seconds, 3600, DEFAULT_LIFE)?;
    Ok(number)
}

pub fn object(file: &StoredFile) -> Value {
    json!({
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": file.created_at,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "expires_at": file.expires_at,
        "status_details": null,
    })
}

fn find(shared: &Shared, id: &str) -> Result<Arc<StoredFile>, ApiError> {
    shared.store.get(id, shared.clock.now()).ok_or_else(|| no_file(id))
}

fn no_file(id: &str) -> ApiError {
    ApiError::not_found("id", format!("No such File object: {id}"))
}

pub fn retrieve(shared: &Shared, id: &str) -> Answer {
    Ok(http::json(StatusCode::OK, &object(&*find(shared, id)?)))
}

pub fn delete(shared: &Shared, id: &str) -> Answer {
    shared.store.remove(id, shared.clock.now()).ok_or_else(|| no_file(id))?;
    Ok(http::json(StatusCode::OK, &json!({"id": id, "object": "file", "deleted": true})))
}

pub fn list(shared: &Shared, parts: &Parts) -> Answer {
    let limit = limit(parts, 10_000, 10_000)?;
    let order = query(parts, "order").unwrap_or("desc".into());
    values::choice("order", &json!(order), &["asc", "desc"])?;
    let (after, purpose) = (query(parts, "after"), query(parts, "purpose"));
    let now = shared.clock.now();
    let page = shared.store.page(after.as_deref(), limit, order == "desc", purpose.as_deref(), now);
    let page = page.ok_or_else(|| no_file(after.as_deref().unwrap_or("")))?;
    let data = page.items.iter().map(|file| object(file)).collect();
    Ok(http::json(StatusCode::OK, &list_page(data, page.has_more)))
}

pub async fn content(shared: &Shared, parts: &Parts, id: &str) -> Answer {
    let file = find(shared, id)?;
    let reply = http::download(parts, &file.path, file.bytes).await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => no_file(id),
        _ => error.into(),
    })?;
    Ok(reply.unwrap_or_else(|| {
        let error = ApiError::invalid(None, "", format!("The file has {} bytes.", file.bytes));
        let mut reply = error.with_status(StatusCode::RANGE_NOT_SATISFIABLE).reply();
        http::set_header(&mut reply, CONTENT_RANGE.as_str(), &format!("bytes */{}", file.bytes));
        reply
    }))
}
